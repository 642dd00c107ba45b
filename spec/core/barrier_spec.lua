-- The core alone: barriers, and the end of a start that waits there.
local core = require "nsbox.core"
local launch_run = require("nsbox.launch").run
local lfs = require "lfs"
local sys = require "nsbox.sys"
local helper = require "spec.helper"
local start = require "spec.start"
helper.leakcheck { cold = true, settle = true }

local BUSYBOX, GUARD, HOP, WAY = start.BUSYBOX, start.GUARD, start.HOP, start.WAY
local guarded, exec, copy_of = start.guarded, start.exec, start.copy_of
local eventually, in_state = start.eventually, start.in_state

local FIRST = { "clone", "vm,files", side = "parent" }

for _, mode in ipairs { "shared memory", "copies" } do
  local m = start.mode(mode)
  local copying, open, perform = m.copying, m.open, m.perform

  describe("at a barrier a start in " .. mode, function()
    it("waits, gives descriptors up and takes some down", function()
      local r, w = sys.pipe2()
      local reading <close> = r
      local writing <close> = w
      local seen = {}
      local event, how, code = perform(guarded {
        { "open", "/proc", "path", out = "up" }, { "chdir", "/" },
        { "barrier", "one", give = { "up" } }, { "barrier", "two", take = { "down", "other" } },
        { "dup3", "@down", 1 }, { "fchdir", "@other" }, exec "pwd" }, {},
        function(step, fd)
          seen[#seen + 1] = step
          if step == 6 then
            seen[#seen + 1] = lfs.symlinkattributes("/proc/self/fd/" .. fd:fileno(), "target")
            fd:close()
            return
          end
          local etc = assert(sys.open("/etc", "path"))
          helper.cleanup(function() etc:close() end)
          return writing, etc
        end)
      writing:close()
      assert.same({ "started", "exit", 0 }, { event, how, code })
      assert.same({ 6, "/proc", 7 }, seen)
      assert.equal("/etc\n", sys.read(reading))
    end)

    it("takes no fewer descriptors than it needs", function()
      local event, step, errno = perform(guarded { { "barrier", "b", take = { "dir" } }, { "fchdir", "@dir" } }, {},
        function() end)
      assert.same({ "failed", 4, sys.EPROTO }, { event, step, errno })
    end)

    it("keeps none of those that were too many", function()
      local null <close> = assert(sys.open("/dev/null", "rdonly"))
      local event = perform(guarded { { "barrier", "b" }, exec "true" }, {}, function() return null, null end)
      assert.equal("started", event)
    end)

    it("is killed by abort, __close and the collector, and nothing is left", function()
      local endings = {
        abort = function(launch) launch:abort() end,
        close = function(launch) local _ <close> = launch end,
        collector = function() end,
      }
      for name, ending in pairs(endings) do
        for hops = 1, 3 do
          local steps = { GUARD }
          for i = 1, hops do
            steps[#steps + 1] = i == hops and HOP or WAY
            steps[#steps + 1] = GUARD
          end
          steps[#steps + 1] = { "barrier", "b" }
          steps[#steps + 1] = exec "true"
          local before = helper.snapshot()
          do
            local launch = assert(open(steps))
            assert.same({ "barrier", 2 * hops + 2 }, { launch:next(30) })
            ending(launch)
          end
          assert.same({}, helper.compare(before, helper.snapshot()), name .. " after " .. hops .. " hops")
        end
      end
    end)

    it("is killed by abort also when it is stopped", function()
      local launch = assert(open(guarded { { "barrier", "b" }, exec "true" }))
      assert.equal("barrier", (launch:next(30)))
      local pid = core.pid_of(launch:pidfd())
      assert(sys.kill(pid, "stop"))
      eventually("stopped", function() return in_state(pid, "T") end)
      assert.same({ "again" }, { launch:next(0.01) })
      launch:abort()
      assert.is_nil(helper.read(("/proc/%d/stat"):format(pid)))
    end)

    it("goes on when it was stopped and continued", function()
      local launch <close> = assert(open(guarded { { "barrier", "b" }, exec "true" }))
      assert.equal("barrier", (launch:next(30)))
      local pid = core.pid_of(launch:pidfd())
      assert(sys.kill(pid, "stop"))
      assert(launch:go())
      assert.same({ "again" }, { launch:next(0.05) })
      assert(sys.kill(pid, "cont"))
      local event, process = launch:next(30)
      local _ <close> = process
      assert.equal("started", event)
    end)

    it("tells of a child that was killed there, by its step and without an errno", function()
      local launch <close> = assert(open(guarded { { "barrier", "b" }, exec "true" }))
      assert.equal("barrier", (launch:next(30)))
      local pid = core.pid_of(launch:pidfd())
      assert(sys.kill(pid, "kill"))
      assert.same({ "failed", 4, 0 }, { launch:next(30) })
      assert.same({ nil, "next: Invalid argument", sys.EINVAL }, { launch:next(1) })
      assert.same({ nil, "go: Invalid argument", sys.EINVAL }, { launch:go() })
    end)

    it("tells of it also when the answer comes too late", function()
      local launch <close> = assert(open(guarded { { "barrier", "b" }, exec "true" }))
      assert.equal("barrier", (launch:next(30)))
      local pid = core.pid_of(launch:pidfd())
      assert(sys.kill(pid, "kill"))
      eventually("dead", function() return in_state(pid, "Z") end)
      launch:go()
      assert.same({ "failed", 4, 0 }, { launch:next(30) })
    end)
  end)

  describe("a start in " .. mode, function()
    it("is one error value of nsbox.launch, whatever ends it at a barrier", function()
      local function run(at_barrier)
        return launch_run { verb = "spec", copy = copying, inputs = {}, barriers = { b = at_barrier },
          plan = copy_of { FIRST, GUARD, HOP, GUARD, { "barrier", "b", why = "the spec" }, exec "true" } }
      end
      local before = helper.snapshot()
      assert.has_error(function() run(function() error "at the barrier" end) end, nil)
      assert.same({}, helper.compare(before, helper.snapshot()))
    end)

    it("says that the child was killed, when it was killed at a barrier", function()
      local steps = { FIRST, GUARD, HOP, GUARD, { "barrier", "b", why = "the spec" },
        { "execve", { BUSYBOX }, { "true" }, {} } }
      local process, err, errno = launch_run { verb = "spec", copy = copying, inputs = {}, plan = copy_of(steps),
        born = function(pidfd)
          local pid = core.pid_of(pidfd)
          assert(sys.kill(pid, "kill"))
          eventually("dead", function()
            return in_state(pid, "Z")
          end)
          return true
        end }
      assert.is_nil(process)
      assert.same({ "setup", 5, "barrier" }, { err.kind, err.step, err.call })
      assert.is_nil(errno)
      assert.matches("the process was killed during set%-up %(the spec%)", tostring(err))
    end)

    it("names the caller's own part when that failed, and the child did not", function()
      local process, err, errno = launch_run { verb = "spec", copy = copying, inputs = {},
        plan = copy_of { FIRST, GUARD, HOP, GUARD, { "barrier", "b", why = "the spec" }, exec "true" },
        born = function() return nil, "no such luck", sys.EPERM end }
      assert.is_nil(process)
      assert.same({ 5, "EPERM", sys.EPERM }, { err.step, err.name, errno }, tostring(err))
      assert.matches("no such luck", tostring(err))
    end)
  end)
end

describe("a start in shared memory", function()
  it("is an error, and ends, when the caller has no room for what is given", function()
    local launch = assert(core.launch(guarded {
      { "open", "/proc", "path", out = "up" }, { "barrier", "b", give = { "up" } }, exec "true" },
      {}, "vm,files", {}))
    sys.nanosleep(0.05)
    local soft, hard = helper.read "/proc/self/limits":match "Max open files%s+(%d+)%s+(%d+)"
    soft, hard = tonumber(soft), tonumber(hard)
    assert(sys.setrlimit("nofile", 3, hard))
    local event, message, errno = launch:next(30)
    assert(sys.setrlimit("nofile", soft, hard))
    launch:abort()
    assert.same({ nil, "next: Too many open files", sys.EMFILE }, { event, message, errno })
  end)

  it("keeps nothing of what is given when there is no room for all of it", function()
    local launch = assert(core.launch(guarded {
      { "open", "/proc", "path", out = "up" }, { "barrier", "b", give = { "up", "up", "up" } }, exec "true" },
      {}, "vm,files", {}))
    eventually("its pidfd is there", function() return launch:pidfd() end)
    local before = helper.snapshot()
    local soft, hard = helper.read "/proc/self/limits":match "Max open files%s+(%d+)%s+(%d+)"
    soft, hard = tonumber(soft), tonumber(hard)
    local free = assert(sys.open("/dev/null", "rdonly"))
    local number = free:fileno()
    free:close()
    assert(sys.setrlimit("nofile", number + 1, hard))
    local event, _, errno = launch:next(30)
    assert(sys.setrlimit("nofile", soft, hard))
    local changed = helper.compare({ descriptors = before.descriptors }, helper.snapshot())
    launch:abort()
    assert.same({ nil, sys.EMFILE, {} }, { event, errno, changed })
  end)
end)
