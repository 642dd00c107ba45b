-- loop/own.lua: waits in coroutines of a loop that nsbox does not know, by a function of the program's.

local hub = require "nsbox.loop.hub"

local SLICE = 1 -- seconds

--- The loop for wait.lua. Its field fn is function(fds, deadline): see nsbox.use.
local function open()
  local own = hub.new(true, SLICE, function() end)
  local loop
  local function watch(number, due)
    loop.fn({ { fd = number, events = "in" } }, due)
  end
  loop = own:loop(coroutine.isyieldable, function(request) own:pause(request, watch) end)
  return loop
end

return { open = open }
