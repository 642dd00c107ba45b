-- The checkers of the schema: checker(value) returns the normalised value, or nil, problem[, "unsupported"].
-- A problem is a predicate, so that it reads well after "option 'x'".

local E = require "nsbox.error"
local attributes = require "nsbox.options.attributes"
local caps = require "nsbox.options.caps"
local fds = require "nsbox.options.fds"
local idrows = require "nsbox.idrows"
local signal = require "nsbox.signal"
local mounts = require "nsbox.options.mounts"
local namespaces = require "nsbox.options.namespaces"
local resources = require "nsbox.options.resources"
local user = require "nsbox.options.user"
local value = require "nsbox.options.value"

local describe, must, unsupported = value.describe, value.must, value.unsupported

local MAX_PATH = 4095 -- PATH_MAX without its NUL
local MAX_NAME = 128
local MAX_HOSTNAME = 64 -- __NEW_UTS_LEN
local MAX_SECONDS = 1e9 -- still exact in nanoseconds of 64 bits, and more than anybody means
local MAX_ROWS = 65535 -- struct winsize has 16 bits

local types = {}

local function of_type(name, article)
  return function(v)
    if type(v) ~= name then
      return must(article .. " " .. name, v)
    end
    return v
  end
end

types.boolean = of_type("boolean", "a")
types["function"] = of_type("function", "a")
types.number = of_type("number", "a")

function types.integer(v)
  return value.integer(v) or must("an integer", v)
end

local function one_of(choices)
  local words = {}
  for i, choice in ipairs(choices) do
    words[i] = ('"%s"'):format(choice)
    choices[choice] = true
  end
  local what = table.concat(words, " or ")
  return function(v)
    if not choices[v] then
      return must(what, v)
    end
    return v
  end
end

types.overflow = one_of { "truncate", "kill" }

function types.text(v)
  if type(v) ~= "string" then
    return must("a string", v)
  elseif v:find("\0", 1, true) then
    return nil, ("must not contain a NUL byte, got %s"):format(describe(v))
  end
  return v
end

function types.line(v)
  local text, problem = types.text(v)
  if not text then
    return nil, problem
  elseif text == "" then
    return nil, "must not be empty"
  elseif text:find("\n", 1, true) then
    return nil, ("must not contain a newline, got %s"):format(describe(v))
  elseif text:find("%c") then
    return nil, ("must not contain control characters, got %s"):format(describe(v))
  end
  return text
end

function types.hostname(v)
  local name, problem = types.line(v)
  if name and #name > MAX_HOSTNAME then
    return nil, ("must not be longer than %d bytes, got %d"):format(MAX_HOSTNAME, #name)
  end
  return name, problem
end

function types.name(v)
  if type(v) ~= "string" or not v:find "^%w[%w_.-]*$" or #v > MAX_NAME then
    return must("letters, digits, '_', '.' and '-', a letter or digit first", v)
  end
  return v
end

function types.labels(v)
  if type(v) ~= "table" then
    return must("a map of names to texts", v)
  end
  local labels = {}
  for name, text in pairs(v) do
    local _, problem = types.line(name)
    if problem then
      return nil, ("has a name that %s"):format(problem)
    end
    labels[name], problem = types.text(text)
    if problem then
      return nil, ("%s %s"):format(name, problem)
    end
  end
  return labels
end

function types.path(v)
  local path, problem = types.text(v)
  if path == "" then
    return nil, "must not be empty"
  elseif path and #path > MAX_PATH then
    return nil, ("must not be longer than %d bytes, got %d"):format(MAX_PATH, #path)
  end
  return path, problem
end

types["absolute path"] = function(v)
  local path, problem = types.path(v)
  if path and path:sub(1, 1) ~= "/" then
    return must("an absolute path in the box", v)
  end
  return path, problem
end

types.size = value.size

function types.mode(v)
  if type(v) ~= "string" or not v:find("^[0-7]+$") or tonumber(v, 8) > tonumber("7777", 8) then
    return must('a string of octal digits such as "0755" (Lua has no octal numbers)', v)
  end
  return tonumber(v, 8)
end

function types.seconds(v)
  if type(v) ~= "number" or v ~= v then
    return must("a number of seconds", v)
  elseif v < 0 then
    return nil, ("must not be negative, got %s"):format(v)
  elseif v > MAX_SECONDS then
    return nil, ("must be at most %d seconds (leave it out for no limit), got %s"):format(MAX_SECONDS, v)
  end
  return v
end

types["positive seconds"] = function(v)
  if v == 0 then
    return nil, "must be more than 0 seconds"
  end
  return types.seconds(v)
end

function types.signal(v)
  local number = signal.number(v)
  if not number then
    return must('a signal such as "TERM" or 15', v)
  end
  return signal.name(number)
end

-- A list of strings without holes.
function types.words(v)
  if type(v) ~= "table" then
    return must("a list of strings", v)
  end
  local words, count, problem = {}, value.list(v)
  if not count then
    return nil, problem
  end
  for i = 1, count do
    local word, wrong = types.text(v[i])
    if not word then
      return nil, ("[%d] %s"):format(i, wrong)
    end
    words[i] = word
  end
  return words
end

function types.entrypoint(v)
  if v == false then
    return false
  elseif type(v) ~= "table" then
    return must("a list of strings, or false", v)
  end
  local words, problem = types.words(v)
  if not words then
    return nil, problem
  elseif #words == 0 then
    return nil, "must not be an empty list (false leaves the Entrypoint out)"
  elseif words[1] == "" then
    return nil, "names no program: its first string is empty"
  end
  return words
end

local function env_name(name)
  if type(name) ~= "string" then
    return nil, ("has a name that is not a string: %s"):format(describe(name))
  elseif name == "" then
    return nil, "has an empty name"
  elseif name:find("=", 1, true) then
    return nil, ("has a name with '=' in it: %s (write NAME = \"value\")"):format(describe(name))
  elseif name:find("\0", 1, true) then
    return nil, ("has a name with a NUL byte in it: %s"):format(describe(name))
  end
  return name
end

local function env_value(name, v)
  if v == false then
    return false
  elseif math.type(v) then
    return tostring(v)
  elseif type(v) ~= "string" then
    return nil, ("%s must be a string, a number or false, got %s"):format(name, describe(v))
  elseif v:find("\0", 1, true) then
    return nil, ("%s must not contain a NUL byte"):format(name)
  end
  return v
end

local function pass_names(v, count, env)
  for i = 1, count do
    local name, problem = env_name(v[i])
    if not name then
      return nil, problem
    elseif v[name] ~= nil then
      return nil, ("gives %s twice: in the list and in the map"):format(name)
    end
    env[name] = os.getenv(name)
  end
  return env
end

function types.env(v)
  if type(v) ~= "table" then
    return must("a map of names to values", v)
  end
  local env, count, problem = {}, value.list(v, true)
  if not count then
    return nil, problem
  end
  for name, given in pairs(v) do
    if not math.type(name) then
      name, problem = env_name(name)
      if not name then
        return nil, problem
      end
      env[name], problem = env_value(name, given)
      if problem then
        return nil, problem
      end
    end
  end
  return pass_names(v, count, env)
end

local size_keys = { "rows", "cols" }

function types.tty(v)
  if type(v) == "boolean" then
    return v and {}
  elseif type(v) ~= "table" then
    return must("a boolean or { rows =, cols = }", v)
  end
  for key in pairs(v) do
    if key ~= "rows" and key ~= "cols" then
      return nil, value.unknown_key(key, size_keys)
    end
  end
  local size = {}
  for _, key in ipairs(size_keys) do
    size[key] = value.integer(v[key])
    if not size[key] or size[key] < 1 or size[key] > MAX_ROWS then
      return must(("{ rows =, cols = } with numbers from 1 to %d"):format(MAX_ROWS), v)
    end
  end
  return size
end

function types.input(v)
  if type(v) ~= "string" and type(v) ~= "function" then
    return must("a string or a function", v)
  end
  return v
end

-- One of the three streams.
local function stream(words, takes_function)
  local known = {}
  for i, word in ipairs(words) do
    known[word], words[i] = true, ('"%s"'):format(word)
  end
  local what = table.concat(words, ", ") .. ", an open file or a descriptor"
    .. (takes_function and ", or a function" or "")
  return function(v)
    if known[v] or takes_function and type(v) == "function" then
      return v
    end
    local handle, problem = value.handle(v)
    if handle then
      return handle
    elseif problem then
      return nil, problem
    end
    return must(what, v)
  end
end

types.stdin = stream { "null", "inherit", "pipe" }
types.stdout = stream({ "capture", "log", "pipe", "inherit", "null" }, true)
types.stderr = stream({ "capture", "log", "pipe", "inherit", "null", "stdout" }, true)

function types.layer(v)
  local folder, problem = types.path(v)
  if not folder then
    return nil, problem
  elseif folder ~= "discard" then
    return unsupported(("as %s"):format(describe(v)), 'what the box writes is discarded')
  end
  return folder
end

types.userns = one_of { "auto", "single", "keep-id", "host" }

function types.id_map(v)
  local ok, problem = idrows.check(v)
  if not ok then
    return nil, "is no id map: " .. problem
  end
  local rows = {}
  for i, row in ipairs(v) do
    rows[i] = { row[1], row[2], row[3] }
  end
  return rows
end

function types.network(v)
  if value.is_box(v) then
    local spec, problem = namespaces.of_box("net", v)
    return spec and spec.path, problem
  elseif v == "none" or v == "host" then
    return v
  elseif type(v) ~= "string" or not v:find("/", 1, true) then
    local near = type(v) == "string" and E.nearest(v, { "none", "host" })
    return nil, select(2, must('"none", "host" or the path of a network namespace', v))
      .. (near and ("; did you mean \"%s\"?"):format(near) or "")
  end
  return types.path(v)
end

for _, checkers in ipairs { attributes.checkers, resources.checkers } do
  for name, checker in pairs(checkers) do
    types[name] = checker
  end
end
types.capabilities = caps.check
types.namespaces = namespaces.check
types.fds = fds.check
types.mounts = mounts.check
types.user = user.user
types.groups = user.groups

return types
