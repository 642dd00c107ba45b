-- Shared by the specs: misuse must be a string at the line of the caller, whose text says what was wrong.

local assert = require "luassert"

local here = debug.getinfo(1, "S").short_src

local function raised_by(f, ...)
  local arguments = table.pack(...)
  local ok, raised = pcall(function()
    f(table.unpack(arguments, 1, arguments.n))
    return true -- no tail call: the line above is the one to be named
  end)
  assert.is_false(ok)
  assert.equal("string", type(raised))
  local text = raised:match("^" .. here:gsub("%p", "%%%0") .. ":%d+: (.*)$")
  assert.is_truthy(text, raised)
  return text
end

--- Fails unless f(...) raises misuse at its caller's line, with the expected part in its text.
local function assert_misuse(expected, f, ...)
  local text = raised_by(f, ...)
  assert.is_truthy(text:find(expected, 1, true), ("%q does not contain %q"):format(text, expected))
end

return assert_misuse
