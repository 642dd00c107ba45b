-- The caller's own terminal while a box's is relayed to it: a script under a terminal of the spec's.
local helper = require "spec.helper"
local in_time = require "spec.in_time"
local sys = require "nsbox.sys"
helper.leakcheck { settle = true }

local box = require "spec.box"
local pty = require "spec.pty"

-- ---- a program under a terminal, and what it shows ----

local session = {}
session.__index = session

--- Starts a Lua script in an interpreter of its own, on a terminal of 31 rows of 97 columns.
local function start(text)
  local s = setmetatable({ shown = "" }, session)
  s.pid, s.fd = assert(pty.spawn(31, 97, box.command(text)))
  s.settings = pty.settings(s.fd)
  helper.cleanup(function() s:close() end)
  return s
end

function session:close()
  if not self.fd then return end
  sys.kill(self.pid, "KILL")
  sys.waitid(self.pid)
  sys.close(self.fd)
  self.fd = nil
end

-- What has come until now, or comes within the time; false at the end.
function session:read(seconds)
  if sys.poll({ { fd = self.fd } }, seconds) ~= 1 then return true end
  local text = sys.read(self.fd)
  if not text or text == "" then return false end
  self.shown = self.shown .. text
  return true
end

-- Waits until the condition answers something true, and answers it.
function session:wait(what, condition)
  local deadline = sys.clock() + helper.PATIENCE
  while true do
    local found = condition()
    if found then return found end
    assert(sys.clock() < deadline, ("waited for %s; shown: %q"):format(what, self.shown))
    self:read(0.02)
  end
end

--- Waits until a pattern is shown; what came before it is forgotten. Answers its captures.
function session:expect(pattern)
  return self:wait(pattern, function()
    local from, to, capture = self.shown:find(pattern)
    if not from then return nil end
    self.shown = self.shown:sub(to + 1)
    return capture or true
  end)
end

function session:type(keys) assert(sys.write(self.fd, keys)) end

function session:raw() return select(2, pty.settings(self.fd)) end

--- Waits until the terminal is raw: from then on keys go to the box.
function session:relayed() self:wait("raw mode", function() return self:raw() end) end

--- Waits for the end of the script. Answers what it showed last, and its status.
function session:finish()
  local how, status
  self:wait("the end", function()
    how, status = sys.waitid(self.pid, 0)
    return how
  end)
  while sys.poll({ { fd = self.fd } }, 0) == 1 and self:read(0) do end -- the rest
  return self.shown, how, status
end

local function is_as_before(s) assert.is_true(s.settings == (pty.settings(s.fd))) end

-- ---- scripts ----

local function script(cmd, opts)
  return ([[
    local nsbox = require "nsbox"
    local r, err = nsbox.run("busybox", %s, %s)
    print("ended", r and r.reason or err, r and r.code)]]):format(cmd, opts or "{ tty = true }")
end

local shell = script [[{ "sh" }]]

local function shell_with(marker)
  return script(([[{ "sh", "-c", "trap : USR1; echo ready; while :; do sleep 0.05; done", "%s" }]]):format(marker))
end

describe("a box on the caller's terminal", function()
  it("is an interactive shell: keys go in, what it says comes out, its end is the run's", function()
    local s = start(shell)
    s:relayed()
    s:type "tty; echo $$; exit 5\n"
    s:expect "/dev/pts/0\r\n1\r\n"
    s:expect "ended\texit\t5\r\n"
    assert.same({ "", "exit", 0 }, { s:finish() })
    is_as_before(s)
  end)

  it("begins with the caller's size, and follows it", function()
    local s = start(shell)
    s:relayed()
    s:type "stty size\n"
    s:expect "\n31 97\r\n"
    assert(pty.resize(s.fd, 40, 120))
    s:wait("the new size", function()
      s:type "stty size\n"
      s:expect "stty size\r\n%d+ %d+\r\n"
      s:type "stty size\n"
      return s:expect "stty size\r\n(%d+ %d+)\r\n" == "40 120"
    end)
    s:type "exit\n"
    s:finish()
    is_as_before(s)
  end)

  it("tells the program of a change of size by WINCH", function()
    local s = start(script [[{ "sh", "-c", "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done" }]])
    s:expect "ready\r\n"
    assert(pty.resize(s.fd, 12, 34))
    s:expect "12 34\r\n"
    s:finish()
  end)

  it("takes ^C as a key of its own", function()
    local loop = "while :; do sleep 0.02; done"
    local s = start(script(([[{ "sh", "-c", "trap 'echo caught; exit 3' INT; echo ready; %s" }]]):format(loop)))
    s:expect "ready\r\n"
    s:type "\3"
    s:expect "caught\r\nended\texit\t3"
    s:finish()
    is_as_before(s)
  end)

  it("takes ^D as the end of input, and only that", function()
    local s = start(script [[{ "sh", "-c", "echo ready; cat; echo end; cat; exit 4" }]])
    s:expect "ready\r\n"
    s:type "line\n\4"
    s:expect "line\r\nline\r\nend\r\n"
    s:type "\4"
    s:expect "ended\texit\t4"
    s:finish()
    is_as_before(s)
  end)

  it("keeps the size it was given, whatever the caller's is", function()
    local s = start(script([[{ "stty", "size" }]], "{ tty = { rows = 5, cols = 6 } }"))
    s:expect "5 6\r\n"
    s:finish()
  end)

  it("shows a large output whole", function()
    local s = start(script [["head -c 300000 /dev/zero | tr '\\0' x"]])
    assert.equal(300000, #s:finish():match "x+")
  end)
end)

describe("the caller's terminal", function()
  it("is as before after an error: Ctrl-C of the script", function()
    local marker = box.marker()
    local s = start(shell_with(marker))
    s:relayed()
    s:expect "ready\r\n"
    assert(sys.kill(s.pid, "INT")) -- lua raises "interrupted!"
    local shown, how, status = s:finish()
    assert.matches("interrupted!", shown)
    assert.same({ "exit", 1 }, { how, status })
    is_as_before(s)
    box.eventually("the end of the box", function() return #box.pids(marker) == 0 end)
  end)

  it("is as before after a timeout", function()
    in_time(0.5, true, function(seconds)
      local s = start(script([[{ "sleep", "60" }]], ("{ tty = true, timeout = %g }"):format(seconds)))
      s:wait("raw mode, or the end", function() return s:raw() or s.shown:find "ended" end)
      local raw = s:raw()
      s:expect "ended\ttimeout"
      s:finish()
      is_as_before(s)
      return raw
    end)
  end)

  it("is as before after a program that could not be run", function()
    local s = start(script [[{ "no-such-program" }]])
    s:expect "No such file"
    s:finish()
    is_as_before(s)
  end)

  for _, signal in ipairs { "KILL", "TERM", "HUP" } do
    it("is as before when the caller dies of " .. signal .. ": the keeper sees to it, and the box is gone", function()
      local marker = box.marker()
      local s = start(shell_with(marker))
      s:relayed()
      s:expect "ready\r\n"
      assert.is_true(#box.pids(marker) > 0)
      assert(sys.kill(s.pid, signal))
      local _, how = s:finish()
      assert.equal("signal", how)
      s:wait("the settings", function() return s.settings == (pty.settings(s.fd)) end)
      s:wait("the end of the box", function() return #box.pids(marker) == 0 end)
    end)
  end

  it("stays cooked while a box without its keys runs", function()
    local opts = [[{ tty = true, stdin = "null", stdout = "inherit" }]]
    local s = start(script([[{ "sh", "-c", "echo ready; sleep 0.3" }]], opts))
    s:expect "ready"
    assert.is_false(s:raw())
    s:finish()
    is_as_before(s)
  end)
end)

describe("no box gets the caller's terminal", function()
  local function probe_image()
    local root = box.image {}
    box.program("probe", root)
    return root
  end

  -- The script then reads what was typed, if something was.
  local function attack(opts)
    local s = start(([[
      local nsbox = require "nsbox"
      local sys = nsbox.sys
      local r = nsbox.run(%q, { "/probe", "tiocsti" }, %s)
      print("code", r.code)
      io.write(r.stdout)
      print("waiting", sys.poll({ { fd = 0 } }, 0.2))]]):format(probe_image(), opts))
    return (s:finish())
  end

  it("with a terminal of its own: what it types there does not reach the caller", function()
    local shown = attack [[{ tty = true, timeout = 10 }]]
    assert.matches("stdin type: ", shown)
    assert.matches("code\t0", shown)
    assert.matches("waiting\t0", shown)
  end)

  it("with the caller's as its stdin: it can read, not type and not take", function()
    local shown = attack [[{ stdin = "inherit", stdout = "capture", stderr = "inherit", timeout = 10 }]]
    for _, name in ipairs { "stdin", "stderr" } do
      assert.matches(name .. " take: Operation not permitted", shown)
      assert.not_matches(name .. " type: done", shown)
    end
    assert.matches("/dev/tty open: No such device or address", shown)
    assert.matches("waiting\t0", shown)
  end)
end)
