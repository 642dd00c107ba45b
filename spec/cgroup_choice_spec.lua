-- Which cgroup hierarchy enforces which limit, on made-up machines.
local assert = require "luassert"
local choice = require "nsbox.cgroup.choice"

local DENIED = { why = "the cgroup /c/x is not the caller's", fix = "become root" }
local ALL = { "cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "hugetlb" }

local function set(names)
  local map = {}
  for name in names:gmatch "%S+" do map[name] = true end
  return map
end

local function v1(place, ...)
  local map = {}
  for _, name in ipairs(... and { ... } or ALL) do map[name] = place or { folder = "/c/" .. name } end
  return map
end

local function v2(controllers)
  return { folder = "/c/own", controllers = set(controllers) }
end

local machines = {
  v1 = { v1 = v1() },
  ["v1 without cpuacct"] = { v1 = v1() },
  hybrid = { v1 = v1(), v2 = v2 "hugetlb" },
  v2 = { v1 = {}, v2 = v2 "cpuset cpu io memory hugetlb pids" },
  ["v2 without cpu"] = { v1 = {}, v2 = v2 "memory pids" },
  ["v1 of others"] = { v1 = v1(DENIED) },
  ["v2 of others"] = { v1 = {}, v2 = DENIED },
  none = { v1 = {} },
}
machines.hybrid.v1.hugetlb, machines["v1 without cpuacct"].v1.cpuacct = nil, nil

local MEMORY = { memory = { limit = 1 << 20, swap = 1 << 20 } }
local CPU = { cpu = { quota = 50000, period = 100000 } }
local PIDS = { pids = { limit = 5 } }

local function with(...)
  local all = {}
  for _, part in ipairs { ... } do
    for name, v in pairs(part) do all[name] = v end
  end
  return all
end

-- { "where file=text", … }, as written.
local function written(chosen)
  local list = {}
  for i, write in ipairs(chosen.writes) do
    list[i] = ("%s %s=%s"):format(write.where, write.file, write.text)
  end
  return list
end

describe("limits are enforced", function()
  -- machine, resources, joins, writes
  local rows = {
    { "v1", MEMORY, "freezer cpu cpuacct memory pids", "memory memory.limit_in_bytes=1048576; "
      .. "memory memory.memsw.limit_in_bytes=1048576" },
    { "v1", with(CPU, PIDS), "freezer cpu cpuacct memory pids", "cpu cpu.cfs_period_us=100000; "
      .. "cpu cpu.cfs_quota_us=50000; pids pids.max=5" },
    { "v1", { cpu = { cpus = "0-1" } }, "freezer cpu cpuacct cpuset memory pids", "cpuset cpuset.cpus=0-1" },
    { "v1", { blockIO = { weight = 100 } }, "freezer blkio cpu cpuacct memory pids", "blkio blkio.bfq.weight=100" },
    { "hybrid", MEMORY, "cpu cpuacct memory pids v2", "memory memory.limit_in_bytes=1048576; "
      .. "memory memory.memsw.limit_in_bytes=1048576" },
    { "hybrid", { hugepageLimits = { { pageSize = "2MB", limit = 0 } } }, "cpu cpuacct memory pids v2",
      "v2 hugetlb.2MB.max=0" },
    { "v2", MEMORY, "v2", "v2 memory.max=1048576; v2 memory.swap.max=0" },
    { "v2", with(CPU, PIDS), "v2", "v2 cpu.max=50000 100000; v2 pids.max=5" },
    { "v2", { cpu = { shares = 2 } }, "v2", "v2 cpu.weight=1" },
    { "v2", { cpu = { shares = 1024 } }, "v2", "v2 cpu.weight=100" },
    { "v2", { cpu = { shares = 262144 } }, "v2", "v2 cpu.weight=10000" },
    { "v2", { blockIO = { weight = 10, throttleReadBpsDevice = { { major = 8, minor = 0, rate = 5 } },
      throttleWriteIOPSDevice = { { major = 8, minor = 0, rate = 7 }, { major = 8, minor = 16, rate = 9 } } } }, "v2",
      "v2 io.bfq.weight=default 10; v2 io.max=8:0 rbps=5 wiops=7; v2 io.max=8:16 wiops=9" },
    { "v1", { blockIO = { throttleReadBpsDevice = { { major = 8, minor = 0, rate = 5 } } } },
      "freezer blkio cpu cpuacct memory pids", "blkio blkio.throttle.read_bps_device=8:0 5" },
    { "v2", { unified = { ["memory.high"] = "1M", ["cgroup.max.depth"] = "3" } }, "v2",
      "v2 cgroup.max.depth=3; v2 memory.high=1M" },
    { "v1", { unified = { ["memory.swappiness"] = "0" } }, "freezer cpu cpuacct memory pids",
      "memory memory.swappiness=0" },
    { "v2", { unified = {} }, "v2", "" }, { "hybrid", { unified = {} }, "cpu cpuacct memory pids v2", "" },
    { "none", {}, "", "" }, { "v2", {}, "", "" },
  }
  for i, row in ipairs(rows) do
    local machine, resources, joins, writes = table.unpack(row)
    it(("on %s (row %d)"):format(machine, i), function()
      local chosen = assert(choice.choose(resources, nil, machines[machine], {}))
      assert.equal(joins, table.concat(chosen.joins, " "))
      assert.equal(writes, table.concat(written(chosen), "; "))
      assert.same({}, chosen.left_out)
    end)
  end

  it("by the CPU time of the whole cgroup", function()
    assert.same({ "freezer", "cpu", "cpuacct", "memory", "pids" }, choice.choose({}, 1, machines.v1, {}).joins)
    assert.same({ "v2" }, choice.choose({}, 1, machines["v2 without cpu"], {}).joins)
    assert.same({ "cpu_time", DENIED.why }, (function(_, problem) return { problem.option, problem.why } end)(
      choice.choose({}, 1, machines["v2 of others"], {})))
  end)
end)

describe("a box with an id of the caller's", function()
  local function joins(machine, resources)
    return table.concat(assert(choice.choose(resources, nil, machine, {}, true)).joins, " ")
  end

  it("joins a cgroup wherever there can be one, also without limits", function()
    assert.equal("freezer blkio cpu cpuacct cpuset devices hugetlb memory pids", joins(machines.v1, {}))
    assert.equal("freezer blkio cpu cpuacct cpuset devices memory pids v2", joins(machines.hybrid, PIDS))
    assert.equal("", joins(machines["v1 of others"], {}))
    assert.equal("v2", joins({ v1 = {}, v2 = { why = "it has processes", fix = "", bare = "/c/own" } }, {}))
    assert.equal("pids", joins({ v1 = { pids = { why = "", fix = "", bare = "/c/pids" } } }, {}))
  end)

  it("is in those without a controller, too, and in none where that may be", function()
    local machine = { v1 = v1(), named = { ["name=systemd"] = { folder = "/c/systemd" } } }
    assert.equal("freezer blkio cpu cpuacct cpuset devices hugetlb memory name=systemd pids", joins(machine, {}))
    assert.same({}, choice.choose({}, nil, machine, { cgroup = true }, true).joins)
    assert.equal(10, #choice.choose(PIDS, nil, machine, { cgroup = true }, true).joins)
  end)

  it("has limits that count, or none", function()
    assert.is_true(choice.choose(PIDS, nil, machines.v1, {}, true).counts)
    assert.is_nil(choice.choose({}, nil, machines.v1, {}, true).counts)
  end)

  it("has no limit of io on v1, which it could change", function()
    for _, resources in ipairs { { blockIO = { weight = 100 } }, { unified = { ["blkio.bfq.weight"] = "5" } } } do
      local chosen, problem = choice.choose(resources, nil, machines.v1, {}, true)
      assert.is_nil(chosen)
      assert.matches("where such a box can change it", problem.why)
    end
    assert.truthy(choice.choose({ blockIO = { weight = 100 } }, nil, machines.v2, {}, true))
  end)
end)

describe("a limit that cannot be enforced", function()
  local NOT_MOUNTED = "no cgroup file system with the controller is mounted"
  local MOUNT = "mount -t cgroup2 cgroup2 /sys/fs/cgroup, or boot Linux with the controller enabled"
  -- machine, resources, option, why, fix
  local rows = {
    { "none", PIDS, "pids", NOT_MOUNTED, MOUNT },
    { "v1 of others", MEMORY, "memory", DENIED.why, DENIED.fix },
    { "v2 of others", PIDS, "pids", DENIED.why, DENIED.fix },
    { "v2 without cpu", with(CPU, MEMORY), "cpus", "the cgroup /c/own has no controller cpu",
      "enable it in the cgroups above: echo +cpu > cgroup.subtree_control (systemd: Delegate=yes)" },
    { "v2 without cpu", { unified = { ["io.latency"] = "8:0 target=5" } }, "cgroup",
      "io.latency: the cgroup /c/own has no controller io",
      "enable it in the cgroups above: echo +io > cgroup.subtree_control (systemd: Delegate=yes)" },
    { "none", { unified = { ["memory.high"] = "1M" } }, "cgroup", "memory.high: " .. NOT_MOUNTED, MOUNT },
    { "none", { unified = {} }, "cgroup", NOT_MOUNTED, MOUNT },
    { "v1 of others", { unified = {} }, "cgroup", DENIED.why, DENIED.fix },
    { "v2 of others", { unified = {} }, "cgroup", DENIED.why, DENIED.fix },
    { "v2 without cpu", { devices = { { allow = false } } }, "device_rules",
      "rules of devices need root's rights", "run it as root" },
    { "v1", { devices = { { allow = false } } }, "device_rules",
      "rules of devices need root's rights", "run it as root" },
  }
  for i, row in ipairs(rows) do
    local machine, resources, option, why, fix = table.unpack(row)
    local function choose(degrade)
      return choice.choose(resources, nil, machines[machine], degrade)
    end

    it(("is told of with what to change, on %s (row %d)"):format(machine, i), function()
      local chosen, problem = choose {}
      assert.is_nil(chosen)
      assert.same({ option = option, why = why, fix = fix }, problem)
    end)

    it(("may be left out by its name alone, on %s (row %d)"):format(machine, i), function()
      assert.is_nil((choose { hugetlb = true }))
      local chosen = assert(choose { [option] = true })
      assert.same({ { option = option, why = why, fix = fix } }, chosen.left_out)
    end)
  end

  it("is left out beside those that can", function()
    local chosen = assert(choice.choose(with(CPU, PIDS), nil, machines["v2 without cpu"], { cpus = true }))
    assert.same({ "v2 pids.max=5" }, written(chosen))
    assert.same({ "v2" }, chosen.joins)
  end)

  it("is CPU time by its name, beside those that can", function()
    local chosen = assert(choice.choose(PIDS, 5, machines["v1 without cpuacct"], { cpu_time = true }))
    assert.same({ nil, "cpu_time", "freezer cpu memory pids" }, { chosen.cpu_time, chosen.left_out[1].option,
      table.concat(chosen.joins, " ") })
    assert.equal(5, choice.choose(PIDS, 5, machines.v1, { cpu_time = true }).cpu_time)
  end)

  it("is a raw key, each by itself", function()
    local unified = { ["cpu.max"] = "1 1", ["io.latency"] = "1", ["pids.max"] = "5" }
    local chosen = assert(choice.choose({ unified = unified }, nil, machines["v2 without cpu"], { cgroup = true }))
    assert.same({ "v2 pids.max=5" }, written(chosen))
    local noted = {}
    for i, out in ipairs(chosen.left_out) do noted[i] = out.why:match "^[^:]*" end
    assert.same({ "cpu.max", "io.latency" }, noted)
  end)

  it("leaves no cgroup when it was all", function()
    local chosen = assert(choice.choose(MEMORY, nil, machines["v1 of others"], { memory = true }))
    assert.same({ joins = {}, writes = {} }, { joins = chosen.joins, writes = chosen.writes })
    assert.equal(1, #chosen.left_out) -- swap comes with memory
  end)

  it("is swap, too, where it was given, and may be left out with memory", function()
    local chosen = assert(choice.choose({ memory = { limit = 1 << 20, swap = 3 << 20 } }, nil, machines["v1 of others"],
      { memory = true }))
    assert.same({ { option = "memory", why = DENIED.why, fix = DENIED.fix },
      { option = "swap", why = DENIED.why, fix = DENIED.fix } }, chosen.left_out)
  end)
end)
