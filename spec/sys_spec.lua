-- nsbox.sys: each call made here and now, in a child made by sys.clone; what happened is judged from outside, by the
-- child's status and by what it wrote into a pipe.
local helper = require "spec.helper"
local assert_misuse = require "spec.misuse"
local sys = require "nsbox.sys"
helper.leakcheck { cold = true }

local process = require "spec.process"
local child, assert_child, drain, holder = process.child, process.assert_child, process.drain, process.holder

describe("sys.clone", function()
  local statuses = {
    { "nothing", nil, 0 }, { "true", true, 0 }, { "false", false, 1 }, { "0", 0, 0 }, { "7", 7, 7 },
    { "255", 255, 255 },
  }
  for _, row in ipairs(statuses) do
    it(("exits with %d when the function returns %s"):format(row[3], row[1]), function()
      assert.same({ "exit", row[3], {} }, (child(sys.SIGCHLD, function() return row[2] end)))
    end)
  end

  for _, bad in ipairs { 256, -1, 1.5, "0", {} } do
    it("takes " .. type(bad) .. " " .. (math.type(bad) and bad or "") .. " for no status", function()
      local seen, err = child(sys.SIGCHLD, function() return bad end)
      assert.same({ "exit", 1, {} }, seen)
      assert.equal("clone: the function's result is no status: " .. type(bad) .. "\n", err)
    end)
  end

  it("shows an error with its traceback on stderr and exits with 1", function()
    local seen, err = child(sys.SIGCHLD, function() error "boom" end)
    assert.same({ "exit", 1, {} }, seen)
    assert.matches("^[^\n]*sys_spec.lua:%d+: boom\nstack traceback:\n", err)
  end)

  it("shows error values that are no strings", function()
    local odd = setmetatable({}, { __tostring = function() return "odd" end })
    local _, err = child(sys.SIGCHLD, function() error(odd) end)
    assert.matches("^odd\nstack", err)
    _, err = child(sys.SIGCHLD, function() error() end)
    assert.matches("^nil\nstack", err)
  end)

  it("works from a coroutine, whose yield stops in the child", function()
    local co = coroutine.wrap(function() return child(sys.SIGCHLD, function() coroutine.yield() end) end)
    local seen, err = co()
    assert.same({ "exit", 1, {} }, seen)
    assert.matches("attempt to yield", err)
  end)

  it("flushes standard files once, before and after", function()
    local path = helper.tmpdir() .. "/out"
    local file <close> = assert(io.open(path, "w"))
    file:write "before "
    sys.waitid(assert(sys.clone(sys.SIGCHLD, function() file:write "child " end)))
    file:write "after"
    file:close()
    assert.equal("before child after", helper.read(path))
  end)

  it("copies: what the child changes stays with it", function()
    local value = 1
    child(sys.SIGCHLD, function() value = 2 end)
    assert.equal(1, value)
  end)

  for _, flags in ipairs { "newuser,newpid", sys.CLONE_NEWUSER | sys.CLONE_NEWPID | sys.SIGCHLD } do
    it("makes a process that is 1, twice, with flags as " .. type(flags), function()
      process.needs_userns()
      local function first() assert(sys.getpid() == 1 and sys.getppid() == 0) end
      local one <close> = holder(flags, first)
      local two <close> = holder(flags, first)
      assert.is_true(one.pid > 1 and two.pid > 1 and one.pid ~= two.pid)
    end)
  end

  it("takes every namespace flag", function()
    process.needs_kernel()
    process.needs_userns()
    local names = { newns = "mnt", newuts = "uts", newipc = "ipc", newnet = "net", newpid = "pid", newcgroup = "cgroup",
      newuser = "user", newtime = "time" }
    for flag, name in pairs(names) do
      local seen, err = child("newuser," .. flag, function(say) say(sys.readlink("/proc/self/ns/" .. name)) end)
      assert.same({ "exit", 0, "" }, { seen[1], seen[2], err })
      assert.matches("^" .. name .. ":%[%d+%]$", seen[3][1])
      assert.not_equal(sys.readlink("/proc/self/ns/" .. name), seen[3][1], flag)
    end
  end)

  it("refuses what it cannot do, at the caller's line", function()
    for _, flag in ipairs { "vm", "thread", "sighand", "vfork", "settls", "pidfd", "child_settid", sys.CLONE_VM } do
      assert_misuse("the child is a copy on its own memory", sys.clone, flag, print)
    end
    assert_misuse("unknown flag 'newpit' of CLONE_*", sys.clone, "newpid,newpit", print)
    assert_misuse("32 bits", sys.clone, 1 << 32, print)
    assert_misuse("function expected", sys.clone, sys.SIGCHLD)
  end)
end)

describe("sys.waitid", function()
  it("answers exit and status, by pid and by pidfd", function()
    process.needs_kernel()
    local pid = assert(sys.clone(sys.SIGCHLD, function() return 3 end))
    local fd <close> = assert(sys.pidfd_open(pid))
    assert.same({ "exit", 3 }, { sys.waitid(fd) })
    pid = assert(sys.clone(0, function() return 4 end)) -- no signal: also of its kind
    assert.same({ "exit", 4 }, { sys.waitid(pid) })
  end)

  it("answers the signal, after a timeout", function()
    process.needs_kernel()
    local pid = assert(sys.clone(sys.SIGCHLD, function() sys.nanosleep(60) end))
    local from = sys.clock()
    assert.same({ nil, "timeout" }, { sys.waitid(pid, 0) })
    assert.same({ nil, "timeout" }, { sys.waitid(pid, 0.05) })
    assert.is_true(sys.clock() - from >= 0.05)
    assert(sys.kill(pid, "kill"))
    assert.same({ "signal", 9 }, { sys.waitid(pid, helper.PATIENCE) })
    assert.same({ nil, ("waitid %d: No such process"):format(pid), sys.ESRCH }, { sys.waitid(pid) })
  end)

  it("is not asked for by kill(nil), which would be the caller's own group", function()
    assert.has_error(function() sys.kill(nil, 0) end, "bad argument #1 to 'kill' (pid: an integer expected)")
  end)

  it("answers ECHILD for a status that was taken", function()
    process.needs_kernel()
    local pid = assert(sys.clone(sys.SIGCHLD, function() end))
    local fd <close> = assert(sys.pidfd_open(pid))
    assert.equal("exit", (sys.waitid(pid)))
    assert.same({ nil, "waitid: No child processes", sys.ECHILD }, { sys.waitid(fd) })
  end)

  it("refuses what is no process", function()
    process.needs_kernel()
    assert_misuse("process id expected, not 0", sys.waitid, 0)
    assert_misuse("not string", sys.waitid, "1")
    assert_misuse("not nil", sys.waitid)
    assert_misuse("the timeout is a number of seconds", sys.waitid, 1, -1)
    local fd = assert(sys.pidfd_open(sys.getpid()))
    fd:close()
    assert_misuse("closed", sys.waitid, fd)
  end)
end)

-- lua's own handler of SIGINT sets a hook, which raises as soon as the call has returned to Lua.
describe("a signal ends", function()
  local scripts = {
    poll = "sys.poll({}, 30)",
    nanosleep = "sys.nanosleep(30)",
    waitid = "sys.waitid(sys.clone(sys.SIGCHLD, function() sys.prctl('set_pdeathsig', 'kill') sys.nanosleep(30) end))",
  }
  for name, script in pairs(scripts) do
    it("a wait in " .. name, function()
      local r, w = sys.pipe2()
      local _ <close> = process.closing(r, w)
      local pid = assert(sys.clone(sys.SIGCHLD, function()
        sys.dup3(w, 2)
        local code = "local sys = require 'nsbox.sys' io.stderr:write('go') " .. script
        sys.execve("/usr/bin/env", { "env", "LUA_PATH=" .. package.path, "LUA_CPATH=" .. package.cpath, helper.lua,
          "-e", code })
      end))
      w:close()
      assert.equal("go", sys.read(r))
      sys.nanosleep(0.05)
      local from = sys.clock()
      assert(sys.kill(pid, "int"))
      assert.same({ "exit", 1 }, { sys.waitid(pid, helper.PATIENCE) })
      assert.matches("interrupted!", drain(r))
      assert.is_true(sys.clock() - from < helper.PATIENCE)
    end)
  end
end)

describe("sys.execve", function()
  it("runs a program with the environment given, or the caller's", function()
    local function echo(say_env, env)
      return child(sys.SIGCHLD, function() return sys.execve("/bin/sh", { "sh", "-c", say_env .. " >&2" }, env) end)
    end
    local _, err = echo("echo $A$PATH", { "A=b c", "PATH=" })
    assert.equal("b c\n", err)
    _, err = echo "echo $PATH"
    assert.equal(os.getenv "PATH" .. "\n", err)
  end)

  it("answers an error, and refuses misuse", function()
    local nope = helper.tmpdir() .. "/nope"
    assert.same({ nil, "execve " .. nope .. ": No such file or directory", sys.ENOENT }, { sys.execve(nope, { "x" }) })
    assert_misuse("list of \"NAME=value\"", sys.execve, nope, { "x" }, { PATH = "/bin" })
    assert_misuse("the program's name is missing", sys.execve, nope, {})
    assert_misuse("item 2: the string holds a NUL byte", sys.execve, nope, { "x", "a\0b" })
    assert_misuse("NUL", sys.execve, "/no\0pe", { "x" })
  end)
end)

describe("the table of calls", function()
  it("takes flags by name, in any case, and as integers", function()
    assert.equal(sys.MS_NOSUID | sys.MS_NODEV, 6)
    assert.same({ 17, 2, 7, 0x20000000, 1 << 21 },
      { sys.SIGCHLD, sys.ENOENT, sys.E2BIG, sys.CLONE_NEWPID, sys.CAP_SYS_ADMIN })
    local dir = helper.tmpdir()
    for i, flags in ipairs { "wronly,creat", "O_WRONLY,O_CREAT", sys.O_WRONLY | sys.O_CREAT } do
      local fd <close> = assert(sys.open(dir .. "/" .. i, flags, "0640"))
      assert.equal(1, sys.write(fd, "x"))
      assert.equal("0640", sys.fstat(fd).mode)
    end
  end)

  it("answers like the io library", function()
    local nope = helper.tmpdir() .. "/nope"
    assert.same({ nil, "mount " .. nope .. ": No such file or directory", sys.ENOENT },
      { sys.mount("none", nope, "tmpfs", "nosuid,nodev") })
    assert.same({ nil, "open " .. nope .. ": No such file or directory", sys.ENOENT }, { sys.open(nope, "rdonly") })
  end)

  it("refuses misuse at the caller's line", function()
    local rows = {
      { "unknown flag 'nosiud' of MS_*", sys.mount, "a", "/b", "c", "nosiud" },
      { "flags expected: an integer or \"name,name\"", sys.umount2, "/b", {} },
      { "Lua has no octal numbers", sys.mkdir, "/tmp/never", 755 },
      { "octal digits", sys.mkdir, "/tmp/never", "0789" },
      { "target: the string holds a NUL byte", sys.mount, "a", "/b\0c", "d" },
      { "path: a string expected", sys.chdir },
      { "a descriptor expected", sys.fchdir, "/" },
      { "a descriptor or \"cwd\" expected", sys.openat, "here", "x" },
      { "at most 1 arguments expected", sys.chdir, "/", "/" },
      { "uid: an integer expected", sys.setuid, "root" },
      { "a list of ids", sys.setgroups, { -1 } },
    }
    for _, row in ipairs(rows) do assert_misuse(table.unpack(row)) end
  end)
end)

describe("a descriptor", function()
  it("tells its number, closes itself once, and is refused when closed", function()
    local fd = assert(sys.open("/dev/null", "rdwr"))
    assert.is_true(fd:fileno() >= 3)
    assert.equal(("nsbox.fd (%d)"):format(fd:fileno()), tostring(fd))
    assert.is_true(fd:close())
    assert.is_true(fd:close())
    assert.is_true(sys.close(fd))
    assert.equal("nsbox.fd (closed)", tostring(fd))
    assert.is_nil(fd:fileno())
    assert_misuse("closed", sys.write, fd, "x")
    assert_misuse("closed", sys.read, fd)
    assert_misuse("closed", sys.readdir, fd)
    assert_misuse("closed", sys.setns, fd)
  end)

  it("is closed at the end of its block, and by the collector", function()
    local number
    do
      local fd <close> = assert(sys.open("/dev/null", "rdonly"))
      number = fd:fileno()
    end
    assert.same({ nil, "close: Bad file descriptor", sys.EBADF }, { sys.close(number) })
    number = assert(sys.open("/dev/null", "rdonly")):fileno()
    collectgarbage()
    assert.same({ nil, "close: Bad file descriptor", sys.EBADF }, { sys.close(number) })
  end)

  it("never takes the place of a standard one, and is closed by exec", function()
    assert_child({ "true true", "true" }, sys.SIGCHLD, function(say)
      for i = 0, 1 do sys.close(i) end
      local r, w = sys.pipe2()
      say(r:fileno() >= 3, w:fileno() >= 3)
      say(sys.dup(w):fileno() >= 3)
      return sys.execve("/bin/sh", { "sh", "-c", ("[ ! -e /proc/self/fd/%d ]"):format(r:fileno()) })
    end)
  end)

  it("is duplicated, made non-blocking, and may be a file of the io library", function()
    local r, w = sys.pipe2 "nonblock"
    local _ <close> = process.closing(r, w)
    assert.equal(sys.EAGAIN, select(3, sys.read(r)))
    assert(sys.nonblock(r, false))
    assert(sys.nonblock(r))
    local copy <close> = assert(sys.dup(w))
    w:close()
    assert.equal(2, sys.write(copy, "ab"))
    assert.equal("a", sys.read(r, 1))
    assert.equal("b", sys.read(r, 10))
    copy:close()
    assert.equal("", sys.read(r))
    local file <close> = assert(io.open "/dev/null")
    assert.equal("char", sys.fstat(file).type)
    assert.is_false(sys.isatty(file))
  end)

  it("travels over a socket pair, message by message", function()
    local a, b = sys.socketpair()
    local r, w = sys.pipe2()
    assert(sys.sendfd(a, "two", r, w))
    assert(sys.sendfd(a, "none"))
    local data, r2, w2, more = sys.recvfd(b)
    local _ <close> = process.closing(a, b, r, w, r2, w2)
    assert.same({ "two", nil }, { data, more })
    assert(sys.write(w2, "x"))
    assert.equal("x", sys.read(r2))
    assert.same({ "none" }, { sys.recvfd(b) })
    local before = #sys.readdir "/proc/self/fd"
    assert(sys.sendfd(a, "more", r, w, r))
    local said, one, two = sys.recvfd(b, 4, 1)
    assert.same({ "more", nil, before + 1 }, { said, two, #sys.readdir "/proc/self/fd" })
    one:close()
    assert_misuse("at most 16 descriptors", sys.recvfd, b, 4, 17)
    b:close()
    assert.equal(sys.EPIPE, select(3, sys.sendfd(a, "x")))
    assert_misuse("a byte at least", sys.sendfd, a, "")
  end)
end)
