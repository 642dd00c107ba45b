-- Connections to what listens in a box, from outside: no port mapping, no tool in the image.
local assert_misuse = require "spec.misuse"
local box = require "spec.box"
local connect = require "nsbox.connect"
local core = require "nsbox.core"
local helper = require "spec.helper"
local nsbox = require "nsbox"
local process = require "spec.process"
local script = require "spec.script"
local sys = require "nsbox.sys"
helper.leakcheck { outside = true }

local PORT = 10000 + helper.pid % 10000 -- of the host's: none that the kernel chooses, nor another run's

-- What connect has to know of a process.
local function target_of(pid)
  local function own(kind)
    return sys.readlink(("/proc/%d/ns/%s"):format(pid, kind)) ~= sys.readlink("/proc/self/ns/" .. kind)
  end
  return {
    pidfd = assert(sys.pidfd_open(pid)), user = own "user", net = own "net", pid = own "pid",
    root = function() return sys.open(("/proc/%d/root"):format(pid), "path,directory") end,
  }
end

-- Runs a script of the shell in a box, and fn(target) beside it; the box ends when fn has.
local function beside(image, text, fn, opts)
  local marker, done = box.marker(), false
  opts = opts or {}
  function opts.input()
    if done then return nil end
    done = true
    local pid = box.find(marker)[1]
    local target = target_of(pid)
    local _ <close> = target.pidfd
    fn(target, pid)
  end
  local r = assert(nsbox.run(image, { "/bin/sh", "-c", text .. " & cat; kill -9 $!; true", marker }, opts))
  assert.is_true(done)
  return r
end

local function wait_for(fd, events)
  assert.equal(1, sys.poll({ { fd = fd, events = events } }, helper.PATIENCE))
end

-- A connection, when somebody listens: as the handle's own loop does it.
local function dial(target, where)
  local deadline = nsbox.clock() + helper.PATIENCE
  while true do
    local fd, state, errno = connect.begin(target, where)
    if state == "pending" then
      wait_for(fd, "out")
      local ok, message = connect.finish(fd)
      assert(ok, message)
    end
    if fd then return fd end
    local soon = errno == sys.ECONNREFUSED or errno == sys.ENOENT or errno == sys.EAGAIN
    if not soon or nsbox.clock() > deadline then error(state, 2) end
    sys.nanosleep(0.005)
  end
end

local function read(fd)
  wait_for(fd, "in")
  return assert(sys.read(fd))
end

-- Somebody listens there, and answers.
local function assert_answers(target, where)
  local fd <close> = dial(target, where)
  assert.equal("hello\n", read(fd))
  assert(sys.write(fd, "echo"))
  assert.equal("echo", read(fd))
end

local function assert_fails(errno, target, where)
  local fd, message, number = connect.begin(target, where)
  assert.is_nil(fd, tostring(message))
  assert.equal(("connect %s: %s"):format(where, core.strerror(errno)), message)
  assert.equal(errno, number)
end

-- An image with the listener of the specs.
local function listening()
  local image = box.image()
  box.program("listener", image)
  return image
end

-- A listener outside of any box, to be closed; and its pid.
local function outside(...)
  local words = { "listener", ... }
  local r, w = sys.pipe2()
  local _ <close> = process.closing(r, w)
  local pid = assert(sys.clone("", function()
    assert(sys.dup3(w, 1))
    return sys.execve(helper.build .. "/spec/listener", words, {})
  end))
  local ending = setmetatable({}, { __close = function()
    sys.kill(pid, "KILL")
    sys.waitid(pid)
  end })
  assert.equal("ready\n", read(r))
  return ending, pid
end

local function until_there(target, path)
  local deadline = nsbox.clock() + helper.PATIENCE
  repeat
    local root <close> = assert(target.root())
    local fd <close> = sys.openat2(root, path, "path,nofollow", nil, "in_root")
    if fd then return end
    sys.nanosleep(0.005)
  until nsbox.clock() > deadline
  error(path .. " has not come")
end

-- Runs fn(keep), and closes in the end what it kept.
local function keeping(fn)
  local kept = {}
  local _ <close> = setmetatable({}, { __close = function()
    for _, fd in ipairs(kept) do fd:close() end
  end })
  fn(function(fd) kept[#kept + 1] = fd end)
end

describe("connect", function()
  it("reaches a port of 127.0.0.1 in the box", function()
    beside(listening(), "/listener inet 80", function(target)
      assert_answers(target, 80)
      assert_answers(target, 80.0)
    end)
  end)

  it("reaches a port of ::1 where nothing listens on 127.0.0.1", function()
    if not helper.read "/proc/net/if_inet6" then helper.skip "needs IPv6" end
    beside(listening(), "/listener inet6 8080", function(target) assert_answers(target, 8080) end)
  end)

  it("reaches a program of the image", function()
    local r = beside("busybox", "echo from inside | nc -l -p 1234", function(target)
      local fd <close> = dial(target, 1234)
      assert.equal("from inside\n", read(fd))
    end)
    assert.is_true(r.ok)
  end)

  it("reaches a box that shares the caller's pids, or its network", function()
    beside(listening(), "/listener inet 80", function(target)
      assert.is_false(target.pid)
      assert_answers(target, 80)
      assert.equal(1, sys.prctl("get_dumpable"))
    end, { namespaces = { pid = false } })
    beside(listening(), "/listener inet " .. PORT, function(target)
      assert.is_false(target.net)
      assert_answers(target, PORT)
    end, { network = "host" })
  end)

  it("does not reach the caller's own ports", function()
    local _ <close> = outside("inet", tostring(PORT))
    assert_answers({}, PORT)
    beside("busybox", "true", function(target) assert_fails(sys.ECONNREFUSED, target, PORT) end)
  end)

  it("is refused where nothing listens", function()
    beside("busybox", "true", function(target)
      for _, port in ipairs { 1, 80, 65535 } do assert_fails(sys.ECONNREFUSED, target, port) end
    end)
  end)

  it("reaches a socket by its path, through links in the box, however long it is", function()
    local long = ("d"):rep(120)
    local text = ("mkdir -p /run/%s; cd /run/%s; ln -s /run/%s/s /link; /listener unix s"):format(long, long, long)
    beside(listening(), text, function(target)
      assert_answers(target, ("/run/%s/s"):format(long))
      assert_answers(target, "/link")
      assert_answers(target, ("/../run/./%s/../%s/s"):format(long, long))
    end)
  end)

  it("finds no way out of the box's root", function()
    local dir = helper.tmpdir()
    local _ <close>, pid = outside("unix", dir .. "/s")
    local host = target_of(pid)
    assert_answers(host, dir .. "/s")
    host.pidfd:close()
    local up = (".."):rep(20, "/")
    local text = ("ln -s %s/s /absolute; ln -s %s%s/s /relative; mkdir /done; true"):format(dir, up, dir)
    beside("busybox", text, function(target)
      until_there(target, "/done")
      for _, path in ipairs { dir .. "/s", "/" .. up .. dir .. "/s", "/absolute", "/relative" } do
        assert_fails(sys.ENOENT, target, path)
      end
      for _, path in ipairs { "/proc/1/root" .. dir .. "/s", "/proc/1/cwd" } do
        assert_fails(sys.ELOOP, target, path)
      end
    end)
  end)

  it("refuses what is no socket of a stream", function()
    local text = "mkfifo /fifo; echo >/file; mkdir -p /dir/x; ln -s /file /link; /listener dgram unix /dgram"
    beside(listening(), text, function(target)
      until_there(target, "/dgram")
      for _, path in ipairs { "/fifo", "/file", "/dir", "/link", "/", "/dev/null", "/proc/1/status" } do
        assert_fails(sys.ENOTSOCK, target, path)
      end
      assert_fails(sys.EPROTOTYPE, target, "/dgram")
      assert_fails(sys.ENOENT, target, "/missing")
      assert_fails(sys.ENOTDIR, target, "/file/socket")
    end)
  end)

  it("is refused by a socket that nobody listens at any more", function()
    beside(listening(), "/listener unix /s & wait_for() { while ! test -S /s; do :; done; }; wait_for; kill -9 $!; "
      .. "wait; mkdir /done; true", function(target)
        until_there(target, "/done")
        assert_fails(sys.ECONNREFUSED, target, "/s")
      end)
  end)

  it("does not wait for a listener that takes nobody", function()
    beside(listening(), "/listener full inet 80 & /listener full unix /s", function(target)
      keeping(function(keep)
        local state
        keep(dial(target, 80))
        for _ = 1, 5 do
          local fd
          fd, state = connect.begin(target, 80)
          keep(assert(fd, state))
          if state == "pending" then
            assert.equal(sys.EINPROGRESS, select(3, connect.finish(fd)))
            break
          end
        end
        assert.equal("pending", state)
        keep(dial(target, "/s"))
        local errno
        for _ = 1, 5 do
          local fd
          fd, _, errno = connect.begin(target, "/s")
          if not fd then break end
          keep(fd)
        end
        assert.equal(sys.EAGAIN, errno)
      end)
    end)
  end)

  it("fails when the box is gone, and when its root cannot be had", function()
    local kept
    beside("busybox", "true", function(target) kept = { net = true, user = target.user, pid = true,
      pidfd = assert(sys.dup(target.pidfd)) } end)
    local _ <close> = kept.pidfd
    assert_fails(sys.ESRCH, kept, 80)
    function kept.root() return nil, "open: " .. core.strerror(sys.EACCES), sys.EACCES end
    assert_fails(sys.EACCES, kept, "/s")
  end)

  it("is no connection to itself", function()
    process.in_userns("newuser,newnet", { "true ECONNREFUSED", "ECONNREFUSED" }, function(say)
      local function one_port(n)
        assert(sys.write_file("cwd", "/proc/sys/net/ipv4/ip_local_port_range", n .. " " .. n))
      end
      assert(sys.if_up "lo")
      one_port(40001)
      local here <close> = assert(core.socket("inet", "stream"))
      assert(core.connect(here, "inet", 40001))
      wait_for(here, "out")
      local itself = sys.write_nosig(here, "echo") == 4 and sys.read(here) == "echo"
      say(itself, core.errno_name(select(3, connect.finish(here))))
      one_port(40003)
      say(core.errno_name(select(3, connect.begin({}, 40003))))
    end)
  end)

  it("leaves nothing, 500 times", function()
    beside(listening(), "/listener inet 80 & /listener unix /s", function(target)
      for _, where in ipairs { 80, "/s" } do assert_answers(target, where) end
      local before = helper.snapshot()
      for i = 1, helper.rounds(500) do
        local fd = connect.begin(target, ({ 80, "/s", 81, "/none" })[i % 4 + 1])
        if fd then fd:close() end
      end
      assert.same({}, helper.compare(before, helper.snapshot()))
    end)
  end)

  it("raises for what is neither a port nor a path", function()
    local rows = { { 0, "got 0" }, { 65536, "got 65536" }, { -1, "got -1" }, { 80.5, "got 80.5" }, { "80", "got '80'" },
      { "localhost:80", "a port from 1 to 65535, or the path of a socket in the box" }, { "run/s", "got 'run/s'" },
      { "", "got ''" }, { {}, "got a table" }, { nil, "got nil" }, { "/a\0b", "NUL" },
      { "/" .. ("x"):rep(4095), "must not be longer than 4095 bytes, got 4096" } }
    for i = 1, 12 do
      assert_misuse(rows[i][2], connect.begin, {}, rows[i][1])
    end
  end)
end)

describe("a socket of other namespaces", function()
  local NAMESPACES = "newuser,newnet"

  -- A process in namespaces of its own.
  local function holder()
    process.needs_userns()
    return process.holder(NAMESPACES, process.become_root)
  end

  -- The number of a socket's network namespace.
  local function cookie(fd)
    return assert(require("host").network(fd:fileno()))
  end

  for _, apart in ipairs { false, true } do
    local how = apart and "apart" or "in shared memory"

    it("is of them, and the caller stays in its own: made " .. how, function()
      local held <close> = holder()
      local pidfd <close> = assert(sys.pidfd_open(held.pid))
      local before = helper.snapshot()
      local here <close> = assert(core.socket("inet", "stream"))
      local there <close> = assert(core.socket_in(pidfd, NAMESPACES, "inet", "stream", apart))
      local again <close> = assert(core.socket_in(pidfd:fileno(), NAMESPACES, "inet6", "dgram", apart))
      assert.not_equal(cookie(here), cookie(there))
      assert.equal(cookie(there), cookie(again))
      for _, fd in ipairs { here, there, again } do fd:close() end
      assert.same({}, helper.compare(before, helper.snapshot()))
      assert.equal(1, sys.prctl("get_dumpable"))
    end)

    it("is none, with the errno, where they cannot be entered: made " .. how, function()
      local pidfd <close> = assert(sys.pidfd_open(sys.getpid())) -- apart nobody may look into the caller meanwhile
      local _, message, errno = core.socket_in(pidfd, NAMESPACES, "inet", "stream", apart)
      local expected = apart and not helper.root() and sys.EPERM or sys.EINVAL
      assert.same({ "setns: " .. core.strerror(expected), expected }, { message, errno })
      local null <close> = assert(sys.open("/dev/null", "rdonly"))
      _, message, errno = core.socket_in(null, NAMESPACES, "inet", "stream", apart)
      assert.same({ "setns: " .. core.strerror(sys.EINVAL), sys.EINVAL }, { message, errno })
    end)

    it("is none when the descriptors run out: made " .. how, function()
      local held <close> = holder()
      local expected = apart and "EMFILE EMFILE EMFILE made made" or "EMFILE EMFILE made made made"
      process.assert_child({ expected }, "", function(say)
        local pidfd <close> = assert(sys.pidfd_open(held.pid))
        local list, free, answers = {}, {}, {}
        assert(sys.setrlimit("nofile", 1000, 1000))
        repeat list[#list + 1] = sys.dup(pidfd) until select(3, sys.dup(pidfd)) == sys.EMFILE
        for n = 0, 4 do
          local fd, _, errno = core.socket_in(pidfd, NAMESPACES, "inet", "stream", apart)
          answers[#answers + 1] = fd and "made" or core.errno_name(errno)
          if fd then fd:close() end
          for i = 1, n do free[i] = sys.dup(pidfd) end -- as many are free as before
          assert.is_nil((sys.dup(pidfd)))
          for i = 1, n do free[i]:close() end
          table.remove(list):close()
        end
        say(table.concat(answers, " "))
      end)
    end)
  end

  it("takes no other namespaces", function()
    local pidfd <close> = assert(sys.pidfd_open(sys.getpid()))
    for _, names in ipairs { "newuser", "newnet,newpid", "newns", 0 } do
      assert.error_matches(function() core.socket_in(pidfd, names, "inet", "stream") end, "newuser,newnet expected")
    end
    assert.error_matches(function() core.socket_in(pidfd, "newnet", "netlink", "stream") end, "invalid option")
  end)

  it("is made in shared memory by many threads at once, none of which is ever elsewhere", function()
    local held <close> = holder()
    script.succeeds(("local answers = require 'threads'.states(4, [[\n%s]])\n%s"):format(([[
      local core, sys = require "nsbox.core", require "nsbox.sys"
      local pidfd <close> = assert(sys.pidfd_open(%d))
      local user, net = sys.readlink "/proc/self/ns/user", sys.readlink "/proc/self/ns/net"
      for i = 1, %d do
        local fd <close> = assert(core.socket_in(pidfd, "newuser,newnet", "inet", "stream", i %% 20 == 0))
        for _, task in ipairs(sys.readdir "/proc/self/task") do
          local at = "/proc/self/task/" .. task .. "/ns/"
          for name, mine in pairs { user = user, net = net } do
            local found, message, errno = sys.readlink(at .. name)
            if found ~= mine and errno ~= sys.ENOENT and errno ~= sys.EACCES then
              return name .. ": " .. tostring(found or message)
            end
          end
        end
      end
      return "fine"]]):format(held.pid, helper.rounds(200)),
      "for _, answer in ipairs(answers) do if answer ~= 'fine' then print(answer) end end"))
  end)
end)
