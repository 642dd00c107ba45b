-- process/handle.lua: what all methods of a handle share: its task, the time they wait, what they answer.

local E = require "nsbox.error"
local core = require "nsbox.core"
local result = require "nsbox.result"
local sys = require "nsbox.sys"
local wait = require "nsbox.wait"

local LOG_LINES = 10 -- of each stream, in an Error

local TASK = {} -- the key below which a handle keeps its task

local NO_COLON = "no box or process is before it: methods take a colon, box:%s(...)"

local function misuse(verb, text, ...)
  E.misuse("nsbox.%s: " .. text, verb, ...)
end

local function seconds(verb, v)
  if v ~= nil and not (math.type(v) and v >= 0) then
    misuse(verb, "a number of seconds expected, got %s", tostring(v))
  end
  return v
end

-- The task of a handle that is not closed, and not one of the program that this one was forked from | nil, err.
local function open(self, verb)
  local task = type(self) == "table" and self[TASK]
  if not task then
    misuse(verb, NO_COLON, verb)
  elseif task.closed or task.given_up then
    return nil, E.new { kind = "closed", verb = verb, message = task.what .. " is closed" }
  elseif task.owner ~= core.self() then
    return nil, E.new { kind = "closed", verb = verb, message = task.what .. " belongs to the process that started it" }
  elseif not task.process then
    return nil, E.new { kind = "closed", verb = verb, message = task.what .. " is not started yet" }
  end
  return task
end

local function timed_out(task, verb, text)
  return nil, E.new { kind = "timeout", verb = verb, message = text or (task.what .. " still runs"),
    errno = sys.ETIMEDOUT, name = "ETIMEDOUT" }, sys.ETIMEDOUT
end

-- ---- the result ----

local function kept(stream)
  return stream and stream.buffer and stream.buffer:contents() or ""
end

local function cut(stream)
  return stream ~= nil and stream.buffer ~= nil and stream.buffer:truncated()
end

-- `reason` says who caused the end: a kill of ours only if the process died of it.
local function reason_of(task)
  if task.how == "lost" then
    return "lost"
  elseif task.reason then
    return task.reason
  end
  return task.how == "signal" and task.sent and task.sent[task.status] and "killed" or task.how
end

local function times_of(task)
  return { wall = (task.ended_at or sys.clock()) - task.began, setup = task.exec_at and task.exec_at - task.began }
end

-- Without a cgroup, CPU time is that of the main process and of all that was waited for below it: of a pid namespace,
-- everything.
local function usage_of(task)
  local usage = times_of(task)
  usage.user, usage.sys = task.process:usage()
  for name, value in pairs(task.usage or {}) do
    usage[name] = value
  end
  return usage
end

--- What limits a task's box now: a map of option -> { value =, by = }.
local function limits_of(task)
  local box, limits = task.box or task, {}
  for option, limit in pairs(box.cgroup and box.cgroup.limits or box.limits_now and box:limits_now() or {}) do
    limits[option] = { value = limit.value, by = limit.by }
  end
  return limits
end

local function make_result(task)
  local s = task.streams
  local out = s.stdout or s.relay
  return result.new {
    verb = task.verb, id = task.id, command = task.command, reason = reason_of(task),
    code = task.how == "exit" and task.status or nil,
    signo = task.how == "signal" and task.status or nil,
    stdout = kept(out), stderr = kept(s.stderr),
    truncated = { stdout = cut(out), stderr = cut(s.stderr) },
    usage = usage_of(task), limits = limits_of(task), notes = task.notes,
  }
end

local function result_of(task)
  task.result = task.result or (task.make_result or make_result)(task)
  return task.result
end

-- "exit code 3", and the like.
local function how(task)
  return tostring(result_of(task)):sub(#tostring(result_of(task)):match "^.*: " + 1)
end

-- The last lines of a text.
local function tail(text, lines)
  if not lines then
    return text
  end
  local at, ends = #text, text:sub(-1) == "\n" and 1 or 0
  for _ = 1, lines + ends do
    local newline = text:sub(1, at):match ".*()\n"
    if not newline then
      return text
    end
    at = newline - 1
  end
  return text:sub(at + 2)
end

-- The end of what a process wrote, for an Error.
local function log(task)
  local s = task.streams
  return tail(kept(s.stdout or s.relay), LOG_LINES) .. tail(kept(s.stderr), LOG_LINES)
end

-- What a wait answers: an error of a function of the user's is raised here.
local function answer(task)
  if task.failure then
    local failure = task.failure
    task.failure = nil
    error(failure[1], 0)
  end
  local r = result_of(task)
  if not task.check or r.ok then
    return r
  end
  local err = result.to_error(r)
  return nil, err, err.errno
end

-- me: the coroutine that asks. A line function of its own may wait for its box; for all others it has to return first,
-- so that all lines are told then.
local function over(task, me)
  return task.closed or task.failure ~= nil or task:look() and not task:busy(me)
end

local function wait_for(self, verb, deadline)
  wait.check_allowed(verb)
  local task, err = open(self, verb)
  if not task then
    return nil, err
  end
  local me = coroutine.running()
  if not wait.wait(function() return over(task, me) end, deadline, nil, task) then
    return timed_out(task, verb)
  elseif task.closed then
    return open(self, verb)
  end
  return answer(task)
end

-- For what can be done with a running process alone.
local function ended(task, verb)
  return nil, E.new { kind = "closed", verb = verb, result = not task.closed and result_of(task) or nil,
    message = task.what .. (task.closed and " is closed" or " has ended: " .. how(task)) }
end

local function alive(self, verb)
  local task, err = open(self, verb)
  if task and task:look() then
    return ended(task, verb)
  end
  return task, err
end

return {
  TASK = TASK,
  NO_COLON = NO_COLON,
  misuse = misuse,
  seconds = seconds,
  open = open,
  ended = ended,
  alive = alive,
  timed_out = timed_out,
  kept = kept,
  times_of = times_of,
  usage_of = usage_of,
  limits_of = limits_of,
  make_result = make_result,
  result_of = result_of,
  how = how,
  tail = tail,
  log = log,
  answer = answer,
  over = over,
  wait_for = wait_for,
}
