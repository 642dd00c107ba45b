-- The keeper: one small process for each program, below which its boxes live.
local assert = require "luassert"
local box = require "spec.box"
local helper = require "spec.helper"
local keeper = require "nsbox.keeper"
local nsbox = require "nsbox"
local process = require "spec.process"
local script = require "spec.script"

local sys = nsbox.sys

helper.leakcheck()

-- Those below this process, but for one that is there for boxes outside it, should another file have started such.
local function keepers()
  local found = {}
  for _, pid in ipairs(helper.names "/proc") do
    local stat = pid:match "^%d+$" and helper.read("/proc/" .. pid .. "/stat")
    if stat and stat:find("(nsbox-keeper)", 1, true) and stat:match "%) %a (%d+)" == tostring(helper.pid)
      and box.status(pid, "NSpid"):find "\t1$" then
      found[#found + 1] = tonumber(pid)
    end
  end
  return found
end

local function run(cmd, opts)
  return assert(nsbox.run("busybox", cmd, opts or {}))
end

describe("the keeper", function()
  it("is one for all boxes of a program", function()
    local before = keepers()
    assert.equal(1, #before)
    for _ = 1, 3 do
      run { "true" }
    end
    assert.same(before, keepers())
    assert.equal(keeper.get(), keeper.get())
  end)

  it("is pid 1 of a pid namespace, in a session of its own, with no descriptor of the program", function()
    local pid = keepers()[1]
    assert.matches("\t1$", box.status(pid, "NSpid"))
    local stat = helper.read("/proc/" .. pid .. "/stat")
    assert.equal(tostring(pid), stat:match "%) %a %d+ %d+ (%d+)")
    local function open() return table.concat(helper.names("/proc/" .. pid .. "/fd"), " ") end
    box.eventually("it closes what it needs for a moment", function() return open() == "0 1" end)
    assert.equal("/", sys.readlink("/proc/" .. pid .. "/cwd"))
  end)

  it("holds none of the program's memory", function()
    assert.is_true(tonumber(box.status(keepers()[1], "VmRSS"):match "%d+") < 1024)
  end)

  it("has the boxes below it: their pid namespace is nested in its own", function()
    local marker, pid = box.marker(), keepers()[1]
    local nested
    run({ "sh", "-c", "read x", marker }, { input = function()
      if nested then return nil end
      local found = box.find(marker)[1]
      nested = box.status(found, "NSpid")
      return "\n"
    end })
    local levels = select(2, nested:gsub("%d+", ""))
    assert.equal(select(2, box.status(pid, "NSpid"):gsub("%d+", "")) + 1, levels)
  end)

  it("makes namespaces ahead once a program has started two boxes, each for one box only", function()
    local k, seen = keeper.get(), {}
    for _ = 1, 4 do
      local r = run { "sh", "-c", "readlink /proc/self/ns/user /proc/self/ns/net" }
      assert.is_truthy(k.asked)
      for link in r.stdout:gmatch "[^\n]+" do
        assert.is_nil(seen[link])
        seen[link] = true
      end
    end
  end)

  it("has others made when what was made ahead is not what is wanted", function()
    local own = sys.readlink "/proc/self/ns/net"
    for _ = 1, 3 do
      assert.equal(own, run("readlink /proc/self/ns/net", { network = "host" }).stdout:gsub("\n", ""))
      assert.is_true(own ~= run("readlink /proc/self/ns/net").stdout:gsub("\n", ""))
    end
  end)

  it("tells why namespaces could not be made, and makes the next", function()
    local k = keeper.get()
    run { "true" }
    local rows = { { 0, helper.uid, 0 } } -- of no ids at all
    local user, message, errno = keeper.namespaces(k, "newuser", rows, rows)
    assert.same({ nil, "namespaces: Invalid argument", sys.EINVAL }, { user, message, errno })
    run { "true" }
  end)

  it("takes no map for another that is longer than what it can read", function()
    local k, rows = keeper.get(), {}
    for i = 1, 700 do rows[i] = { 100000 + i, 100000 + i, 1 } end
    assert.equal(sys.EMSGSIZE, select(3, keeper.namespaces(k, "newuser", rows, rows)))
    run { "true" }
  end)

  it("gives each start what that asked for, though earlier answers were not waited for", function()
    local k, rows = keeper.get(), { { 0, helper.uid, 1 } }
    local before = #sys.readdir "/proc/self/fd"
    k.taken = 2
    local other = string.pack("=I4zz", sys.CLONE_NEWUSER | sys.CLONE_NEWNET, "0 0 1\n", "0 0 1\n")
    for _ = 1, 3 do -- asked for, and never taken
      k.last = { text = other, network = true }
      keeper.ahead(k)
      k.asked = nil
    end
    local user, network = keeper.namespaces(k, "newuser", rows, helper.root() and rows or { { 0, sys.getegid(), 1 } })
    assert.is_truthy(user)
    assert.is_nil(network)
    user:close()
    assert.equal(before, #sys.readdir "/proc/self/fd")
    run { "true" }
  end)

  it("that does not answer is told, once it was waited for, and serves again", function()
    local k = keeper.get()
    run { "true" }
    k.asked = nil
    assert(sys.pidfd_send_signal(k, "stop"))
    local clock, waited = sys.clock, 0
    finally(function() sys.clock = clock end)
    function sys.clock() -- ten seconds go by in no time
      waited = waited + 9.8
      return clock() + waited
    end
    local r, err = nsbox.run("busybox", { "true" })
    sys.clock = clock
    assert(sys.pidfd_send_signal(k, "cont"))
    assert.same({ nil, "setup", "ETIMEDOUT" }, { r, err.kind, err.name })
    assert.matches("kill %-CONT", err.hint)
    assert.matches("^%d+\n$", run("readlink /proc/self/ns/net | tr -dc 0-9; echo").stdout)
  end)

  it("goes on when its maker of namespaces is killed at the work", function()
    script.succeeds [[
      local keeper, pid_of = require "nsbox.keeper", require("nsbox.core").pid_of
      local k = assert(keeper.get())
      local pid = pid_of(k:fileno())
      local killer = assert(sys.clone(sys.SIGCHLD, function()
        sys.prctl("set_pdeathsig", "kill")
        local children = assert(io.open(("/proc/%d/task/%d/children"):format(pid, pid)))
        children:setvbuf "no"
        while true do
          children:seek "set"
          local child = children:read("a"):match "%d+"
          if child then sys.kill(tonumber(child), "kill") end
        end
      end))
      local uids, gids = { { 0, sys.geteuid(), 1 } }, { { 0, sys.getegid(), 1 } }
      for _ = 1, 50 do
        local user, message, errno = keeper.namespaces(k, "newuser,newnet", uids, gids)
        assert(user or errno == sys.ESRCH, message)
      end
      sys.kill(killer, "kill")
      sys.waitid(killer)
      assert(keeper.namespaces(k, "newuser,newnet", uids, gids))]]
  end)

  -- In a program of its own: ours keeps its keeper.
  local killer = [[
    local n = require "nsbox"
    local function keeper()
      for _, pid in ipairs(n.sys.readdir "/proc") do
        local f = pid:match "^%d+$" and io.open("/proc/" .. pid .. "/stat")
        local s = f and f:read "a" or ""
        if s:find("%(nsbox%-keeper%) [RSD] " .. n.sys.getpid() .. " ") then -- not what was killed
          return tonumber(pid)
        end
      end
    end
    local function kill(pid) -- answers a function that waits for its end: that comes after its boxes'
      local fd = assert(n.sys.pidfd_open(pid))
      n.sys.kill(pid, n.sys.SIGKILL)
      return function() assert(n.sys.poll({ { fd = fd, events = "in" } }, 30) == 1) end
    end
  ]]

  it("is made anew after its death", function()
    assert.equal("again true\n", (box.script("LUA </dev/null", killer .. [[
      assert(n.run("busybox", { "true" }))
      local old = keeper()
      kill(old)()
      local r = assert(n.run("busybox", { "echo", "-n", "again" }))
      io.write(r.stdout, " ", tostring(keeper() ~= nil and keeper() ~= old), "\n")]])))
  end)

  it("takes a running box with it when it dies", function()
    assert.equal("signal\tKILL\tagain\n", (box.script("LUA </dev/null", killer .. [[
      local killed
      local r = assert(n.run("busybox", { "sh", "-c", "read x; sleep 60" }, { input = function()
        if killed then return nil end
        killed = kill(keeper())
        return "\n"
      end }))
      killed()
      print(r.reason, r.signal, n.run("busybox", { "echo", "-n", "again" }).stdout)]])))
  end)

  it("is another one in a fork, which leaves ours alone", function()
    local ours = keepers()
    process.assert_child({ "ok true" }, "", function(say)
      local r = run { "echo", "ok" }
      say(r.stdout:gsub("\n", ""), #keepers() == 1)
      return 0
    end)
    assert.same(ours, keepers())
    assert.equal("ok\n", run({ "echo", "ok" }).stdout)
    assert.same(ours, keepers())
  end)

  it("is another one for another user that the program becomes, and the first one's again later", function()
    if not helper.root() then helper.skip "needs root: it becomes another user" end
    local stores = helper.tmpdir() -- each user's own: before Linux 6.6 the layer over the host is a folder there
    assert(sys.chmod(stores, "0777"))
    script.succeeds(("local stores = %q\n"):format(stores) .. [[
      local function options() return { workdir = "/", store = stores .. "/" .. sys.geteuid() } end
      local function runs()
        local r, err = nsbox.run("host", { "true" }, options())
        assert(r and r.ok, tostring(r or err))
      end
      runs()
      assert(sys.setresgid(-1, 65534, -1) and sys.setresuid(-1, 65534, -1))
      local r, err = nsbox.run("host", { "true" }, options())
      assert(not r and err.name == "EACCES" and err.hint:find "PR_SET_DUMPABLE", tostring(r or err))
      assert(sys.prctl("set_dumpable", 1))
      runs()
      assert(sys.setresuid(-1, 0, -1) and sys.setresgid(-1, 0, -1))
      for _ = 1, 3 do runs() end]])
  end)

  it("is not waited for without end when it is stopped and its socket is full", function()
    script.succeeds [[
      local keeper, pid_of = require "nsbox.keeper", require("nsbox.core").pid_of
      local me = assert(sys.pidfd_open(sys.getpid()))
      local first = assert(keeper.kill_later(me))
      local pid = pid_of(first.keeper:fileno())
      assert(sys.kill(pid, "stop"))
      local clock, late, duty, message, errno = sys.clock, 0
      function sys.clock() -- time flies
        late = late + 9.8
        return clock() + late
      end
      local duties = {}
      for i = 1, 1000 do
        duty, message, errno = keeper.kill_later(me)
        if not duty then break end
        duties[i] = duty
      end
      sys.clock = clock
      assert(duty == nil and errno == sys.ETIMEDOUT, message)
      assert(sys.kill(pid, "cont"))
      for _, given in ipairs(duties) do keeper.drop(given) end
      keeper.drop(first)]]
  end)

  -- `room`: of its table, or for descriptors, of which it has one for each duty.
  local function refuses_beyond(files, room, errno)
    script.succeeds(("local FILES, ROOM, ERRNO = %d, %d, %q\n"):format(files, room, errno) .. [[
      assert(sys.setrlimit("nofile", FILES, FILES))
      local keeper, pid_of = require "nsbox.keeper", require("nsbox.core").pid_of
      local me, duties = assert(sys.pidfd_open(sys.getpid())), {}
      local function start() return nsbox.start("busybox", { "sleep", "100" }, { timeout = 50 }) end
      repeat
        local duty, message, errno = keeper.end_later(true, me, sys.clock() + 1000, 0, sys.SIGKILL)
        duties[#duties + 1] = duty
        assert(duty or errno == sys[ERRNO] and message:find(" " .. ROOM .. " ", 1, true), message)
      until not duty
      assert(#duties == ROOM, #duties)
      assert(nsbox.run("busybox", { "true" }).ok) -- which needs none; and now it has read them all
      local pid, deadline, held = pid_of(duties[1].keeper:fileno()), sys.clock() + 30
      repeat held = #sys.readdir(("/proc/%d/fd"):format(pid)) until held == ROOM + 2 or sys.clock() > deadline
      assert(held == ROOM + 2, held)
      local b, err = start()
      assert(not b and err.kind == "setup" and err.name == ERRNO, tostring(err))
      for _ = 1, 2 do
        for i = 1, 10 do keeper.drop(duties[i]) end
      end
      local boxes = {}
      for i = 1, 10 do boxes[i] = assert(start()) end
      assert(not start())
      for i = 1, 10 do boxes[i]:close() end
      for i = 11, #duties do keeper.drop(duties[i]) end]])
  end

  it("refuses what it could not see to: a timeout is kept, or the start fails", function()
    local hard = helper.read "/proc/self/limits":match "Max open files +%S+ +(%d+)"
    if tonumber(hard) < 6000 then helper.skip "needs 6000 descriptors: as many duties as it can have" end
    refuses_beyond(6000, 4096, "EAGAIN")
  end)

  it("refuses what it could not see to for want of descriptors", function()
    refuses_beyond(100, 84, "EMFILE")
  end)

  it("is gone with the program, however that ends, and the boxes with it", function()
    local endings = { "", "os.exit(0, true)", "os.exit(0)", "error 'x'", "sys.kill(sys.getpid(), sys.SIGKILL)" }
    for _, ending in ipairs(endings) do
      local out = box.script("LUA </dev/null 2>/dev/null", killer .. [[
        local sys = n.sys
        assert(n.run("busybox", { "true" }))
        print(keeper())
        io.stdout:flush()
      ]] .. ending)
      local pid = assert(tonumber(out:match "%d+"), out)
      local deadline = nsbox.clock() + helper.PATIENCE
      while box.status(pid, "Name") == "nsbox-keeper" and nsbox.clock() < deadline do
        sys.nanosleep(0.005)
      end
      assert.is_true(box.status(pid, "Name") ~= "nsbox-keeper", ending)
    end
  end)

  -- The setting belongs to a pid namespace: one of the script's own.
  local function with_memfd_noexec(value, text)
    if not helper.root() then helper.skip "needs root: the setting is root's" end
    if not helper.read "/proc/sys/vm/memfd_noexec" then helper.skip "needs vm.memfd_noexec: Linux 6.3" end
    local set = ('io.open("/proc/sys/vm/memfd_noexec", "w"):write("%d"):close()\n'):format(value)
    local wrapper = { "/usr/bin/unshare", "--pid", "--fork", "--kill-child", "--mount-proc" }
    script.succeeds(set .. text, { wrapper = wrapper })
  end

  it("starts where programs in memory must be called so", function()
    with_memfd_noexec(1, 'assert(nsbox.run("busybox", { "true" }))')
  end)

  it("is refused where no program may lie in memory, and says so", function()
    with_memfd_noexec(2, [[
      local r, err, errno = nsbox.run("busybox", { "true" })
      assert(r == nil and err.kind == "unsupported" and errno == sys.EACCES and err.name == "EACCES", tostring(err))
      assert(err.hint:find("sysctl -w vm.memfd_noexec=1", 1, true), err.hint)
      local row = nsbox.probe().keeper
      assert(not row.ok and row.why:find("vm.memfd_noexec is 2", 1, true), row.why)
      assert(row.fix == "sysctl -w vm.memfd_noexec=1")]])
  end)

  it("kills what is not below it when the program dies", function()
    local marker = box.marker()
    local text = ([[
      local n = require "nsbox"
      n.run("busybox", { "sh", "-c", "sleep 60; true", %q }, { namespaces = { pid = false } })]]):format(marker)
    local pid = tonumber((box.script("(LUA </dev/null >/dev/null 2>&1) & echo $!", text)))
    assert.is_true(#box.find(marker) >= 1) -- a shell that has just forked is seen twice
    sys.kill(pid, sys.SIGKILL)
    local deadline = nsbox.clock() + helper.PATIENCE
    while #box.pids(marker) > 0 and nsbox.clock() < deadline do
      sys.nanosleep(0.01)
    end
    assert.same({}, box.pids(marker))
  end)
end)
