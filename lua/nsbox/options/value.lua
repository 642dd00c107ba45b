-- What the checkers of options share: looking at a value, and saying what is wrong with it.

local E = require "nsbox.error"

local value = {}

-- K = 1024, as in docker and in the kernel's own files.
local units = { [""] = 1, k = 1 << 10, m = 1 << 20, g = 1 << 30, t = 1 << 40 }

local function hex(c)
  return ("\\x%02x"):format(c:byte())
end

--- A value as an error text shows it: short, on one line.
function value.describe(v)
  if type(v) == "string" then
    local cut = #v > 40 and v:sub(1, 40) or v
    return "'" .. cut:gsub("%c", hex) .. "'" .. (#v > 40 and "..." or "")
  elseif type(v) == "number" or type(v) == "boolean" or v == nil then
    return tostring(v)
  end
  local mt = getmetatable(v)
  local name = type(mt) == "table" and rawget(mt, "__name") or type(v)
  return "a " .. tostring(name)
end

--- nil, the problem of a value that is not what it must be.
function value.must(what, v)
  return nil, ("must be %s, got %s"):format(what, value.describe(v))
end

--- nil, the problem of a value that is right but waits for a later version; instead = what works now.
function value.unsupported(what, instead)
  return nil, ("%s is not built yet (%s)"):format(what, instead), "unsupported"
end

--- The problem of a key that nobody knows, with the nearest of the known ones.
function value.unknown_key(key, known)
  local near = type(key) == "string" and E.nearest(key, known)
  if near then
    return ("has no key %s; did you mean %s?"):format(value.describe(key), near)
  end
  return ("has no key %s (its keys: %s)"):format(value.describe(key), table.concat(known, " "))
end

--- A number as an integer, 3.0 too; nil for all else. (math.tointeger alone takes strings as well.)
function value.integer(v)
  return math.type(v) and math.tointeger(v) or nil
end

--- A checker of integers.
function value.between(low, high)
  return function(v)
    local n = value.integer(v)
    if not n or n < low or n > high then
      return value.must(("an integer from %d to %d"):format(low, high), v)
    end
    return n
  end
end

--- How many elements the list part of a table has, or nil, problem when it has holes, or keys of another kind
-- (which a mixed table may have).
function value.list(v, mixed)
  local count, highest = 0, 0
  for key in pairs(v) do
    if math.type(key) then
      count = count + 1
      highest = math.max(highest, key)
    elseif not mixed then
      return nil, ("must be a list, got the key %s"):format(value.describe(key))
    end
  end
  for i = 1, count do
    if v[i] == nil then
      return nil, ("has a hole: [%d] is nil, [%s] is not"):format(i, highest)
    end
  end
  return count
end

local function parse_size(text)
  local digits, unit = text:match("^(%d+%.?%d*)([kmgtKMGT]?)$")
  local number, factor = tonumber(digits), units[(unit or ""):lower()]
  if math.type(number) == "integer" and number <= math.maxinteger // factor then
    return number * factor
  end
  return number and math.tointeger(number * factor // 1.0)
end

--- Bytes of a size: a whole number, or "64M" (K, M, G, T by 1024; fractions are cut). nil, problem for all else.
function value.size(v)
  local bytes = type(v) == "string" and parse_size(v) or value.integer(v)
  if not bytes or bytes < 0 then
    return value.must('a size: bytes, or text such as "64M"', v)
  end
  return bytes
end

local function method(v, name)
  local found, f = pcall(function()
    return v[name]
  end)
  return found and type(f) == "function"
end

--- Whether a value is a handle of nsbox with processes: a Box or a Process.
function value.is_box(v)
  local mt = (type(v) == "table" or type(v) == "userdata") and getmetatable(v)
  local name = type(mt) == "table" and mt.__name
  return name == "nsbox.box" or name == "nsbox.process"
end

-- The number an object has at this moment.
local function has_number(v)
  local ok, fd = pcall(v.fileno, v)
  return ok and math.type(fd) == "integer" and fd >= 0
end

--- Whether a value stands for an open file: a Lua file or an object with fileno(). nil, problem for a closed one.
function value.is_file(v)
  local file = io.type(v)
  if file == "closed file" then
    return nil, "is a closed file"
  end
  local object = file == nil and (type(v) == "table" or type(v) == "userdata") and method(v, "fileno")
  if object and not has_number(v) then
    return nil, "is a closed descriptor"
  end
  return file == "file" or object
end

--- The descriptor (an integer), Lua file or object with fileno() that a value is. nil, problem for a closed file or
-- a negative number; nil alone for what is no handle.
function value.handle(v)
  local fd = value.integer(v)
  if fd and (fd < 0 or fd > 0x7fffffff) then
    return nil, ("must not be the descriptor %d"):format(fd)
  elseif fd then
    return fd
  end
  local file, problem = value.is_file(v)
  return file and v or nil, problem
end

return value
