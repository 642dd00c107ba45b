-- The checkers of a process's attributes: limits, kernel parameters, priority, CPUs, personality.

local E = require "nsbox.error"
local limits = require "nsbox.options.limits"
local value = require "nsbox.options.value"

local describe, must = value.describe, value.must

local MAX_CPU = 8191 -- the most that a kernel can be built for

local attributes = {}

attributes["oom score"] = value.between(-1000, 1000)
attributes.nice = value.between(-20, 19)

attributes.rlimits = limits.check

-- ---- CPUs ----

local function cpu_range(part)
  local first, last = part:match "^(%d+)%-(%d+)$"
  first = tonumber(first or part:match "^%d+$")
  last = tonumber(last) or first
  return first, last
end

-- As numbers, in order; nil, problem.
local function cpus_of(v)
  local what = 'a list of CPUs such as "0-1,3"'
  if type(v) ~= "string" or v == "" or v:find ",," or v:find "^," or v:find ",$" then
    return must(what, v)
  end
  local wanted, list = {}, {}
  for part in v:gmatch "[^,]+" do
    local first, last = cpu_range(part)
    if not first or first > last then
      return must(what, v)
    elseif last > MAX_CPU then
      return nil, ("must name no CPU beyond %d, got %s"):format(MAX_CPU, describe(v))
    end
    for cpu = first, last do
      wanted[cpu] = true
    end
  end
  for cpu = 0, MAX_CPU do
    list[#list + 1] = wanted[cpu] and cpu or nil
  end
  return list
end

function attributes.cpus(v)
  local list, problem = cpus_of(v)
  return list and v, problem
end

-- ---- personality ----

local personalities = { "no_aslr", "linux32" }

--- A list of names as a set.
function attributes.personality(v)
  if type(v) ~= "table" then
    return must('a list of "no_aslr" and "linux32"', v)
  end
  local set, count, problem = {}, value.list(v)
  if not count then
    return nil, problem
  end
  for i = 1, count do
    if v[i] ~= "no_aslr" and v[i] ~= "linux32" then
      local near = type(v[i]) == "string" and E.nearest(v[i], personalities)
      return nil, ('[%d] must be "no_aslr" or "linux32", got %s%s'):format(i, describe(v[i]),
        near and ("; did you mean \"%s\"?"):format(near) or "")
    end
    set[v[i]] = true
  end
  return set
end

-- ---- kernel parameters ----

-- By the beginning of a name: the namespace that has its own, or why a box cannot have it. The first that fits wins.
local parameters = {
  { "net.", ns = "net" },
  { "kernel.shm", ns = "ipc" }, { "kernel.msg", ns = "ipc" }, { "kernel.sem", ns = "ipc", whole = true },
  { "fs.mqueue.", ns = "ipc" },
  { "kernel.hostname", "use the option hostname", whole = true },
  { "kernel.domainname", "use the option domainname", whole = true },
  { "user.max_user_namespaces", "use disable_userns = true", whole = true },
}

--- The namespace that a kernel parameter belongs to, by its name with dots | nil, the reason why it can be none of a
-- box's.
local function namespace_of(name)
  for _, row in ipairs(parameters) do
    local prefix, answer = row[1], row[2]
    if name == prefix or not row.whole and name:sub(1, #prefix) == prefix then
      return row.ns, answer
    end
  end
  return nil, "it is the whole machine's, and no namespace has one of its own"
end

-- As sysctl(8): whichever of the two comes first parts the words, the other stands for itself.
local function dotted(name)
  if (name:match "[./]") == "/" then
    name = name:gsub("[./]", { ["/"] = ".", ["."] = "/" })
  end
  return name
end

local function parameter(name)
  if type(name) ~= "string" or not name:find "^[%w_./:@-]+$" then
    return nil, ("has a name that is no kernel parameter's: %s"):format(describe(name))
  end
  name = dotted(name)
  if ("." .. name .. "."):find("..", 1, true) or ("." .. name .. "."):find "%./+%." or name:find("//", 1, true) then
    return nil, ("has a name that is no kernel parameter's: %s"):format(describe(name))
  end
  return name
end

local function parameter_value(v)
  if math.type(v) then
    return tostring(value.integer(v) or v)
  elseif type(v) ~= "string" or v == "" or v:find "[%z\n]" then
    return nil
  end
  return v
end

--- A map of names to texts or numbers; the names come back with dots.
function attributes.sysctls(v)
  if type(v) ~= "table" then
    return must('a map such as { ["net.ipv4.ip_forward"] = 1 }', v)
  end
  local checked = {}
  for given, text in pairs(v) do
    local name, problem = parameter(given)
    if not name then
      return nil, problem
    end
    local _, why = namespace_of(name)
    if why then
      return nil, ("must not have %s: %s"):format(name, why)
    end
    checked[name] = parameter_value(text)
    if not checked[name] then
      return nil, ("%s must be a number or one line of text, got %s"):format(name, describe(text))
    end
  end
  return checked
end

return { checkers = attributes, namespace_of = namespace_of, cpus_of = cpus_of }
