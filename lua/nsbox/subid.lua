-- subid.lua: the subordinate ids that the system gives its users; subuid(5), subgid(5).

local file = require "nsbox.probe.file"

local MAX_ID = 4294967294

--- The caller's login name by /etc/passwd, or nil: names of other sources are not known here.
local function user_name(uid)
  for line in (file.read "/etc/passwd" or ""):gmatch "[^\n]+" do
    local name, number = line:match "^([^:]+):[^:]*:(%d+):"
    if tonumber(number) == uid then
      return name
    end
  end
end

-- As newuidmap reads it, by strtoul(3) with base 0: blanks before it, hexadecimal, octal.
local function number(text)
  text = text:match "^%s*%+?(%w+)$" or ""
  if text:find "^0[0-7]+$" then
    return tonumber(text, 8)
  end
  local plain = text:find "^[1-9]%d*$" or text == "0" or text:find "^0[xX]%x+$"
  return plain and math.tointeger(tonumber(text)) or nil
end

--- The ranges of a file, in its order: { who =, first =, count = }. Lines that are none are left out.
local function read(path)
  local list = {}
  for who, first, count in ("\n" .. (file.read(path) or "")):gmatch "\n([^:\n]+):([^:\n]*):([^:\n]*)" do
    first, count = number(first), number(count)
    if first and count and count > 0 and first <= MAX_ID and count <= MAX_ID - first + 1 then
      list[#list + 1] = { who = who, first = first, count = count }
    end
  end
  return list
end

--- Those of a user, by name (may be nil) or number.
local function of(path, name, uid)
  local own = {}
  for _, range in ipairs(read(path)) do
    if range.who == name or uid and range.who == tostring(uid) then
      own[#own + 1] = range
    end
  end
  return own
end

return { user_name = user_name, read = read, of = of, UIDS = "/etc/subuid", GIDS = "/etc/subgid" }
