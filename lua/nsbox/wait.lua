-- wait.lua: the one place that waits. Whoever waits for one thing serves all live tasks meanwhile, so that no daemon
-- stalls at a full pipe and deadlines are kept.
--
-- A task has owner, the process that it belongs to (core.self()); rows(list), which adds what to poll as {fd=, events=,
-- serve=, task=}; patience(), the seconds until it wants to be looked at; turned(n), called after each turn with the
-- number of ready rows.
--
-- Where a wait yields, somebody else resumes it: gather, or a loop of the program's (loop/*.lua). What these get of a
-- wait is a request: done(), deadline, extra, as given to wait(); soon: any turn will do. A loop has here(), whether
-- the running coroutine is one of its own; pause(request), which returns when something may have changed; changed(),
-- called when that is so for a reason that no descriptor tells; removed(task) and closing(fd), before the descriptors
-- go.

local E = require "nsbox.error"
local core = require "nsbox.core"
local sys = require "nsbox.sys"

local SLICE = 1 -- seconds in one poll; a signal ends it at once, unless it came just before, and Lua's own hooks run

local live = setmetatable({}, { __mode = "k" }) -- a task lives as long as its handle
local managed = setmetatable({}, { __mode = "k" }) -- the coroutines of gather
local loops = {} -- all that were chosen: name -> loop. In one that was left coroutines may wait still
local chosen -- the loop in use
local turns = 0 -- all that was ready before is to be polled anew when it has changed
local forbidden -- who may not be interrupted by a wait: the name of a callback
local held = 0 -- how many look at descriptors now, which may not go meanwhile
local later = {} -- what the collector wanted to close meanwhile

--- Those who wait elsewhere have to look again.
local function changed()
  for _, loop in pairs(loops) do
    loop.changed()
  end
end

local function add(task)
  live[task] = true
  changed()
end

--- To be called before the descriptors of the task are closed.
local function remove(task)
  live[task] = nil
  for _, loop in pairs(loops) do
    loop.removed(task)
  end
  changed()
end

--- To be called before a descriptor is closed that a loop may know.
local function closing(fd)
  local number = fd:fileno()
  local cqueues = package.loaded.cqueues
  if cqueues and number then
    cqueues.cancel(number) -- of a Stream that the user has polled, too: a number that cqueues knows is not to be reused
  end
  for _, loop in pairs(loops) do
    loop.closing(fd)
  end
  changed()
end

local held_mt = { __close = function()
  held = held - 1
  while held == 0 and #later > 0 do
    table.remove(later)()
  end
end }

--- Until the answer is closed, no handle that is collected closes a descriptor: rows that were made have to stay good
-- until they are polled.
local function hold()
  held = held + 1
  return setmetatable({}, held_mt)
end

--- For finalizers: calls close(), now or when nobody looks at descriptors.
local function collected(close)
  if held == 0 then
    close()
  else
    later[#later + 1] = close
  end
end

-- Of a program that forks, the child has copies of handles that are not its own.
local function tasks()
  local list, self = {}, core.self()
  for task in pairs(live) do
    if task.owner == self then
      list[#list + 1] = task
    end
  end
  return list
end

local function is_open(fd)
  return math.type(fd) ~= nil or fd:fileno() ~= nil
end

-- All that is to be polled, and for how many seconds at most. A descriptor of `extra` may have been closed by another
-- coroutine.
local function collect(list, extra)
  local rows, seconds = {}, SLICE
  for _, task in ipairs(list) do
    task:rows(rows)
    seconds = math.min(seconds, task:patience())
  end
  for _, row in ipairs(extra or {}) do
    if is_open(row.fd) then
      rows[#rows + 1] = row
    end
  end
  return rows, seconds
end

--- What a loop of the program's has to watch: rows {fd=, events=, task=}, and for how many seconds at most. To be held
-- until they are looked at.
local function watched(extra)
  return collect(tasks(), extra)
end

--- Whether nothing is left to be served.
local function idle()
  return next(live) == nil
end

-- A function of the user's that waits lets others have their turn: what was ready then may be closed by now.
local function dispatch(list, rows, n)
  local mine = turns
  for i = 1, n > 0 and #rows or 0 do
    local row = rows[i]
    if turns ~= mine then
      return
    elseif row.revents and row.serve and live[row.task] then
      row.serve(row.task)
    end
  end
  for _, task in ipairs(list) do
    if live[task] then
      task:turned(n)
    end
  end
end

local function until_(deadline, seconds)
  return deadline and math.max(0, math.min(seconds, deadline - sys.clock())) or seconds
end

local function polled(deadline, extra)
  local _ <close> = hold()
  local list = tasks()
  local rows, seconds = collect(list, extra)
  return list, rows, sys.poll(rows, until_(deadline, seconds)) or 0
end

--- One poll, and what it asks for, until the deadline at most (clock time; 0: what is ready now). extra: rows that only
-- end it. waited: the task that it is for, whose functions of the user's may yield: meanwhile they are nobody else's to
-- call.
local function turn(deadline, extra, waited)
  if waited then
    waited.turning = coroutine.running()
  end
  local list, rows, n = polled(deadline, extra)
  turns = turns + 1
  dispatch(list, rows, n)
  if waited then
    waited.turning = nil
  end
  changed()
end

local function pause(request)
  if managed[coroutine.running()] and coroutine.isyieldable() then
    coroutine.yield(managed, request) -- `managed` tells gather that it is us who yield
  elseif chosen and chosen.here() then
    chosen.pause(request)
  else
    turn(request.deadline, request.extra, request.waited)
  end
end

-- done() is asked by several, and what it found once stays found.
local function latched(done)
  local is_done
  return function()
    is_done = is_done or done()
    return is_done
  end
end

--- Waits until done() is true, or the clock (nsbox.clock) reaches the deadline, if there is one: true | false. done
-- makes no wait of its own, and is called in any coroutine. extra: rows {fd=, events=} whose readiness may change its
-- answer; waited: the task that is waited for, if there is one. Raises in a callback that must not wait.
local function wait(done, deadline, extra, waited)
  local request = { done = latched(done), deadline = deadline, extra = extra, waited = waited }
  if forbidden and not request.done() then
    E.misuse("nsbox: %s may neither start anything nor wait", forbidden)
  end
  while not request.done() do
    if deadline and sys.clock() >= deadline then
      return false
    end
    pause(request)
  end
  return true
end

--- One look at all that is live, now, with a yield to whoever else runs in this loop or gather.
local function breathe()
  pause { done = function() return true end, deadline = 0, soon = true }
end

-- ---- callbacks that may not wait ----

local allowing_mt = { __close = function(was) forbidden = was.name end }

--- Until the answer is closed, a wait raises, in the name of `name`.
local function forbid(name)
  local was = setmetatable({ name = forbidden }, allowing_mt)
  forbidden = name
  return was
end

--- Raises for a verb that starts or waits where that is forbidden.
local function check_allowed(verb)
  if forbidden then
    E.misuse("nsbox.%s: %s may neither start anything nor wait", verb, forbidden)
  end
end

-- ---- sleep ----

--- Waits some seconds: true. Live boxes are served meanwhile.
local function sleep(seconds)
  if not math.type(seconds) or seconds ~= seconds or seconds < 0 then
    E.misuse("nsbox.sleep: a number of seconds expected, got %s", tostring(seconds))
  end
  wait(function() return false end, sys.clock() + seconds)
  return true
end

-- ---- the loop of the program ----

local function load_loop(name)
  if not loops[name] then
    local loop, err, errno = require("nsbox.loop." .. name).open()
    if not loop then
      return nil, err, errno
    end
    loops[name] = loop
  end
  return loops[name]
end

--- Chooses how waits yield in coroutines of the program's own loop: true | nil, err (kind "unsupported": the library is
-- not there). nil: they do not.
--   "cqueues"   in coroutines that a controller runs
--   "luv"       in any coroutine, as luv knows none of its own; one that waits lives until its wait is over, or until
--               coroutine.close, and is resumed by uv.run
--   "copas"     in any coroutine while copas.loop runs
--   function(fds, deadline)
--               in any coroutine; called there, as often as needed. fds: a list of one row or more, {fd = an integer,
--               events = "in" or "out"}; deadline: a time of nsbox.clock(). It yields, and returns when one of the
--               descriptors may be ready or the clock has reached the deadline; too early does no harm. The
--               descriptors are lent until it returns. An error of it is raised by the verb that waits.
-- Anywhere else waits block, and serve all live boxes, as in coroutines that may not yield (below a sort, say).
local function use(what)
  local kinds = { luv = true, cqueues = true, copas = true }
  if what ~= nil and type(what) ~= "function" and not kinds[what] then
    E.misuse("nsbox.use: \"luv\", \"cqueues\", \"copas\", a function or nil expected, got %s", tostring(what))
  elseif what == nil then
    chosen = nil
    return true
  end
  local loop, err, errno = load_loop(type(what) == "function" and "own" or what)
  if not loop then
    return nil, err, errno
  end
  if type(what) == "function" then
    loop.fn = what
  end
  chosen = loop
  return true
end

--- In a process that goes on as a copy of the program: nothing waits here, and no loop of the program's runs.
local function reset()
  for _, list in ipairs { live, managed } do
    for key in pairs(list) do
      list[key] = nil
    end
  end
  loops, chosen, forbidden, held, later = {}, nil, nil, 0, {}
end

return {
  add = add,
  remove = remove,
  closing = closing,
  changed = changed,
  hold = hold,
  collected = collected,
  managed = managed,
  wait = wait,
  turn = turn,
  breathe = breathe,
  watched = watched,
  idle = idle,
  forbid = forbid,
  check_allowed = check_allowed,
  sleep = sleep,
  use = use,
  reset = reset,
}
