-- The end of a cgroup: of all that is in it and below it, and of nothing else.
local assert = require "luassert"
local deep = require "spec.deep"
local helper = require "spec.helper"
local hierarchy = require "spec.hierarchy"
local kill = require "nsbox.cgroup.kill"
local lfs = require "lfs"
local start = require "spec.start"
local sys = require "nsbox.sys"

helper.leakcheck { outside = true }

local function died(pids)
  for _, pid in ipairs(pids) do assert.same({ "signal", 9 }, { sys.waitid(pid, helper.PATIENCE) }) end
end

local function descriptors()
  return #helper.names "/proc/self/fd"
end

for _, name in ipairs { "", "pids", "freezer" } do
  describe("a cgroup of " .. (name == "" and "v2" or "v1's " .. name), function()
    local state = name == "freezer" and "FROZEN" or nil

    it("ends with what is below it, as deep as a box likes, by few descriptors", function()
      local path = hierarchy.make(name)
      local pids = deep(path, 100, 30, "sleep 1000", state)
      local soft, hard = helper.read "/proc/self/limits":match "Max open files +(%d+) +(%d+)"
      helper.cleanup(function() assert(sys.setrlimit("nofile", tonumber(soft), tonumber(hard))) end)
      assert(sys.setrlimit("nofile", descriptors() + 8, tonumber(hard)))
      assert.is_true(kill.finish({ path }, sys.clock() + helper.PATIENCE))
      died(pids)
      assert.is_nil(lfs.attributes(path, "mode"))
    end)

    it("is killed with what is below it, and stays", function()
      local path = hierarchy.make(name)
      local pids = deep(path, 30, 15, "sleep 1000", state)
      kill.kill(path)
      died(pids)
      assert.equal("directory", lfs.attributes(path, "mode"))
    end)

    it("ends with more processes than the caller can have descriptors for", function()
      local path = hierarchy.make(name)
      local child = assert(sys.clone(sys.SIGCHLD, function()
        assert(sys.write_file("cwd", path .. "/cgroup.procs", "0"))
        sys.execve("/bin/busybox", { "sh", "-c", "for i in $(seq 40); do sleep 1000 & done; wait" }, {})
      end))
      start.eventually("all are there", function()
        return select(2, helper.read(path .. "/cgroup.procs"):gsub("\n", "")) == 41
      end)
      local hard = tonumber(helper.read "/proc/self/limits":match "Max open files +%d+ +(%d+)")
      helper.cleanup(function() assert(sys.setrlimit("nofile", hard, hard)) end)
      assert(sys.setrlimit("nofile", descriptors() + 8, hard))
      assert.is_true(kill.finish({ path }, sys.clock() + helper.PATIENCE))
      died { child }
    end)
  end)
end

describe("what is killed", function()
  it("is not frozen in the first rounds: nobody may be left to let it go", function()
    local path = hierarchy.make "freezer"
    local seen, write_file = {}, sys.write_file
    helper.cleanup(function() sys.write_file = write_file end)
    function sys.write_file(dir, name, text)
      if name == "freezer.state" then seen[#seen + 1] = text end
      return write_file(dir, name, text)
    end
    kill.kill(path)
    kill.kill(path, 7) -- those that were killed may take a while to die: tens of milliseconds are ordinary
    assert.same({ "THAWED", "THAWED" }, seen)
    kill.kill(path, 10)
    assert.same({ "THAWED", "THAWED", "FROZEN", "THAWED" }, seen)
  end)

  it("is none that only had the number of one", function()
    local path = hierarchy.make "pids"
    local function sleeper(folder)
      return assert(sys.clone(sys.SIGCHLD, function()
        if folder then assert(sys.write_file("cwd", folder .. "/cgroup.procs", "0")) end
        sys.execve("/bin/busybox", { "sleep", "1000" }, {})
      end))
    end
    local other, inside = sleeper(), sleeper(path)
    helper.cleanup(function()
      sys.kill(other, "kill")
      sys.waitid(other)
    end)
    start.eventually("it is in it", function() return helper.read(path .. "/cgroup.procs") ~= "" end)
    local pidfd_open = sys.pidfd_open
    helper.cleanup(function() sys.pidfd_open = pidfd_open end)
    function sys.pidfd_open(pid) -- its number is another's, once it was read
      sys.pidfd_open = pidfd_open
      assert.equal(inside, pid)
      sys.kill(inside, "kill")
      sys.waitid(inside)
      return pidfd_open(other)
    end
    kill.kill(path)
    assert.is_nil((sys.waitid(other, 0.05)))
    assert.is_true(kill.finish({ path }, sys.clock() + helper.PATIENCE))
  end)
end)
