-- loop/luv.lua: waits in coroutines that luv's loop resumes. libuv takes a descriptor once: it watches that of the hub,
-- as long as somebody waits, and this file resumes those whose wait is over.

local E = require "nsbox.error"
local hub = require "nsbox.loop.hub"
local core = require "nsbox.core"
local wait = require "nsbox.wait"

local SLICE = 0.2 -- seconds; libuv itself sleeps on when a signal comes, and Ctrl-C would not be seen

local function missing(why)
  return E.fail { kind = "unsupported", verb = "use", message = "the module luv cannot be loaded: " .. why,
    hint = "install Debian's lua-luv, or the rock luv" }
end

-- An error in a coroutine is nobody else's: it gets a callback of its own, for luv to report.
local function raise_later(uv, co, err)
  local text = type(err) == "string" and debug.traceback(co, err) or err
  local timer = uv.new_timer()
  timer:start(0, 0, function()
    timer:close()
    error(text, 0)
  end)
end

local function run(loop, co)
  local ok, err = coroutine.resume(co)
  if not ok then
    raise_later(loop.uv, co, err)
    coroutine.close(co) -- an error alone leaves its to-be-closed variables as they are
  end
end

-- ---- what libuv watches ----

local function unwatch(loop)
  local poll = loop.poll
  loop.poll = nil
  if poll and loop.owner == core.self() then
    poll:stop()
    poll:close()
  end
end

-- In step with those who wait: true | nil, message, errno.
local function watch(loop)
  if not next(loop.hub.waiting) then
    unwatch(loop)
    return true
  end
  local number, message, errno = loop.hub:sync()
  if not number then
    return nil, message, errno
  elseif not loop.poll or loop.owner ~= core.self() then
    loop.poll, loop.owner = assert(loop.uv.new_poll(number)), core.self()
    loop.poll:start("r", loop.fired)
  end
  return true
end

-- ---- the callback ----

-- Functions of the user's are called here, and may wait: then this one waits as others do, and the next round is made
-- by another.
local function round(loop)
  if loop.hub:ready() then
    wait.turn(0)
  end
  for _, entry in ipairs(loop.hub:over()) do
    table.insert(loop.due, entry)
  end
end

local firing_mt = {}

function firing_mt.__close(firing)
  firing.loop.firing = false
  assert(watch(firing.loop))
end

local function fired(loop)
  local _ <close> = setmetatable({ loop = loop }, firing_mt)
  loop.firing = true
  run(loop, coroutine.create(function() round(loop) end))
  while #loop.due > 0 do
    local entry = table.remove(loop.due, 1)
    if loop.hub.waiting[entry.co] == entry and coroutine.status(entry.co) == "suspended" then
      run(loop, entry.co)
    end
  end
end

-- ---- the loop ----

local left_mt = {}

-- Whoever leaves last, also by coroutine.close, leaves nothing in the loop.
function left_mt.__close(left)
  if not left.loop.firing and not next(left.loop.hub.waiting) then
    unwatch(left.loop)
  end
end

local function pause(loop, request)
  local _ <close> = setmetatable({ loop = loop }, left_mt)
  local entry <close> = loop.hub:enter(request)
  if not loop.firing and not watch(loop) then -- no descriptor is left
    wait.turn(request.deadline, request.extra)
    return entry
  end
  coroutine.yield()
end

--- The loop for wait.lua | nil, err.
local function open()
  local ok, uv = pcall(require, "luv")
  if not ok then
    return missing(uv:match "[^\n]*")
  end
  local loop = { uv = uv, due = {} }
  loop.hub = hub.new(false, SLICE, function() unwatch(loop) end)
  loop.fired = function() fired(loop) end
  return loop.hub:loop(coroutine.isyieldable, function(request) pause(loop, request) end)
end

return { open = open }
