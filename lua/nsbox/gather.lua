-- gather.lua: several waits at once without a loop: a function for each item of a list, each in a coroutine.

local E = require "nsbox.error"
local sys = require "nsbox.sys"
local wait = require "nsbox.wait"

local gathering_mt = {}

-- Those that still run are closed, the latest first: their to-be-closed variables end their boxes.
function gathering_mt.__close(g)
  local left = {}
  for co, run in pairs(g.running) do
    left[#left + 1] = { co = co, index = run.index }
  end
  table.sort(left, function(a, b) return a.index > b.index end)
  for _, run in ipairs(left) do
    coroutine.close(run.co)
  end
end

local function ended(g, co)
  g.running[co] = nil
  g.count = g.count - 1
end

-- Runs one until it waits or ends. An error of it is ours; its own to-be-closed variables, which an error leaves as
-- they are, come first.
local function resume(g, co)
  local run = g.running[co]
  local ok, a, b = coroutine.resume(co, run.item, run.index)
  if not ok then
    ended(g, co)
    coroutine.close(co)
    error(a, 0)
  elseif coroutine.status(co) == "dead" then
    ended(g, co)
    g.results[run.index] = a
    if a == nil and E.is(b) then
      g.failed = g.failed or b
    end
  elseif a == wait.managed then
    run.request = b
  else
    run.request = nil -- a yield of its own
  end
end

local function fill(g)
  while g.count < g.limit and g.next <= #g.list and not g.failed do
    local index, co = g.next, coroutine.create(g.fn)
    g.next = index + 1
    g.count = g.count + 1
    wait.managed[co] = true
    g.running[co] = { item = g.list[index], index = index }
    resume(g, co)
  end
end

local function is_over(request)
  return request.done() or request.deadline and sys.clock() >= request.deadline
end

-- Those whose wait is over, in order; of the others, the nearest deadline and what they watch; whether one has yielded
-- by itself.
local function sorted(g)
  local ready, nearest, extra, yielded = {}, nil, {}, false
  for co, run in pairs(g.running) do
    local request = run.request
    if not request or is_over(request) then
      ready[#ready + 1] = co
      yielded = yielded or not request or request.soon
    else
      nearest = request.deadline and math.min(nearest or request.deadline, request.deadline) or nearest
      table.move(request.extra or {}, 1, #(request.extra or {}), #extra + 1, extra)
    end
  end
  table.sort(ready, function(a, b) return g.running[a].index < g.running[b].index end)
  return ready, nearest, extra, yielded
end

local function gather_turn(g)
  local ready, nearest, extra, yielded = sorted(g)
  if yielded then
    wait.breathe() -- it may yield until another's box has done something
  elseif #ready == 0 then
    wait.wait(function()
      ready = sorted(g)
      return #ready > 0
    end, nearest, extra)
    ready = sorted(g)
  end
  for _, co in ipairs(ready) do
    if g.running[co] and not g.failed then
      resume(g, co)
    end
  end
end

local function check(list, fn, opts)
  if type(list) ~= "table" or type(fn) ~= "function" then
    E.misuse("nsbox.gather: a list and a function expected")
  elseif opts ~= nil and type(opts) ~= "table" then
    E.misuse("nsbox.gather: options are a table, not a %s", type(opts))
  end
  for key in pairs(opts or {}) do
    if key ~= "limit" then
      E.misuse("nsbox.gather: unknown option '%s'; it has 'limit'", tostring(key))
    end
  end
  local limit = opts and opts.limit or math.huge
  if not math.type(limit) or limit ~= limit or limit < 1 then
    E.misuse("nsbox.gather: limit must be a number of 1 or more, got %s", tostring(limit))
  end
  return limit
end

--- Calls fn(item, index) for each item of a list, all at once, each in a coroutine of its own in which every verb of
-- nsbox lets the others go on. Returns the list of their first results, in order. opts.limit: how many at a time. The
-- first error closes the rest and is raised; a first nil, Error of fn closes them and is returned: nil, err, errno.
-- Closing a coroutine closes its to-be-closed variables: boxes held so have ended when gather returns. A yield of fn's
-- own lets the others go on, and is over at the next turn. In a coroutine that fn makes, waits do not yield to gather.
local function gather(list, fn, opts)
  local limit = check(list, fn, opts)
  local g <close> = setmetatable({ list = list, fn = fn, limit = limit, next = 1, count = 0, running = {},
    results = {} }, gathering_mt)
  fill(g)
  while next(g.running) and not g.failed do
    gather_turn(g)
    fill(g)
  end
  if g.failed then
    return nil, g.failed, g.failed.errno
  end
  return g.results
end

return { gather = gather }
