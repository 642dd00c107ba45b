-- Where a program must have come to something before a time that is itself tried, a timeout: asserts that fn(seconds)
-- answers `expected`. Where it does not, the machine may have been too slow: it is tried again with more time.
local assert = require "luassert"
local deepcompare = require("luassert.util").deepcompare
local helper = require "spec.helper"

return function(seconds, expected, fn)
  while true do
    local seen = fn(seconds)
    local last = seconds * 5 > helper.PATIENCE
    if last or deepcompare(expected, seen) then return assert.same(expected, seen) end
    seconds = seconds * 5
  end
end
