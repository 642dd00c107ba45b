-- config/resources.lua: what a box as a whole may use: linux.resources of a configuration.

local core = require "nsbox.core"
local error_ = require "nsbox.error"
local options = require "nsbox.options"
local sorted = require "nsbox.sorted"
local sys = require "nsbox.sys"
local value = require "nsbox.cgroup.value"

local PERIOD = 100000 -- microseconds, the kernel's own

-- What docker allows in every box: making nodes of all kinds, and using these; a number that is left out is any.
local default_devices = {
  { type = "c", access = "m" }, { type = "b", access = "m" },
  { type = "c", major = 1, minor = 3, access = "rwm" }, -- null
  { type = "c", major = 1, minor = 5, access = "rwm" }, -- zero
  { type = "c", major = 1, minor = 7, access = "rwm" }, -- full
  { type = "c", major = 1, minor = 8, access = "rwm" }, -- random
  { type = "c", major = 1, minor = 9, access = "rwm" }, -- urandom
  { type = "c", major = 5, minor = 0, access = "rwm" }, -- tty
  { type = "c", major = 5, minor = 1, access = "rwm" }, -- console
  { type = "c", major = 5, minor = 2, access = "rwm" }, -- ptmx
  { type = "c", major = 136, access = "rwm" }, -- pts
}

-- OCI counts swap together with memory.
local function memory(o)
  if not (o.memory or o.memory_reservation) then
    return nil
  end
  return { limit = o.memory, swap = o.memory and o.memory + (o.swap or 0), reservation = o.memory_reservation }
end

local function cpu(o)
  if not (o.cpus or o.cpu_weight or o.cpuset) then
    return nil
  end
  return { quota = o.cpus and math.floor(o.cpus * PERIOD + 0.5), period = o.cpus and PERIOD,
    shares = value.shares(o.cpu_weight), cpus = o.cpuset }
end

-- ---- block devices ----

local function no_device(verb, path, message, errno)
  return error_.fail { kind = "setup", verb = verb, errno = errno, name = errno and core.errno_name(errno),
    path = path, message = ("option 'io': %s: %s"):format(path, message) }
end

-- As makedev(3) packs them.
local function numbers(rdev)
  return rdev >> 8 & 0xfff | rdev >> 32 & ~0xfff, rdev & 0xff | rdev >> 12 & 0xffffff00
end

-- The numbers of a device by its path, or by these.
local function device(verb, key)
  local major, minor = key:match "^(%d+):(%d+)$"
  if major then
    return math.tointeger(tonumber(major)), math.tointeger(tonumber(minor))
  end
  local stat, message, errno = sys.stat(key)
  if not stat then
    return no_device(verb, key, message:match ": ([^:]*)$" or message, errno)
  elseif stat.type ~= "block" then
    return no_device(verb, key, "it is no block device")
  end
  major, minor = numbers(stat.rdev)
  if sys.stat(("/sys/dev/block/%d:%d/partition"):format(major, minor)) then
    return no_device(verb, key, "it is a partition, and the kernel limits whole disks")
  end
  return major, minor
end

local throttles = { rbps = "throttleReadBpsDevice", wbps = "throttleWriteBpsDevice", riops = "throttleReadIOPSDevice",
  wiops = "throttleWriteIOPSDevice" }

local function throttle(block, limits, major, minor)
  for key, name in pairs(throttles) do
    if limits[key] then
      block[name] = block[name] or {}
      table.insert(block[name], { major = major, minor = minor, rate = limits[key] })
    end
  end
end

local function block_io(verb, io)
  if not io or not (io.weight or next(io.devices)) then
    return nil
  end
  local block, seen = { weight = io.weight }, {}
  for _, key in ipairs(sorted(io.devices)) do
    local major, minor, errno = device(verb, key)
    if not major then
      return nil, minor, errno
    end
    local number = ("%d:%d"):format(major, minor)
    if seen[number] then
      error_.misuse("nsbox.%s: option 'io' names one device twice: %s and %s", verb, seen[number], key)
    end
    seen[number] = key
    throttle(block, io.devices[key], major, minor)
  end
  return block
end

-- ---- the rest ----

local function huge_pages(map)
  local list = {}
  for _, size in ipairs(sorted(map)) do
    list[#list + 1] = { pageSize = size, limit = map[size] }
  end
  return list[1] and list
end

-- All is denied first, then what docker has, then what the rules add.
local function devices(rules)
  if not rules then
    return nil
  end
  local list = { { allow = false, access = "rwm" } }
  for _, row in ipairs(default_devices) do
    list[#list + 1] = { allow = true, type = row.type, major = row.major, minor = row.minor, access = row.access }
  end
  return table.move(rules, 1, #rules, #list + 1, list)
end

--- linux.resources of checked options; nil where they ask for no limit | nil, err, errno (kind setup: a path in io that
-- is no block device). unified, even an empty one, asks for a cgroup.
local function of(verb, o)
  local block, err, errno = block_io(verb, o.io)
  if err then
    return nil, err, errno
  end
  local resources = {
    memory = memory(o),
    cpu = cpu(o),
    pids = o.pids and { limit = o.pids },
    blockIO = block,
    hugepageLimits = huge_pages(o.hugetlb),
    devices = devices(o.device_rules),
    unified = o.cgroup,
  }
  return next(resources) and resources or nil
end

-- ---- changes of a running box ----

-- As options, with which those of an update must go.
local function in_force(resources)
  local now = resources.memory or {}
  return { memory = now.limit, swap = now.limit and now.swap and now.swap - now.limit,
    memory_reservation = now.reservation, cgroup = resources.unified }
end

--- The options of box:update, as the user gives them, as OCI's resources: of these alone | nil, err, errno (kinds setup
-- unsupported). Raises misuse at the user's line. current: the box's linux.resources, or nil; what is swapped beyond
-- memory stays as much unless swap is given.
local function update_of(opts, current)
  local before = in_force(current or {})
  local o, err, errno = options.check("box:update", opts, before)
  if not o then
    return nil, err, errno
  end
  local wanted = { memory = o.memory, swap = o.swap, memory_reservation = o.memory_reservation, cpus = o.cpus,
    cpu_weight = o.cpu_weight, cpuset = o.cpuset, pids = o.pids, io = o.io }
  if o.memory or o.swap then
    wanted.memory, wanted.swap = o.memory or before.memory, o.swap or before.swap
  end
  wanted, err, errno = of("box:update", wanted)
  if err then
    return nil, err, errno
  end
  if wanted and wanted.memory then
    wanted.memory.checkBeforeUpdate = current and current.memory and current.memory.checkBeforeUpdate
  end
  return wanted or {}
end

-- Of lists by device: the new row instead of the old.
local function by_device(old, new)
  local list = table.move(new, 1, #new, 1, {})
  for _, row in ipairs(old) do
    local again = false
    for _, other in ipairs(new) do
      again = again or other.major == row.major and other.minor == row.minor
    end
    list[#list + 1] = not again and row or nil
  end
  return list
end

--- linux.resources after an update to these: a new table. current: as before, or nil.
local function merged(current, new)
  local all = {}
  for part, v in pairs(current or {}) do
    all[part] = v
  end
  for part, changed in pairs(new) do
    local before, after = all[part] or {}, {}
    for key, v in pairs(before) do
      after[key] = v
    end
    for key, v in pairs(changed) do
      after[key] = type(v) == "table" and by_device(before[key] or {}, v) or v
    end
    all[part] = after
  end
  return all
end

return { of = of, update_of = update_of, merged = merged }
