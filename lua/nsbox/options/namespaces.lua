-- The option `namespaces`: which are new, shared with the caller, or somebody else's.

local value = require "nsbox.options.value"

local kinds = { "pid", "mount", "uts", "ipc", "net", "user", "cgroup", "time" }

-- A time namespace costs an exec-time unshare and helps few: it alone must be asked for.
local new_by_default = {
  pid = true, mount = true, uts = true, ipc = true, net = true, user = true, cgroup = true, time = false,
}

-- Where /proc/PID/ns spells a name differently.
local proc_names = { mount = "mnt" }

-- Spellings of other tools.
local spellings = { mnt = "mount", network = "net", hostname = "uts", userns = "user", pidns = "pid", netns = "net" }

local clocks = { "boottime", "monotonic" }

local MAX_PID = 1 << 22 -- PID_MAX_LIMIT
local MAX_OFFSET = 1e9 -- what the kernel would refuse anyway, stays exact in nanoseconds

local function time_offsets(v)
  local spec = { new = true }
  for key, offset in pairs(v) do
    if key ~= "boottime" and key ~= "monotonic" then
      return nil, value.unknown_key(key, clocks)
    elseif not math.type(offset) or offset ~= offset or math.abs(offset) > MAX_OFFSET then
      return nil, ("must have a number of seconds as %s, got %s"):format(key, value.describe(offset))
    end
    spec[key] = offset
  end
  return spec
end

local function from_string(kind, v)
  if v:find("\0", 1, true) then
    return nil, "must not contain a NUL byte"
  elseif not v:find("/", 1, true) then
    local hint = v == "host" and ("; %s = false shares the caller's"):format(kind) or ""
    return nil, ("must be the path of a namespace, got %s%s"):format(value.describe(v), hint)
  end
  return { path = v }
end

-- An integer is a pid here, never a descriptor: the two could not be told apart.
local function from_pid(kind, v)
  local pid = value.integer(v)
  if not pid or pid < 1 or pid > MAX_PID then
    return nil, ("must be a pid, got %s"):format(value.describe(v))
  end
  return { path = ("/proc/%d/ns/%s"):format(pid, proc_names[kind] or kind) }
end

-- Its number stays its own as long as its handle is open.
local function from_box(kind, box)
  local pid = box.pid
  if not pid then
    return nil, "must be a Box or Process that runs, got " .. tostring(box)
  end
  return from_pid(kind, pid)
end

local function one(kind, v)
  if type(v) == "boolean" then
    return { new = v }
  elseif type(v) == "string" then
    return from_string(kind, v)
  elseif type(v) == "number" then
    return from_pid(kind, v)
  elseif value.is_box(v) then
    return from_box(kind, v)
  end
  local file, problem = value.is_file(v)
  if file then
    return { fd = v }
  elseif kind == "time" and type(v) == "table" and not problem then
    return time_offsets(v)
  elseif problem then
    return nil, problem
  end
  return value.must("true, false, a pid, an open file or a path", v)
end

--- Checks a map of namespaces and completes it: every kind is { new = true | false }, { path = text } or
-- { fd = file or object with fileno() }; a new time namespace may have boottime and monotonic, in seconds.
-- Returns the new map, or nil, problem[, "unsupported"].
local function check(v)
  if type(v) ~= "table" then
    return value.must("a map such as { net = false }", v)
  end
  local specs = {}
  for kind, given in pairs(v) do
    if new_by_default[kind] == nil then
      local known = spellings[kind]
      return nil, known and ("calls %s %s"):format(kind, known) or value.unknown_key(kind, kinds)
    end
    local spec, problem, unsupported = one(kind, given)
    if not spec then
      return nil, ("%s %s"):format(kind, problem), unsupported
    end
    specs[kind] = spec
  end
  for kind, new in pairs(new_by_default) do
    specs[kind] = specs[kind] or { new = new }
  end
  return specs
end

return {
  check = check,
  of_box = from_box,
  kinds = kinds,
}
