-- linux.resources of a configuration that somebody else has made: what is accepted, and what becomes of each key.
local assert = require "luassert"
local choice = require "nsbox.cgroup.choice"
local oci = require "nsbox.config.oci_resources"

local DISK = { major = 8, minor = 0 }

local function disk(more)
  local row = { major = DISK.major, minor = DISK.minor }
  for key, v in pairs(more) do row[key] = v end
  return { row }
end

local machines = {
  v1 = { v1 = {} },
  v2 = { v1 = {}, v2 = { folder = "/c", controllers = {} } },
}
for name in ("cpu cpuacct cpuset memory devices freezer blkio pids hugetlb net_cls net_prio rdma"):gmatch "%S+" do
  machines.v1.v1[name] = { folder = "/c/" .. name, programs = true }
end
for name in ("cpu cpuset memory io pids hugetlb rdma"):gmatch "%S+" do machines.v2.v2.controllers[name] = true end

local NONE, NO_KERNEL = "cgroup v2 has nothing like it", "Linux has no limit of the kernel's own memory any more"
local FLAT, NO_LEAF = "what a cgroup uses counts in all above it, always", "Linux has no leaf weights any more"

-- resources, what becomes of them on v1, and on v2: writes, or "-" and why they are refused
local rows = {
  { { memory = { limit = -1, swap = -1, reservation = -1 } }, "memory.limit_in_bytes=-1 memory.memsw.limit_in_bytes=-1 "
    .. "memory.soft_limit_in_bytes=-1", "memory.max=max memory.swap.max=max memory.low=max" },
  { { memory = { limit = 4096, swap = -1 } }, "memory.limit_in_bytes=4096 memory.memsw.limit_in_bytes=-1",
    "memory.max=4096 memory.swap.max=max" },
  { { memory = { kernel = 4096 } }, "-" .. NO_KERNEL, "-" .. NO_KERNEL }, { { memory = { kernel = -1 } }, "", "" },
  { { memory = { kernelTCP = 4096 } }, "memory.kmem.tcp.limit_in_bytes=4096", "-" .. NONE },
  { { memory = { swappiness = 0 } }, "memory.swappiness=0", "-" .. NONE },
  { { memory = { disableOOMKiller = true } }, "memory.oom_control=1", "-" .. NONE },
  { { memory = { disableOOMKiller = false } }, "memory.oom_control=0", "" },
  { { memory = { useHierarchy = true } }, "memory.use_hierarchy=1", "" },
  { { memory = { useHierarchy = false } }, "-" .. FLAT, "-" .. FLAT },
  { { memory = { limit = 4096, checkBeforeUpdate = true } }, "memory.limit_in_bytes=4096", "memory.max=4096" },
  { { cpu = { quota = 5000 } }, "cpu.cfs_quota_us=5000", "cpu.max=5000 100000" },
  { { cpu = { quota = -1, period = 5000 } }, "cpu.cfs_period_us=5000 cpu.cfs_quota_us=-1", "cpu.max=max 5000" },
  { { cpu = { period = 5000 } }, "cpu.cfs_period_us=5000", "cpu.max=max 5000" },
  { { cpu = { quota = 5000, period = 10000, burst = 7 } },
    "cpu.cfs_period_us=10000 cpu.cfs_quota_us=5000 cpu.cfs_burst_us=7", "cpu.max=5000 10000 cpu.max.burst=7" },
  { { cpu = { shares = 262144, cpus = "0", mems = "0" } }, "cpu.shares=262144 cpuset.cpus=0 cpuset.mems=0",
    "cpu.weight=10000 cpuset.cpus=0 cpuset.mems=0" },
  { { cpu = { idle = 1 } }, "cpu.idle=1", "cpu.idle=1" },
  { { cpu = { realtimeRuntime = 5, realtimePeriod = 7 } }, "cpu.rt_period_us=7 cpu.rt_runtime_us=5", "-" .. NONE },
  { { cpu = { realtimePeriod = 7 } }, "cpu.rt_period_us=7", "-" .. NONE },
  { { pids = { limit = -1 } }, "pids.max=max", "pids.max=max" },
  { { blockIO = { weight = 50 } }, "blkio.bfq.weight=50", "io.bfq.weight=default 50" },
  { { blockIO = { leafWeight = 50 } }, "-" .. NO_LEAF, "-" .. NO_LEAF },
  { { blockIO = { weightDevice = disk { weight = 50 } } }, "blkio.bfq.weight_device=8:0 50", "io.bfq.weight=8:0 50" },
  { { blockIO = { weightDevice = disk { leafWeight = 50 } } }, "-" .. NO_LEAF, "-" .. NO_LEAF },
  { { blockIO = { throttleWriteBpsDevice = disk { rate = 0 } } }, "blkio.throttle.write_bps_device=8:0 0",
    "io.max=8:0 wbps=max" },
  { { hugepageLimits = { { pageSize = "2MB", limit = 0 } } }, "hugetlb.2MB.limit_in_bytes=0", "hugetlb.2MB.max=0" },
  { { network = { classID = 0x100001 } }, "net_cls.classid=1048577", "-" .. NONE },
  { { network = { priorities = { { name = "lo", priority = 5 } } } }, "net_prio.ifpriomap=lo 5", "-" .. NONE },
  { { rdma = { m = { hcaHandles = 3 }, a = { hcaHandles = 1, hcaObjects = 2 } } },
    "rdma.max=a hca_handle=1 hca_object=2 rdma.max=m hca_handle=3",
    "rdma.max=a hca_handle=1 hca_object=2 rdma.max=m hca_handle=3" },
  { { unified = { ["pids.max"] = "5" } }, "pids.max=5", "pids.max=5" },
  { { devices = { { allow = true, type = "a", major = -1, access = "rwm" } } }, "devices.allow=a",
    "-rules of devices need root's rights" },
}

describe("resources of a configuration", function()
  for i, row in ipairs(rows) do
    for n, version in ipairs { "v1", "v2" } do
      it(("are enforced, or refused (row %d, %s)"):format(i, version), function()
        assert(oci.check(row[1]))
        local chosen, refusal = choice.choose(row[1], nil, machines[version], {})
        if not chosen then
          return assert.same({ "-" .. refusal.why, "string" }, { row[n + 1], type(refusal.fix) })
        end
        local list = {}
        for j, write in ipairs(chosen.writes) do list[j] = write.file .. "=" .. write.text end
        assert.equal(row[n + 1], table.concat(list, " "))
        assert.same({}, chosen.left_out)
      end)
    end
  end

  it("may be left out by their place in it", function()
    local chosen = assert(choice.choose({ memory = { swappiness = 5 }, pids = { limit = 5 } }, nil, machines.v2,
      { ["resources.memory.swappiness"] = true }))
    assert.same({ 1, "resources.memory.swappiness" }, { #chosen.writes, chosen.left_out[1].option })
  end)

  -- resources, the text without "linux.resources"
  local wrong = {
    { 5, " must be a table, got 5" }, { { memroy = {} }, " has no key 'memroy'; did you mean memory?" },
    { { cpu = { share = 2 } }, ".cpu has no key 'share'; did you mean shares?" },
    { { memory = 5 }, ".memory must be a table, got 5" },
    { { memory = { limit = "1M" } }, ".memory.limit must be an integer from -1 to 9223372036854775807, got '1M'" },
    { { memory = { limit = 1.5 } }, "got 1.5" }, { { memory = { limit = -2 } }, "got -2" },
    { { memory = { swappiness = 101 } }, ".memory.swappiness must be an integer from 0 to 100, got 101" },
    { { memory = { disableOOMKiller = 1 } }, ".memory.disableOOMKiller must be true or false, got 1" },
    { { memory = { swap = 5 } }, ".memory.swap counts memory.limit, too: it must not be below that" },
    { { memory = { limit = 6, swap = 5 } }, "must not be below" },
    { { memory = { limit = -1, swap = 5 } }, "must not be below" },
    { { cpu = { shares = 1 } }, "from 2 to 262144" }, { { cpu = { idle = 2 } }, "from 0 to 1" },
    { { cpu = { cpus = "a" } }, '.cpu.cpus must be a list such as "0-1,3"' }, { { cpu = { mems = "0\n" } }, "list" },
    { { cpu = { idle = 1, shares = 5 } }, ".cpu.shares says nothing where cpu.idle is 1" },
    { { pids = {} }, ".pids has no limit" }, { { blockIO = { weight = 9 } }, "from 10 to 1000" },
    { { blockIO = { weightDevice = { { major = 8, weight = 10 } } } }, ".blockIO.weightDevice[1] has no minor" },
    { { blockIO = { throttleReadBpsDevice = disk { rate = -1 } } }, ".throttleReadBpsDevice[1].rate must be" },
    { { blockIO = { throttleReadBpsDevice = DISK } }, ".throttleReadBpsDevice must be a list, got the key" },
    { { hugepageLimits = { { pageSize = "2M", limit = 1 } } }, '.hugepageLimits[1].pageSize must be a size' },
    { { network = { classID = 1 << 32 } }, "to 4294967295" },
    { { network = { priorities = { { name = "a b", priority = 1 } } } }, ".priorities[1].name must be a name" },
    { { rdma = { ["a b"] = {} } }, ".rdma has no key 'a b'" }, { { rdma = { a = { hca = 1 } } }, ".rdma.a has no key" },
    { { devices = { { type = "c" } } }, ".devices[1] has no allow" },
    { { devices = { { allow = true, type = "u" } } }, '.devices[1].type must be "a", "b" or "c"' },
    { { devices = { { allow = true, access = "rx" } } }, "or a part of it" },
    { { unified = { ["cgroup.procs"] = "0" } }, ".unified must not have cgroup.procs" },
    { { unified = { ["pids.max"] = 5 } }, ".unified pids.max must be text" },
    { { unified = { ["pids.max"] = "5" }, pids = { limit = 5 } }, ".unified.pids.max says what pids says" },
    { { unified = { ["cpu.weight.nice"] = "5" }, cpu = { shares = 5 } }, "says what cpu_weight says" },
    { { unified = { ["memory.swappiness"] = "5" }, memory = { swappiness = 5 } }, "says what resources.memory.swapp" },
  }
  for _, row in ipairs(wrong) do
    it("are wrong: " .. row[2], function()
      local ok, problem = oci.check(row[1])
      assert.is_nil(ok)
      assert.is_truthy(("%s"):format(problem):find(row[2], 1, true), problem)
      assert.matches("^linux%.resources", problem)
    end)
  end
end)
