-- The leak check itself: each kind of leak must be seen, or the rest of the suite proves nothing.
local helper = require "spec.helper"
helper.leakcheck { cold = true }

local function changes(during)
  local before = helper.snapshot()
  local undo = during()
  local lines = table.concat(helper.compare(before, helper.snapshot()), "\n")
  undo()
  return lines
end

describe("the leak check", function()
  it("is silent when nothing changed", function()
    assert.equal("", changes(function() return function() end end))
  end)

  it("sees an open descriptor", function()
    assert.matches("descriptors: left behind: %d+ /dev/null", changes(function()
      local file = assert(io.open("/dev/null"))
      return function() file:close() end
    end))
  end)

  it("collects garbage first", function()
    assert.equal("", changes(function()
      assert(io.open("/dev/null"))
      return function() end
    end))
  end)

  it("sees a child and what is below it", function()
    local lines = changes(function()
      local pipe = assert(io.popen("exec 2>/dev/null; sh -c 'sleep 60; true' & echo $!; wait", "r"))
      local pid = pipe:read("l")
      assert(os.execute(("until pgrep -x -P %s sleep >/dev/null; do :; done"):format(pid)))
      return function()
        os.execute(("pkill -KILL -P %s; kill -KILL %s"):format(pid, pid) .. " 2>/dev/null")
        pipe:close()
      end
    end)
    assert.matches("processes: left behind: %d+ sh", lines)
    assert.matches("processes: left behind: %d+ sleep", lines)
  end)

  it("sees a changed working directory", function()
    local lfs = require "lfs"
    local here = lfs.currentdir()
    assert.matches("process: changed: cwd: .* %-> /", changes(function()
      lfs.chdir("/")
      return function() lfs.chdir(here) end
    end))
  end)

  it("sees a mount", function()
    if not helper.root() then helper.skip("needs root") end
    local dir = helper.tmpdir()
    assert.matches("mounts: left behind: .* tmpfs", changes(function()
      assert(os.execute("mount -t tmpfs none " .. dir))
      return function() os.execute("umount " .. dir) end
    end))
  end)

  it("sees a cgroup", function()
    local dir
    for root in pairs(helper.cgroup_roots()) do
      local try = root .. "/nsbox-helper-spec-" .. helper.pid
      if require("lfs").mkdir(try) then dir = try break end
    end
    if not dir then helper.skip("needs a cgroup folder that can be written") end
    require("lfs").rmdir(dir)
    assert.matches("cgroups: left behind: .*nsbox%-helper%-spec", changes(function()
      assert(require("lfs").mkdir(dir))
      return function() require("lfs").rmdir(dir) end
    end))
  end)
end)

describe("helper.tmpdir", function()
  local kept

  it("makes a folder", function()
    kept = helper.tmpdir()
    helper.write(kept .. "/file", "x")
    assert.equal("x", helper.read(kept .. "/file"))
  end)

  it("is gone after its test", function()
    assert.is_nil(helper.read(kept .. "/file"))
    assert.same({}, helper.names(kept))
  end)
end)
