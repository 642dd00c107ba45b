-- cgroup/device_rules.lua: rules of devices (OCI's linux.resources.devices) for the kernel: a program of v2, writes of
-- v1. Pure.
--
-- A rule: { allow =, type = "c" | "b" | "a" or nil for both, major =, minor = (nil: all), access = "rwm" or a part }.
-- Of the rules that name a device and an access, the last decides; without one it is denied. A request for several
-- accesses is allowed when each of them is.

local MKNOD, READ, WRITE = 1, 2, 4 -- BPF_DEVCG_ACC_*
local ALL = MKNOD | READ | WRITE
local letters = { { "r", READ }, { "w", WRITE }, { "m", MKNOD } }
local types = { b = 1, c = 2 } -- BPF_DEVCG_DEV_*

local function bits(access)
  local set = access and 0 or ALL
  for _, letter in ipairs(letters) do
    if access and access:find(letter[1], 1, true) then
      set = set | letter[2]
    end
  end
  return set
end

local function words(set)
  local text = ""
  for _, letter in ipairs(letters) do
    text = text .. (set & letter[2] ~= 0 and letter[1] or "")
  end
  return text
end

local function kind(rule)
  return rule.type ~= "a" and rule.type or nil
end

-- OCI's runtimes take a negative number for all, too.
local function number(n)
  return n and n >= 0 and n or nil
end

-- ---- v2 ----

-- Registers: 0 the answer, 1 the request (struct bpf_cgroup_dev_ctx), 2 its type, 3 what of the accesses it asks for
-- is not decided yet, 4 major, 5 minor.
local LOAD, COPY, SET, AND, SHIFT = 0x61, 0xbf, 0xb7, 0x57, 0x77
local IF_NOT, IF_ANY, GO, EXIT = 0x55, 0x45, 0x05, 0x95

local function insn(code, to, from, offset, value)
  return string.pack("=I1I1i2i4", code, from << 4 | to, offset, value)
end

local function answer(allow)
  return insn(SET, 0, 0, 0, allow and 1 or 0) .. insn(EXIT, 0, 0, 0, 0)
end

local BEGIN = insn(LOAD, 2, 1, 0, 0) .. insn(COPY, 3, 2, 0, 0) .. insn(AND, 2, 0, 0, 0xffff) .. insn(SHIFT, 3, 0, 0, 16)
  .. insn(LOAD, 4, 1, 4, 0) .. insn(LOAD, 5, 1, 8, 0)

-- What is to be done for a device that the rule names: answer, or leave the rest to the rules before it.
local function decide(rule)
  local set = bits(rule.access)
  if rule.allow then
    return insn(AND, 3, 0, 0, ALL & ~set) .. insn(IF_NOT, 3, 0, 2, 0) .. answer(true)
  end
  return insn(IF_ANY, 3, 0, 1, set) .. insn(GO, 0, 0, 2, 0) .. answer(false)
end

local function tests(rule, body)
  local wanted = { { 2, types[kind(rule)] }, { 4, number(rule.major) }, { 5, number(rule.minor) } }
  for i = #wanted, 1, -1 do
    local register, value = wanted[i][1], wanted[i][2]
    if value then
      body = insn(IF_NOT, register, 0, #body // 8, value) .. body
    end
  end
  return body
end

--- The program for core.bpf_device: a string.
local function program(rules)
  local parts = { BEGIN }
  for i = #rules, 1, -1 do -- the last decides
    parts[#parts + 1] = tests(rules[i], decide(rules[i]))
  end
  parts[#parts + 1] = answer(false)
  return table.concat(parts)
end

-- ---- v1 ----

-- The kernel has a default and a list of exceptions from it, each for one type. It takes back what was written in
-- just the same form only: so the list is made up here.

local function covers(a, b)
  return a.type == b.type and (not a.major or a.major == b.major) and (not a.minor or a.minor == b.minor)
end

local function overlap(a, b)
  return a.type == b.type and (not a.major or not b.major or a.major == b.major)
    and (not a.minor or not b.minor or a.minor == b.minor) and a.set & b.set ~= 0
end

local function text_of(e)
  return ("%s %s:%s %s"):format(e.type, e.major or "*", e.minor or "*", words(e.set))
end

-- A rule as exceptions are written: one or two.
local function split(rule)
  local list = {}
  for _, type in ipairs(kind(rule) and { rule.type } or { "c", "b" }) do
    list[#list + 1] = { type = type, major = number(rule.major), minor = number(rule.minor), set = bits(rule.access) }
  end
  return list
end

local function add(exceptions, e)
  for _, other in ipairs(exceptions) do
    if covers(other, e) and covers(e, other) then
      other.set = other.set | e.set
      return
    end
  end
  exceptions[#exceptions + 1] = e
end

local function take_back(exceptions, e)
  for i = #exceptions, 1, -1 do
    local other = exceptions[i]
    if covers(e, other) then
      other.set = other.set & ~e.set
      if other.set == 0 then
        table.remove(exceptions, i)
      end
    elseif overlap(e, other) then
      return nil, ("cgroup v1 cannot except %s from %s"):format(text_of(e), text_of(other))
    end
  end
  return true
end

-- One exception alone must allow a whole request.
local function widen(exceptions)
  for _, e in ipairs(exceptions) do
    for _, other in ipairs(exceptions) do
      if covers(other, e) then
        e.set = e.set | other.set
      end
    end
  end
end

local function is_all(rule)
  return not kind(rule) and not number(rule.major) and not number(rule.minor) and bits(rule.access) == ALL
end

local function write(allow, text)
  return { name = allow and "allow" or "deny", text = text }
end

--- The writes for a cgroup of v1, to devices.allow and devices.deny: { { name =, text = }, … } in their order
-- | nil, message: not to be said there.
local function writes(rules)
  local default, exceptions = false, {}
  for _, rule in ipairs(rules) do
    local allow = rule.allow and true or false
    if is_all(rule) then
      default, exceptions = allow, {}
    else
      for _, e in ipairs(split(rule)) do
        local ok, why = true, nil
        if allow == default then
          ok, why = take_back(exceptions, e)
        else
          add(exceptions, e)
        end
        if not ok then
          return nil, why
        end
      end
    end
  end
  widen(exceptions)
  local list = { write(default, "a") }
  for _, e in ipairs(exceptions) do
    list[#list + 1] = write(not default, text_of(e))
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
local function listed(read, text, file)
  local allowed = file == "devices.allow"
  if text == "a" then
    return (read == "a *:* rwm") == allowed
  end
  local device, access = text:match "^(%S+ %S+) (%a+)$"
  local now = accesses(read, device)
  for letter in access:gmatch "." do
    if (now:find(letter, 1, true) ~= nil) ~= allowed then
      return false
    end
  end
  return true
end

return { program = program, writes = writes, listed = listed }
