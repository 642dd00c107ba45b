-- pack.lua: plain Lua values as a string and back, for what goes to another process or into a file: no code is loaded
-- from either, and nothing but Lua is needed. nil, booleans, numbers and strings come out exactly as they went in; a
-- table is copied, also where it occurs twice. What is read may have been written in a box: it is checked.

local MAX_DEPTH = 200

local packers = {}
local pack_value

local function add(out, text)
  out.size = out.size + #text
  if out.size > out.most then
    error({ why = ("larger than %d bytes in all"):format(out.most) }, 0)
  end
  out[#out + 1] = text
end

local function refuse(path, why)
  error({ why = table.concat(path) .. ": " .. why }, 0)
end

local function key_text(key)
  if type(key) == "string" and key:find "^[%a_][%w_]*$" then
    return "." .. key
  end
  return type(key) == "string" and ("[%q]"):format(key) or ("[%s]"):format(tostring(key))
end

packers["nil"] = function(out)
  add(out, "z")
end

function packers.boolean(out, v)
  add(out, v and "t" or "f")
end

function packers.number(out, v)
  add(out, math.type(v) == "integer" and string.pack("<c1i8", "i", v) or string.pack("<c1d", "d", v))
end

function packers.string(out, v)
  add(out, string.pack("<c1I8", "s", #v))
  add(out, v)
end

function packers.table(out, v, path)
  if out.within[v] then
    refuse(path, "a table that holds itself cannot be handed over")
  elseif getmetatable(v) ~= nil or debug.getmetatable(v) then
    refuse(path, "a table with a metatable cannot be handed over")
  elseif #path > MAX_DEPTH then
    refuse({ table.unpack(path, 1, 10) }, ("nested more than %d tables deep"):format(MAX_DEPTH))
  end
  out.within[v] = true
  add(out, "{")
  for key, value in next, v do
    if type(key) == "table" then
      refuse(path, "a table as a key cannot be handed over")
    end
    path[#path + 1] = key_text(key)
    pack_value(out, key, path)
    pack_value(out, value, path)
    path[#path] = nil
  end
  add(out, "}")
  out.within[v] = nil
end

function pack_value(out, v, path)
  local packer = packers[type(v)]
  if not packer then
    refuse(path, ("a %s cannot be handed over"):format(type(v)))
  end
  packer(out, v, path)
end

--- A list of values with their number n -> string | nil, what cannot be handed over and where: "result 2.name[1]: a
-- function cannot be handed over" (what: the word for one of the list). most: bytes, in all.
local function pack(list, most, what)
  local out = { size = 0, most = most or math.huge, within = {} }
  local ok, problem = pcall(function()
    for i = 1, list.n do
      pack_value(out, list[i], { ("%s %d"):format(what or "result", i) })
    end
  end)
  if ok then
    return table.concat(out)
  elseif type(problem) == "table" and problem.why then
    return nil, problem.why
  end
  error(problem, 0)
end

local unpackers = {}

local function unpack_value(text, at, depth)
  local unpacker = unpackers[text:sub(at, at)] or error "unknown type"
  return unpacker(text, at + 1, depth)
end

function unpackers.z(_, at)
  return nil, at
end

function unpackers.t(_, at)
  return true, at
end

function unpackers.f(_, at)
  return false, at
end

function unpackers.i(text, at)
  return string.unpack("<i8", text, at)
end

function unpackers.d(text, at)
  return string.unpack("<d", text, at)
end

function unpackers.s(text, at)
  return string.unpack("<s8", text, at)
end

unpackers["{"] = function(text, at, depth)
  local v = {}
  if depth > MAX_DEPTH then
    error "nested too deep"
  end
  while text:sub(at, at) ~= "}" do
    local key, value
    key, at = unpack_value(text, at, depth + 1)
    value, at = unpack_value(text, at, depth + 1)
    v[key] = value -- raises for nil and NaN
  end
  return v, at + 1
end

--- What pack made -> the list with its number n | nil for anything else.
local function unpack(text)
  local list, at = { n = 0 }, 1
  local ok = pcall(function()
    while at <= #text do
      list.n = list.n + 1
      list[list.n], at = unpack_value(text, at, 1)
    end
  end)
  return ok and list or nil
end

--- One value -> string | nil, what cannot be handed over and where, as pack has it.
local function encode(v)
  return pack({ v, n = 1 }, nil, "value")
end

--- What encode made -> the value | nil for anything else.
local function decode(text)
  local list = unpack(text)
  return list and list.n == 1 and list[1] or nil
end

return { pack = pack, unpack = unpack, encode = encode, decode = decode }
