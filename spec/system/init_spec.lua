-- A box with an init: pid 1 is a program of nsbox's own, and the command its child.
local helper = require "spec.helper"
local in_time = require "spec.in_time"
local nsbox = require "nsbox"
local script = require "spec.script"
local sys = require "nsbox.sys"
helper.leakcheck { settle = true }

local box = require "spec.box"
local run = nsbox.run

local ENOENT = 2

-- A run that would hang for a fault ends with reason "timeout" instead.
local function with(opts)
  local all = { init = true, timeout = 60 }
  for key, value in pairs(opts or {}) do all[key] = value end
  return all
end

local function init(cmd, opts)
  return assert(run("busybox", cmd, with(opts)))
end

local function says(cmd, opts)
  local r = init(cmd, opts)
  assert.same({ "", "exit", 0 }, { r.stderr, r.reason, r.code }, r.stdout)
  return r.stdout
end

local function until_true(f)
  local deadline = nsbox.clock() + helper.PATIENCE
  repeat
    local found = f()
    if found then return found end
  until nsbox.clock() > deadline
  error "it did not come to it"
end

-- Runs f(pid of the command, pid of its init), the host's numbers, while `command` (a line that begins with a read,
-- or ends itself) runs. Answers the Result.
local function while_it_runs(command, f, opts)
  local marker, called = box.marker(), false
  opts = with(opts)
  opts.input = function()
    if called then return nil end
    called = true
    local pid = until_true(function() return box.pids(marker)[1] end)
    return f(pid, tonumber(box.status(pid, "PPid")))
  end
  return assert(run("busybox", { "sh", "-c", command, marker }, opts))
end

describe("with an init", function()
  it("process 1 is that, by name alone, and the command is process 2", function()
    assert.same({ "PID USER COMMAND", "1 root nsbox-init", "2 root sh -c ps; true x" },
      { table.unpack(box.lines((says { "sh", "-c", "ps; true", "x" }:gsub(" +", " "):gsub("\n ", "\n"))), 1, 3) })
    assert.equal("1 2\n", says "echo $PPID $$")
    assert.equal("nsbox-init\n", says "tr -d '\\0' </proc/1/cmdline; echo")
    assert.equal("nsbox-init\n", says "cat /proc/1/comm")
  end)

  it("the command has what it has without", function()
    local state = "id; pwd; umask; env | sort; ls /proc/self/fd; grep -E '^(Sig|Shd|Cap|NoNew)' /proc/self/status"
    for _, opts in ipairs { {}, { workdir = "/made" }, { env = { A = "b" } }, { read_only = true } } do
      local without = assert(run("busybox", state, opts)).stdout
      assert.equal(without, says(state, opts))
    end
    if helper.root() then
      assert.equal(assert(run("busybox", state, { user = "5:6" })).stdout, says(state, { user = "5:6" }))
    end
  end)

  it("the same in namespaces that are shared, of the host, and with other clocks", function()
    assert.equal("out\n", says("echo out", { namespaces = { net = false, uts = false, ipc = false } }))
    assert.equal("out\n", says("echo out", { namespaces = { time = { boottime = 5 } } }))
    assert.equal("2\n", assert(run("host", "echo $$", with { namespaces = { mount = false } })).stdout)
    assert.equal("2\n", assert(run("host", "echo $$", with())).stdout)
  end)

  it("input, output and a program in PATH go their ways", function()
    assert.equal(("x"):rep(300000), says({ "cat" }, { input = ("x"):rep(300000) }))
    local r = init("echo out; echo err >&2; exit 4")
    assert.same({ "out\n", "err\n", 4 }, { r.stdout, r.stderr, r.code })
  end)

  it("its output ends when the command has closed it: init holds no end", function()
    local r = while_it_runs("exec >/dev/null 2>&1; trap : USR1; read x; exit 5", function(_, pid)
      assert.equal(1, #helper.names(("/proc/%d/fd"):format(pid)))
      return "\n"
    end)
    assert.equal(5, r.code)
  end)
end)

-- What, command, options; then reason, code, signal.
local ends = {
  { "exit 0", "exit 0", {}, "exit", 0, nil },
  { "exit 255", "exit 255", {}, "exit", 255, nil },
  { "exit 137, which is no signal", "exit 137", {}, "exit", 137, nil },
  { "exit 127, which is the command's own", "no_such_program", {}, "exit", 127, nil },
  { "its own KILL", "kill -9 $$", {}, "signal", nil, "KILL" },
  { "its own TERM", "kill $$", {}, "signal", nil, "TERM" },
  { "its own ABRT", "kill -ABRT $$", {}, "signal", nil, "ABRT" },
  { "a real-time signal", "kill -36 $$", {}, "signal", nil, "RTMIN+2" },
  { "a TERM that it sends to init, which hands it on", "kill 1; sleep 60", {}, "signal", nil, "TERM" },
  { "an end that leaves others behind", "sleep 99 & sleep 98 & exit 6", {}, "exit", 6, nil },
  { "a timeout, where TERM works now", "exec sleep 60", { timeout = 0.2 }, "timeout", nil, "TERM" },
  { "a timeout, and a handler", "trap 'exit 7' TERM; while :; do sleep 0.02; done", { timeout = 0.4 },
    "timeout", 7, nil },
  { "a timeout, and no ear", "trap '' TERM; while :; do sleep 0.02; done", { timeout = 0.2, stop_timeout = 0.2 },
    "timeout", nil, "KILL" },
  { "a timeout with another stop signal", "trap 'exit 8' USR2; while :; do sleep 0.02; done",
    { timeout = 0.4, stop_signal = "USR2" }, "timeout", 8, nil },
  { "output beyond the limit", "while :; do echo line; done", { max_output = 100, overflow = "kill" },
    "output", nil, "KILL" },
}

describe("with an init, a result tells of", function()
  for _, row in ipairs(ends) do
    local what, command, opts, reason, code, signal = table.unpack(row, 1, 6)
    it(what, function()
      local expected = { reason = reason, code = code, signal = signal, ok = reason == "exit" and code == 0 }
      in_time(opts.timeout or helper.PATIENCE, expected, function(seconds)
        opts.timeout = opts.timeout and seconds
        local r = init({ "sh", "-c", command }, opts)
        return { reason = r.reason, code = r.code, signal = r.signal, ok = r.ok }
      end)
    end)
  end

  for _, row in ipairs { { "abort", "ABRT" }, { "segv", "SEGV" } } do
    it("a program's " .. row[1], function()
      local root = box.image()
      box.program("probe", root)
      local r = assert(run(root, { "/probe", row[1] }, with()))
      assert.same({ "signal", row[2] }, { r.reason, r.signal })
    end)
  end

  it("a kill of init from outside", function()
    local r = while_it_runs("cat; true", function(_, pid) assert(sys.kill(pid, "KILL")) end)
    assert.same({ "signal", "KILL" }, { r.reason, r.signal })
  end)

  it("a kill of the command from outside", function()
    local r = while_it_runs("cat; true", function(pid) assert(sys.kill(pid, "KILL")) end)
    assert.same({ "signal", "KILL" }, { r.reason, r.signal })
  end)

  it("its own end, though the caller's children are reaped by others", function()
    script.succeeds [[
      local host = require "host"
      host.sigchld "steal"
      local r = assert(nsbox.run("busybox", "exit 3", { init = true }))
      assert(r.reason == "exit" and r.code == 3, tostring(r))]]
  end)

  it("500 boxes, exactly", function()
    local before, signals = helper.snapshot(), { 1, 2, 6, 9, 11, 15, 36, 64 }
    for i = 1, helper.rounds(500) do
      local signo = signals[i % #signals + 1]
      if i % 2 == 0 then
        assert.same({ i % 256 == 0 or nil, "exit", i % 256 }, { init("exit " .. i % 256):unpack() })
      else
        assert.same({ nil, "signal", signo }, { init(("kill -%d $$"):format(signo)):unpack() })
      end
    end
    assert.same({}, helper.compare(before, helper.snapshot()))
  end)
end)

describe("an init", function()
  it("reaps orphans, however many at once", function()
    local r = init([[
      i=0; while [ $i -lt 200 ]; do (true & true & sleep 0.01 &); i=$((i+1)); done
      i=0; while [ $i -lt 100 ]; do
        n=$(cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z '); [ $n = 0 ] && break; sleep 0.1; i=$((i+1))
      done; echo $n]])
    assert.equal("0\n", r.stdout)
  end)

  it("hands every signal on that can be, even those that stop, and is not stopped", function()
    local names = { "HUP", "INT", "QUIT", "USR1", "USR2", "ALRM", "TERM", "CONT", "TSTP", "TTIN", "TTOU", "WINCH",
      "PWR" }
    local traps = {}
    for i, name in ipairs(names) do traps[i] = ("trap 'echo %s' %s"):format(name, name) end
    local r = while_it_runs(table.concat(traps, "; ") .. "; trap 'exit 9' 40; while :; do sleep 0.02; done",
      function(command, pid)
        until_true(function() return tonumber(box.status(command, "SigCgt"), 16) >> 39 & 1 == 1 end)
        for _, name in ipairs(names) do
          assert(sys.kill(pid, name))
          until_true(function() return tonumber(box.status(pid, "ShdPnd"), 16) == 0 end)
          until_true(function() return tonumber(box.status(command, "ShdPnd"), 16) == 0 end)
          assert.is_nil(box.status(pid, "State"):find "^[Tt]")
        end
        assert(sys.kill(pid, 40))
      end)
    assert.same({ 9, "exit" }, { r.code, r.reason }, tostring(r))
    local seen = {}
    for _, line in ipairs(box.lines(r.stdout)) do seen[line] = true end
    for _, name in ipairs(names) do assert.is_true(seen[name], name .. " was not handed on") end
  end)

  it("is what a handle signals: each goes to the command, but STOP, which none can hand on", function()
    local b <close> = assert(nsbox.start("busybox", "trap 'exit 3' USR1; echo on; while :; do sleep 0.02; done",
      { init = true }))
    assert(b:expect("on", helper.PATIENCE))
    local ok, err = b:kill "STOP"
    assert.same({ nil, "unsupported" }, { ok, err.kind })
    assert.is_true(b:kill "USR1")
    assert.same({ 3, "exit" }, { assert(b:wait()).code, b:wait().reason })
    local other <close> = assert(nsbox.start("busybox", { "sleep", "60" }, { init = true }))
    assert.equal("2\n", assert(other:exec "pidof sleep").stdout)
    local r = assert(other:stop())
    assert.same({ "killed", "TERM" }, { r.reason, r.signal })
  end)

  it("leaves a command that stops itself to who continues it, or to the timeout", function()
    assert.equal("on\n", says "kill -TSTP $$; echo on") -- nobody is there to continue it: the kernel drops that
    local r = while_it_runs("kill -STOP $$; echo on", function(command, pid)
      until_true(function() return box.status(command, "State"):find "^T" end)
      assert(sys.kill(pid, "CONT"))
    end)
    assert.same({ "on\n", 0 }, { r.stdout, r.code })
    in_time(0.2, { "timeout", "KILL", "" }, function(seconds)
      r = init("kill -STOP $$; echo on", { timeout = seconds, stop_timeout = 0.1 })
      return { r.reason, r.signal, r.stdout }
    end)
  end)

  it("has the ids and capabilities of the command, and no privilege to gain", function()
    local rights = "for p in 1 $$; do grep -E '^(Uid|Gid|Groups|Cap|NoNew)' /proc/$p/status; done"
    for _, user in ipairs(helper.has_ids() and { 0, "5:6" } or { 0 }) do
      local lines = box.lines(says(rights, { user = user }))
      assert.equal(18, #lines)
      assert.same({ table.unpack(lines, 1, 9) }, { table.unpack(lines, 10) })
    end
  end)

  it("holds one descriptor, no folder, and nothing of the caller's memory", function()
    while_it_runs("read x", function(_, pid)
      local at = ("/proc/%d/"):format(pid)
      assert.equal(1, #helper.names(at .. "fd"))
      local maps = helper.read(at .. "maps")
      if maps then
        for line in maps:gmatch "[^\n]+" do
          local path = line:match "^%S+ %S+ %S+ %S+ %S+%s*(.*)$"
          assert.is_truthy(path == "" or path:find "^%[" or path:find "^/memfd:nsbox%-init", line)
        end
      end
      assert.equal("nsbox-init", helper.read(at .. "comm"):match "[^\n]+")
      assert.is_true(tonumber(box.status(pid, "VmRSS"):match "%d+") < 1024)
      return "\n"
    end, { workdir = "/made" })
  end)

  it("cannot be killed, stopped or looked into by the box's root", function()
    local r = init([[
      kill -KILL 1; kill -STOP 1; kill -SEGV 99 2>/dev/null
      for f in maps mem environ fd/* exe cwd root; do
        cat /proc/1/$f >/dev/null 2>/tmp/why && echo "$f can be read"
        readlink /proc/1/$f
      done; grep -c State /proc/1/status]])
    assert.same({ "1\n", "exit", 0 }, { r.stdout, r.reason, r.code })
  end)

  it("cannot be traced or written to, nor its channel be reached", function()
    local root = box.image()
    box.program("probe", root)
    local r = assert(run(root, { "/probe", "reach", "1" }, with()))
    local no = "Operation not permitted"
    assert.same({ "seize: " .. no, "read: " .. no, "write: " .. no, "mem: Permission denied", "maps: Permission denied",
      "descriptors: " .. no }, box.lines(r.stdout))
  end)
end)

describe("with an init and a terminal", function()
  local function tty(cmd, opts)
    opts = with(opts)
    opts.tty, opts.stdout = opts.tty or true, "capture"
    return assert(run("busybox", cmd, opts))
  end

  it("the command leads the terminal's session, and init has no part in it", function()
    assert.equal("/dev/pts/0\r\nhere\r\n", tty("tty; echo here >/dev/tty").stdout)
    local stat = tty({ "cat", "/proc/self/stat", "/proc/1/stat" }).stdout
    local ids = {}
    for pgrp, session, terminal, foreground in stat:gmatch "%) %a %d+ (%d+) (%d+) (%d+) (%-?%d+)" do
      ids[#ids + 1] = { pgrp, session, terminal ~= "0", foreground }
    end
    assert.same({ { "2", "2", true, "2" }, { "1", "1", false, "-1" } }, ids)
    assert.equal("31 97\r\n", tty({ "stty", "size" }, { tty = { rows = 31, cols = 97 } }).stdout)
  end)

  it("^C reaches the command", function()
    local marker, typed = box.marker(), false
    local text = "trap 'exit 9' INT; trap : USR1; while :; do sleep 0.02; done"
    local r = tty({ "sh", "-c", text, marker }, { input = function()
      if typed then return nil end
      typed = true
      box.handles(marker, 10) -- of INT the shell has one of its own from its beginning on
      return "\3"
    end })
    assert.same({ 9, "exit" }, { r.code, r.reason })
  end)

  it("a shell has job control: ^Z stops what runs in the foreground", function()
    local marker = box.marker()
    local stages = {
      function() return "sh -c 'read x; true' " .. marker .. "\n" end,
      function()
        until_true(function() return box.pids(marker)[1] end)
        return "\26"
      end,
      function()
        until_true(function() return box.status(box.pids(marker)[1], "State"):find "^T" end)
        return "jobs; exit 7\nexit 7\n"
      end,
    }
    local stage = 0
    local r = tty({ "sh", "-i" }, { input = function()
      stage = stage + 1
      return stages[stage] and stages[stage]()
    end })
    assert.same({ 7, "exit" }, { r.code, r.reason }, r.stdout)
    assert.is_nil(r.stdout:find "job control")
    assert.matches("Stopped", r.stdout)
  end)

  it("loses nothing of what was written right before the end", function()
    for _ = 1, 3 do
      assert.equal(200000, #tty("head -c 200000 /dev/zero | tr '\\0' x").stdout)
    end
  end)
end)

describe("with an init, a program that cannot be run", function()
  it("is explained as it is without", function()
    local root = box.image {
      ["opt/script"] = { "#!/no/such/interpreter -x\n", "0755" }, ["opt/text"] = { "neither\n", "0755" },
      ["opt/plain"] = "#!/bin/sh\n", ["opt/first/x"] = "no program\n", ["opt/stub"] = { "\127ELF", "0755" },
    }
    local commands = { { "/opt/script" }, { "/opt/text" }, { "/opt/plain" }, { "/opt" }, { "/none" }, { "none" },
      { "x" }, { "./plain" }, { "/opt/stub" }, { "/opt/plain/x" }, { "--" } }
    for _, cmd in ipairs(commands) do
      local function err(opts)
        opts.env, opts.workdir = { PATH = "/opt/first:/none" }, "/opt"
        local r, found, errno = run(root, cmd, opts)
        assert.is_nil(r)
        assert.is_true(math.type(found.step) == "integer" and errno == found.errno)
        return { found.kind, found.errno, found.name, found.path, found.hint, found.message, found.verb }
      end
      local without = err {}
      assert.equal("exec", without[1])
      assert.same(without, err { init = true })
      assert.same(without, err { init = true, tty = true })
    end
  end)

  it("is explained on the host's own root, too", function()
    local err = box.fails("exec", ENOENT, "host", { "no-such-program" }, with { namespaces = { mount = false } })
    assert.matches("no folder of PATH", err.hint)
  end)

  it("has arguments that are more than the kernel takes", function()
    local out, ok = box.script("ulimit -s 1024; LUA", [[
      local words = { "true" }
      for i = 1, 10 do words[#words + 1] = ("x"):rep(100000) end
      local r, err, errno = require "nsbox".run("busybox", words, { init = true })
      print(r, err.kind, errno, err.name, err.hint)]])
    assert.is_true(ok)
    assert.matches("^nil\texec\t7\tE2BIG\targuments and environment together are beyond", out)
  end)
end)
