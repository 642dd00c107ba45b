-- probe/file.lua: reading what a hostile or odd system may not have. Never raises.

local LIMIT = 1 << 20 -- more than any of these files holds

--- The contents, or nil. Only the first mebibyte: a file that never ends is no reason to wait.
local function read(path)
  local f = io.open(path, "rb")
  if not f then
    return nil
  end
  local text, message = f:read(LIMIT)
  f:close()
  return text or not message and "" or nil -- read() has nil for an empty one
end

--- The first line, or nil.
local function line(path)
  local text = read(path)
  return text and text:match "^[^\n]*"
end

--- A number that stands alone in a file, or nil.
local function number(path)
  return tonumber(line(path) or "")
end

--- A field of /proc/self/status, as text, or nil.
local function status(field)
  return (read "/proc/self/status" or ""):match("\n" .. field .. ":%s*([^\n]*)")
end

return { read = read, line = line, number = number, status = status }
