-- Options: what a user may pass, checked against the schema, completed and brought into one form.
-- Here nothing is made and nothing is looked up but the caller's environment.

local E = require "nsbox.error"
local attributes = require "nsbox.options.attributes"
local command = require "nsbox.options.command"
local resources = require "nsbox.options.resources"
local schema = require "nsbox.options.schema"
local sorted = require "nsbox.sorted"
local types = require "nsbox.options.types"
local value = require "nsbox.options.value"

-- Verbs that add a process to a running box: they take the rows marked exec, and no others.
local joining = { exec = true, spawn = true, ["box:call"] = true }

-- The verb that changes a running box: it takes the rows marked update, and no others.
local updating = { ["box:update"] = true }

-- Verbs that run a function: they take no row marked command.
local calling = { call = true, ["box:call"] = true }

local by_name, answers, known, other_names = {}, {}, {}, {}

local function index_rows()
  for _, row in ipairs(schema.rows) do
    by_name[row.name] = row
    known[#known + 1] = row.name
  end
  local foreign = { schema.foreign }
  for _, row in ipairs(schema.rows) do
    foreign[#foreign + 1] = row.aliases
  end
  for _, names in ipairs(foreign) do
    for name, answer in pairs(names) do
      answers[name] = answer
      other_names[#other_names + 1] = name
    end
  end
  table.sort(other_names)
end

index_rows()

local function wrong(verb, name, problem)
  E.misuse("nsbox.%s: option '%s' %s", verb, name, problem)
end

local function unknown_option(verb, key)
  if type(key) ~= "string" then
    E.misuse("nsbox.%s: options have names, got the key %s", verb, value.describe(key))
  elseif answers[key] then
    E.misuse("nsbox.%s: unknown option '%s': %s", verb, key, answers[key])
  end
  local near, foreign = E.nearest(key, known), E.nearest(key, other_names)
  if not near and foreign then
    E.misuse("nsbox.%s: unknown option '%s': %s", verb, key, answers[foreign])
  end
  local hint = near and ("; did you mean '%s'?"):format(near) or ""
  E.misuse("nsbox.%s: unknown option %s%s", verb, value.describe(key), hint)
end

local function check_names(verb, opts)
  for key in pairs(opts) do
    local row = by_name[key]
    if not row then
      unknown_option(verb, key)
    elseif joining[verb] and not row.exec then
      wrong(verb, key, "belongs to the whole box: give it to nsbox.run or nsbox.start")
    elseif updating[verb] and not row.update then
      wrong(verb, key, "is fixed at the start of a box: give it to nsbox.run or nsbox.start")
    elseif calling[verb] and row.command then
      wrong(verb, key, "is for commands, and a function in a box is none")
    end
  end
end

-- A row that is not built is checked too where its checker exists: misuse is misuse, today and later.
local function check_value(row, given)
  local checker = types[row.type]
  local checked, problem, unsupported
  if checker then
    checked, problem, unsupported = checker(given)
  end
  if row.later and not problem then
    return nil, ("is not built yet (it waits for %s)"):format(row.later), true
  end
  return checked, problem, unsupported
end

local function default(row, verb)
  local given = row.defaults and row.defaults[verb] or row.default
  if type(given) == "table" then
    return types[row.type] and types[row.type](given) or {}
  elseif given == nil or row.defaults or not types[row.type] then
    return given
  end
  return (types[row.type](given))
end

local function takes(verb, row)
  if updating[verb] then
    return row.update
  end
  return row.exec or not joining[verb]
end

local defaults_of = {} -- verb -> { shared = name -> value, own = rows whose default is a table: a new one each time }

local function read_defaults(verb)
  local ready = { shared = {}, own = {} }
  for _, row in ipairs(schema.rows) do
    if takes(verb, row) then
      local value_ = default(row, verb)
      if type(value_) == "table" then
        ready.own[#ready.own + 1] = row
      else
        ready.shared[row.name] = value_
      end
    end
  end
  defaults_of[verb] = ready
  return ready
end

local function fill_defaults(verb)
  local ready = defaults_of[verb] or read_defaults(verb)
  local filled = {}
  for name, v in pairs(ready.shared) do
    filled[name] = v
  end
  for _, row in ipairs(ready.own) do
    filled[row.name] = default(row, verb)
  end
  return filled
end

-- The first kernel parameter of a namespace that the box does not have as its own.
local function foreign_parameter(checked)
  for name in pairs(checked.sysctls or {}) do
    local kind = attributes.namespace_of(name)
    if not checked.namespaces[kind].new or kind == "net" and checked.network ~= "none" then
      return ("%s, which needs a %s namespace of the box's own"):format(name, kind)
    end
  end
end

-- What cannot be wanted together: option, problem (with a %s for what was found, if it has one), test.
-- given: as the user wrote it; checked: normalised.
local conflicts = {
  { "input", "excludes stdin: both say what the command reads", function(given)
    return given.input ~= nil and given.stdin ~= nil
  end },
  { "read_only", "excludes layer: nothing can be written", function(given)
    return given.read_only and given.layer ~= nil
  end },
  { "network", "excludes namespaces.net: both choose the network namespace", function(given)
    return given.network ~= nil and type(given.namespaces) == "table" and given.namespaces.net ~= nil
  end },
  { "userns", "excludes namespaces.user: both choose the user namespace", function(given)
    return given.userns ~= nil and type(given.namespaces) == "table" and given.namespaces.user ~= nil
  end },
  { "uid_map", "excludes userns: both say whose ids the box has", function(given)
    return given.uid_map ~= nil and given.userns ~= nil
  end },
  { "uid_map", "needs gid_map: which groups the box has", function(given)
    return given.uid_map ~= nil and given.gid_map == nil
  end },
  { "gid_map", "needs uid_map: which users the box has", function(given)
    return given.gid_map ~= nil and given.uid_map == nil
  end },
  { "uid_map", "needs a user namespace of the box's own", function(given, checked)
    return given.uid_map ~= nil and not checked.namespaces.user.new
  end },
  { "detach", "belongs to nsbox.start", function(_, checked, verb)
    return checked.detach and verb == "run"
  end },
  { "stderr", "excludes tty: a terminal has one output stream, stdout", function(given, checked)
    return checked.tty and given.stderr ~= nil and given.stderr ~= "stdout"
  end },
  { "init", "needs a pid namespace of the box's own", function(given, checked)
    return given.init and checked.namespaces and not checked.namespaces.pid.new
  end },
  { "mounts", "needs a mount namespace of the box's own", function(_, checked)
    return checked.mounts and next(checked.mounts) and not checked.namespaces.mount.new
  end },
  { "hostname", "needs a uts namespace of the box's own", function(given, checked)
    return given.hostname ~= nil and checked.namespaces and not checked.namespaces.uts.new
  end },
  { "cap_add", 'must not be "all" with "all" in cap_drop', function(_, checked)
    return checked.cap_add and checked.cap_add.all and checked.cap_drop and checked.cap_drop.all
  end },
  { "sysctls", "must not have %s", function(_, checked)
    return foreign_parameter(checked)
  end },
  { "disable_userns", "needs a user namespace of the box's own: it limits that", function(_, checked)
    return checked.disable_userns and not checked.namespaces.user.new
  end },
  { "domainname", "needs a uts namespace of the box's own", function(given, checked)
    return given.domainname ~= nil and checked.namespaces and not checked.namespaces.uts.new
  end },
}

table.move(resources.conflicts, 1, #resources.conflicts, #conflicts + 1, conflicts)

-- Verbs that answer with a Result, or a function's results, have no handle by which a pipe could be reached.
local without_handle = { run = true, exec = true, explain = true, call = true, ["box:call"] = true }

-- What a box has after an update, but for one thing that it had.
local function after_update(checked, in_force, but)
  local after = {}
  for name, v in pairs(in_force) do
    after[name] = name ~= but and v or nil
  end
  for name, v in pairs(checked) do
    after[name] = v
  end
  return after
end

-- What of in_force an update cannot be wanted together with: the fields of an Error.
local function clash(verb, checked, in_force, problem, applies)
  for _, name in ipairs(sorted(in_force)) do
    if not applies({}, after_update(checked, in_force, name), verb) then
      local v = math.type(in_force[name]) and in_force[name] .. " " or ""
      return { kind = "limit", verb = verb, message = ("%s: %s is %sfrom before"):format(problem, name, v),
        hint = by_name[name].update and ("give %s, too"):format(name) or nil }
    end
  end
end

-- in_force: of an update, or nil. What is wrong because of that the user need not know: the fields of an Error, or nil.
local function check_conflicts(verb, given, checked, in_force)
  local after, refusal = in_force and after_update(checked, in_force) or checked, nil
  for _, conflict in ipairs(conflicts) do
    local name, problem, applies = table.unpack(conflict)
    local found = applies(given, after, verb)
    if found and applies(given, checked, verb) then
      wrong(verb, name, problem:format(found))
    elseif found and not applies(given, in_force, verb) then -- else it was so before
      problem = ("option '%s' %s"):format(name, problem:format(found))
      refusal = refusal or clash(verb, checked, in_force, problem, applies)
    end
  end
  for _, name in ipairs { "stdin", "stdout", "stderr" } do
    if without_handle[verb] and given[name] == "pipe" then
      wrong(verb, name, "cannot be a pipe: there is no handle to reach it by; use nsbox.start or box:spawn")
    end
  end
  return refusal
end

-- `network` is a short way to say namespaces.net: from here on both say the same.
local function settle_network(given, checked)
  local namespaces = checked.namespaces
  if given.network ~= nil then
    local new = { none = { new = true }, host = { new = false } }
    namespaces.net = new[checked.network] or { path = checked.network }
  elseif namespaces.net.new == nil then
    checked.network = namespaces.net.path
  else
    checked.network = namespaces.net.new and "none" or "host"
  end
end

-- The same of `userns`.
local function settle_userns(checked)
  if checked.userns == "host" then
    checked.namespaces.user = { new = false }
  elseif checked.namespaces.user.new == false then
    checked.userns = "host"
  end
end

local function check_all(verb, opts, in_force)
  if type(opts) ~= "table" then
    E.misuse("nsbox.%s: options must be a table, got %s", verb, value.describe(opts))
  end
  check_names(verb, opts)
  local given, checked, refusal = {}, fill_defaults(verb), nil
  for _, row in ipairs((next(opts) ~= nil or getmetatable(opts)) and schema.rows or {}) do
    local name = row.name
    given[name] = opts[name]
    if given[name] ~= nil then
      local problem, unsupported
      checked[name], problem, unsupported = check_value(row, given[name])
      if problem and not unsupported then
        wrong(verb, name, problem)
      elseif problem and not refusal then
        refusal = { kind = "unsupported", verb = verb, message = ("option '%s' %s"):format(name, problem) }
      end
    end
  end
  if checked.namespaces and checked.userns then
    settle_userns(checked) -- before what must have a user namespace is looked at
  end
  local refused = check_conflicts(verb, given, checked, in_force)
  refusal = refusal or refused
  if refusal then
    return E.fail(refusal)
  elseif checked.namespaces then
    settle_network(given, checked)
  end
  local stdin = given.stdin ~= nil or given.input ~= nil
  checked.named = { stdin = stdin, stdout = given.stdout ~= nil, stderr = given.stderr ~= nil }
  return checked
end

local without = {} -- verb -> what is checked when no options are given

--- Checks the options of a verb ("run", "start", "exec", ...) and returns a table, to be read only: every option
-- normalised, with defaults filled in. Options that are not built have their defaults too. Beyond the options it has
-- named = { stdin =, stdout =, stderr = }: which streams the user named (input names stdin).
-- Returns nil, Error (kind "unsupported"), nil for an option or value that is not built yet.
-- Raises at the user's line for misuse: unknown names, wrong types, impossible values and combinations.
-- in_force: of the verb "box:update", the options that the box has; new ones that do not go with these are an Error of
-- kind "limit".
local function check(verb, opts, in_force)
  if opts ~= nil then
    return check_all(verb, opts, in_force)
  end
  without[verb] = without[verb] or check_all(verb, {})
  return without[verb]
end

return {
  check = check,
  command = command.check,
  size = value.size,
  rows = schema.rows,
  answers = answers,
}
