-- cgroup/v2.lua: the limits of linux.resources as cgroup v2 has them, a row each as in v1.lua; what its files tell.

local file = require "nsbox.cgroup.file"
local value = require "nsbox.cgroup.value"

local same, text = value.same, value.text

local function memory(key)
  return function(r)
    return r.memory and value.or_max(r.memory[key])
  end
end

local function beyond(r)
  local swap = r.memory and r.memory.swap
  return swap and (swap < 0 and "max" or text(swap - (r.memory.limit or 0)))
end

local function cpu_max(r)
  return r.cpu and (r.cpu.quota or r.cpu.period)
    and ("%s %d"):format(value.or_max(r.cpu.quota or -1), r.cpu.period or 100000)
end

local throttles = { { "throttleReadBpsDevice", "rbps" }, { "throttleWriteBpsDevice", "wbps" },
  { "throttleReadIOPSDevice", "riops" }, { "throttleWriteIOPSDevice", "wiops" } }

-- One write a device, with all of its limits.
local function io_max(r)
  local lines, list = {}, {}
  for _, t in ipairs(throttles) do
    for _, row in ipairs(r.blockIO and r.blockIO[t[1]] or {}) do
      local device = ("%d:%d"):format(row.major, row.minor)
      if not lines[device] then
        lines[device] = { device }
        list[#list + 1] = lines[device]
      end
      table.insert(lines[device], ("%s=%s"):format(t[2], row.rate == 0 and "max" or text(row.rate)))
    end
  end
  for i, words in ipairs(list) do
    list[i] = table.concat(words, " ")
  end
  return list
end

-- Its file has a line for all devices, and may have others.
local function io_weight(r)
  return r.blockIO and r.blockIO.weight and ("default %d"):format(r.blockIO.weight)
end

local function default_of(read)
  return math.tointeger(tonumber(read:match "default (%d+)"))
end

-- The cost model has 1 to 10000 for the schedulers' 10 to 1000.
local function cost_of(written)
  return (written:gsub("%d+$", function(n) return 1 + (n - 10) * 9999 // 990 end))
end

local io_cost = { file = "io.weight", of = cost_of,
  value = function(read) return 10 + ((default_of(read) - 1) * 990 + 9998) // 9999 end }

-- What it has no file for, nor have newer kernels in v1.
local function lacks(part, key, why)
  return { option = ("resources.%s.%s"):format(part, key), controller = "",
    lacks = function(r)
      local v = r[part] and r[part][key]
      return v and v ~= -1 and (why or "cgroup v2 has nothing like it")
    end }
end

local function leaf_weights(r)
  local found = r.blockIO and r.blockIO.leafWeight
  for _, row in ipairs(r.blockIO and r.blockIO.weightDevice or {}) do
    found = found or row.leafWeight
  end
  return found and "Linux has no leaf weights any more"
end

local rows = {
  { option = "memory", controller = "memory", file = "memory.max", same = same.pages,
    of = memory "limit" },
  { option = "swap", controller = "memory", file = "memory.swap.max", same = same.pages, of = beyond },
  { option = "memory_reservation", controller = "memory", file = "memory.low", same = same.pages,
    of = memory "reservation" },
  { option = "cpus", controller = "cpu", file = "cpu.max", same = same.text, of = cpu_max,
    value = function(read)
      local quota, period = read:match "^(%d+) (%d+)"
      return quota and tonumber(quota) / tonumber(period) or math.huge
    end },
  { option = "resources.cpu.burst", controller = "cpu", file = "cpu.max.burst",
    of = function(r) return r.cpu and text(r.cpu.burst) end },
  { option = "cpu_weight", controller = "cpu", file = "cpu.weight", also = { "cpu.weight.nice", "cpu.idle" },
    of = function(r) return r.cpu and text(value.weight(r.cpu.shares)) end },
  { option = "resources.cpu.idle", controller = "cpu", file = "cpu.idle",
    of = function(r) return r.cpu and text(r.cpu.idle) end },
  -- a CPU that is not there is taken, and means none: what counts is what came of it
  { option = "cpuset", controller = "cpuset", file = "cpuset.cpus", read = "cpuset.cpus.effective", same = same.list,
    text = true,
    of = function(r) return r.cpu and r.cpu.cpus end },
  { option = "resources.cpu.mems", controller = "cpuset", file = "cpuset.mems", read = "cpuset.mems.effective",
    same = same.list, text = true, of = function(r) return r.cpu and r.cpu.mems end },
  { option = "pids", controller = "pids", file = "pids.max",
    of = function(r) return r.pids and value.or_max(r.pids.limit) end },
  -- whichever the kernel has: an I/O scheduler's, or the cost model's
  { option = "io", controller = "io", file = "io.bfq.weight", also = { "io.weight" }, of = io_weight, same = same.line,
    value = default_of, or_else = io_cost },
  { option = "io", controller = "io", file = "io.max", of = io_max, same = same.line, text = true },
  { option = "resources.blockIO.weightDevice", controller = "io", file = "io.bfq.weight", same = same.line, text = true,
    of = value.of_devices("weightDevice", "weight"), or_else = { file = "io.weight", of = cost_of } },
  { option = "hugetlb", controller = "hugetlb", file = "hugetlb.%s.max", of = value.huge_pages, same = same.pages },
  -- the kernel has no file for them, but a program: cgroup/limit.lua makes it of the resources
  { option = "device_rules", controller = "", file = "BPF_CGROUP_DEVICE", program = true,
    of = function(r) return r.devices and ("%d rules"):format(#r.devices) end },
  { option = "resources.rdma", controller = "rdma", file = "rdma.max", of = value.rdma, same = same.line, text = true },
  { option = "resources.memory.useHierarchy", controller = "", lacks = value.flat },
  lacks("memory", "kernel", "Linux has no limit of the kernel's own memory any more"),
  lacks("memory", "kernelTCP"), lacks("memory", "swappiness"), lacks("memory", "disableOOMKiller"),
  lacks("cpu", "realtimePeriod"), lacks("cpu", "realtimeRuntime"),
  { option = "resources.blockIO.leafWeight", controller = "", lacks = leaf_weights },
  lacks("network", "classID"), lacks("network", "priorities"),
}

local accounts = { "memory", "pids", "cpu", "io" }

-- ---- what it tells ----

local function io_sums(folder)
  local read, written
  for line in (file.read(folder, "io.stat") or ""):gmatch "[^\n]+" do
    read = (read or 0) + (tonumber(line:match " rbytes=(%d+)") or 0)
    written = (written or 0) + (tonumber(line:match " wbytes=(%d+)") or 0)
  end
  if not read and file.exists(folder, "io.stat") then
    return 0, 0
  end
  return read, written
end

-- PSI, by resource: { some = { avg10 =, avg60 =, avg300 =, total = seconds }, full = … }.
local function pressure(folder)
  local found = {}
  for _, name in ipairs { "cpu", "memory", "io" } do
    local of
    for kind, a, b, c, total in (file.read(folder, name .. ".pressure") or ""):gmatch
      "(%l+) avg10=(%S+) avg60=(%S+) avg300=(%S+) total=(%d+)" do
      of = of or {}
      of[kind] = { avg10 = tonumber(a), avg60 = tonumber(b), avg300 = tonumber(c), total = tonumber(total) / 1e6 }
    end
    found[name] = of
  end
  return next(found) and found or nil
end

local function micro(folder, word)
  local n = file.field(folder, "cpu.stat", word)
  return n and n / 1e6
end

--- Fields of Result.usage, from a box's folder; what no controller tells is nil.
local function usage(folder)
  local read, written = io_sums(folder)
  return {
    user = micro(folder, "user_usec"), sys = micro(folder, "system_usec"),
    memory = file.number(folder, "memory.current"), memory_peak = file.number(folder, "memory.peak"),
    oom_kills = file.field(folder, "memory.events", "oom_kill"),
    pids = file.number(folder, "pids.current"), pids_peak = file.number(folder, "pids.peak"),
    throttled = file.field(folder, "cpu.stat", "nr_throttled"),
    io_read = read, io_write = written, pressure = pressure(folder),
  }
end

local function cpu_time(folder)
  return micro(folder, "usage_usec")
end

return { rows = rows, accounts = accounts, usage = usage, cpu_time = cpu_time }
