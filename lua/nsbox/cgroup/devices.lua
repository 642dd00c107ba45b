-- cgroup/devices.lua: linux.resources.devices as the devices controller of cgroup v1 takes them: a line a rule, the
-- first of which denies all. cgroups-v1, devices.rst.

local function number(n)
  return n and tostring(n) or "*"
end

local function place(rule)
  return ("%s %s:%s"):format(rule.type, number(rule.major), number(rule.minor))
end

local function is_all(rule)
  return rule.type == nil or rule.type == "a"
end

--- The writes of a list of rules, in order: { file =, text = }.
local function v1(rules)
  local list = {}
  for i, rule in ipairs(rules) do
    list[i] = { file = rule.allow and "devices.allow" or "devices.deny",
      text = is_all(rule) and "a" or place(rule) .. " " .. (rule.access or "rwm") }
  end
  return list
end

-- The accesses that the controller lists for a device.
local function accesses(read, device)
  for line in (read .. "\n"):gmatch "([^\n]*)\n" do
    local listed, access = line:match "^(%S+ %S+) (%a+)$"
    if listed == device then
      return access
    end
  end
  return ""
end

--- Whether devices.list, as it was read after one of these writes, shows it.
local function listed(read, write)
  local allowed = write.file == "devices.allow"
  if write.text == "a" then
    return (read == "a *:* rwm") == allowed
  end
  local device, access = write.text:match "^(%S+ %S+) (%a+)$"
  local now = accesses(read, device)
  for letter in access:gmatch "." do
    if (now:find(letter, 1, true) ~= nil) ~= allowed then
      return false
    end
  end
  return true
end

return { v1 = v1, listed = listed }
