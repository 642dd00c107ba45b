-- step.lua: one step of a plan as text, for explain and for errors.

local core = require "nsbox.core"

local fields -- call -> names of its arguments, read once from the signatures

local function names_of(call)
  if not fields then
    fields = {}
    for name, row in pairs(core.calls()) do
      local list = {}
      for field in row.signature:gmatch "([%w_]+):" do
        list[#list + 1] = field
      end
      fields[name] = list
    end
  end
  return fields[call] or {}
end

local function flat(v)
  if v == "" then
    return '""'
  elseif type(v) ~= "table" then
    return (tostring(v):gsub("%c", function(c) return ("\\%d"):format(c:byte()) end))
  end
  local parts = {}
  for i, one in ipairs(v) do
    parts[i] = flat(one)
  end
  return "{" .. table.concat(parts, " ") .. "}"
end

--- The arguments of a step as one line, `out` in front: "fs = fsopen(tmpfs)".
local function text(step)
  local last = math.max(#names_of(step[1]) + 1, #step)
  while last > 1 and (step[last] == nil or step[last] == "") do
    last = last - 1
  end
  local args = {}
  for i = 2, last do
    args[i - 1] = step[i] == nil and "-" or flat(step[i])
  end
  local call = ("%s(%s)"):format(step[1], table.concat(args, ", "))
  if step[1] == "barrier" and step.give then
    call = call .. " gives " .. table.concat(step.give, " ")
  end
  if step[1] == "clone" and step.into then
    call = call .. " into " .. step.into
  end
  local out = type(step.out) == "table" and table.concat(step.out, ", ") or step.out
  return out and ("%s = %s"):format(out, call) or call
end

--- The path or name a step is about, or nil.
local function subject(step)
  for i, name in ipairs(names_of(step[1])) do
    if name == "target" or name == "path" or name == "to_path" or name == "fsname" then
      local v = step[i + 1]
      return v ~= "" and v or nil
    end
  end
end

return { text = text, subject = subject }
