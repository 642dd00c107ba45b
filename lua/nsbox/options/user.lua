-- The options `user` and `groups`: which words stand for a number and which for a name. What a name stands for is in
-- the box's files: see users.lua.

local value = require "nsbox.options.value"

local MAX_ID = 4294967294 -- the kernel keeps the highest uid_t for "no id"
local MAX_NAME = 256 -- LOGIN_NAME_MAX
local MAX_GROUPS = 1000 -- NSB_MAXGROUPS, csrc/call.h

local ID = "a number from 0 to 4294967294"

--- The id that a text stands for: decimal digits as one would print it, nothing else. nil for all other texts.
local function number(text)
  local id = #text <= 10 and (text == "0" or text:find "^[1-9]%d*$") and math.tointeger(tonumber(text))
  return id and id <= MAX_ID and id or nil
end

-- What begins like a number is never a name: a slip ("0x0", "1e3", "-1") must not become somebody.
local function is_name(text)
  return #text <= MAX_NAME and text:find "^[%a_\x80-\xff][^%s%c:,]*$" ~= nil
end

-- { [id_key] = number } or { [name_key] = name }, into `to`; nil for what is neither.
local function read(v, id_key, name_key, to)
  local id = math.type(v) and value.integer(v) or type(v) == "string" and number(v)
  if id and id >= 0 and id <= MAX_ID then
    to[id_key] = id
  elseif type(v) == "string" and is_name(v) then
    to[name_key] = v
  else
    return nil
  end
  return to
end

--- The option `user`: { uid = or name =, and gid = or group =, or neither: the user's own }. As types.lua's checkers.
local function user(v)
  local first, second = v, nil
  if type(v) == "string" and v:find(":", 1, true) then
    first, second = v:match "^([^:]*):(.*)$"
  end
  local checked = read(first, "uid", "name", {})
  if checked and second then
    checked = read(second, "gid", "group", checked)
  end
  if not checked then
    return value.must('a user or "user:group", each a name or ' .. ID, v)
  end
  return checked
end

--- The option `groups`: a list of { gid = } and { group = }. As types.lua's checkers.
local function groups(v)
  if type(v) ~= "table" then
    return value.must("a list of groups", v)
  end
  local checked, count, problem = {}, value.list(v)
  if not count then
    return nil, problem
  elseif count > MAX_GROUPS then
    return nil, ("must have at most %d groups, got %d"):format(MAX_GROUPS, count)
  end
  for i = 1, count do
    checked[i] = read(v[i], "gid", "group", {})
    if not checked[i] then
      problem = select(2, value.must("a group's name or " .. ID, v[i]))
      return nil, ("[%d] %s"):format(i, problem)
    end
  end
  return checked
end

return { user = user, groups = groups, number = number, MAX_GROUPS = MAX_GROUPS }
