-- Capabilities by libcap's names: sets of them as masks, and the checker of cap_add, cap_drop and cap_ambient.

local E = require "nsbox.error"
local value = require "nsbox.options.value"

-- By number, from 0; linux/capability.h.
local names = {
  "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
  "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
  "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
  "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
  "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
  "CHECKPOINT_RESTORE",
}

local number_of, full_names = {}, {}
for i, name in ipairs(names) do
  full_names[i] = "CAP_" .. name
  number_of[name] = i - 1
end

local ALL = (1 << #names) - 1

-- By set. The same set is the same list, by which a plan is found again; what nothing uses any more goes.
local lists = setmetatable({}, { __mode = "v" })

--- The names of a set, lowest number first: the same table for the same set, to be read only.
local function list(set)
  local found = lists[set]
  if not found then
    found = {}
    for i, name in ipairs(full_names) do
      found[#found + 1] = set >> (i - 1) & 1 == 1 and name or nil
    end
    lists[set] = found
  end
  return found
end

--- The set of a list of names as list() makes them.
local function set_of(given)
  local set = 0
  for _, name in ipairs(given) do
    set = set | 1 << number_of[name:sub(5)]
  end
  return set
end

--- The number of a name as list() makes it.
local function number(name)
  return number_of[name:sub(5)]
end

local function one(v)
  if type(v) ~= "string" then
    return value.must('a capability such as "SYS_PTRACE"', v)
  end
  local name = v:upper():gsub("^CAP_", "")
  if name == "ALL" then
    return ALL, true
  elseif number_of[name] then
    return 1 << number_of[name]
  end
  local near = E.nearest("CAP_" .. name, full_names)
  return nil, ("names no capability: %s%s"):format(value.describe(v),
    near and ("; did you mean %s?"):format(near) or "")
end

--- Checks "all" or a list of names: with or without CAP_, upper or lower case. Returns { set = mask of all that it
-- means, all = true | nil, named = mask of what it names one by one } | nil, problem.
local function check(v)
  if type(v) == "string" and v:lower() == "all" then
    v = { v }
  elseif type(v) ~= "table" then
    return value.must('a list of capabilities, or "all"', v)
  end
  local checked, count, problem = { set = 0, named = 0 }, value.list(v)
  if not count then
    return nil, problem
  end
  for i = 1, count do
    local set, all = one(v[i])
    if not set then
      return nil, ("[%d] %s"):format(i, all)
    end
    checked.set = checked.set | set
    checked.all = checked.all or all or nil
    checked.named = checked.named | (all and 0 or set)
  end
  return checked
end

return { check = check, list = list, set_of = set_of, number = number, names = full_names, ALL = ALL }
