-- Where the caller is in the cgroup hierarchies, by what /proc says on made-up machines.
local assert = require "luassert"
local busted = require "busted"
local proc = require "nsbox.probe.file"
local tree = require "nsbox.cgroup.tree"

local before_each, after_each = busted.before_each, busted.after_each

local texts, read

before_each(function()
  read = proc.read
  function proc.read(path) return texts[path] end
end)

after_each(function()
  proc.read = read
end)

local function machine(cgroup, ...)
  texts = { ["/proc/self/cgroup"] = cgroup, ["/proc/self/mountinfo"] = table.concat({ "1 0 8:1 / / rw - ext4 /dev/x rw",
    ... }, "\n") .. "\n" }
end

local function mounted(root, point, kind, options)
  return ("30 24 0:26 %s %s rw,nosuid shared:4 - %s %s %s"):format(root, point, kind, kind, options or "rw")
end

describe("tree.look", function()
  it("finds what is mounted, and the caller in it", function()
    machine("4:memory:/a/b\n3:cpu,cpuacct:/\n1:name=systemd:/s\n0::/u\n",
      mounted("/", "/sys/fs/cgroup/unified", "cgroup2"), mounted("/", "/c/cpu,cpuacct", "cgroup", "rw,cpu,cpuacct"),
      mounted("/", "/c/memory", "cgroup", "rw,memory"), mounted("/", "/c/systemd", "cgroup", "rw,name=systemd"))
    local v2, v1 = tree.look().v2, tree.look().v1
    assert.same({ point = "/sys/fs/cgroup/unified", path = "/u" }, v2)
    assert.same({ memory = { point = "/c/memory", path = "/a/b" }, cpu = { point = "/c/cpu,cpuacct", path = "" },
      cpuacct = { point = "/c/cpu,cpuacct", path = "" } }, v1)
  end)

  it("has no v2 where none is mounted", function()
    machine "0::/u\n"
    assert.same({ nil, {} }, { tree.look().v2, tree.look().v1 })
  end)

  it("takes the first of several mounts, and its path as it is", function()
    machine("0::/u\n", mounted("/", "/my\\040place", "cgroup2"), mounted("/", "/second", "cgroup2"))
    assert.same({ point = "/my place", path = "/u" }, tree.look().v2)
  end)

  it("reckons from what is mounted of a hierarchy", function()
    for _, row in ipairs { { "/docker/1", "/docker/1", "" }, { "/docker/1/x", "/docker/1", "/x" }, { "/", "/", "" },
      { "/x", "/", "/x" } } do
      machine("0::" .. row[1] .. "\n", mounted(row[2], "/c", "cgroup2"))
      assert.same({ point = "/c", path = row[3] }, tree.look().v2)
    end
  end)

  it("does not take a name that begins alike for one below", function()
    machine("5:memory:/ab/x\n0::/ab\n", mounted("/a", "/c", "cgroup2"), mounted("/a", "/m", "cgroup", "rw,memory"))
    local v2, v1 = tree.look().v2, tree.look().v1
    assert.same({ point = "/c", path = "/ab" }, v2)
    assert.same({ point = "/m", path = "/ab/x" }, v1.memory)
  end)
end)
