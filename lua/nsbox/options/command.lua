-- The command argument: its form, and whether the kernel can take it at all.

local E = require "nsbox.error"
local types = require "nsbox.options.types"
local value = require "nsbox.options.value"

-- What execve accepts at most, whatever the limits of the process are: MAX_ARG_STRLEN with its NUL, and three
-- quarters of _STK_LIM for all strings and the pointers to them.
local MAX_STRING = 131072
local MAX_TOTAL = 6 * 1024 * 1024
local POINTER = 8
local E2BIG = 7

-- Verbs whose command comes first: they are methods of a box.
local command_first = { exec = true, spawn = true, ["box:call"] = true }

local function check_list(verb, cmd)
  for key in pairs(cmd) do
    if type(key) == "string" then
      E.misuse("nsbox.%s: options are the %s argument (the command has the key %s)", verb,
        command_first[verb] and "second" or "third", value.describe(key))
    end
  end
  local words, problem = types.words(cmd)
  if not words then
    E.misuse("nsbox.%s: the command %s", verb, problem)
  elseif #words == 0 then
    E.misuse("nsbox.%s: the command must not be an empty list (nil takes the image's)", verb)
  elseif words[1] == "" then
    E.misuse("nsbox.%s: the command names no program: its first string is empty", verb)
  end
  return words
end

local function check_string(verb, cmd)
  local text, problem = types.text(cmd)
  if not text then
    E.misuse("nsbox.%s: the command %s", verb, problem)
  elseif text == "" then
    E.misuse("nsbox.%s: the command must not be an empty string", verb)
  end
  return text
end

local function strings(cmd, opts)
  local list = {}
  if type(cmd) == "string" then
    list = { { "/bin/sh" }, { "-c" }, { cmd, "the command" } }
  else
    for i, word in ipairs(opts.entrypoint or {}) do
      list[#list + 1] = { word, ("entrypoint[%d]"):format(i) }
    end
    for i, word in ipairs(cmd or {}) do
      list[#list + 1] = { word, ("argument [%d] of the command"):format(i) }
    end
  end
  for name, text in pairs(opts.env or {}) do
    if text then
      list[#list + 1] = { name .. "=" .. text, "environment variable " .. name }
    end
  end
  return list
end

local function too_big(verb, what, bytes, most)
  return E.fail {
    kind = "exec", verb = verb, errno = E2BIG, name = "E2BIG",
    message = ("%s is %d bytes long, the kernel takes at most %d"):format(what, bytes, most),
    hint = "give it as input, or in a file",
  }
end

local function check_size(verb, cmd, opts)
  local total = 0
  for _, entry in ipairs(strings(cmd, opts)) do
    local text, what = entry[1], entry[2]
    if #text >= MAX_STRING then
      return too_big(verb, what, #text, MAX_STRING - 1)
    end
    total = total + #text + 1 + POINTER
  end
  if total > MAX_TOTAL then
    return too_big(verb, "the command with its environment", total, MAX_TOTAL)
  end
  return true
end

-- The Entrypoint has no part in it.
local function check_idle(verb, opts)
  if opts.init == false then
    E.misuse("nsbox.%s: option 'init' must not be false with the command false: such a box is only init", verb)
  elseif not opts.namespaces.pid.new then
    E.misuse("nsbox.%s: an idle box (command false) needs a pid namespace of its own", verb)
  end
  local fits, err, errno = check_size(verb, {}, { env = opts.env })
  if not fits then
    return nil, err, errno
  end
  return true, false
end

--- Checks the command of a verb; opts are its options as check() returned them.
-- Returns true and the command: a new list of strings, a string (for /bin/sh -c), nil (the image's own) or false (an
-- idle box, only init). Returns nil, Error, errno: kind "exec", E2BIG, when arguments and environment are beyond what
-- the kernel ever takes.
-- Raises at the user's line for an empty command, a hole, a string with a NUL byte, or another type.
local function check(verb, cmd, opts)
  if cmd == false and not command_first[verb] then
    return check_idle(verb, opts)
  elseif cmd == nil and command_first[verb] then
    E.misuse("nsbox.%s: a command is needed", verb)
  elseif type(cmd) == "table" then
    cmd = check_list(verb, cmd)
  elseif type(cmd) == "string" then
    cmd = check_string(verb, cmd)
  elseif cmd ~= nil then
    E.misuse("nsbox.%s: the command must be a list of strings or a string, got %s", verb, value.describe(cmd))
  end
  local fits, err, errno = check_size(verb, cmd, opts)
  if not fits then
    return nil, err, errno
  end
  return true, cmd
end

return {
  check = check,
}
