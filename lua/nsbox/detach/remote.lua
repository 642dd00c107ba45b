-- detach/remote.lua: a detached box as seen from any process of its user: a task with the fields and methods of those
-- in serve.lua, made of the box's record, its logs and its pidfd.

local core = require "nsbox.core"
local log = require "nsbox.detach.log"
local message = require "nsbox.detach.message"
local probe = require "nsbox.probe"
local result = require "nsbox.result"
local serve = require "nsbox.serve"
local state = require "nsbox.detach.state"
local sys = require "nsbox.sys"
local wait = require "nsbox.wait"

local PATIENCE, FOLLOWING, ENDING = 60, 0.05, 0.01 -- seconds

-- ---- its main process, no child of ours ----

local process = {}
local process_mt = { __index = process }

function process:fileno()
  return self.fd and self.fd:fileno()
end

function process:pid()
  return self.number
end

function process:has_ended()
  return not self:fileno() or sys.poll({ { fd = self.fd, events = "in" } }, 0) == 1
end

-- As of the core's: what is asked elsewhere is whether it has ended.
function process:poll()
  return self:has_ended() and "lost" or nil
end

-- The worker tells in the record who caused an end: it must know before.
function process:kill(signo)
  if self:has_ended() then
    return true
  end
  message.request(self.path, { "sent", signo })
  local ok, text, errno = sys.pidfd_send_signal(self.fd, signo)
  if not ok and errno ~= sys.ESRCH then
    return nil, text, errno
  end
  return true
end

function process:close()
  if self.fd then
    self.fd:close()
  end
end

local no_process = { [sys.ESRCH] = true, [sys.ENOENT] = true }

-- A pid may be another process's by now. What its start says is of the process that the descriptor is of, if that still
-- lives when it has been read. nil, message, errno when it cannot be known.
local function open_process(record)
  local p = setmetatable({ number = record.pid, path = state.path_of(record.id) }, process_mt)
  if record.ended or not record.pid then
    return p
  end
  local started
  local fd, text, errno = sys.pidfd_open(record.pid)
  if fd then
    started, text, errno = state.started_at(record.pid, fd)
  end
  if fd and started and started == record.started and not no_process[select(3, sys.pidfd_send_signal(fd, 0)) or 0] then
    p.fd = fd
    return p
  elseif fd then
    fd:close()
  end
  if errno and not no_process[errno] then
    return nil, text, errno
  end
  return p
end

-- ---- the task ----

local task = {}
local task_mt = { __name = "nsbox.task", __index = task }

task.handles, task.end_now = serve.handles, serve.end_now

-- The record of the end comes a moment after the end.
local function ended_of(self)
  local record = state.read(self.path)
  if not (record and record.ended) then
    if state.is_alive(self.path) then
      return nil
    end
    record = state.read(self.path)
  end
  return record and record.ended or { reason = "lost" }
end

function task:look()
  if self.how then
    return true
  end
  if self.reap then
    self:reap()
  end
  if not self.process:has_ended() then
    return false
  end
  self.ended = ended_of(self)
  self.late = not self.ended
  if self.late then
    return false
  end
  self.how = self.ended.code and "exit" or self.ended.signal and "signal" or "lost"
  wait.remove(self)
  return true
end

-- No function of the user's runs for it.
function task.busy()
  return false
end

--- What handle.lua makes the Result of.
function task:make_result()
  local fields = { verb = self.verb, id = self.id, command = self.command, notes = self.notes, usage = {},
    limits = self.limits or {} }
  for name, v in pairs(self.ended) do
    fields[name] = name ~= "at" and v or nil
  end
  for _, name in ipairs { "stdout", "stderr" } do
    local stream = self.streams[name]
    fields[name] = stream and stream.buffer:contents() or ""
  end
  return result.new(fields)
end

--- Its record may say more by now: what was updated.
function task:refresh()
  local record = state.read(self.path)
  if record then
    self.config, self.limits = record.config, record.ended and record.ended.limits or record.limits
  end
end

function task:limits_now()
  self:refresh()
  return self.limits
end

--- Has its worker change limits: true | nil, problem as of cgroup/limit.lua.
function task:update(resources)
  local answer, text, errno = message.request(self.path, { "update", resources })
  if not answer then
    return nil, { kind = "setup", message = "the box's worker: " .. text, errno = errno,
      name = core.errno_name(errno) }
  elseif not answer.ok then
    return nil, { kind = "setup", message = "the box's worker: " .. tostring(answer.error) }
  end
  return answer.ok.done, answer.ok.problem
end

--- The stop signal, and after `grace` seconds SIGKILL: the worker's to make, whatever becomes of us.
function task:ask_to_end(_, grace)
  message.request(self.path, { "stop", grace })
end

function task:rows(rows)
  if not self.late then
    rows[#rows + 1] = { fd = self.process, events = "in", serve = self.look, task = self }
  end
  if self.watch_added then
    self:watch_added(rows)
  end
end

function task:patience()
  if self.late then
    return ENDING
  end
  for _, stream in pairs(self.streams) do
    if stream.buffer and stream.buffer:followed() then
      return FOLLOWING
    end
  end
  return PATIENCE
end

function task:turned()
  if self.late then
    self:look()
  end
end

--- Kills it, waits for the end of its worker and removes its state. true | nil, message, errno.
function task:destroy(deadline)
  if not self:look() then
    self.process:kill(sys.SIGKILL)
  end
  local function gone()
    return self:look() and state.remove(self)
  end
  while not wait.wait(gone, sys.clock() + ENDING, nil, self) do
    if sys.clock() >= deadline then
      return nil, self.what .. ": it is killed, and has not ended yet", sys.ETIMEDOUT
    end
  end
  return true
end

local function streams_of(record, path)
  local streams = setmetatable({ public = {} }, { __close = function() end })
  for name, kept in pairs(record.logs) do
    streams[name] = kept and { buffer = log.reader(path, name, record.max_output), name = name } or nil
  end
  return streams
end

--- The task of the box with this id | nil, message, errno.
local function open(id)
  local record, text, errno = state.load(id)
  if not record then
    return nil, text, errno
  end
  local main
  main, text, errno = open_process(record)
  if not main then
    return nil, text, errno
  end
  local path = state.path_of(id)
  local self = setmetatable({
    detached = true, path = path, owner = core.self(), at_end = {}, host = probe.host(),
    process = main,
    streams = streams_of(record, path), what = "box " .. id, pid = record.pid,
  }, task_mt)
  for _, name in ipairs { "id", "name", "labels", "image", "command", "created", "clock", "config", "is_pid1",
    "has_init", "notes", "limits", "began", "exec_at", "check", "stop_signal", "stop_timeout", "verb", "max_output" } do
    self[name] = record[name]
  end
  if not self:look() then
    wait.add(self)
  end
  return self
end

return { open = open }
