-- The steps of the option `mounts`. No privilege, nothing is started.
local assert = require "luassert"
local plan = require "nsbox.plan"
local stations = require "spec.stations"

local MOUNTS = { "/etc:/a:ro", { source = "/etc/passwd", target = "/a/b", options = "suid,dev" } }

local function planned(host, mounts, opts)
  opts = opts or {}
  opts.mounts = mounts
  return plan.plan(assert(stations.config { host = host, opts = opts, cmd = { "true" } }), host)
end

-- The steps that fill or first name one of the slots, as "call slot side", and their numbers.
local function about(steps, ...)
  local list, at = {}, {}
  for i, step in ipairs(steps) do
    for _, slot in ipairs { ... } do
      if step.out == slot or step[2] == "@" .. slot then
        list[#list + 1] = ("%s %s %s"):format(step[1], slot, step.side)
        at[list[#list]] = i
      end
    end
  end
  return list, at
end

local function find(steps, call, first)
  for i, step in ipairs(steps) do
    if step[1] == call and (first == nil or step[2] == first) then
      return i, step
    end
  end
end

describe("the plan of a mount", function()
  it("as root takes the caller's tree, restricted before the box has it", function()
    local steps = planned(stations.root, MOUNTS)
    assert.same({ "open_tree bind1 parent", "mount_setattr bind1 parent", "mkpath bind_at1 child",
      "move_mount bind1 child" }, (about(steps, "bind1", "bind_at1")))
    local _, set = find(steps, "mount_setattr", "@bind1")
    assert.same({ "empty_path,recursive", "rdonly,nosuid,nodev", 0, "private" }, { table.unpack(set, 4, 7) })
    _, set = find(steps, "mount_setattr", "@bind2")
    assert.same({ "", 0, "private" }, { table.unpack(set, 5, 7) })
  end)

  it("as a user takes the box's own view of the path, if it is what the caller holds", function()
    local steps = planned(stations.user, MOUNTS)
    local list, at = about(steps, "held1", "bind1", "bind_at1")
    assert.same({ "open held1 parent", "open_tree bind1 child", "same_file bind1 child", "mount_setattr bind1 child",
      "mkpath bind_at1 child", "move_mount bind1 child" }, list)
    assert.is_true(at["move_mount bind1 child"] < find(steps, "pivot_root"))
    local _, same = find(steps, "same_file", "@bind2")
    assert.equal("@held2", same[3])
  end)

  it("makes each mount point below the box's root, after the mounts before it, as a folder or a file", function()
    for _, host in ipairs { stations.root, stations.user } do
      local steps = planned(host, MOUNTS, { read_only = true })
      local list = about(steps, "bind_at1", "bind_at2")
      assert.same({ "mkpath bind_at1 child", "mkpath bind_at2 child" }, list)
      local first, one = find(steps, "mkpath", "@root")
      while one[3] ~= "/a" do
        first = first + 1
        one = steps[first]
      end
      assert.same({ "mkpath", "@root", "/a", "dir" }, { table.unpack(one, 1, 4) })
      assert.same({ "move_mount", "@bind1" }, { table.unpack(steps[first + 1], 1, 2) })
      assert.same({ "mkpath", "@root", "/a/b", "file" }, { table.unpack(steps[first + 2], 1, 4) })
    end
  end)

  it("idmaps by the box's own user namespace, once that is there", function()
    local steps = planned(stations.root, { { source = "/etc", target = "/a", idmap = true } })
    local at
    for i, step in ipairs(steps) do
      if step[1] == "mount_setattr" and step[2] == "@bind1" and step[5] == "idmap" then
        assert.same({ "@ns_user", "parent" }, { step[8], step.side })
        at = i
      end
      assert.is_true(step.out ~= "ns_user" or at == nil, "comes before the namespace")
    end
    assert.is_truthy(at)
  end)

  it("is made for the box alone: no other's is taken", function()
    local function config(mounts)
      return assert(stations.config { opts = { mounts = mounts }, cmd = { "true" } })
    end
    local none, etc, usr = config {}, config { "/etc:/a" }, config { "/usr:/a" }
    local seen = {}
    for _, c in ipairs { none, etc, usr, none, etc } do
      local _, step = find(plan.steps_of(c, stations.root), "open_tree", "cwd")
      seen[#seen + 1] = step and step[3] or "none"
    end
    assert.same({ "/etc", "/usr", "/etc" }, { seen[2], seen[3], seen[5] })
    assert.equal(seen[1], seen[4])
    assert.is_not.equal("/usr", seen[4])
  end)
end)
