-- box/pause.lua: box:pause() and box:resume(): by the freezer of the box's cgroup, see freeze.lua; where it has none,
-- by signals. A cgroup that pause itself would make could be left behind.
--
-- A stop is seen by whoever waits for it (wait4 with WUNTRACED), and SIGCONT from within the box undoes it; both are
-- what a freezer spares.

local E = require "nsbox.error"
local core = require "nsbox.core"
local everyone = require "nsbox.box.everyone"
local file = require "nsbox.probe.file"
local freeze = require "nsbox.box.freeze"
local handle = require "nsbox.process.handle"
local keeper = require "nsbox.keeper"
local members = require "nsbox.box.members"
local sys = require "nsbox.sys"
local wait = require "nsbox.wait"

local PATIENCE = 5      -- seconds until all must stand still
local SLICE = 0.002     -- seconds between two looks, at first
local LONGEST = 0.02
local KERNEL_TIME = 0.1 -- seconds; who is in the kernel that long is not waited for
local MAX_HELD = 512    -- of a box that shares the caller's pids: descriptors, and duties of the keeper

local WHY = {
  own = "by SIGSTOP: parents that wait for stops see it, and what had stopped itself goes on with resume",
  shared = "by SIGSTOP to the main process and its descendants: one whose parents have all ended is not found, "
    .. "and what had stopped itself goes on with resume",
}

local methods = {}

-- ---- who stands still ----

local STILL = { T = true, t = true, Z = true, X = true }

-- One that waits in the kernel runs nothing of its own until it wakes up, and stops then: a parent in vfork, which
-- waits for a child that is stopped, does not wake up before.
local function still(state, patient)
  return STILL[state] or (state == "D" and not patient)
end

local function threads_still(pid, patient)
  for _, tid in ipairs(sys.readdir(("/proc/%d/task"):format(pid)) or {}) do
    local state = (file.read(("/proc/%d/task/%s/stat"):format(pid, tid)) or ""):match "^.*%) (%a)"
    if state and not still(state, patient) then
      return false
    end
  end
  return true
end

-- The first process that still runs, or nil.
local function one_running(rows, patient)
  for _, row in ipairs(rows) do
    if not (row.threads == 1 and still(row.state, patient) or row.threads ~= 1 and threads_still(row.pid, patient)) then
      return row
    end
  end
  return nil
end

-- ---- signals ----

-- Process 1 first: it makes no child from then on, and who is stopped after it neither.
local function stop_own(task)
  local ok, message, errno = task.process:kill(sys.SIGSTOP)
  if not ok then
    return nil, message, errno
  end
  return everyone.signal(task, sys.SIGSTOP)
end

-- A descriptor of it; false when it has ended. Its number may be another's by now: then that one has another parent.
local function hold(row)
  local fd, message, errno = sys.pidfd_open(row.pid)
  if not fd and errno == sys.ESRCH then
    return false
  elseif not fd then
    return nil, message, errno
  end
  local now = members.read(row.pid)
  if now and now.ppid == row.ppid then
    return fd
  end
  fd:close()
  return false
end

-- The main process, and those that were added, the keeper knows.
local function hold_and_stop(token, row, known)
  local fd, message, errno = hold(row)
  if fd == false then
    return true
  elseif not fd then
    return nil, message, errno
  end
  token.held[row.pid] = fd
  token.count = token.count + 1
  if not known then
    token.duties[row.pid], message, errno = keeper.kill_later(fd)
    if not token.duties[row.pid] then
      return nil, message, errno
    end
  end
  sys.pidfd_send_signal(fd, sys.SIGSTOP)
  return true
end

local function known_pids(task)
  local known = { [task.process:pid()] = true }
  for added in pairs(task.added) do
    known[added:pid() or 0] = true
  end
  return known
end

-- Those that were born since the last look come from one that was not stopped yet.
local function stop_shared(task, token, rows)
  local known = known_pids(task)
  for _, row in ipairs(rows) do
    if token.held[row.pid] then
      sys.pidfd_send_signal(token.held[row.pid], sys.SIGSTOP)
    elseif token.count >= MAX_HELD then
      return nil, ("more than %d processes, which share the caller's pids"):format(MAX_HELD), sys.EAGAIN
    else
      local ok, message, errno = hold_and_stop(token, row, known[row.pid])
      if not ok then
        return nil, message, errno
      end
    end
  end
  return true
end

-- Children first: no parent finds them stopped.
local function let_go(token)
  for _, duty in pairs(token.duties) do
    keeper.drop(duty)
  end
  local pids = {}
  for pid in pairs(token.held) do
    pids[#pids + 1] = pid
  end
  table.sort(pids, function(a, b) return a > b end)
  for _, pid in ipairs(pids) do
    sys.pidfd_send_signal(token.held[pid], sys.SIGCONT)
    token.held[pid]:close()
  end
  token.held, token.duties = {}, {}
end

-- Process 1 last: it does not find its children stopped.
local function continue_own(task)
  if task.closed or task.how then
    return true
  end
  local ok, message, errno = everyone.signal(task, sys.SIGCONT)
  task.process:kill(sys.SIGCONT)
  return ok, message, errno
end

--- Lets a paused box run: true | nil, message, errno, and it is paused still. Makes no wait; also of one that ends, or
-- has ended. killed: by SIGKILL just now, so that no helper has to go where all die.
local function thaw(task, killed)
  local token, ok, message, errno = task.paused, true, nil, nil
  task.paused = nil
  if token and token.freezes then
    ok, message, errno = freeze.thaw(task)
  elseif token and task.is_pid1 and not killed then
    ok, message, errno = continue_own(task)
  elseif token then
    let_go(token)
  end
  if not ok then
    token.stopped, task.paused = true, token
  end
  return ok, message, errno
end

-- ---- pause ----

-- An error, or Ctrl-C, on the way.
local undoing_mt = { __close = function(undoing)
  if undoing.task.paused == undoing.token and not undoing.token.stopped then
    thaw(undoing.task)
  end
end }

-- One look: true when all stand still; false, who does not | nil, message, errno.
local function look(task, token, patient)
  local rows, message, errno = members.list(task)
  if not rows then
    return nil, message, errno
  end
  local running, ok = one_running(rows, patient), true
  if not task.is_pid1 then
    local count = token.count
    ok, message, errno = stop_shared(task, token, rows)
    running = running or token.count > count and rows[#rows]
  elseif running then
    ok, message, errno = stop_own(task)
  end
  if not ok then
    return nil, message, errno
  end
  return not running, running
end

local function freeze_all(task, token)
  local function over()
    return task.paused ~= token or task:look()
  end
  local ok, message, errno = freeze.freeze(task, over, sys.clock() + PATIENCE)
  token.stopped = ok
  return ok, message, errno
end

-- Twice in a row: one that was still running may have woken another up, after that had been looked at.
local function stop_all(task, token)
  local began, slice, clean, running = sys.clock(), SLICE, 0, nil
  local function over()
    return task.paused ~= token or task:look()
  end
  while clean < 2 do
    if over() then
      return true
    elseif sys.clock() - began > PATIENCE then
      return nil, ("process %d does not stop"):format(running.pid), sys.ETIMEDOUT
    end
    local all, message, errno = look(task, token, sys.clock() - began < KERNEL_TIME)
    if all == nil then
      return nil, message, errno
    end
    clean, running = all and clean + 1 or 0, message
    if not all then
      wait.wait(over, sys.clock() + slice, nil, task)
      slice = math.min(LONGEST, slice * 2)
    end
  end
  token.stopped = true
  return true
end

local function begin(task, token)
  if not task.thaw then
    table.insert(task.at_end, 1, thaw)
  end
  task.paused, task.thaw = token, thaw
  if task.is_pid1 and not token.freezes then
    return stop_own(task)
  end
  return true
end

local function note(task)
  if not task.noted_pause then
    task.noted_pause = true
    table.insert(task.notes, { what = "pause", why = task.is_pid1 and WHY.own or WHY.shared })
  end
end

local function failure(task, verb, message, errno)
  if task:look() then
    return handle.ended(task, verb)
  end
  return E.fail { kind = errno == sys.ETIMEDOUT and "timeout" or "setup", verb = verb, message = tostring(message),
    errno = errno, name = errno and core.errno_name(errno) or nil }
end

-- What it has come to.
local function outcome(task, token)
  if task.closed or task:look() then
    return handle.ended(task, "pause")
  elseif task.paused ~= token then
    return E.fail { kind = "setup", verb = "pause", message = task.what .. " was resumed meanwhile" }
  end
  if not token.freezes then
    note(task)
  end
  return true
end

-- At the end of the Lua state the process's own finalizer comes before its box's, and waits for its end: of v1 a frozen
-- one has none.
local freezing_mt = { __gc = function(token)
  local task = token.task
  if task.paused == token and not task.closed and task.owner == core.self() then
    task:end_now()
  end
end }

local function new_token(task)
  local token = { held = {}, duties = {}, count = 0 }
  if freeze.can(task) then
    token.freezes, token.task = true, task
    setmetatable(token, freezing_mt)
  end
  return token
end

local function halt(task)
  local token = new_token(task)
  local _ <close> = setmetatable({ task = task, token = token }, undoing_mt)
  local ok, message, errno = begin(task, token)
  if ok then
    ok, message, errno = (token.freezes and freeze_all or stop_all)(task, token)
  end
  if not ok then
    return failure(task, "pause", message, errno)
  end
  return outcome(task, token)
end

-- Another coroutine is at it, or it is done.
local function await(task, token)
  local function over()
    return token.stopped or task.paused ~= token
  end
  if not wait.wait(over, sys.clock() + 2 * PATIENCE, nil, task) then
    return handle.timed_out(task, "pause", task.what .. " is still being stopped")
  end
  return outcome(task, token)
end

--- pause() -> true | nil, err, errno: no process of the box runs until resume. Without a cgroup by SIGSTOP, which
-- `notes` says. true for one that is paused, too. A deadline counts on: kill, stop, close and a timeout let it run, to
-- its end. kind "closed": it has ended; "timeout": a process does not stop (then all go on).
function methods:pause()
  wait.check_allowed "pause"
  local task, err = handle.alive(self, "pause")
  if not task then
    return nil, err
  end
  if task.paused then
    return await(task, task.paused)
  end
  return halt(task)
end

--- resume() -> true | nil, err, errno: all processes of a paused box run on. true for one that runs, too. kind
-- "closed": it has ended.
function methods:resume()
  local task, err = handle.alive(self, "resume")
  if not task then
    return nil, err
  end
  local ok, message, errno = thaw(task)
  if not ok then
    return failure(task, "resume", message, errno)
  end
  return true
end

return methods
