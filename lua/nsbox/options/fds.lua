-- The option `fds`: which numbers may be asked for, and what may stand behind them.

local value = require "nsbox.options.value"

local MIN_FD = 3 -- 0, 1 and 2 are options of their own
local MAX_FD = 1023 -- what fits below the usual limit of 1024, and into the fd_set of a program that uses select
local MAX_FDS = 256 -- the plan has a slot for each

local streams = { [0] = "stdin", "stdout", "stderr" }

local function fd_number(key)
  local n = value.integer(key)
  if n and n >= 0 and n < MIN_FD then
    return nil, ("has the number %d: that is %s"):format(n, streams[n])
  elseif not n or n < MIN_FD or n > MAX_FD then
    return nil, ("has the key %s: a number from %d to %d is expected"):format(value.describe(key), MIN_FD, MAX_FD)
  end
  return n
end

--- The option `fds`: a map of numbers to open files or descriptors, as types.lua's checkers answer.
local function check(v)
  if type(v) ~= "table" or value.is_file(v) then
    return value.must("a map of numbers to open files or descriptors", v)
  end
  local fds, count = {}, 0
  for key, given in pairs(v) do
    local n, wrong = fd_number(key)
    if not n then
      return nil, wrong
    end
    local handle, problem = value.handle(given)
    if not handle then
      problem = problem or select(2, value.must("an open file or a descriptor", given))
      return nil, ("[%d] %s"):format(n, problem)
    end
    fds[n], count = handle, count + 1
  end
  if count > MAX_FDS then
    return nil, ("must have at most %d descriptors, got %d"):format(MAX_FDS, count)
  end
  return fds
end

return { check = check }
