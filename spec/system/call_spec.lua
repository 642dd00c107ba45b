-- Lua functions in boxes: what they see and answer, how they may end, and what stays of the caller: all of it.
local box = require "spec.box"
local helper = require "spec.helper"
local in_time = require "spec.in_time"
local lfs = require "lfs"
local nsbox = require "nsbox"
local script = require "spec.script"
local sys = nsbox.sys
helper.leakcheck { settle = true, outside = true }

-- What a call that ends well answers.
local function good(...)
  local results = table.pack(nsbox.call(...))
  assert.is_true(results[1], tostring(results[2]))
  return table.unpack(results, 2, results.n)
end

local function bad(kind, ...)
  local ok, err, errno = nsbox.call(...)
  assert.is_nil(ok)
  assert.equal("nsbox.error", getmetatable(err) and getmetatable(err).__name, tostring(err))
  assert.equal(kind, err.kind, tostring(err))
  assert.equal(err.errno, errno)
  return err
end

local function line_of(fn)
  return debug.getinfo(fn, "S").linedefined
end

describe("a function in a box", function()
  it("has arguments, upvalues and modules, and answers plain data", function()
    local n = 0
    local seen = table.pack(good("busybox", function(...)
      n = n + 1
      return n, helper.pid, select("#", ...), { ... }, nil
    end, nil, "a", { b = 2.5 }, true))
    assert.same({ 1, helper.pid, 3, { "a", { b = 2.5 }, true }, nil, n = 5 }, seen)
    assert.equal(0, n)
  end)

  it("is root of its own world", function()
    local seen = good("busybox", function()
      local files = assert(io.open("/made", "w"))
      files:write("here"):close()
      assert(sys.mkdir("/tmp/d", "0750"))
      return { pid = sys.getpid(), uid = sys.getuid(), host = sys.gethostname(), cwd = sys.getcwd(),
        made = helper.read "/made", mode = sys.stat("/tmp/d").mode, devices = helper.names "/sys/class/net",
        up = helper.read "/sys/class/net/lo/flags", env = os.getenv "HOME", own = os.getenv "NSBOX_SPEC_RUN",
        who = assert(sys.chown("/made", 0, 0)) }
    end, { hostname = "own" })
    assert.same({ pid = 1, uid = 0, host = "own", cwd = "/", made = "here", mode = "0750", devices = { "lo" },
      up = "0x9\n", env = "/root", who = true }, seen)
    assert.is_nil(lfs.attributes "/made")
  end)

  it("has a command's rights and no more", function()
    local status = good("busybox", function() return helper.read "/proc/self/status" end)
    local r = assert(nsbox.run("busybox", { "cat", "/proc/self/status" }))
    for _, name in ipairs { "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Uid", "Gid", "Groups",
      "SigBlk", "SigIgn", "SigCgt", "Umask" } do
      local pattern = "\n" .. name .. ":[^\n]*"
      assert.equal(r.stdout:match(pattern), status:match(pattern))
    end
    local ok, why = good("busybox", function()
      local ok, why = sys.mount("tmpfs", "/tmp", "tmpfs")
      return ok, why
    end)
    assert.is_nil(ok)
    assert.matches("Operation not permitted", why)
  end)

  it("runs in the host's files, another user's ids, another namespace's, and other clocks", function()
    assert.equal(lfs.currentdir(), good("host", function() return sys.getcwd() end))
    assert.equal(helper.pid, good("host", function() return sys.getppid() end, { namespaces = { pid = false } }))
    if helper.root() then
      assert.same({ 1000, 1000, true }, { good("busybox", function()
        return sys.getuid(), sys.getegid(), #sys.readdir "/proc/self/fd" > 0
      end, { user = "1000:1000" }) })
    end
    local up = good("busybox", function() return helper.read "/proc/uptime" end,
      { namespaces = { time = { boottime = 1e7 } } })
    assert.is_true(tonumber(up:match "^%d+") >= 10000000)
  end)

  it("has none of the caller's descriptors, and their numbers are no one else's", function()
    local folder = helper.tmpdir()
    local mine = {}
    for i = 1, 20 do mine[i] = assert(io.open(folder .. "/" .. i, "w")) end
    local open, kept = good("busybox", function()
      local all = {}
      for _, fd in ipairs(sys.readdir "/proc/self/fd") do
        local to = sys.readlink("/proc/self/fd/" .. fd)
        if to and tonumber(fd) > 2 then all[#all + 1] = to end
      end
      local f = assert(io.open("/new", "w"))
      mine = nil
      collectgarbage()
      collectgarbage() -- closes what they have for theirs
      assert(f:write "kept")
      assert(f:close())
      return all, helper.read "/new"
    end, { stdin = "null", stdout = "null", stderr = "null" })
    local pipes = 0
    for _, to in ipairs(open) do
      if to:find "^pipe:" then pipes = pipes + 1 else assert.equal("/dev/null", to) end
    end
    assert.same({ 1, "kept" }, { pipes, kept })
    for i = 1, 20 do
      assert(mine[i]:write "x")
      assert(mine[i]:close())
    end
  end)

  it("answers by the dozen, and much", function()
    for i = 1, 36 do assert.equal(i, (good("busybox", function() return i end))) end
    local text = ("x"):rep(3 << 20)
    assert.equal(text, (good("busybox", function() return text end)))
    local list = good("busybox", function()
      local all = {}
      for i = 1, 20000 do all[i] = { i, tostring(i) } end
      return all
    end)
    assert.same({ 20000, "20000" }, list[20000])
  end)

  it("writes where it is told", function()
    local path = helper.tmpdir() .. "/out"
    local f <close> = assert(io.open(path, "w"))
    good("busybox", function()
      print "printed"
      io.write "written\n"
      io.stderr:write "complained\n"
    end, { stdout = f, stderr = "stdout" })
    assert.equal("printed\nwritten\ncomplained\n", helper.read(path))
    local lines = {}
    good("busybox", function() print "a" print "b" end, { stdout = function(line) lines[#lines + 1] = line end })
    assert.same({ "a", "b" }, lines)
    assert.equal("fed", (good("busybox", function() return io.read "a" end, { input = "fed" })))
    assert.equal("/dev/pts/0", (good("busybox", function() return sys.readlink "/proc/self/fd/0" end,
      { tty = true, stdout = "null" })))
  end)

  it("may start processes, programs and calls of its own", function()
    assert.same({ "exit", 3, 1 }, { good("busybox", function()
      local pid = assert(sys.clone("", function() return 3 end))
      local how, code = sys.waitid(pid)
      return how, code, sys.getpid()
    end) })
    assert.equal("sh\n", (good("host", function()
      local pipe <close> = io.popen "echo sh"
      return pipe:read "a"
    end)))
    local own = { namespaces = { mount = false } } -- a box's proc is masked, so one in it gets no fresh one
    assert.same({ 1, 1, "out\n" }, { good("host", function()
      local live <close> = assert(nsbox.start("host", { "sleep", "100" }, own))
      local inner = good("host", function()
        local ok, err = live:kill() -- process 1, too, and yet not the one that started it
        assert(not ok and err.kind == "closed", tostring(err))
        assert(nsbox.run("host", { "true" }, own)):check()
        return sys.getpid()
      end, own)
      assert(live.state == "running")
      local r = assert(nsbox.run("host", { "echo", "out" }, own))
      return sys.getpid(), inner, r.stdout
    end) })
  end)

  -- In a small program: each copies what there is of it, and of ours that is much by now.
  it("runs 300 times", function()
    script.succeeds(([[
      assert(nsbox.call("busybox", function() end))
      local before = #sys.readdir "/proc/self/fd"
      for i = 1, %d do
        local ok, n = nsbox.call("busybox", function(n) return n end, nil, i)
        assert(ok and n == i, tostring(n))
      end
      collectgarbage() collectgarbage()
      assert(#sys.readdir "/proc/self/fd" == before)]]):format(helper.rounds(300)))
  end)
end)

describe("a function that", function()
  it("raises is an error with its traceback", function()
    local function inner() error "boom" end
    local function outer() inner() return 1 end
    local err = bad("call", "busybox", outer)
    local at = ("call_spec.lua:%d: boom"):format(line_of(inner))
    assert.matches(at, err.message, 1, true)
    assert.matches(("call_spec.lua:%d: in "):format(line_of(outer)), err.traceback, 1, true)
    assert.is_nil(err.traceback:find("nsbox/call.lua", 1, true))
    assert.equal("nsbox: call: " .. err.message, tostring(err))
  end)

  it("raises anything", function()
    assert.equal("text", bad("call", "busybox", function() error(setmetatable({}, { __tostring = function()
      return "text" end })) end).message)
    assert.equal("(error object is a table value)", bad("call", "busybox", function() error {} end).message)
    assert.equal("(error object is a nil value)", bad("call", "busybox", function() error() end).message)
    assert.matches("no image named 'none'", bad("call", "busybox", function() assert(nsbox.run "none") end).message)
  end)

  it("closes its variables when it raises", function()
    local path = "/closed"
    local lines = {}
    bad("call", "busybox", function()
      local _ <close> = setmetatable({}, { __close = function() print("closed " .. path) end })
      error "x"
    end, { stdout = function(line) lines[#lines + 1] = line end })
    assert.same({ "closed /closed" }, lines)
  end)

  it("answers what is no plain data, or yields out of itself, is told so", function()
    assert.equal("result 2.f: a function cannot be handed over",
      bad("call", "busybox", function() return 1, { f = print } end).message)
    local co = coroutine.wrap(function()
      return bad("call", "busybox", function() coroutine.yield(1) end).message
    end)
    assert.equal("attempt to yield out of the function of a call", co())
    assert.equal(6, (good("busybox", function()
      local sum = 0
      for v in coroutine.wrap(function() for i = 1, 3 do coroutine.yield(i) end end) do sum = sum + v end
      return sum
    end)))
  end)

  it("ends its process is told how", function()
    for _, case in ipairs {
      { function() os.exit(3) end, "exit code 3" }, { function() os.exit(true) end, "exit code 0" },
      { function() os.exit(false, true) end, "exit code 1" }, { function() sys._exit(4) end, "exit code 4" },
      { function() return sys.execve("/bin/sh", { "sh", "-c", "exit 5" }, {}) or 1 end, "exit code 5" },
    } do
      local err = bad("call", "busybox", case[1])
      assert.equal("the process ended before the function had returned: " .. case[2], err.message)
      assert.equal("exit", err.result.reason)
    end
    local err = bad("call", "host", function() sys.kill(sys.getpid(), "kill") end, { namespaces = { pid = false } })
    assert.matches("killed by signal KILL", err.message, 1, true)
    assert.equal("KILL", err.result.signal)
  end)

  it("had os.exit before, ends all the same, and nothing of the caller's is done", function()
    local exit, path = os.exit, helper.tmpdir() .. "/out"
    local f <close> = assert(io.open(path, "w"))
    local err = bad("call", "busybox", function() io.write "last words" exit(7) end, { stdout = f })
    assert.equal(7, err.result.code)
    assert.equal("last words", helper.read(path))
  end)

  it("does not return is ended by its timeout; what it wrote until then is there", function()
    in_time(0.3, { "timeout", "on my way\n", sys.ETIMEDOUT }, function(seconds)
      local err = bad("timeout", "busybox", function()
        print "on my way"
        while true do end
      end, { timeout = seconds, stdout = "capture" })
      return { err.result.reason, err.result.stdout, err.errno }
    end)
  end)

  it("writes faster than the caller reads keeps nobody beyond its timeout", function()
    local core, fills = require "nsbox.core", 0
    local buffer = core.buffer
    finally(function() core.buffer = buffer end)
    function core.buffer() -- of the results: there is always more
      return { contents = function() return "" end, fill = function()
        fills = fills + 1
        return fills < 100000 and 4096 or error "it reads for ever"
      end }
    end
    bad("timeout", "busybox", function() sys.nanosleep(100) end, { timeout = 0.05 })
  end)

  it("closes what it has, and leaves processes behind, still answers", function()
    assert.equal(1, (good("busybox", function()
      io.stdout:close()
      sys.clone("", function() sys.nanosleep(100) end)
      return 1
    end)))
    local err = bad("call", "busybox", function()
      for fd = 3, 1000 do sys.dup3(0, fd) end
      return 1
    end, { stderr = "capture" })
    assert.matches("before the function had returned", err.message, 1, true)
  end)

  it("is called in a process with threads is refused", function()
    script.succeeds([[
      local threads = require "threads"
      threads.start(2)
      local ok, err = nsbox.call("busybox", function() return 1 end)
      assert(ok == nil and err.kind == "unsupported" and tostring(err):find "threads", tostring(err))
      threads.stop()
      local deadline = sys.clock() + 30
      repeat -- the kernel shows one for a moment after it was joined
        ok, err = nsbox.call("busybox", function() return 1 end)
      until ok or sys.clock() > deadline
      assert(ok and err == 1, tostring(err))]])
  end)
end)

describe("of the caller,", function()
  it("to-be-closed variables and finalizers are not run in the copy", function()
    local path = helper.tmpdir() .. "/log"
    local f <close> = assert(io.open(path, "a"))
    f:setvbuf "no"
    local function say(word)
      return function()
        if sys.getpid() ~= helper.pid then io.stderr:write(word) end
      end
    end
    do
      local _ <close> = setmetatable({}, { __close = say "closed" })
      local kept = setmetatable({}, { __gc = say "finalized" })
      for _, fn in ipairs { function() return 1 end, function() error "x" end, function() os.exit(0) end } do
        setmetatable({}, { __gc = say "collected" })
        nsbox.call("busybox", function()
          collectgarbage()
          return fn()
        end, { stderr = f })
      end
      getmetatable(kept).__gc = nil
    end
    assert.equal("", helper.read(path))
  end)

  it("live boxes survive, and are not the copy's", function()
    local live <close> = assert(nsbox.start("busybox", { "cat" }, { stdin = "pipe", stdout = "pipe" }))
    local message, ended = good("busybox", function()
      local ok, err = live:kill()
      live:close()
      collectgarbage()
      return tostring(err), ok
    end)
    assert.is_nil(ended)
    assert.matches("belongs to the process that started it", message)
    assert.equal("running", live.state)
    live.stdin:write "on\n"
    assert.equal("on", live.stdout:read "l")
  end)

  it("a kill leaves nothing", function()
    for _ = 1, helper.rounds(10) do
      local marker = box.marker()
      local s <close> = script.start([[
        local nsbox = require "nsbox"
        nsbox.call("busybox", function()
          print "in"
          nsbox.sys.clone("", function()
            return nsbox.sys.execve("/bin/sh", { "sh", "-c", "sleep 100; true", arg[1] }, {})
          end)
          while true do nsbox.sys.nanosleep(10) end
        end)]], { marker = marker })
      assert.equal("in", s:line())
      s:signal "kill"
      s:wait()
      local deadline = sys.clock() + helper.PATIENCE
      while #box.pids(marker) > 0 do assert.is_true(sys.clock() < deadline) end
    end
  end)

  it("other coroutines go on meanwhile", function()
    local order = nsbox.gather({ 1, 2, 3 }, function(i)
      return (good("busybox", function() return i, sys.nanosleep(0.05) end))
    end)
    assert.same({ 1, 2, 3 }, order)
  end)
end)

describe("box:call", function()
  it("runs a function in a running box, as exec runs a program", function()
    local live <close> = assert(nsbox.start("busybox", { "sleep", "100" }, { hostname = "live", env = { A = "a" } }))
    local function f(x)
      assert(io.open("/from-call", "w")):close()
      return x, sys.gethostname(), os.getenv "A", os.getenv "B", sys.getpid() > 1, sys.prctl "get_dumpable"
    end
    assert.same({ true, "x", "live", "a", "b", true, 0 }, { live:call(f, { env = { B = "b" } }, "x") })
    assert.equal(0, live:exec({ "test", "-e", "/from-call" }).code)
    for i = 1, 20 do assert.same({ true, i }, { live:call(function() return i end) }) end
    local ok, err = live:call(function() error "in there" end)
    assert.is_nil(ok)
    assert.same({ "call", "box:call" }, { err.kind, err.verb })
    assert.matches("in there", err.traceback)
    ok, err = live:call(function() while true do end end, { timeout = 0.2 })
    assert.same({ nil, "timeout" }, { ok, err.kind })
    assert.equal("running", live.state)
    assert.is_false((pcall(live.call, live, f, { hostname = "x" })))
    live:kill()
    live:wait()
    ok, err = live:call(f)
    assert.same({ nil, "closed" }, { ok, err.kind })
  end)
end)
