-- The option rlimits: resource limits by their names in getrlimit(2).

local E = require "nsbox.error"
local value = require "nsbox.options.value"

local INFINITY = -1 -- RLIM_INFINITY: all bits of a 64-bit number

-- In the order in which they are set: with nproc last, which the set-up itself could not do with. bytes: a size, which
-- may be text; label: in /proc/PID/limits.
local rows = {
  { name = "cpu", label = "Max cpu time" },
  { name = "fsize", bytes = true, label = "Max file size" },
  { name = "data", bytes = true, label = "Max data size" },
  { name = "stack", bytes = true, label = "Max stack size" },
  { name = "core", bytes = true, label = "Max core file size" },
  { name = "rss", bytes = true, label = "Max resident set" },
  { name = "memlock", bytes = true, label = "Max locked memory" },
  { name = "as", bytes = true, label = "Max address space" },
  { name = "locks", label = "Max file locks" },
  { name = "sigpending", label = "Max pending signals" },
  { name = "msgqueue", bytes = true, label = "Max msgqueue size" },
  { name = "nice", label = "Max nice priority" },
  { name = "rtprio", label = "Max realtime priority" },
  { name = "rttime", label = "Max realtime timeout" },
  { name = "nofile", label = "Max open files" },
  { name = "nproc", label = "Max processes" },
}

local by_name, names = {}, {}
for i, row in ipairs(rows) do
  by_name[row.name], names[i] = row, row.name
end

local function number(row, v)
  if v == "inf" then
    return INFINITY
  end
  local n = value.integer(v)
  if not n and row.bytes and type(v) == "string" then
    n = value.size(v)
  end
  return n and n >= 0 and n or nil
end

local function pair(row, v)
  if type(v) ~= "table" then
    local n = number(row, v)
    return n, n
  elseif value.list(v) == 2 then
    return number(row, v[1]), number(row, v[2])
  end
end

local function one(row, v)
  local soft, hard = pair(row, v)
  if not soft or not hard then
    return nil, ('%s must be %s, "inf" or { soft, hard } of these, got %s'):format(row.name,
      row.bytes and "a size" or "a whole number", value.describe(v))
  elseif math.ult(hard, soft) then
    return nil, ("%s has a soft limit above the hard one"):format(row.name)
  end
  return { type = "RLIMIT_" .. row.name:upper(), soft = soft, hard = hard }
end

--- Checks a map of limits: names in any case. Returns a map name -> { type =, soft =, hard = } as OCI has them, "inf"
-- as -1 | nil, problem.
local function check(v)
  if type(v) ~= "table" then
    return value.must("a map such as { nofile = 1024 }", v)
  end
  local checked = {}
  for key, given in pairs(v) do
    local name = type(key) == "string" and key:lower():gsub("^rlimit_", "")
    local row = by_name[name]
    if not row then
      local near = name and E.nearest(name, names)
      return nil, ("has no limit %s%s"):format(value.describe(key), near and ("; did you mean %s?"):format(near)
        or (" (its limits: %s)"):format(table.concat(names, " ")))
    elseif checked[name] then
      return nil, ("gives %s twice"):format(name)
    end
    local problem
    checked[name], problem = one(row, given)
    if problem then
      return nil, problem
    end
  end
  return checked
end

--- The limits of a map as check() made it, completed from `first`, a list of the same; nil when there is none.
local function list(map, first)
  local all, found = {}, {}
  for _, limit in ipairs(first or {}) do
    all[limit.type:sub(8):lower()] = limit
  end
  for name, limit in pairs(map or {}) do
    all[name] = limit
  end
  for _, row in ipairs(rows) do
    found[#found + 1] = all[row.name]
  end
  return found[1] and found or nil
end

--- The name of a limit for a step, from OCI's.
local function step_name(limit)
  return (limit.type:sub(8):lower())
end

--- A limit as text.
local function text(n)
  return n == INFINITY and "unlimited" or ("%d"):format(n)
end

--- What /proc/PID/limits says of a limit.
local function hard_in(proc_text, name)
  return (proc_text or ""):match("\n" .. by_name[name].label .. " +%S+ +(%S+)")
end

return { check = check, list = list, step_name = step_name, text = text, hard_in = hard_in }
