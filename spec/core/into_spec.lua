-- The core alone: a process that begins its life in a cgroup of v2.
local core = require "nsbox.core"
local helper = require "spec.helper"
local hierarchy = require "spec.hierarchy"
local lfs = require "lfs"
local start = require "spec.start"
local sys = require "nsbox.sys"
helper.leakcheck { cold = true, settle = true }

local GUARD, exec = start.GUARD, start.exec

local function into(flags, ...)
  return { GUARD, { "clone", flags, into = "@cgroup" }, GUARD, ... }
end

for _, mode in ipairs { "shared memory", "copies" } do
  local m = start.mode(mode)

  -- What the new process is in, as it says itself and as it is seen from here.
  local function seen(flags, how)
    local path, name = hierarchy.make ""
    local cgroup <close> = assert(sys.open(path, how))
    local list = into(flags, { "barrier", "b" }, exec("sh", "-c", "exit 3"))
    local launch <close> = assert(m.open(list, { cgroup = cgroup }))
    local process, outside, inside
    local event, code = m.follow(launch, function()
      local pid = core.pid_of(launch:pidfd())
      outside = hierarchy.of(pid, "")
      inside = lfs.symlinkattributes(("/proc/%d/ns/cgroup"):format(pid), "target")
      process = helper.read(path .. "/cgroup.procs") == pid .. "\n"
    end)
    assert.equal("started", event, code)
    local _ <close> = code
    assert.same({ "exit", 3 }, { sys.waitid(code, 30) })
    assert.is_true(process)
    assert.equal(name, outside)
    return inside
  end

  describe("a hop into a cgroup in " .. mode, function()
    local own = lfs.symlinkattributes("/proc/self/ns/cgroup", "target")

    it("begins there, in the caller's cgroup namespace", function()
      assert.equal(own, seen("vm,vfork,parent", "rdonly,directory"))
    end)

    it("takes a descriptor that only names the folder", function()
      assert.equal(own, seen("vm,vfork,parent", "path"))
    end)

    it("makes a cgroup namespace whose root is that cgroup", function()
      if not helper.root() then helper.skip "needs root: it makes no user namespace" end
      local path = hierarchy.make ""
      local cgroup <close> = assert(sys.open(path, "path"))
      local list = into("vm,vfork,parent,newcgroup", { "close_fds" }, { "dup3", "@out", 1 },
        exec("grep", "^0:", "/proc/self/cgroup"))
      local r, w = sys.pipe2()
      local reading <close> = r
      local writing <close> = w
      local launch <close> = assert(m.open(list, { cgroup = cgroup, out = writing }))
      local event, process, errno = m.follow(launch)
      assert.equal("started", event, ("step %s errno %s"):format(process, errno))
      local _ <close> = process
      writing:close()
      assert.equal("0::/\n", sys.read(reading))
      assert.same({ "exit", 0 }, { sys.waitid(process, 30) })
    end)

    it("reports a cgroup that is gone as that step's failure", function()
      local path = hierarchy.make ""
      local cgroup <close> = assert(sys.open(path, "path"))
      assert(lfs.rmdir(path))
      local event, step, errno = m.perform(into("vm,vfork,parent", exec "true"), { cgroup = cgroup })
      assert.same({ "failed", 2 }, { event, step })
      assert.is_true(errno == sys.ENOENT or errno == sys.ENODEV, tostring(errno)) -- as the kernel is
    end)
  end)
end
