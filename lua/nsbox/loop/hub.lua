-- loop/hub.lua: who waits in the coroutines of one loop, and one epoll descriptor for all that they and the live tasks
-- watch: the loop has one number to watch, whose alarm is the nearest deadline. It is kept in step by difference, by
-- the object of a descriptor: its number is reused, and what is closed here may live on in another process (the keeper
-- has pidfds of ours) and report for ever.

local core = require "nsbox.core"
local sys = require "nsbox.sys"
local wait = require "nsbox.wait"

local BITS = { ["in"] = 1, out = 2 }

local hub = {}
local hub_mt = { __index = hub }
local entry_mt = {}

--- A hub. weak: those who wait are held by their loop, and go when it drops them. slice: the seconds after which the
-- loop runs some Lua in any case. released(number): called before the epoll descriptor is closed.
local function new(weak, slice, released)
  return setmetatable({ waiting = setmetatable({}, weak and { __mode = "k" } or nil), serial = 0, known = {}, ids = {},
    last = 0, due = 0, slice = slice, released = released }, hub_mt)
end

-- ---- the descriptor ----

--- Gives the descriptor back.
function hub:release()
  local epoll = self.epoll
  self.epoll, self.known, self.ids = nil, {}, {}
  if epoll and epoll:fileno() then
    if self.owner == core.self() then
      self.released(epoll:fileno())
    end
    epoll:close()
  end
end

-- After a fork the descriptor is shared with the parent, as are those who wait, who are the parent's to resume.
local function own(self)
  if self.owner ~= core.self() then
    self:release()
    for co in pairs(self.waiting) do
      self.waiting[co] = nil
    end
    self.owner = core.self()
  end
end

-- nil when it is closed.
local function number_of(fd)
  local ok, number = pcall(core.fileno, fd)
  return ok and number or nil
end

local function forget(self, fd)
  local known = self.known[fd]
  self.known[fd], self.ids[known.id] = nil, nil
  if number_of(fd) == known.number then -- else its number is nobody's, or another's
    self.epoll:remove(known.number)
  end
end

local function register(self, fd, want)
  self.last = self.last + 1
  local ok, _, errno = self.epoll:add(want.number, want.bits, self.last)
  if errno == sys.EEXIST then
    ok = self.epoll:modify(want.number, want.bits, self.last)
  end
  self.known[fd] = { number = want.number, bits = want.bits, id = self.last, task = want.task, always = not ok }
  self.ids[self.last] = true
end

-- By the object of a descriptor. Two of one number are one.
local function wanted(rows)
  local all, by_number = {}, {}
  for _, row in ipairs(rows) do
    local number = core.fileno(row.fd)
    local want = by_number[number]
    if not want then
      want = { bits = 0, task = row.task, number = number }
      all[row.fd], by_number[number] = want, want
    end
    want.bits = want.bits | BITS[row.events]
  end
  return all
end

-- What goes is first: its number may come back by another name. Whether something is always ready: what epoll refuses
-- is, regular files.
local function match(self, all)
  local always = false
  for fd, known in pairs(self.known) do
    local want = all[fd]
    if not want or want.bits ~= known.bits or want.number ~= known.number then
      forget(self, fd)
    end
  end
  for fd, want in pairs(all) do
    if not self.known[fd] then
      register(self, fd, want)
    end
    always = always or self.known[fd].always
  end
  return always
end

-- ---- those who wait ----

function entry_mt.__close(entry)
  local self = entry.hub
  if self.waiting[entry.co] == entry then
    self.waiting[entry.co] = entry.outer
    self:left()
  end
end

--- Who waits from now on, until the answer is closed. A wait inside of a wait, in a function of the user's, hides the
-- outer one.
function hub:enter(request)
  own(self)
  local co = coroutine.running()
  self.serial = self.serial + 1
  local entry = setmetatable({ hub = self, co = co, request = request, serial = self.serial,
    outer = self.waiting[co] }, entry_mt)
  self.waiting[co] = entry
  return entry
end

--- Nothing is kept when nobody waits and nothing is left to be served.
function hub:left()
  if self.epoll and not next(self.waiting) and wait.idle() then
    self:release()
  end
end

local function by_serial(a, b)
  return a.serial < b.serial
end

-- Those who wait, the longest first. One that was closed by force is none.
local function entries(self)
  local list = {}
  for co, entry in pairs(self.waiting) do
    if coroutine.status(co) == "dead" then
      self.waiting[co] = nil
    else
      list[#list + 1] = entry
    end
  end
  table.sort(list, by_serial)
  return list
end

--- Those whose wait is over, but the coroutine `but`. It may call functions of the user's, which may wait.
function hub:over(but)
  local list, now = {}, sys.clock()
  self.poked = false
  for _, entry in ipairs(entries(self)) do
    local request = entry.request
    if entry.co ~= but and (request.done() or request.deadline and now >= request.deadline) then
      list[#list + 1] = entry
    end
  end
  return list
end

-- What those who wait watch beside the tasks, and the nearest deadline.
local function requests(self)
  local extra, nearest = {}, math.huge
  for _, entry in ipairs(entries(self)) do
    local request = entry.request
    nearest = math.min(nearest, request.deadline or math.huge)
    table.move(request.extra or {}, 1, #(request.extra or {}), #extra + 1, extra)
  end
  return extra, nearest
end

--- Keeps the descriptor in step: its number, the clock time of its alarm | nil, message, errno. at_once: it is to be
-- ready now.
function hub:sync(at_once)
  own(self)
  if not self.epoll then
    local message, errno
    self.epoll, message, errno = core.epoll()
    if not self.epoll then
      return nil, message, errno
    end
  end
  local _ <close> = wait.hold()
  local extra, nearest = requests(self)
  local rows, seconds = wait.watched(extra)
  local now = sys.clock()
  local always = match(self, wanted(rows))
  seconds = (at_once or always or self.poked) and 0 or math.max(0, math.min(seconds, nearest - now, self.slice))
  self.due = now + seconds
  self.epoll:set_alarm(seconds)
  return self.epoll:fileno(), self.due
end

--- Whether what the loop has seen asks for a turn. What reports and is not known any more was closed here and lives on
-- elsewhere: there is no other way to be rid of it than a new descriptor.
function hub:ready()
  if not self.epoll then
    return true
  end
  local any = sys.clock() >= self.due
  for _, id in ipairs(self.epoll:ready() or {}) do
    if id ~= 0 and not self.ids[id] then
      self:release()
      return true
    end
    any = any or id ~= 0
  end
  return any
end

--- A pause in a loop that wakes all who wait when the descriptor is ready, each in its own coroutine.
-- watch(number, due): yields until then.
function hub:pause(request, watch)
  local entry <close> = self:enter(request)
  local over = #self:over(entry.co) > 0
  local number, due = self:sync(over)
  if not number then -- no descriptor is left
    wait.turn(request.deadline, request.extra)
    return
  end
  watch(number, due)
  if self:ready() then
    wait.turn(0)
  end
end

-- ---- what wait.lua tells ----

local function mine(self)
  return self.epoll and self.epoll:fileno() and self.owner == core.self()
end

function hub:changed()
  self.poked = true
  if mine(self) then
    self.epoll:set_alarm(0)
  end
end

function hub:removed(task)
  if not mine(self) then
    return
  end
  for fd, known in pairs(self.known) do
    if known.task == task then
      forget(self, fd)
    end
  end
  self:left()
end

function hub:closing(fd)
  if mine(self) and self.known[fd] then
    forget(self, fd)
  end
end

--- The part of a loop that is the same for all.
function hub:loop(here, pause)
  return {
    here = here,
    pause = pause,
    changed = function() self:changed() end,
    removed = function(task) self:removed(task) end,
    closing = function(fd) self:closing(fd) end,
  }
end

return { new = new }
