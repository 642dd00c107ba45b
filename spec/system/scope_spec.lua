-- A scope of the user's systemd: `make test-vm-systemd` has one; elsewhere only what is said without it is looked at.
local helper = require "spec.helper"
local lfs = require "lfs"
local script = require "spec.script"
local sys = require "nsbox.sys"
helper.leakcheck { cold = true, settle = true }

local ENTER = [[
  local folder, why, fix = require("nsbox.cgroup.scope").enter()
  print(folder or "none: " .. why .. "; " .. (fix or "?"))
]]

local function needs_bus()
  local address = os.getenv "DBUS_SESSION_BUS_ADDRESS" or ""
  local socket = address:match "^unix:path=([^,;]+)" or (os.getenv "XDG_RUNTIME_DIR" or "/nonexistent") .. "/bus"
  if lfs.attributes(socket, "mode") ~= "socket" then helper.skip("needs a user bus: no socket " .. socket) end
  if not lfs.attributes("/usr/bin/busctl", "mode") then helper.skip "needs /usr/bin/busctl" end
  return { env = { DBUS_SESSION_BUS_ADDRESS = "unix:path=" .. socket } }
end

local function gone(folder)
  local deadline = sys.clock() + helper.PATIENCE
  while lfs.attributes(folder, "mode") and sys.clock() < deadline do sys.nanosleep(0.02) end
  return not lfs.attributes(folder, "mode")
end

describe("scope.enter", function()
  it("is tried from a session where no cgroup is the user's, in the run of that name", function()
    if helper.run ~= "session" then helper.skip "needs the run session" end
    local own = "/sys/fs/cgroup" .. helper.read "/proc/self/cgroup":match "0::([^\n]*)"
    assert.matches("/session%-[^/]*%.scope$", own)
    assert.is_nil(io.open(own .. "/cgroup.procs", "w"))
    assert.is_nil(lfs.mkdir(own .. "/box"))
  end)

  it("moves the caller into a scope of its own, where it can limit what it makes", function()
    local s <close> = script.start(ENTER .. [[
      print(require("nsbox.cgroup.scope").enter() == folder)
      print(io.open("/proc/self/cgroup"):read "l")
      require("nsbox.sys").nanosleep(60)
    ]], needs_bus())
    local folder = s:line()
    assert.matches(("^/sys/fs/cgroup/.*/nsbox%%-%d%%-%%x+%%.scope$"):format(s.pid), folder)
    assert.equal("true", s:line())
    assert.equal("0::" .. folder:sub(#"/sys/fs/cgroup" + 1) .. "/caller", s:line())
    assert.matches("memory.*pids", helper.read(folder .. "/cgroup.subtree_control"))
    assert(lfs.mkdir(folder .. "/box"))
    helper.write(folder .. "/box/memory.max", "16777216\n")
    assert.equal("16777216\n", helper.read(folder .. "/box/memory.max"))
    s:signal "kill"
    assert.equal("signal", (s:wait()))
    assert.is_true(gone(folder))
  end)

  it("moves all threads, and what the caller started before stays where it was", function()
    local s <close> = script.start([[
      local sys = require "nsbox.sys"
      local sleep = io.popen("echo $$; exec sleep 60", "r")
      local child = sleep:read "l"
    ]] .. ENTER .. [[
      print(child)
      print(io.open("/proc/" .. child .. "/cgroup"):read "l")
      sys.kill(tonumber(child), "kill")
      sleep:close()
      require("nsbox.sys").nanosleep(60)
    ]], needs_bus())
    local folder, child = s:line(), s:line()
    assert.matches("%.scope$", folder)
    assert.matches("^%d+$", child)
    assert.is_nil(s:line():find(folder:match "[^/]*$", 1, true))
    for _, thread in ipairs(helper.names(("/proc/%d/task"):format(s.pid))) do
      assert.matches("/caller$", helper.read(("/proc/%d/task/%s/cgroup"):format(s.pid, thread)):match "0::([^\n]*)")
    end
    s:signal "kill"
    s:wait()
    assert.is_true(gone(folder))
  end)

  it("is where the boxes of a user have their limits", function()
    local s <close> = script.start([[
      local nsbox = require "nsbox"
      local r = assert(nsbox.run("busybox", "dd if=/dev/zero of=/dev/shm/x bs=1M count=60",
        { memory = "32M", pids = 50, cpus = 0.5 }))
      print(r.usage.oom_kills, r.limits.memory.value, r.limits.pids.by, r.limits.cpus.value)
      for _, note in ipairs(r.notes) do print(note.what, note.why) end
      local b <close> = assert(nsbox.start("busybox", { "sleep", "100" }, { pids = 5 }))
      print(assert(b:exec { "true" }).code, b:stats().pids)
    ]], needs_bus())
    assert.matches("^[1-9]%d*\t33554432\tcgroup v2 pids.max\t0.5$", s:line(60))
    local line = s:line(60)
    if helper.run == "session" then
      assert.matches("^cgroup\tthe calling process was moved, by the user's systemd, to /.*%.scope$", line)
      line = s:line(60)
    end
    assert.equal("0\t1", line)
    assert.same({ "exit", 0 }, { s:wait() })
  end)

  it("says that there is no bus, and what to do", function()
    local s <close> = script.start(ENTER, {
      wrapper = { "/usr/bin/env", "-u", "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR=/nonexistent" } })
    assert.matches("^none: no user bus: there is no /nonexistent/bus.*; log the user in.*", s:line())
  end)

  it("says what the bus said", function()
    if not lfs.attributes("/usr/bin/busctl", "mode") then helper.skip "needs /usr/bin/busctl" end
    local s <close> = script.start(ENTER, { env = { DBUS_SESSION_BUS_ADDRESS = "unix:path=/nonexistent" } })
    assert.matches("^none: the user's systemd made no scope: .*No such file.*; start the caller with: systemd%-run",
      s:line())
  end)
end)
