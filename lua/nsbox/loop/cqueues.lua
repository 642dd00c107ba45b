-- loop/cqueues.lua: waits in coroutines that a controller of cqueues runs.

local E = require "nsbox.error"
local hub = require "nsbox.loop.hub"
local sys = require "nsbox.sys"

local SLICE = 1 -- seconds

--- The loop for wait.lua | nil, err.
local function open()
  local ok, cqueues = pcall(require, "cqueues")
  if not ok then
    return E.fail { kind = "unsupported", verb = "use", hint = "install Debian's lua-cqueues, or the rock cqueues",
      message = "the module cqueues cannot be loaded: " .. cqueues:match "[^\n]*" }
  end
  -- A number that cqueues knows is told before it is closed: it corrupts its state else.
  local own = hub.new(true, SLICE, cqueues.cancel)
  local function here()
    local controller, is_its_own = cqueues.running()
    return controller ~= nil and is_its_own and coroutine.isyieldable()
  end
  local function watch(number, due)
    cqueues.poll({ pollfd = number, events = "r", timeout = math.max(0, due - sys.clock()) })
  end
  return own:loop(here, function(request) own:pause(request, watch) end)
end

return { open = open }
