-- How a command ended: a plain, immutable value.

local E = require "nsbox.error"
local excerpt = require "nsbox.excerpt"
local signal = require "nsbox.signal"

-- The public fields, in the order in which pairs() gives them.
local public = {
  "ok", "reason", "code", "signal", "stdout", "stderr", "truncated", "usage", "limits", "notes", "changes", "id",
  "command", "log",
}

local private = { signo = true, verb = true }

local reasons = {
  exit = "", signal = "", timeout = "timed out", cpu = "used up its CPU time", oom = "out of memory",
  output = "wrote more than max_output", killed = "killed by its handle", lost = "its exit status was lost",
}

local is_public = {}
for _, name in ipairs(public) do
  is_public[name] = true
end

local FIELDS = {} -- the key below which a Result keeps its values, so that every assignment meets __newindex
local methods = {}
local mt = { __name = "nsbox.result" }

function mt.__index(self, key)
  local value = methods[key]
  if value == nil and is_public[key] then
    value = rawget(self, FIELDS)[key]
  end
  return value
end

function mt.__newindex(_, key)
  E.misuse("nsbox: a Result is immutable (assignment to '%s')", tostring(key))
end

function mt.__pairs(self)
  local values, i = rawget(self, FIELDS), 0
  return function()
    local name
    repeat
      i = i + 1
      name = public[i]
    until name == nil or values[name] ~= nil
    return name, values[name]
  end
end

local function quoted(word)
  if word:find("^[%w_@%%+=:,./-]+$") then
    return word
  end
  return "'" .. excerpt.printable(word):gsub("'", "'\\''") .. "'"
end

local function command_text(command)
  local text
  if type(command) == "table" then
    local words = {}
    for i, word in ipairs(command) do
      words[i] = quoted(word)
    end
    text = table.concat(words, " ")
  else
    text = excerpt.printable(command or "the command")
  end
  return #text > 200 and text:sub(1, 200) .. "..." or text
end

local function status_text(values)
  local ending
  if values.signal then
    ending = "killed by signal " .. values.signal
  elseif values.code then
    ending = ("exit code %d"):format(values.code)
  end
  local cause = reasons[values.reason]
  if cause == "" or not ending then
    return ending or cause
  end
  return ("%s (%s)"):format(cause, ending)
end

function mt.__tostring(self)
  local values = rawget(self, FIELDS)
  return ("nsbox.result: %s: %s"):format(command_text(values.command), status_text(values))
end

-- With a terminal, or with stderr = "stdout", what the program had to say is in stdout.
local function last_words(values)
  for _, stream in ipairs { "stderr", "stdout" } do
    local text = values[stream]
    if text and text ~= "" then
      local cut = values.truncated[stream] and " (as far as it was kept)" or ""
      return ("\n  end of %s%s:\n%s"):format(stream, cut, excerpt.tail(text))
    end
  end
  return ""
end

--- The Error (kind "exit", field result) that tells of a bad Result: command, status and the end of its stderr
-- (of stdout when stderr is empty), control characters escaped.
local function to_error(self)
  local values = rawget(self, FIELDS)
  return E.new {
    kind = "exit",
    verb = values.verb,
    message = command_text(values.command) .. ": " .. status_text(values) .. last_words(values),
    result = self,
    log = values.log,
  }
end

--- Returns the Result itself when it is ok, else raises an Error of kind "exit" (see to_error).
function methods.check(self)
  if self.ok then
    return self
  end
  error(to_error(self), 0)
end

--- Answers as os.execute does: true, "exit", 0 | nil, "exit", code | nil, "signal", number.
-- When the status was lost: nil, "lost".
function methods.unpack(self)
  local values = rawget(self, FIELDS)
  if values.signo then
    return nil, "signal", values.signo
  elseif values.code then
    return values.code == 0 or nil, "exit", values.code
  end
  return nil, "lost"
end

local function complete(values)
  if values.signo then
    values.signal = values.signal or signal.name(values.signo)
  elseif values.signal then
    values.signo = signal.number(values.signal)
  end
  values.ok = values.reason == "exit" and values.code == 0
  local truncated = values.truncated or {}
  values.truncated = { stdout = truncated.stdout == true, stderr = truncated.stderr == true }
  return values
end

--- A Result of the given fields: reason and one of code, signo (or signal, its name) unless the reason is "lost";
-- the others of the interface as known; verb names the caller in the text of check(). ok is computed.
-- Unknown fields, an unknown reason or a status that fits no reason fail an assertion: they are faults of nsbox.
local function new(fields)
  local values = {}
  for key, value in pairs(fields) do
    assert(is_public[key] or private[key], "nsbox.result: unknown field " .. tostring(key))
    values[key] = value
  end
  assert(reasons[values.reason], "nsbox.result: unknown reason " .. tostring(values.reason))
  complete(values)
  assert(not (values.code and values.signo), "nsbox.result: both a code and a signal")
  assert(values.code or values.signo or values.reason == "lost", "nsbox.result: no status")
  return setmetatable({ [FIELDS] = values }, mt)
end

--- Whether a value is a Result.
local function is(value)
  return getmetatable(value) == mt
end

return {
  new = new,
  is = is,
  to_error = to_error,
}
