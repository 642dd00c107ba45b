-- What copas shows of itself to those who wait in its coroutines, with its protocol: a thread yields something that has
-- getfd and dirty, and is resumed when luasocket's select would have found it ready. Debian has no copas for Lua 5.4.
local sys = require "nsbox.sys"

local copas = { running = false }
local threads = {} -- coroutine -> what it waits for, or the time until which it sleeps

local function resume(co)
  local ok, what = coroutine.resume(co)
  assert(ok, what)
  threads[co] = coroutine.status(co) ~= "dead" and what or nil
end

function copas.addthread(fn)
  threads[coroutine.create(fn)] = sys.clock()
end

function copas.sleep(seconds)
  coroutine.yield(sys.clock() + seconds)
end

function copas.receive(client, pattern)
  while true do
    local text, why = client:receive(pattern)
    if text or why ~= "timeout" then return text, why end
    coroutine.yield(client)
  end
end

local function poll()
  local rows, seconds = {}, 1
  for co, what in pairs(threads) do
    if math.type(what) then
      seconds = math.min(seconds, math.max(0, what - sys.clock()))
    elseif what:dirty() then
      seconds = 0
    else
      rows[#rows + 1] = { fd = what:getfd(), events = "in", co = co }
    end
  end
  sys.poll(rows, seconds)
  return rows
end

function copas.loop()
  copas.running = true
  while next(threads) do
    local ready = {}
    for _, row in ipairs(poll()) do
      if row.revents then ready[#ready + 1] = row.co end
    end
    for co, what in pairs(threads) do
      if math.type(what) and what <= sys.clock() then ready[#ready + 1] = co end
    end
    for _, co in ipairs(ready) do resume(co) end
  end
  copas.running = false
end

return copas
