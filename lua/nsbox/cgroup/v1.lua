-- cgroup/v1.lua: the limits of linux.resources as cgroup v1 has them, a row each; what its files tell of a box.
--
-- A row: option (of nsbox.run), controller, file, and of(resources) -> what is written, a text, a list of them, or nil.
-- same(read, written): whether it was applied, by what `read`, or the file itself, says; value(read): what
-- Result.limits shows of it; below: what is below has it first, of what is above has.

local devices = require "nsbox.cgroup.device_rules"
local file = require "nsbox.cgroup.file"
local same = require("nsbox.cgroup.value").same

local function text(n)
  return n and ("%d"):format(n)
end

local function memory(key)
  return function(r)
    return r.memory and text(r.memory[key])
  end
end

local function cpu(key)
  return function(r)
    return r.cpu and r.cpu[key] and tostring(r.cpu[key])
  end
end

-- One write a device.
local function throttle(key)
  return function(r)
    local list = {}
    for i, row in ipairs(r.blockIO and r.blockIO[key] or {}) do
      list[i] = ("%d:%d %d"):format(row.major, row.minor, row.rate)
    end
    return list
  end
end

local rows = {
  { option = "memory", controller = "memory", file = "memory.limit_in_bytes", of = memory "limit", same = same.pages },
  { option = "swap", controller = "memory", file = "memory.memsw.limit_in_bytes", of = memory "swap",
    same = same.pages, beyond = "memory.limit_in_bytes" },
  { option = "memory_reservation", controller = "memory", file = "memory.soft_limit_in_bytes",
    of = memory "reservation", same = same.pages },
  { option = "cpus", controller = "cpu", file = "cpu.cfs_period_us", of = cpu "period" },
  { option = "cpus", controller = "cpu", file = "cpu.cfs_quota_us", of = cpu "quota",
    value = function(read, folder) return tonumber(read) / file.number(folder, "cpu.cfs_period_us") end },
  { option = "cpu_weight", controller = "cpu", file = "cpu.shares", of = cpu "shares",
    value = function(read) return 1 + math.floor((tonumber(read) - 2) * 9999 / 262142 + 0.5) end },
  { option = "cpuset", controller = "cpuset", file = "cpuset.cpus", of = cpu "cpus", same = same.list,
    text = true, below = true },
  { option = "pids", controller = "pids", file = "pids.max",
    of = function(r) return r.pids and text(r.pids.limit) end },
  { option = "io", controller = "blkio", file = "blkio.bfq.weight",
    of = function(r) return r.blockIO and text(r.blockIO.weight) end },
  { option = "io", controller = "blkio", file = "blkio.throttle.read_bps_device",
    of = throttle "throttleReadBpsDevice", same = same.line, text = true },
  { option = "io", controller = "blkio", file = "blkio.throttle.write_bps_device",
    of = throttle "throttleWriteBpsDevice", same = same.line, text = true },
  { option = "io", controller = "blkio", file = "blkio.throttle.read_iops_device",
    of = throttle "throttleReadIOPSDevice", same = same.line, text = true },
  { option = "io", controller = "blkio", file = "blkio.throttle.write_iops_device",
    of = throttle "throttleWriteIOPSDevice", same = same.line, text = true },
}

-- One row for each page size: its file has it in its name.
local function huge_pages(r)
  local list = {}
  for i, limit in ipairs(r.hugepageLimits or {}) do
    list[i] = { option = "hugetlb", controller = "hugetlb", file = ("hugetlb.%s.limit_in_bytes"):format(limit.pageSize),
      of = function() return text(limit.limit) end, same = same.pages }
  end
  return list
end

local function device_rules(r)
  local list = {}
  for i, write in ipairs(r.devices and devices.writes(r.devices) or {}) do
    list[i] = { option = "device_rules", controller = "devices", file = write.file, read = "devices.list", text = true,
      of = function() return write.text end,
      same = function(read) return devices.listed(read, write) end }
  end
  return list
end

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

--- How many processes were killed for want of memory: each cgroup counts its own.
local function oom_kills(folder)
  local n = file.field(folder, "memory.oom_control", "oom_kill")
  for _, name in ipairs(n and file.children(folder) or {}) do
    n = n + (oom_kills(folder .. "/" .. name) or 0)
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

return { rows = rows, more_rows = { huge_pages, device_rules }, accounts = accounts, usage = usage,
  oom_kills = oom_kills, cpu_time = cpu_time, prepare = prepare }
