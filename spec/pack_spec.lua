-- The results of a call as a string and back, and what is refused before anything starts.
local assert_misuse = require "spec.misuse"
local nsbox = require "nsbox"
local pack = require "nsbox.pack"
require("spec.helper").leakcheck { cold = true }

local function round(...)
  local text = assert(pack.pack(table.pack(...)))
  local back = assert(pack.unpack(text))
  return table.unpack(back, 1, back.n)
end

local function refused(expected, ...)
  local text, why = pack.pack(table.pack(...))
  assert.is_nil(text)
  assert.equal(expected, why)
end

-- A plain value by chance.
local function any(depth)
  local kind = math.random(depth > 0 and 8 or 6)
  if kind == 1 then return math.random(0)
  elseif kind == 2 then return string.unpack("<d", string.pack("<i8", math.random(0)))
  elseif kind == 3 then return math.random(2) == 1
  elseif kind <= 6 then
    local bytes = {}
    for i = 1, math.random(0, 20) do bytes[i] = string.char(math.random(0, 255)) end
    return table.concat(bytes)
  end
  local t = {}
  for i = 1, math.random(0, 6) do
    local key = any(0)
    t[key == key and math.random(2) == 1 and key or i] = any(depth - 1) -- NaN is no key
  end
  return t
end

local function same(a, b)
  if type(a) ~= "table" then
    return type(a) == type(b) and math.type(a) == math.type(b) and (a == b or a ~= a and b ~= b)
  end
  for k, v in pairs(a) do
    if not same(v, b[k]) then return false end
  end
  for k in pairs(b) do
    if a[k] == nil then return false end
  end
  return true
end

describe("the results of a call", function()
  it("are what they were, nil among them", function()
    assert.same({ n = 0 }, table.pack(round()))
    assert.same({ n = 3 }, table.pack(round(nil, nil, nil)))
    assert.same({ nil, false, true, "", "a\0b", n = 5 }, table.pack(round(nil, false, true, "", "a\0b")))
  end)

  it("are exact numbers", function()
    for _, v in ipairs { 0, 1, -1, math.maxinteger, math.mininteger, 0.1, 1e308, 5e-324, math.huge, -math.huge, 1.0 } do
      local back = round(v)
      assert.equal(v, back)
      assert.equal(math.type(v), math.type(back))
    end
    assert.equal("-0.0", tostring((round(-0.0))))
    local nan = round(0 / 0)
    assert.is_true(nan ~= nan)
  end)

  it("are tables in tables, with keys of all plain kinds", function()
    local v = { 1, { 2, x = { y = {} } }, [3.5] = "f", [true] = 1, [-1] = 2, ["a b"] = { 0 } }
    assert.same(v, (round(v)))
  end)

  it("may hold a table twice", function()
    local t = { 1 }
    assert.same({ { 1 }, { 1 } }, (round { t, t }))
  end)

  it("of any kind make the round, by chance", function()
    for _ = 1, 500 do
      local v = any(4)
      assert.is_true(same(v, (round(v))))
    end
  end)

  it("are refused by the name of what cannot be handed over", function()
    refused("result 1: a function cannot be handed over", print)
    refused("result 2: a userdata cannot be handed over", 1, io.stdout)
    refused("result 1.a[2]: a thread cannot be handed over", { a = { 1, coroutine.create(print) } })
    refused('result 1["a b"].c: a table with a metatable cannot be handed over',
      { ["a b"] = { c = setmetatable({}, {}) } })
    refused("result 1: a table as a key cannot be handed over", { [{}] = 1 })
    local cycle = { 1 }
    cycle.me = { cycle }
    refused("result 1.me[1]: a table that holds itself cannot be handed over", cycle)
  end)

  it("are refused beyond some depth and some size", function()
    local deep = {}
    for _ = 1, 300 do deep = { deep } end
    local _, why = pack.pack { deep, n = 1 }
    assert.matches("nested more than 200 tables deep", why, 1, true)
    _, why = pack.pack({ ("x"):rep(100), n = 1 }, 50)
    assert.equal("larger than 50 bytes in all", why)
  end)

  it("that are no message of ours are nil, and no error", function()
    local text = pack.pack { { 1, "abc", { true } }, 2.5, n = 2 }
    for i = 1, #text - 1 do
      local back = pack.unpack(text:sub(1, i))
      assert.is_true(back == nil or back.n <= 1)
    end
    for _ = 1, 2000 do
      local at = math.random(#text)
      pack.unpack(text:sub(1, at - 1) .. string.char(math.random(0, 255)) .. text:sub(at + 1))
    end
    assert.is_nil(pack.unpack(("{"):rep(100000)))
    assert.is_nil(pack.unpack "{zz}")
    assert.is_nil(pack.unpack("s" .. ("\255"):rep(8)))
  end)
end)

describe("nsbox.call", function()
  it("raises for what is no function, and for options that are a command's", function()
    assert_misuse("nsbox.call: a function expected, got nil", nsbox.call, "busybox")
    assert_misuse("nsbox.call: a function expected, got a table", nsbox.call, "busybox", { "true" })
    local function f() end
    assert_misuse("option 'check' is for commands", nsbox.call, "busybox", f, { check = true })
    assert_misuse("option 'entrypoint' is for commands", nsbox.call, "busybox", f, { entrypoint = false })
    assert_misuse("option 'stdout' cannot be a pipe", nsbox.call, "busybox", f, { stdout = "pipe" })
    assert_misuse("unknown option 'hostnam'", nsbox.call, "busybox", f, { hostnam = "x" })
  end)

  it("answers unsupported for an option that is not built", function()
    local ok, err = nsbox.call("busybox", function() end, { dns = {} })
    assert.is_nil(ok)
    assert.equal("unsupported", err.kind)
  end)
end)
