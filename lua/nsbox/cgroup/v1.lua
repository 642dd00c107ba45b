-- cgroup/v1.lua: the limits of linux.resources as cgroup v1 has them, a row each; what its files tell of a box.
--
-- A row: option (of nsbox.run; of what has none the place in OCI's configuration), controller, file, and of(resources)
-- -> what is written: a text, a list of them, or nil; where %s stands in the file's name, a list of { name = what it is
-- there, text = }. also: files by which the same could be said. lacks(resources): why this version cannot have it, or
-- nil; fix: what to do then. same(read, written, file): whether it was applied, by what `read`, or the file itself,
-- says; value(read): what Result.limits shows of it; untold: another row shows it; below: the cgroups below, see
-- leaf.lua, have to have it, too.

local devices = require "nsbox.cgroup.device_rules"
local file = require "nsbox.cgroup.file"
local kill = require "nsbox.cgroup.kill"
local value = require "nsbox.cgroup.value"

local same, text = value.same, value.text

local function memory(key)
  return function(r)
    return r.memory and text(r.memory[key])
  end
end

local function cpu(key)
  return function(r)
    return r.cpu and text(r.cpu[key])
  end
end

local function quota(read, folder)
  local n = tonumber(read)
  return n < 0 and math.huge or n / file.number(folder, "cpu.cfs_period_us")
end

local function oom_killer(r)
  local off = r.memory and r.memory.disableOOMKiller
  return off ~= nil and (off and "1" or "0") or nil
end

local function priorities(r)
  local list = {}
  for i, row in ipairs(r.network and r.network.priorities or {}) do
    list[i] = ("%s %d"):format(row.name, row.priority)
  end
  return list
end

local rows = {
  { option = "memory", controller = "memory", file = "memory.limit_in_bytes", of = memory "limit", same = same.pages },
  { option = "swap", controller = "memory", file = "memory.memsw.limit_in_bytes", of = memory "swap",
    same = same.pages, beyond = "memory.limit_in_bytes" },
  { option = "memory_reservation", controller = "memory", file = "memory.soft_limit_in_bytes",
    of = memory "reservation", same = same.pages },
  { option = "resources.memory.kernelTCP", controller = "memory", file = "memory.kmem.tcp.limit_in_bytes",
    of = memory "kernelTCP", same = same.pages },
  { option = "resources.memory.swappiness", controller = "memory", file = "memory.swappiness", below = true,
    of = memory "swappiness" },
  { option = "resources.memory.disableOOMKiller", controller = "memory", file = "memory.oom_control", of = oom_killer,
    same = function(read, written) return read:match "oom_kill_disable (%d)" == written end,
    value = function(read) return read:match "oom_kill_disable (%d)" == "1" end },
  { option = "resources.memory.useHierarchy", controller = "memory", file = "memory.use_hierarchy", lacks = value.flat,
    of = function(r) return r.memory and r.memory.useHierarchy and "1" end },
  { option = "cpus", controller = "cpu", file = "cpu.cfs_period_us", of = cpu "period", untold = true },
  { option = "cpus", controller = "cpu", file = "cpu.cfs_quota_us", of = cpu "quota",
    value = quota },
  { option = "resources.cpu.burst", controller = "cpu", file = "cpu.cfs_burst_us", of = cpu "burst" },
  { option = "cpu_weight", controller = "cpu", file = "cpu.shares", also = { "cpu.idle" }, of = cpu "shares",
    value = function(read) return value.weight(tonumber(read)) end },
  { option = "resources.cpu.idle", controller = "cpu", file = "cpu.idle", of = cpu "idle" },
  { option = "resources.cpu.realtimePeriod", controller = "cpu", file = "cpu.rt_period_us", of = cpu "realtimePeriod" },
  { option = "resources.cpu.realtimeRuntime", controller = "cpu", file = "cpu.rt_runtime_us",
    of = cpu "realtimeRuntime" },
  { option = "cpuset", controller = "cpuset", file = "cpuset.cpus", same = same.list, text = true, below = true,
    of = function(r) return r.cpu and r.cpu.cpus end },
  { option = "resources.cpu.mems", controller = "cpuset", file = "cpuset.mems", same = same.list, text = true,
    below = true, of = function(r) return r.cpu and r.cpu.mems end },
  { option = "pids", controller = "pids", file = "pids.max",
    of = function(r) return r.pids and value.or_max(r.pids.limit) end },
  { option = "io", controller = "blkio", file = "blkio.bfq.weight",
    of = function(r) return r.blockIO and text(r.blockIO.weight) end },
  { option = "io", controller = "blkio", file = "blkio.throttle.read_bps_device",
    of = value.of_devices("throttleReadBpsDevice", "rate"), same = same.line, text = true },
  { option = "io", controller = "blkio", file = "blkio.throttle.write_bps_device",
    of = value.of_devices("throttleWriteBpsDevice", "rate"), same = same.line, text = true },
  { option = "io", controller = "blkio", file = "blkio.throttle.read_iops_device",
    of = value.of_devices("throttleReadIOPSDevice", "rate"), same = same.line, text = true },
  { option = "io", controller = "blkio", file = "blkio.throttle.write_iops_device",
    of = value.of_devices("throttleWriteIOPSDevice", "rate"), same = same.line, text = true },
  { option = "resources.blockIO.weightDevice", controller = "blkio", file = "blkio.bfq.weight_device",
    of = value.of_devices("weightDevice", "weight"), same = same.line, text = true },
  { option = "resources.network.classID", controller = "net_cls", file = "net_cls.classid",
    of = function(r) return r.network and text(r.network.classID) end },
  { option = "resources.network.priorities", controller = "net_prio", file = "net_prio.ifpriomap", of = priorities,
    same = same.line, text = true },
  { option = "resources.rdma", controller = "rdma", file = "rdma.max", of = value.rdma, same = same.line, text = true },
  { option = "hugetlb", controller = "hugetlb", file = "hugetlb.%s.limit_in_bytes", of = value.huge_pages,
    same = same.pages },
  { option = "device_rules", controller = "devices", file = "devices.%s", read = "devices.list",
    of = function(r) return r.devices and devices.writes(r.devices) or nil end, same = devices.listed, text = true,
    lacks = function(r) return r.devices and select(2, devices.writes(r.devices)) end,
    fix = "name the devices in another way" },
}

--- Whether a box that asks for limits is in a cgroup of this controller, although no limit of it is asked for: for what
-- is told of it, and to reach all of its processes.
local accounts = { memory = true, cpu = true, cpuacct = true, pids = true }

-- ---- what it tells ----

local function cpu_times(at)
  local folder = at.cpuacct
  return folder and file.number(folder, "cpuacct.usage_user"), folder and file.number(folder, "cpuacct.usage_sys")
end

local function io_sums(folder)
  local sums = { Read = 0, Write = 0 }
  for _, kind, n in (file.read(folder, "blkio.throttle.io_service_bytes_recursive") or ""):gmatch
    "(%d+:%d+) (%u%l+) (%d+)" do
    sums[kind] = sums[kind] and sums[kind] + tonumber(n)
  end
  return sums.Read, sums.Write
end

local MOST = 500 -- cgroups that a box has made, and are asked: what it has below more is its own loss

--- How many processes were killed for want of memory: each cgroup counts its own.
local function oom_kills(folder)
  local n = file.field(folder, "memory.oom_control", "oom_kill")
  if n and file.has_children(folder) then
    kill.each_below(folder, MOST, function(path)
      n = n + (file.field(path, "memory.oom_control", "oom_kill") or 0)
    end)
  end
  return n
end

--- Fields of Result.usage, from a box's folders by controller; what no controller tells is nil.
local function usage(at)
  local user, sys = cpu_times(at)
  local read, written
  if at.blkio then
    read, written = io_sums(at.blkio)
  end
  local memory_, pids = at.memory, at.pids
  return {
    user = user and user / 1e9, sys = sys and sys / 1e9,
    memory = memory_ and file.number(memory_, "memory.usage_in_bytes"),
    memory_peak = memory_ and file.number(memory_, "memory.max_usage_in_bytes"),
    oom_kills = memory_ and oom_kills(memory_),
    pids = pids and file.number(pids, "pids.current"),
    pids_peak = pids and file.number(pids, "pids.peak"),
    throttled = at.cpu and file.field(at.cpu, "cpu.stat", "nr_throttled"),
    io_read = read, io_write = written,
  }
end

--- CPU seconds of all processes that there are or were, or nil.
local function cpu_time(at)
  local ns = at.cpuacct and file.number(at.cpuacct, "cpuacct.usage")
  return ns and ns / 1e9
end

local prepares = {}

function prepares.cpuset(folder)
  local parent = folder:match "^(.*)/[^/]*$"
  for _, name in ipairs { "cpuset.cpus", "cpuset.mems" } do
    local ok, message, errno = file.write(folder, name, file.read(parent, name) or "")
    if not ok then
      return nil, message, errno
    end
  end
  return true
end

-- Before Linux 5.11 a limit held only what is in the cgroup, unless it is said before there is one below.
function prepares.memory(folder)
  if file.read(folder, "memory.use_hierarchy") == "0" then
    file.write(folder, "memory.use_hierarchy", "1")
  end
  return true
end

--- What a new cgroup needs before a process, or a cgroup below it, can join it: true | nil, message, errno.
local function prepare(controller, folder)
  if not prepares[controller] then
    return true
  end
  return prepares[controller](folder)
end

return { rows = rows, accounts = accounts, usage = usage, oom_kills = oom_kills, cpu_time = cpu_time,
  prepare = prepare }
