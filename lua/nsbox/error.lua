-- The two ways in which nsbox says no: an Error value for what the world refused, a raised string for misuse.

local excerpt = require "nsbox.excerpt"

local fields = {
  kind = true, verb = true, message = true, step = true, call = true, errno = true, name = true, path = true,
  hint = true, result = true, log = true, traceback = true,
}

local kinds = {
  setup = true, image = true, exec = true, unsupported = true, limit = true, timeout = true, closed = true,
  exit = true, call = true,
}

local mt = { __name = "nsbox.error" }

local function begins(text, word)
  return text:sub(1, #word) == word and not text:find("^[%w_]", #word + 1)
end

-- A message may already name its call and its path ("mount proc on /proc: ..."); what it names is not said twice.
local function sentence(err)
  local lead, message = {}, err.message
  if err.step and err.kind ~= "exec" then -- who mistyped a program's name did not ask for the step
    lead[#lead + 1] = ("step %d"):format(err.step)
  end
  local names_call = err.call and begins(message, err.call)
  if err.call and not names_call then
    lead[#lead + 1] = err.call
  end
  if err.path and not message:find(err.path, 1, true) then
    lead[#lead + 1] = err.path
  end
  if #lead > 0 then
    message = table.concat(lead, " ") .. (names_call and " " or ": ") .. message
  end
  if err.name and not message:find(err.name, 1, true) then
    message = ("%s (%s)"):format(message, err.name)
  end
  return message
end

function mt.__tostring(err)
  local text = "nsbox: " .. (err.verb and err.verb .. ": " or "") .. sentence(err)
  if err.hint then
    text = text .. "\n  hint: " .. err.hint
  end
  if err.log and err.log ~= "" and not err.message:find("\n  end of ", 1, true) then
    text = text .. "\n  end of its output:\n" .. excerpt.tail(err.log)
  end
  return text
end

function mt.__concat(a, b)
  return tostring(a) .. tostring(b)
end

--- An Error with the given fields: kind (one of the closed list) and message are needed; verb, step (an integer), call,
-- errno (an integer) and its name ("EPERM"), path, hint, result, log, traceback as known.
-- An unknown kind or field is a fault of nsbox itself and fails an assertion.
local function new(given)
  assert(kinds[given.kind], "nsbox.error: unknown kind " .. tostring(given.kind))
  assert(type(given.message) == "string", "nsbox.error: a message is needed")
  local err = {}
  for key, value in pairs(given) do
    assert(fields[key], "nsbox.error: unknown field " .. tostring(key))
    err[key] = value
  end
  return setmetatable(err, mt)
end

--- Whether a value is an Error.
local function is(value)
  return getmetatable(value) == mt
end

--- The three returns of a failure of the world: nil, an Error made from the fields, its errno (nil when it has none).
local function fail(given)
  local err = new(given)
  return nil, err, err.errno
end

-- Everything below the folder of this file is nsbox; a chunk loaded without a file name knows only itself.
local own_source = debug.getinfo(1, "S").source
local own_folder = own_source:match("^@.*[/\\]")

local function is_own(source)
  return source == own_source or (own_folder ~= nil and source:sub(1, #own_folder) == own_folder)
end

local function user_position()
  local level = 3
  while true do
    local info = debug.getinfo(level, "Sl")
    if not info then
      return ""
    elseif info.what ~= "C" and info.currentline > 0 and not is_own(info.source) then
      return ("%s:%d: "):format(info.short_src, info.currentline)
    end
    level = level + 1
  end
end

--- Raises a string, formatted as by string.format, at the line of the user's code that called into nsbox.
-- After a tail call into nsbox (return nsbox.run(...)) Lua has forgotten that line, and the next one known is named.
local function misuse(format, ...)
  error(user_position() .. format:format(...), 0)
end

-- Damerau-Levenshtein in its common restricted form: a swap of neighbours counts as one edit.
local function distance(a, b)
  local rows = { [0] = {} }
  for j = 0, #b do
    rows[0][j] = j
  end
  for i = 1, #a do
    local row, last = { [0] = i }, rows[i - 1]
    for j = 1, #b do
      local same = a:byte(i) == b:byte(j)
      row[j] = math.min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (same and 0 or 1))
      if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        row[j] = math.min(row[j], rows[i - 2][j - 2] + 1)
      end
    end
    rows[i] = row
  end
  return rows[#a][#b]
end

--- The element of a list of strings that a mistyped name most likely meant: the fewest edits, at most one in three
-- letters (and one in any case), upper and lower case alike; of equals the first. nil when nothing is near.
local function nearest(name, list)
  local best, fewest = nil, math.max(1, #name // 3) + 1
  if #name > 64 then
    return nil
  end
  for _, candidate in ipairs(list) do
    local edits = distance(name:lower(), candidate:lower())
    if edits < fewest then
      best, fewest = candidate, edits
    end
  end
  return best
end

return {
  new = new,
  is = is,
  fail = fail,
  misuse = misuse,
  nearest = nearest,
}
