-- terminal.lua: the caller's terminal while a box's terminal is relayed to it.

local core = require "nsbox.core"
local keeper = require "nsbox.keeper"

local serving_mt = { __name = "nsbox.terminal" }

local function is_terminal(fd)
  return fd ~= nil and core.winsize(fd) ~= nil
end

--- Settles the size of the box's terminal: as asked, else the caller's, else 24 by 80.
local function size(box, config, o)
  local relay = box.streams.relay
  if not relay then
    return
  end
  local process = config.process
  if not (o.tty and o.tty.rows) then
    local from = is_terminal(relay.to) and relay.to or is_terminal(relay.from) and relay.from or nil
    relay.sized = from
    if from then
      relay.rows, relay.cols = core.winsize(from)
    end
    local known = relay.rows and relay.rows > 0 and relay.cols > 0
    process.consoleSize = { height = known and relay.rows or 24, width = known and relay.cols or 80 }
  end
end

function serving_mt.__close(serving)
  if serving.settings and serving.owner == core.self() then
    core.restore(serving.fd, serving.settings)
    serving.settings = nil
    if serving.duty then
      keeper.drop(serving.duty)
    end
  end
end

serving_mt.__gc = serving_mt.__close

--- Makes the caller's terminal raw while the box is served, if its keys go to the box. To be closed: that
-- gives it back as it was. Should the caller be killed, the keeper does.
local function serve(box)
  local relay = box.streams.relay
  local serving = setmetatable({ owner = core.self() }, serving_mt)
  if relay and relay.from and is_terminal(relay.from) then
    serving.fd = relay.from
    serving.duty = keeper.restore_later(relay.from, core.kernel_settings(relay.from))
    serving.settings = core.raw(relay.from)
    relay.raw = true
  end
  return serving
end

return { size = size, serve = serve }
