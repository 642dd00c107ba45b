-- A box on a terminal of its own: alone, and relayed to the terminal of the caller, which it never gets.
local helper = require "spec.helper"
local in_time = require "spec.in_time"
local nsbox = require "nsbox"
helper.leakcheck { settle = true }

local box = require "spec.box"
local run = nsbox.run

-- A run that would hang for a fault ends with reason "timeout" instead.
local function tty(cmd, opts)
  local all = { tty = true, timeout = 60, stdout = "capture" }
  for key, value in pairs(opts or {}) do all[key] = value end
  return assert(run("busybox", cmd, all))
end

local function says(cmd, opts)
  local r = tty(cmd, opts)
  assert.same({ "exit", 0, "" }, { r.reason, r.code, r.stderr }, r.stdout)
  return r.stdout
end

-- An input that waits for the handler of a signal, which says that the program is ready.
local function once(text, marker, signo)
  local given = false
  return function()
    if given then return nil end
    given = true
    box.handles(marker, signo)
    return text
  end
end

describe("a box with a terminal", function()
  it("has it as all three streams, the first of its own devpts", function()
    assert.equal("/dev/pts/0\r\n", says { "tty" })
    assert.equal("/dev/pts/0\r\n/dev/pts/0\r\n/dev/pts/0\r\n", says "for i in 0 1 2; do readlink /proc/$$/fd/$i; done")
    assert.same({ "0", "ptmx" }, box.lines((says("ls /dev/pts"):gsub("%s+", "\n"))))
  end)

  it("controls it: /dev/tty opens, and the shell leads a session in the foreground", function()
    assert.equal("here\r\n", says "echo here >/dev/tty")
    local stat = says { "cat", "/proc/self/stat" }
    local pgrp, session, terminal, foreground = stat:match "%) %a %d+ (%d+) (%d+) (%d+) (%d+)"
    assert.same({ "1", "1", "1" }, { pgrp, session, foreground })
    assert.not_equal("0", terminal)
  end)

  it("has the size it was given before the program starts, else 24 rows of 80 columns", function()
    assert.equal("31 97\r\n", says({ "stty", "size" }, { tty = { rows = 31, cols = 97 } }))
    assert.equal("24 80\r\n", says { "stty", "size" })
  end)

  it("has its output captured, one stream, when the caller has no terminal", function()
    local r = assert(run("busybox", "echo out; echo err >&2; exit 3", { tty = true, timeout = 60 }))
    assert.same({ "out\r\nerr\r\n", "", 3 }, { r.stdout, r.stderr, r.code })
  end)

  it("finds the end of input when nobody types, again and again", function()
    assert.equal("done\r\n", says "cat; cat; read x; echo done")
  end)

  local inputs = {
    { "lines", "a\nb\n", "stty -echo; cat", "a\r\nb\r\n" }, { "nothing", "", "cat", "" },
    { "a line without its end", "abc", "stty -echo; cat; echo .", "abc.\r\n" },
    { "a line for each of two readers", "a\n", "stty -echo; cat; cat; echo .", "a\r\n.\r\n" },
  }
  for _, row in ipairs(inputs) do
    it("reads what is fed to it, then the end: " .. row[1], function()
      -- what is typed before stty runs is echoed: wait until the program has the terminal as it wants it
      local marker = box.marker()
      local script = "stty -echo; trap : USR1; " .. row[3] .. "; true"
      local r = tty({ "sh", "-c", script, marker }, { input = once(row[2], marker, 10) })
      assert.same({ row[4], "exit" }, { r.stdout, r.reason })
    end)
  end

  it("gives ^C in its input to the program as an interrupt", function()
    local marker = box.marker()
    -- the shell has a handler of its own for INT from its beginning on
    local script = "trap 'echo caught; exit 9' INT; trap : USR1; while :; do sleep 0.02; done"
    local r = tty({ "sh", "-c", script, marker }, { input = once("\3", marker, 10) })
    assert.same({ 9, "exit" }, { r.code, r.reason })
    assert.matches("caught\r\n", r.stdout)
  end)

  it("loses nothing of what was written right before the end", function()
    for _ = 1, 5 do
      local r = tty "head -c 200000 /dev/zero | tr '\\0' x"
      assert.same({ 200000, "exit" }, { #r.stdout, r.reason })
    end
  end)

  it("takes more input than a terminal holds, whose end is seen, though the program reads late", function()
    local r = tty("stty -echo; sleep 0.5; wc -l", { input = ("0123456789\n"):rep(20000) })
    assert.equal("exit", r.reason)
    assert.matches("20000\r\n$", r.stdout)
  end)

  it("takes a large file while it writes as much itself, without deadlock", function()
    local path = helper.tmpdir() .. "/in"
    helper.write(path, ("0123456789\n"):rep(20000))
    local file <close> = assert(io.open(path))
    local r = tty("stty -echo; head -c 300000 /dev/zero | tr '\\0' x; wc -l", { stdin = file })
    assert.equal("exit", r.reason)
    assert.matches("x20000\r\n$", r.stdout)
  end)

  it("keeps to max_output and to the timeout", function()
    local r = tty("head -c 5000 /dev/zero | tr '\\0' x", { max_output = 1000 })
    assert.same({ 1000, true, "exit" }, { #r.stdout, r.truncated.stdout, r.reason })
    r = tty("while :; do echo line; done", { max_output = 1000, overflow = "kill" })
    assert.same({ 1000, "output", "KILL" }, { #r.stdout, r.reason, r.signal })
    in_time(0.4, { "first\r\n", "timeout" }, function(seconds)
      r = tty("echo first; sleep 60", { timeout = seconds })
      return { r.stdout, r.reason }
    end)
  end)

  it("writes to a file that was named", function()
    local path = helper.tmpdir() .. "/out"
    local file <close> = assert(io.open(path, "w"))
    local r = tty("echo out; echo err >&2", { stdout = file })
    assert.same({ "out\r\nerr\r\n", "", "" }, { helper.read(path), r.stdout, r.stderr })
  end)

  it("has its terminal as another user, too", function()
    if not helper.has_ids() then helper.skip "needs more ids than one" end
    assert.equal("1000\r\nhere\r\n", says("stat -c %u /dev/pts/0; echo here >/dev/tty", { user = 1000 }))
  end)
end)
