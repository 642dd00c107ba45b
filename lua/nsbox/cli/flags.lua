-- Flags of the nsbox command, as the schema spells them, into options.

local E = require "nsbox.error"
local options = require "nsbox.options"

local rows, spellings, by_option = {}, {}, {}

for _, row in ipairs(options.rows) do
  by_option[row.name] = row.cli
  for _, flag in ipairs(row.cli or {}) do
    rows[flag] = row
    spellings[#spellings + 1] = flag
  end
end

-- How the text after a flag becomes the value of its option; what is not here stays text, and the schema judges it.
local readers = {}

local function to_number(_, text)
  return tonumber(text) or text
end

readers.integer = to_number
readers.number = to_number
readers.seconds = to_number
readers["positive seconds"] = to_number

readers["cpu count"] = to_number
readers["cpu weight"] = to_number
readers.pids = to_number
readers["oom score"] = to_number
readers.nice = to_number

-- Of a flag that may be repeated: one more.
local function append(list, text)
  list = list or {}
  list[#list + 1] = text
  return list
end

readers.capabilities = append
readers.groups = append
readers["device rules"] = append
readers.degrade = append

-- NAME=TEXT; a name alone stands for an empty text.
local function named(map, text)
  map = map or {}
  local name, value = text:match("^([^=]*)=(.*)$")
  map[name or text] = value or ""
  return map
end

readers.labels = named
readers.sysctls = named
readers["cgroup keys"] = named

local rates = { ["--device-read-bps"] = "rbps", ["--device-write-bps"] = "wbps", ["--device-read-iops"] = "riops",
  ["--device-write-iops"] = "wiops" }

-- docker's DEV:RATE, and the one weight.
function readers.io(io, text, flag)
  io = io or {}
  if flag == "--blkio-weight" then
    io.weight = to_number(nil, text)
    return io
  end
  local device, rate = text:match "^(.*):([^:]*)$"
  device = device or text
  io[device] = type(io[device]) == "table" and io[device] or {}
  io[device][rates[flag]] = to_number(nil, rate or "")
  return io
end

-- docker's NAME=SOFT[:HARD], in which -1 is no limit.
local function limit(text)
  if text == "-1" or text == "unlimited" then
    return "inf"
  end
  return math.tointeger(tonumber(text)) or text
end

function readers.rlimits(limits, text)
  limits = limits or {}
  local name, value = text:match("^([^=]*)=(.*)$")
  local soft, hard = (value or ""):match("^([^:]*):(.*)$")
  limits[name or text] = soft and { limit(soft), limit(hard) } or limit(value or "")
  return limits
end

local privileges = { ["no-new-privileges"] = true, ["no-new-privileges=true"] = true, ["no-new-privileges:true"] = true,
  ["no-new-privileges=false"] = false, ["no-new-privileges:false"] = false }

-- Of docker's security options this one.
function readers.no_new_privs(_, text)
  return privileges[text]
end

-- docker's way to leave the image's Entrypoint out is an empty one.
function readers.entrypoint(_, text)
  return text ~= "" and { text }
end

local switches = { ["true"] = true, ["1"] = true, ["false"] = false, ["0"] = false }

local is_switch = { readonly = "ro", ro = "ro", idmap = "idmap", optional = "optional" }
local other_names = { src = "source", destination = "target", dst = "target" }

-- docker's --mount: type=bind,source=DIR,target=DIR,readonly. What is wrong is kept for the option's checker to name.
local function mount_row(text)
  local row = { options = {} }
  for word in text:gmatch "[^,]+" do
    local key, v = word:match "^([^=]+)=(.*)$"
    local switch, on = is_switch[key or word], switches[v or "true"]
    if switch == "ro" then
      row.options[#row.options + 1] = on == nil and word or on and "ro" or "rw"
    elseif switch then
      row[switch] = on == nil and v or on
    elseif (key or word) == "options" then
      row.options[#row.options + 1] = v or ""
    else
      row[other_names[key] or key or word] = v or true
    end
  end
  return row
end

function readers.mounts(list, text, flag)
  list = list or {}
  list[#list + 1] = flag == "--mount" and mount_row(text) or text
  return list
end

-- INSIDE:OUTSIDE:COUNT, as podman has it.
function readers.id_map(map, text)
  map = map or {}
  local row = {}
  for word in text:gmatch "[^:]+" do
    row[#row + 1] = math.tointeger(tonumber(word)) or word
  end
  map[#map + 1] = row
  return map
end

local function forget(list, name)
  for i = #list, 1, -1 do
    if list[i] == name then
      table.remove(list, i)
    end
  end
end

-- NAME=VALUE, or NAME for the caller's value; of two for one name the last counts, as in docker.
function readers.env(env, text)
  env = env or {}
  local name, value = text:match("^([^=]*)=(.*)$")
  forget(env, name or text)
  if name then
    env[name] = value
  else
    env[text] = nil
    env[#env + 1] = text
  end
  return env
end

local function long_of(flags)
  for _, flag in ipairs(flags) do
    if flag:find "^%-%-" then
      return flag
    end
  end
end

-- An option with a value as a command line has it; nil where it cannot.
local function as_flag(name, value)
  local flags = by_option[name]
  if not flags then
    return nil
  elseif flags.bare == nil then
    return long_of(flags) .. " " .. value
  end
  return value == tostring(flags.bare) and long_of(flags) or nil
end

--- A text that speaks of options as a script has them, such as degrade = { "memory" }, with their flags.
local function spelled(text)
  for _, pattern in ipairs { '([%l_]+) = { "([^"]*)" }', '([%l_]+) = "([^"]*)"', "([%l_]+) = (true)" } do
    text = text:gsub(pattern, as_flag)
  end
  return text
end

-- Short flags of docker's that no option has.
local short = { ["-p"] = "publish", ["-P"] = "publish" }

local function unknown_flag(flag)
  local answer = options.answers[short[flag] or flag:gsub("^%-+", ""):gsub("-", "_")]
  if answer then
    return nil, ("unknown flag %s: %s"):format(flag, spelled(answer))
  end
  local near = flag:sub(1, 2) == "--" and E.nearest(flag, spellings)
  return nil, ("unknown flag %s%s"):format(flag, near and ("; did you mean %s?"):format(near) or "")
end

local function store(opts, flag, row, text)
  local reader = readers[row.name] or readers[row.type]
  if flag == "--security-opt" and privileges[text] == nil then
    return nil, ("flag --security-opt knows only no-new-privileges so far, not '%s'"):format(text)
  end
  if reader then
    opts[row.name] = reader(opts[row.name], text, flag)
  elseif row.cli.bare == nil then
    opts[row.name] = text
  elseif switches[text] == nil then
    return nil, ("flag %s takes no value but true or false, got '%s'"):format(flag, text)
  else
    opts[row.name] = switches[text] and row.cli.bare or nil
  end
  return true
end

local function find(flag)
  local row = rows[flag]
  if not row then
    return unknown_flag(flag)
  elseif row.later then
    return nil, ("flag %s (option '%s') is not built yet (it waits for %s)"):format(flag, row.name, row.later)
  end
  return row
end

-- One argument of flags: --long, --long=VALUE, --long VALUE, -s VALUE, -sVALUE, -s=VALUE, -abs VALUE.
-- Returns the index of the next argument, or nil, message.
local function read_flag(argv, i, opts)
  local flag, text = argv[i]:match("^(%-%-[^=]*)=(.*)$")
  local rest = ""
  if not flag then
    flag, rest = argv[i], ""
    if flag:sub(1, 2) ~= "--" then
      flag, rest = flag:sub(1, 2), flag:sub(3)
    end
  end
  local row, message = find(flag)
  if not row then
    return nil, message
  elseif row.cli.bare ~= nil and not text and rest:sub(1, 1) ~= "=" then
    opts[row.name] = row.cli.bare
    if rest == "" then
      return i + 1
    end
    return read_flag({ [i] = "-" .. rest, [i + 1] = argv[i + 1] }, i, opts)
  end
  if rest ~= "" then
    text = rest:gsub("^=", "")
  elseif not text then
    i = i + 1
    text = argv[i]
  end
  if not text then
    return nil, ("flag %s needs a value"):format(flag)
  end
  local stored, problem = store(opts, flag, row, text)
  if not stored then
    return nil, problem
  end
  return i + 1
end

--- Reads flags from argv[first] on; they end at the first argument that is none, or after "--".
-- Returns the options and the index of the argument after the flags, or nil, message.
local function parse(argv, first)
  local opts, i = {}, first
  while argv[i] and argv[i]:find("^%-.") do
    if argv[i] == "--" then
      return opts, i + 1
    end
    local after, message = read_flag(argv, i, opts)
    if not after then
      return nil, message
    end
    i = after
  end
  return opts, i
end

--- Lines of help: the flags that work now; with a star those that exec has too, with a plus those of update.
local function help()
  local lines = {}
  for _, row in ipairs(options.rows) do
    if row.cli and not row.later then
      local flags = table.concat(row.cli, ", ")
      if row.cli.bare == nil then
        flags = flags .. " VALUE"
      end
      local verbs = row.exec and "*" or row.update and "+" or " "
      lines[#lines + 1] = ("%s %-26s %s"):format(verbs, flags, row.cli.doc or row.doc)
    end
  end
  return lines
end

return {
  parse = parse,
  spelled = spelled,
  help = help,
}
