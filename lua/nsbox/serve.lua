-- serve.lua: what a running process of a box needs of its caller: its output drained, its input fed, its terminal
-- relayed, its deadline kept, its end seen. A task for wait.lua.

local cgroup = require "nsbox.cgroup"
local core = require "nsbox.core"
local flow = require "nsbox.serve.flow"
local keeper = require "nsbox.keeper"
local sys = require "nsbox.sys"
local wait = require "nsbox.wait"

local PATIENCE = 60    -- seconds
local RELAY_SLICE = 0.1 -- with a terminal: how soon a change of its size is seen
local SHORTEST_LOOK = 0.002 -- seconds between two looks at its CPU time
local EOT = "\4" -- ends the input of a terminal; termios(3) VEOF

-- task -> the coroutine in which a function of the user's runs for it; one that is dropped while it waits is none
local calling = setmetatable({}, { __mode = "kv" })

local close_stream, drain, drain_rest, feed, tell_lines = flow.close_stream, flow.drain, flow.drain_rest, flow.feed,
  flow.tell_lines

local task = {}
local task_mt = { __name = "nsbox.task", __index = task }

-- ---- what belongs to the user ----

local function interrupted(err)
  return type(err) == "string" and err:find "interrupted!$" ~= nil
end

-- Whether a function of the user's runs for it, or waits. One whose coroutine was closed does not.
local function is_called(self)
  return calling[self] ~= nil and coroutine.status(calling[self]) ~= "dead"
end

-- A function of the user's. Its error is for whoever waits for this process, who may be another than waits now; the
-- process ends. Ctrl-C is for everybody.
function task:call(fn, ...)
  local outer = calling[self]
  calling[self] = coroutine.running()
  local ok, answer = pcall(fn, ...)
  calling[self] = outer
  if ok then
    return answer
  elseif interrupted(answer) then
    error(answer, 0)
  end
  self.failure = self.failure or { answer }
  self:end_now()
end

-- ---- the end that is asked for ----

-- As pid 1 a process ignores a signal that it has no handler for, and TERM would be lost; /proc/PID/status. An
-- init hands it on to a process that obeys.
function task:handles(signo)
  local pid = self.process:pid()
  local f = pid and io.open(("/proc/%d/status"):format(pid))
  if not f then
    return false
  end
  local caught = f:read("a"):match "\nSigCgt:%s*(%x+)"
  f:close()
  return caught ~= nil and tonumber(caught, 16) >> (signo - 1) & 1 == 1
end

-- What a freezer of v1 holds does not die: a box is let go, to its end; of one to which the process was added this one
-- alone. Answers whether it may be held again.
local function let_go(self)
  local box = self.box or self
  local group = cgroup.of_task(box)
  local can_hold = group and group:can_hold()
  if can_hold and not self.box then
    group:kill()
  elseif self.box and (can_hold or box.paused and box.paused.freezes) then
    group:release(self.process:pid())
  end
  return can_hold
end

--- SIGKILL to the process, so that it ends also where it is frozen.
function task:end_now()
  self.process:kill(sys.SIGKILL)
  if self.thaw then
    self:thaw(true)
  end
  self.held_look = let_go(self) and sys.clock() + SHORTEST_LOOK or nil
end

local function still_held(self)
  if self.held_look and sys.clock() >= self.held_look then
    self.held_look = not self:look() and let_go(self) and sys.clock() + SHORTEST_LOOK or nil
  end
end

--- Asks the process to end: the stop signal now, SIGKILL when `grace` seconds are over, or at once if it cannot obey. A
-- paused box is let run; what was added to one is not.
function task:ask_to_end(reason, grace)
  self.reason = self.reason or reason
  local signo = sys["SIG" .. self.stop_signal]
  local can_obey = grace > 0 and signo ~= sys.SIGKILL and (not self.is_pid1 or self.has_init or self:handles(signo))
    and not (self.box and self.box.paused)
  if self.stopping or not can_obey then
    self.deadline = nil
    self:end_now()
  else
    self.stopping = true
    self.process:kill(signo)
    self.deadline = sys.clock() + grace
  end
  if self.thaw then
    self:thaw(self.deadline == nil)
  end
end

-- ---- the terminal ----

local function follow_size(self, relay)
  local rows, cols = core.winsize(relay.sized)
  if rows and (rows ~= relay.rows or cols ~= relay.cols) then
    relay.rows, relay.cols = rows, cols
    sys.ioctl_winsize(self.terminal, rows, cols)
  end
end

local function relay_out(self)
  local relay = self.streams.relay
  local n, _, errno
  if relay.buffer then
    n, _, errno = relay.buffer:fill(self.terminal, relay.line and flow.LINES_AT_ONCE or nil)
  else
    n, _, errno = core.relay(self.terminal, relay.to)
  end
  if n == 0 or (n == nil and errno ~= sys.EINTR) then
    relay.ended = true
  end
  if relay.line then
    tell_lines(self, relay, relay.ended)
  end
  return n
end

-- A terminal has no end of input, only a key for it: one ends a line, one a reader, and a program that changes the
-- terminal's mode throws it away. So it is said whenever the box is quiet.
local function say_end(self)
  sys.write_nosig(self.terminal, EOT, 1)
end

-- What was read waits until the box's terminal has room: a write that blocked would keep its output waiting too.
local function relay_in(self)
  local relay = self.streams.relay
  local chunk, _, errno = sys.read(relay.from, 65536)
  if chunk and chunk ~= "" then
    relay.input = { source = chunk, at = 1 }
  elseif chunk or (errno ~= sys.EAGAIN and errno ~= sys.EINTR) then
    relay.from = nil
    relay.null = not relay.raw
  end
end

local function relay_input(self)
  local relay = self.streams.relay
  if not feed(self, relay.input, self.terminal) then
    relay.input = nil
    relay.null = not relay.from and not relay.stream
  end
end

-- ---- the end ----

local function feed_pipe(self)
  local feeder = self.streams.feeder
  if not feed(self, feeder, feeder.fd) then
    close_stream(feeder)
  end
end

local function over_limit(self)
  if self.overflow ~= "kill" or self.reason then
    return
  end
  local s = self.streams
  for _, stream in ipairs { s.stdout or s.relay, s.stderr } do
    if stream and stream.buffer and stream.buffer:truncated() then
      self.reason = "output"
      self:end_now()
    end
  end
end

-- What is still in a terminal. A relay moves one chunk at a time.
local function relay_rest(self)
  local relay = self.streams.relay
  while relay and not relay.ended and not relay.stream_out and not self.closed
    and sys.poll({ { fd = self.terminal, events = "in" } }, 0) == 1 do
    if not relay_out(self) then
      break
    end
  end
  if relay and relay.line and not relay.ended then
    tell_lines(self, relay, true)
  end
end

local names = { "stdout", "stderr" }

-- Past its time, and we were busy: was it the keeper who ended it?
local function settle_timer(self)
  local timer = self.timer
  if timer then
    self.timer = nil
    if not self.reason and sys.clock() >= timer.at and keeper.acted(timer) then
      self.reason = "timeout"
    end
    keeper.drop(timer)
  end
end

--- Looks whether the main process has ended; if so all that is left of its streams is read.
function task:look()
  if self.how then
    return true
  end
  if self.reap then
    self:reap()
  end
  local how, status = self.process:poll()
  if not how then
    return false
  end
  for _, name in ipairs(names) do
    if self.streams[name] then
      drain_rest(self, self.streams[name])
    end
  end
  relay_rest(self)
  if self.streams.feeder and not self.streams.feeder.done then
    close_stream(self.streams.feeder)
  end
  over_limit(self)
  if self.how then -- seen meanwhile: a function of the user's has waited
    return true
  end
  self.how, self.status, self.ended_at = how, status, sys.clock()
  settle_timer(self)
  wait.remove(self)
  for _, tell in ipairs(self.at_end) do
    tell(self)
  end
  return true
end

-- ---- the task ----

--- Whether a function of the user's has yet to return, to another coroutine than `co`.
function task:busy(co)
  return is_called(self) and calling[self] ~= co
end

-- A function of the user's that has yielded, or waits itself, is not called anew; and what is waited for in a coroutine
-- that has yielded so is left to that.
local function others_turn(self)
  local co = self.turning
  return is_called(self) or co and co ~= coroutine.running() and coroutine.status(co) ~= "dead"
end

local function row(rows, self, fd, events, serve)
  rows[#rows + 1] = { fd = fd, events = events, serve = serve, task = self }
end

local drains = {
  stdout = function(self) drain(self, self.streams.stdout) end,
  stderr = function(self) drain(self, self.streams.stderr) end,
}

function task:rows(rows)
  local s, silent = self.streams, others_turn(self)
  row(rows, self, self.process, "in", self.look)
  if self.watch_added then
    self:watch_added(rows)
  end
  for _, name in ipairs(names) do
    local stream = s[name]
    if stream and stream.buffer and not stream.done and not (silent and stream.line) then
      row(rows, self, stream.fd, "in", drains[name])
    end
  end
  if s.feeder and not s.feeder.done and not silent then
    row(rows, self, s.feeder.fd, "out", feed_pipe)
  end
  local relay = s.relay
  if relay and not relay.ended then
    if not relay.stream_out and not (silent and relay.line) then
      row(rows, self, self.terminal, "in", relay_out)
    end
    if relay.input and not silent then
      row(rows, self, self.terminal, "out", relay_input)
    elseif relay.from and not relay.input then
      row(rows, self, relay.from, "in", relay_in)
    end
  end
end

local function over_cpu_time(self)
  if self.cpu_look and sys.clock() >= self.cpu_look then
    local left = not self.reason and self.cgroup:cpu_left(self.cpu_time)
    if left == 0 and not self:look() then
      self.reason = "cpu"
      self:end_now()
      self.cgroup:kill()
    end
    self.cpu_look = left and left > 0 and sys.clock() + math.max(left, SHORTEST_LOOK) or nil
  end
end

function task:patience()
  local relay = self.streams.relay
  local slice = relay and not relay.ended and (relay.sized or relay.null) and RELAY_SLICE or PATIENCE
  for _, at in pairs { self.cpu_look or false, self.held_look or false } do
    slice = at and math.max(0, math.min(slice, at - sys.clock())) or slice
  end
  return self.deadline and math.max(0, math.min(slice, self.deadline - sys.clock())) or slice
end

function task:turned(n)
  local relay = self.streams.relay
  if relay and not relay.ended then
    if relay.sized then
      follow_size(self, relay)
    end
    if relay.null and n == 0 then
      say_end(self)
    end
  end
  over_limit(self)
  over_cpu_time(self)
  still_held(self)
  if self.deadline and sys.clock() >= self.deadline and not self:look() then
    if self.timer then
      keeper.drop(self.timer)
      self.timer = nil
    end
    self:ask_to_end(not self.stopping and "timeout" or nil, self.stop_timeout)
  end
end

--- Makes a task of its fields: verb, streams, stop_signal, stop_timeout, overflow, is_pid1, has_init; of a box reap,
-- watch_added (box.lua) and, once it was paused, thaw (box/pause.lua). at_end: what is called, in this order, in the
-- call that sees the end.
local function new(fields)
  local self = setmetatable(fields, task_mt)
  self.owner, self.at_end = core.self(), {}
  return self
end

--- It has its process, terminal (or nil) and deadline (clock time or nil): it is served from now on.
function task:begin()
  self.cpu_look = self.cpu_time and sys.clock()
  wait.add(self)
end

return { new = new, handles = task.handles, end_now = task.end_now }
