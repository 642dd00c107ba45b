-- The option `mounts`: rows { type, source, target, options, idmap, optional }, "SRC:DST[:OPTIONS]", or one path for
-- the same place.

local E = require "nsbox.error"
local value = require "nsbox.options.value"

local must = value.must

local MAX_PATH = 4095 -- PATH_MAX without its NUL
local MAX_MOUNTS = 100 -- each takes three of the plan's slots

local keys = { "type", "source", "target", "options", "idmap", "optional" }
local is_key = {}
for _, key in ipairs(keys) do
  is_key[key] = true
end

-- docker's names.
local other_keys = { src = "source", dst = "target", destination = "target", readonly = 'options = "ro"',
  ro = 'options = "ro"', read_only = 'options = "ro"' }

-- What an option does: nosuid and nodev are there unless their opposites are named.
local words = {
  ro = { "ro", true }, rw = { "ro", false }, nosuid = { "nosuid", true }, suid = { "nosuid", false },
  nodev = { "nodev", true }, dev = { "nodev", false }, noexec = { "noexec", true }, exec = { "noexec", false },
  idmap = { "idmap", true }, bind = {}, rbind = {}, private = {}, rprivate = {},
}

local known = {}
for word in pairs(words) do
  known[#known + 1] = word
end
table.sort(known)

-- In the order in which a configuration shows them.
local flags = { "ro", "nosuid", "nodev", "noexec" }

local function path(v, what)
  if type(v) ~= "string" or v == "" then
    return must(("a path as %s"):format(what), v)
  elseif v:find("\0", 1, true) then
    return nil, ("has a %s with a NUL byte: %s"):format(what, value.describe(v))
  elseif #v > MAX_PATH then
    return nil, ("has a %s of more than %d bytes"):format(what, MAX_PATH)
  end
  return v
end

-- Without "." and doubled slashes. What lies on /proc and /sys is the kernel's, and the box's masks.
local function target(v)
  local given, problem = path(v, "target")
  if not given then
    return nil, problem
  elseif given:sub(1, 1) ~= "/" then
    return nil, ("must have an absolute path in the box as target, got %s"):format(value.describe(given))
  end
  local parts = {}
  for part in given:gmatch "[^/]+" do
    if part == ".." then
      return nil, ("must have a target without '..', got %s"):format(value.describe(given))
    end
    parts[#parts + 1] = part ~= "." and part or nil
  end
  if #parts == 0 then
    return nil, "cannot have / as target: the image is the first argument"
  elseif parts[1] == "proc" or parts[1] == "sys" then
    return nil, ("cannot have a target in /%s, got %s"):format(parts[1], value.describe(given))
  end
  return "/" .. table.concat(parts, "/")
end

local function list_of(options)
  if options == nil then
    return {}
  elseif type(options) == "string" then
    local list = {}
    for word in (options .. ","):gmatch "([^,]*)," do
      list[#list + 1] = word
    end
    return list
  elseif type(options) ~= "table" then
    return must("a list or text of mount options", options)
  end
  local count, problem = value.list(options)
  return count and options, problem
end

local function read_options(row, options)
  local list, problem = list_of(options)
  if not list then
    return nil, problem
  end
  for _, word in ipairs(list) do
    local effect = words[word]
    if not effect then
      local near = type(word) == "string" and E.nearest(word, known)
      return nil, ("has the mount option %s%s"):format(value.describe(word), near and
        ("; did you mean '%s'?"):format(near) or (", and knows only: " .. table.concat(known, " ")))
    elseif effect[1] then
      row[effect[1]] = effect[2]
    end
  end
  return true
end

local function options_of(row)
  local list = { "rbind" }
  for _, flag in ipairs(flags) do
    list[#list + 1] = row[flag] and flag or nil
  end
  return list
end

local function finish(given, options)
  local row = { nosuid = true, nodev = true, idmap = given.idmap }
  local source, problem = path(given.source, "source")
  if not source then
    return nil, problem
  end
  local at
  at, problem = target(given.target)
  if not at then
    return nil, problem
  end
  local ok
  ok, problem = read_options(row, options)
  if not ok then
    return nil, problem
  end
  return { source = source, target = at, options = options_of(row), idmap = row.idmap or nil,
    optional = given.optional or nil }
end

local function from_text(text)
  local parts = {}
  for part in (text .. ":"):gmatch "([^:]*):" do
    parts[#parts + 1] = part
  end
  if #parts > 3 then
    return nil, ("must be \"SRC:DST[:OPTIONS]\", got %s (a path with a colon takes a row)"):format(value.describe(text))
  elseif #parts == 1 then
    return finish { source = text, target = text }
  end
  return finish({ source = parts[1], target = parts[2] }, parts[3])
end

local function from_row(row)
  for key in pairs(row) do
    if other_keys[key] then
      return nil, ("has no key '%s': use %s"):format(key, other_keys[key])
    elseif not is_key[key] then
      return nil, value.unknown_key(key, keys)
    end
  end
  for _, key in ipairs { "idmap", "optional" } do
    if row[key] ~= nil and type(row[key]) ~= "boolean" then
      return nil, ("%s %s"):format(key, select(2, must("a boolean", row[key])))
    end
  end
  if row.type ~= nil and row.type ~= "bind" then
    if type(row.type) ~= "string" then
      return must('a type such as "bind"', row.type)
    end
    return value.unsupported(("with the type %s"):format(value.describe(row.type)), 'the type "bind" is')
  end
  return finish(row, row.options)
end

local function one(v)
  if type(v) == "string" then
    return from_text(v)
  elseif type(v) == "table" then
    return from_row(v)
  end
  return must("a row or text such as \"SRC:DST\"", v)
end

--- The option `mounts`: a list of { source, target, options = OCI's, idmap, optional }, as types.lua's checkers answer.
-- The source of one path for the same place has to be absolute.
local function check(v)
  if type(v) ~= "table" then
    return must('a list of rows or texts such as "SRC:DST[:ro]"', v)
  end
  local count, problem = value.list(v)
  if not count then
    return nil, problem
  elseif count > MAX_MOUNTS then
    return nil, ("must have at most %d mounts, got %d"):format(MAX_MOUNTS, count)
  end
  local list, taken = {}, {}
  for i = 1, count do
    local row, wrong, unsupported = one(v[i])
    if not row then
      return nil, ("[%d] %s"):format(i, wrong), unsupported
    elseif taken[row.target] then
      return nil, ("[%d] has the target of [%d]: %s"):format(i, taken[row.target], row.target)
    end
    list[i], taken[row.target] = row, i
  end
  return list
end

return { check = check }
