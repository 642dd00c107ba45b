-- loop/copas.lua: waits in coroutines of copas. It waits for nothing but sockets: what it gets is something that
-- luasocket's select and copas.receive take for one.

local E = require "nsbox.error"
local hub = require "nsbox.loop.hub"

local SLICE = 0.2 -- seconds; luasocket's select sleeps on when a signal comes, and Ctrl-C would not be seen

local socket = {}
local socket_mt = { __name = "nsbox.socket", __index = socket }

function socket:getfd()
  return self.number
end

function socket.dirty()
  return false
end

-- The first time there is nothing, and copas yields until select finds it ready.
function socket:receive()
  if not self.asked then
    self.asked = true
    return nil, "timeout"
  end
  return ""
end

--- The loop for wait.lua | nil, err.
local function open()
  local ok, copas = pcall(require, "copas")
  if not ok then
    return E.fail { kind = "unsupported", verb = "use", hint = "install the rock copas",
      message = "the module copas cannot be loaded: " .. copas:match "[^\n]*" }
  end
  local own
  own = hub.new(true, SLICE, function() end)
  local function here()
    return copas.running ~= false and coroutine.isyieldable()
  end
  local function watch(number)
    copas.receive(setmetatable({ number = number }, socket_mt), 1)
  end
  return own:loop(here, function(request) own:pause(request, watch) end)
end

return { open = open }
