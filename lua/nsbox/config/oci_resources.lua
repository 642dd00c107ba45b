-- config/oci_resources.lua: linux.resources of a configuration that somebody else has made, checked: each key is known,
-- and of the type that the OCI runtime specification gives it. What of it can be had says cgroup/choice.lua.

local choice = require "nsbox.cgroup.choice"
local options = require "nsbox.options.resources"
local sorted = require "nsbox.sorted"
local value = require "nsbox.options.value"

local between = value.between

-- ---- types: a checker as options have it, or { keys =, must = } for an object, { list = }, { map = } ----

local amount = between(0, math.maxinteger)
local limit = between(-1, math.maxinteger) -- -1: none
local u32, weight = between(0, 0xffffffff), between(10, 1000)

local function truth(v)
  if type(v) ~= "boolean" then
    return value.must("true or false", v)
  end
  return v
end

local function text(pattern, what)
  return function(v)
    if type(v) ~= "string" or not v:find(pattern) then
      return value.must(what, v)
    end
    return v
  end
end

local set, name = text("^%d[%d,-]*$", 'a list such as "0-1,3"'), text("^[^%s%c]+$", "a name")

local function unified(v)
  local checked, problem = options.checkers["cgroup keys"](v)
  for key, given in pairs(checked or {}) do
    if v[key] ~= given then
      return nil, ("%s must be text"):format(key)
    end
  end
  return checked, problem
end

local function devices(keys)
  keys.major, keys.minor = between(0, 0xfff), between(0, 0xfffff)
  return { list = { keys = keys, must = { "major", "minor" } } }
end

local throttle = devices { rate = amount }

local resources = { keys = {
  memory = { keys = { limit = limit, swap = limit, reservation = limit, kernel = limit, kernelTCP = limit,
    swappiness = between(0, 100), disableOOMKiller = truth, useHierarchy = truth, checkBeforeUpdate = truth } },
  cpu = { keys = { shares = between(2, 262144), quota = limit, period = between(1000, 1000000), burst = amount,
    realtimeRuntime = limit, realtimePeriod = amount, cpus = set, mems = set, idle = between(0, 1) } },
  pids = { keys = { limit = limit }, must = { "limit" } },
  blockIO = { keys = { weight = weight, leafWeight = weight,
    weightDevice = devices { weight = weight, leafWeight = weight }, throttleReadBpsDevice = throttle,
    throttleWriteBpsDevice = throttle, throttleReadIOPSDevice = throttle, throttleWriteIOPSDevice = throttle } },
  hugepageLimits = { list = { keys = { pageSize = text("^[1-9]%d*[KMG]B$", 'a size such as "2MB"'), limit = amount },
    must = { "pageSize", "limit" } } },
  network = { keys = { classID = u32,
    priorities = { list = { keys = { name = name, priority = u32 }, must = { "name", "priority" } } } } },
  rdma = { map = { keys = { hcaHandles = u32, hcaObjects = u32 } } },
  devices = { list = { keys = { allow = truth, type = text("^[abc]$", '"a", "b" or "c"'), major = limit, minor = limit,
    access = text("^[rwm]+$", '"rwm" or a part of it') }, must = { "allow" } } },
  unified = unified,
} }

local function type_at(of, key)
  if of.map then
    return type(key) == "string" and key:find "^[^%s%c]+$" and of.map
  end
  return of.list or of.keys[key]
end

-- What is wrong with v, or nil.
local function problem_of(path, of, v)
  local function wrong(_, problem)
    return problem and path .. " " .. problem
  end
  if type(of) == "function" then
    return wrong(of(v))
  elseif type(v) ~= "table" then
    return wrong(value.must("a table", v))
  end
  local problem = of.list and wrong(value.list(v))
  for _, key in ipairs(of.must or {}) do
    problem = problem or v[key] == nil and ("%s has no %s"):format(path, key)
  end
  for key, given in pairs(v) do
    local inner = type_at(of, key)
    problem = problem or not inner and wrong(nil, value.unknown_key(key, sorted(of.keys)))
      or problem_of(("%s%s"):format(path, of.list and ("[%s]"):format(key) or "." .. key), inner, given)
  end
  return problem or nil
end

-- ---- together ----

local function swap_alone(r)
  local m = r.memory or {}
  return m.swap and m.swap >= 0 and (not m.limit or m.limit < 0 or m.swap < m.limit)
    and "memory.swap counts memory.limit, too: it must not be below that"
end

local function idle_with_shares(r)
  return r.cpu and r.cpu.idle == 1 and r.cpu.shares and "cpu.shares says nothing where cpu.idle is 1"
end

local function said_twice(r)
  for _, version in ipairs { choice.v1, choice.v2 } do
    for _, write in ipairs(choice.writes_of(version, r)) do
      for _, file in ipairs { write.file, table.unpack(choice.row_of(write).also or {}) } do
        if r.unified and r.unified[file] then
          return ("unified.%s says what %s says"):format(file, write.option)
        end
      end
    end
  end
end

--- Whether these resources are OCI's, and go together: true | nil, a text that says what is wrong.
local function check(given)
  local problem = problem_of("linux.resources", resources, given)
  for _, find in ipairs { swap_alone, idle_with_shares, said_twice } do
    local found = not problem and find(given)
    problem = problem or found and "linux.resources." .. found
  end
  return not problem or nil, problem or nil
end

return { check = check }
