-- process.lua: a process of a box as a handle. A Box is one with more: see box.lua.

local E = require "nsbox.error"
local core = require "nsbox.core"
local handle = require "nsbox.process.handle"
local idrange = require "nsbox.idrange"
local keeper = require "nsbox.keeper"
local signal = require "nsbox.signal"
local sys = require "nsbox.sys"
local talk = require "nsbox.process.talk"
local wait = require "nsbox.wait"

local TASK, misuse, open, over, seconds, wait_for = handle.TASK, handle.misuse, handle.open, handle.over,
  handle.seconds, handle.wait_for

local methods, getters = {}, {}

--- wait(timeout) -> Result | nil, err, errno: kind "timeout" when it still runs after so many seconds (it goes on).
function methods:wait(timeout)
  return wait_for(self, "wait", seconds("wait", timeout) and sys.clock() + timeout)
end

--- poll() -> Result | nil: whether it has ended, now. nil, err when closed.
function methods:poll()
  local task, err = open(self, "poll")
  if not task then
    return nil, err
  end
  wait.turn(0)
  if over(task, coroutine.running()) then
    return handle.answer(task)
  end
  return nil
end

-- ---- signals ----

-- As pid 1 a program gets no signal that it has no handler for, but KILL and STOP; pid_namespaces(7).
local function dropped(task, signo)
  return task.is_pid1 and not task.has_init and signo ~= sys.SIGKILL and signo ~= sys.SIGSTOP and signo ~= sys.SIGCONT
    and not task:handles(signo)
end

local function paused(task)
  return (task.box or task).paused ~= nil
end

--- kill(signal = "KILL") -> true | nil, err, errno. By name or number; true for one that has ended, too. A signal that
-- the kernel would not deliver is kind "unsupported".
function methods:kill(what)
  local task, err = open(self, "kill")
  if not task then
    return nil, err
  end
  local signo = what == nil and sys.SIGKILL or signal.number(what)
  if not signo then
    misuse("kill", "a signal such as \"TERM\" or 15 expected, got %s", tostring(what))
  elseif task:look() then
    return true
  elseif signo == sys.SIGCONT and paused(task) then
    return E.fail { kind = "unsupported", verb = "kill", message = "its box is paused", hint = "resume the box" }
  elseif dropped(task, signo) then
    return E.fail { kind = "unsupported", verb = "kill", hint = "init = true runs it below a process 1 of nsbox's",
      message = ("process 1 has no handler for %s: the kernel drops it"):format(signal.name(signo)) }
  end
  if task.has_init and signo == sys.SIGSTOP then
    return E.fail { kind = "unsupported", verb = "kill",
      hint = 'the command is process 2: box:exec { "kill", "-STOP", "2" }',
      message = "STOP would stop the box's init, which cannot hand it on" }
  end
  task.sent = task.sent or {}
  task.sent[signo] = true
  local ok, message, errno = task.process:kill(signo)
  if not ok then
    return E.fail { kind = "setup", verb = "kill", message = message, errno = errno }
  end
  if signo == sys.SIGKILL then
    task:end_now()
  end
  return true
end

--- stop(grace = stop_timeout) -> Result: the stop signal, so many seconds, then KILL.
function methods:stop(grace)
  local task, err = open(self, "stop")
  if not task then
    return nil, err
  end
  grace = seconds("stop", grace) or task.stop_timeout
  if not task:look() then
    task.sent = task.sent or {}
    task.sent[sys["SIG" .. task.stop_signal]], task.sent[sys.SIGKILL] = true, true
    task.stopping = nil
    task:ask_to_end(nil, grace)
  end
  return wait_for(self, "stop")
end

-- ---- the rest ----

--- resize(rows, cols) -> true | nil, err, errno: of the terminal that it has by tty = true.
function methods:resize(rows, cols)
  local task, err = open(self, "resize")
  if not task then
    return nil, err
  end
  for _, n in ipairs { rows or false, cols or false } do
    if math.type(n) ~= "integer" or n < 1 or n > 65535 then
      misuse("resize", "rows and columns from 1 to 65535 expected")
    end
  end
  if task.detached then
    return E.fail { kind = "unsupported", verb = "resize", message = "not built yet for a detached box" }
  elseif not task.terminal then
    return E.fail { kind = "unsupported", verb = "resize", message = "it has no terminal",
      hint = "start it with tty = true" }
  elseif task.how then
    return true
  end
  task.streams.relay.sized = nil
  local ok, message, errno = sys.ioctl_winsize(task.terminal, rows, cols)
  if not ok then
    return E.fail { kind = "setup", verb = "resize", message = message, errno = errno }
  end
  return true
end

--- pidfd() -> its pidfd, an integer, borrowed: readable when the process has ended | nil, err when closed.
function methods:pidfd()
  local task, err = open(self, "pidfd")
  if not task then
    return nil, err
  end
  return task.process:fileno()
end

-- For nsbox.sys, poll and the like.
function methods:fileno()
  return self:pidfd()
end

local function end_process(task)
  if task.before_close then
    task:before_close()
  end
  if task.box then
    task:end_now() -- a freezer of v1 may hold it, although it is killed
  elseif task.cgroup then
    task.process:kill(sys.SIGKILL)
    task.cgroup:end_held()
  end
  wait.closing(task.process)
  task.process:close()
end

--- Ends the process of a task, if it has one, and gives all that belongs to it back; of a start that failed, too. Box:
-- all of its processes first, see box.lua. Any number of times.
local function close(task)
  if task.closed then
    return
  elseif task.in_created then
    task.given_up = true -- its start ends what there is of it
    return
  end
  task.closed = true
  wait.remove(task)
  if task.owner ~= core.self() then
    return -- descriptors only: they go with their handles
  end
  if task.terminal then
    task.terminal:close()
  end
  if task.process then
    end_process(task)
  end
  if task.serving then
    local _ <close> = task.serving
  end
  for _, duty in pairs { task.duty or false, task.timer or false, task.cpu_duty or false } do
    if duty then
      keeper.drop(duty)
    end
  end
  local _ <close> = task.streams
  if task.layer then
    local _ <close> = task.layer
  end
  if task.cgroup then
    task.cgroup:remove()
  end
  if task.ids then
    idrange.give_back(task.ids)
  end
end

--- close() -> true: KILL at once, and its end is waited for. Any number of times. In on_created it ends the start.
function methods:close()
  if type(self) ~= "table" or not self[TASK] then
    misuse("close", handle.NO_COLON, "close")
  end
  close(self[TASK])
  return true
end

for name, method in pairs(talk) do
  methods[name] = method
end

function getters.pid(task)
  return task.pid or task.process and not task.closed and task.process:pid() or nil
end

function getters.state(task)
  if task.closed or task.given_up then
    return "closed"
  elseif not task.process then
    return "created"
  elseif task.how or task:look() then
    return "ended"
  end
  return paused(task) and "paused" or "running"
end

function getters.command(task)
  return task.command
end

function getters.id(task)
  return task.id
end

for _, name in ipairs { "stdin", "stdout", "stderr" } do
  getters[name] = function(task)
    return task.streams.public[name]
  end
end

-- A collected handle only kills: waiting is not for a finalizer. What is detached lives on.
local function collected(self)
  local task = self[TASK]
  if not task.closed then
    if task.process and not task.how and not task.detached and task.owner == core.self() then
      task.process:kill(sys.SIGKILL)
    end
    wait.remove(task) -- the collector closes what it has, too
    wait.collected(function() close(task) end)
  end
end

--- A metatable of handles with these methods and getters (functions of the task), beyond those of a Process.
local function class(name, more, more_getters)
  setmetatable(more, { __index = methods })
  setmetatable(more_getters, { __index = getters })
  local mt = { __name = name, __gc = collected, __close = methods.close }
  function mt.__index(self, key)
    local method = more[key]
    if method ~= nil then
      return method
    end
    local getter = more_getters[key]
    return getter and getter(rawget(self, TASK))
  end
  function mt.__newindex(_, key)
    E.misuse("nsbox: a handle has no field '%s' to be set", tostring(key))
  end
  function mt.__tostring(self)
    local task = rawget(self, TASK)
    return ("%s: %s (%s)"):format(name, task.what, getters.state(task))
  end
  return mt
end

local process_mt = class("nsbox.process", {}, {})

local function new(task, mt)
  return setmetatable({ [TASK] = task }, mt or process_mt)
end

--- The task of a handle; nil for what is none.
local function task_of(h)
  return type(h) == "table" and rawget(h, TASK) or nil
end

return { class = class, new = new, task_of = task_of, close = close }
