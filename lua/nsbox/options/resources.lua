-- The checkers of limits: what a box as a whole may use.

local E = require "nsbox.error"
local choice = require "nsbox.cgroup.choice"
local schema = require "nsbox.options.schema"
local sorted = require "nsbox.sorted"
local value = require "nsbox.options.value"

local between, describe, must = value.between, value.describe, value.must

-- With less no program starts: kernel stack, page tables and its first pages take sixteen of 4 KiB, or one of 64 KiB.
-- Of less than a page the kernel makes 0.
local MIN_MEMORY = 64 << 10
local MIN_CPUS, MAX_CPUS = 0.01, 1e6 -- of a period of 100 ms the kernel wants a quota of 1 ms or more
local MAX_PIDS = 1 << 22 -- PID_MAX_LIMIT
local MAX_OPS = 0xffffffff -- the kernel keeps operations per second in 32 bits
local MAX_MAJOR, MAX_MINOR = 0xfff, 0xfffff -- of a device number

local checkers = {}

-- ---- numbers ----

local function positive_size(v)
  if v == 0 then
    return nil, "must be more than 0 bytes (leave it out for no limit)"
  end
  local bytes, problem = value.size(v)
  if bytes == 0 then
    return must("a size of more than 0 bytes", v)
  end
  return bytes, problem
end

checkers["cpu weight"] = between(1, 10000)
checkers.pids = between(1, MAX_PIDS)

checkers["memory size"] = function(v)
  local bytes, problem = positive_size(v)
  if bytes and bytes < MIN_MEMORY then
    return nil, ("must be at least 64K, with less no program starts, got %s"):format(describe(v))
  end
  return bytes, problem
end

checkers["cpu count"] = function(v)
  if not math.type(v) or not (v >= MIN_CPUS and v <= MAX_CPUS) then
    return must(("a number of CPUs from %s to %d"):format(MIN_CPUS, MAX_CPUS), v)
  end
  return v
end

-- ---- block devices ----

local rates = { "rbps", "wbps", "riops", "wiops" }
local rate_checkers = {
  rbps = positive_size, wbps = positive_size, riops = between(1, MAX_OPS), wiops = between(1, MAX_OPS),
}
local weight = between(10, 1000)

local function rates_of(v)
  if type(v) ~= "table" then
    return must("a row such as { rbps = \"1M\" }", v)
  elseif not next(v) then
    return nil, "has no limit (rbps wbps riops wiops)"
  end
  local checked = {}
  for key, given in pairs(v) do
    if not rate_checkers[key] then
      return nil, value.unknown_key(key, rates)
    end
    local problem
    checked[key], problem = rate_checkers[key](given)
    if problem then
      return nil, ("%s %s"):format(key, problem)
    end
  end
  return checked
end

local function device_number(major, minor)
  major, minor = math.tointeger(tonumber(major)), math.tointeger(tonumber(minor))
  return major and minor and major <= MAX_MAJOR and minor <= MAX_MINOR
end

local function is_device(key)
  if type(key) ~= "string" then
    return false
  elseif key:find "^/" then
    return not key:find("\0", 1, true)
  end
  local major, minor = key:match "^(%d+):(%d+)$"
  return major and device_number(major, minor)
end

--- { weight =, devices = { path or "MAJOR:MINOR" = { rbps =, wbps =, riops =, wiops = } } }
function checkers.io(v)
  if type(v) ~= "table" then
    return must('a map such as { ["/dev/sda"] = { rbps = "1M" } }', v)
  end
  local checked = { devices = {} }
  for key, given in pairs(v) do
    local problem
    if key == "weight" then
      checked.weight, problem = weight(given)
    elseif is_device(key) then
      checked.devices[key], problem = rates_of(given)
    else
      return nil, value.unknown_key(key, { "weight", '"/dev/sda"', '"8:0"' })
    end
    if problem then
      return nil, ("%s %s"):format(key, problem)
    end
  end
  return checked
end

-- ---- huge pages ----

local page_units = { K = 1 << 10, M = 1 << 20, G = 1 << 30 }

-- The bytes of a page size, and its name as the kernel's files have it: "2MB".
local function page_size(key)
  local digits, unit = (type(key) == "string" and key:upper() or ""):match "^(%d+)([KMG])B?$"
  local bytes = digits and #digits < 10 and tonumber(digits) * page_units[unit]
  if not bytes or bytes == 0 or bytes & (bytes - 1) ~= 0 then
    return nil
  end
  local name = bytes >= page_units.G and "G" or bytes >= page_units.M and "M" or "K"
  return bytes, ("%d%sB"):format(bytes // page_units[name], name)
end

--- A map of page sizes ("2MB") to bytes.
function checkers.hugetlb(v)
  if type(v) ~= "table" then
    return must('a map such as { ["2M"] = "64M" }', v)
  end
  local checked = {}
  for key, given in pairs(v) do
    local page, name = page_size(key)
    if not page then
      return nil, ('has a page size that is none: %s (such as "2M")'):format(describe(key))
    elseif checked[name] then
      return nil, ("gives %s twice"):format(name)
    end
    local bytes, problem = value.size(given)
    if not bytes then
      return nil, ("%s %s"):format(key, problem)
    elseif bytes % page ~= 0 then
      return nil, ("%s must be a multiple of the page size, got %s"):format(key, describe(given))
    end
    checked[name] = bytes
  end
  return checked
end

-- ---- devices ----

local function wildcard(text, most)
  if text == "*" then
    return true
  end
  local n = math.tointeger(tonumber(text))
  return n and n <= most and n, "number"
end

local function access_of(letters)
  return (letters:find "r" and "r" or "") .. (letters:find "w" and "w" or "") .. (letters:find "m" and "m" or "")
end

-- As OCI has it; a number that is left out is any.
local function device_rule(v)
  local kind, major, minor, access = (type(v) == "string" and v or ""):match "^([abc]) ([%d*]+):([%d*]+) ([rwm]+)$"
  local first, second = wildcard(major, MAX_MAJOR), wildcard(minor, MAX_MINOR)
  if not kind or not first or not second then
    return must('a rule such as "c 10:229 rwm"', v)
  end
  access = access_of(access)
  if kind == "a" and (first ~= true or second ~= true or access ~= "rwm") then
    return nil, ('must be "a *:* rwm" where it is all devices: the kernel reads any other as that, got %s')
      :format(describe(v))
  end
  return { allow = true, type = kind, major = first ~= true and first or nil, minor = second ~= true and second or nil,
    access = access }
end

checkers["device rules"] = function(v)
  if type(v) ~= "table" then
    return must('a list of rules such as "c 10:229 rwm"', v)
  end
  local rules, count, problem = {}, value.list(v)
  if not count then
    return nil, problem
  end
  for i = 1, count do
    rules[i], problem = device_rule(v[i])
    if problem then
      return nil, ("[%d] %s"):format(i, problem)
    end
  end
  return rules
end

-- ---- raw keys, places ----

local moves = "it says who is in the group, and nsbox relies on it"
local ends = "box:kill and box:pause write it"

-- Files of the kernel's own that would break the box, or nsbox's hold on it.
local reserved = {
  ["cgroup.procs"] = moves, ["cgroup.threads"] = moves, ["cgroup.kill"] = ends, ["cgroup.freeze"] = ends,
  ["cgroup.type"] = "a threaded group cannot hold a box",
  ["cgroup.subtree_control"] = "a group that has processes cannot hand controllers on",
}

-- All files of a controller.
local reserved_controllers = { freezer = ends, devices = "the option device_rules writes it" }

local function reserved_why(key)
  return reserved[key] or reserved_controllers[key:match "^[^.]*"]
end

local function key_value(v)
  if math.type(v) then
    local n = value.integer(v)
    return n and ("%d"):format(n)
  elseif type(v) ~= "string" or v == "" or v:find "%c" then
    return nil
  end
  return v
end

--- A map of names of cgroup files to texts.
checkers["cgroup keys"] = function(v)
  if type(v) ~= "table" then
    return must('a map such as { ["memory.high"] = "64M" }', v)
  end
  local checked = {}
  for key, given in pairs(v) do
    if type(key) ~= "string" or not key:find "^%l[%w_]*%.[%w_.]+$" or key:find("..", 1, true) then
      return nil, ("has a name that is no cgroup file's: %s"):format(describe(key))
    elseif reserved_why(key) then
      return nil, ("must not have %s: %s"):format(key, reserved_why(key))
    end
    checked[key] = key_value(given)
    if not checked[key] then
      return nil, ("%s must be an integer or one line of text, got %s"):format(key, describe(given))
    end
  end
  return checked
end

checkers["cgroup path"] = function(v)
  local what = 'an absolute path inside the cgroup hierarchy such as "/mine/tests"'
  if type(v) ~= "string" or v:sub(1, 1) ~= "/" or v:find "%c" then
    return must(what, v)
  elseif v == "/" then
    return v
  end
  for part in (v:sub(2) .. "/"):gmatch "([^/]*)/" do
    if part == "" or part == "." or part == ".." then
      return must(what .. ", without empty parts, '.' and '..'", v)
    end
  end
  return v
end

-- ---- what may stay unenforced ----

local limits = {}
for _, row in ipairs(schema.rows) do
  if row.limit then
    limits[#limits + 1], limits[row.name] = row.name, true
  end
end

--- A list of the names of limits as a set.
function checkers.degrade(v)
  if type(v) ~= "table" then
    return must('a list of limits such as { "memory" }', v)
  end
  local set, count, problem = {}, value.list(v)
  if not count then
    return nil, problem
  end
  for i = 1, count do
    local name = v[i]
    if type(name) ~= "string" or not limits[name] then
      local near = type(name) == "string" and E.nearest(name, limits)
      return nil, ("[%d] names no limit: %s%s"):format(i, describe(name), near and ("; did you mean '%s'?"):format(near)
        or (" (the limits: %s)"):format(table.concat(limits, " ")))
    end
    set[name] = true
  end
  return set
end

-- ---- together ----

-- A file of the kernel's is said by an option, or raw, not by both.
local function said_twice(checked)
  for _, key in ipairs(sorted(checked.cgroup)) do
    for option, name in pairs(choice.deciders(key)) do
      local asking = option == "swap" and "memory" or option -- which sets both
      local given = checked[asking]
      if asking == "hugetlb" then
        given = given and given[name]
      end
      if given ~= nil then
        return ("%s, which the option %s sets%s"):format(key, asking, option == "swap" and ": use swap" or "")
      end
    end
  end
end

--- As the conflicts of options.lua.
local conflicts = {
  { "swap", "needs memory: it is what may be swapped beyond that", function(_, checked)
    return checked.swap and not checked.memory
  end },
  { "swap", "is more with memory than can be counted", function(_, checked)
    return checked.swap and checked.memory and checked.swap > math.maxinteger - checked.memory
  end },
  { "memory_reservation", "must not be above memory", function(_, checked)
    return checked.memory_reservation and checked.memory and checked.memory_reservation > checked.memory
  end },
  { "cgroup", "must not have %s", function(_, checked)
    return said_twice(checked)
  end },
}

return { checkers = checkers, conflicts = conflicts }
