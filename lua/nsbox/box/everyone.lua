-- box/everyone.lua: one signal to all processes of a box's own pid namespace.
--
-- From within, kill(-1) reaches all but process 1 under one lock: no fork gets by. Process 1 is reached from outside
-- alone, which is also what makes it obey. A helper goes in, as for exec, and runs no program: it makes the call, says
-- so at a barrier, and is killed there.

local config = require "nsbox.config"
local core = require "nsbox.core"
local probe = require "nsbox.probe"
local sys = require "nsbox.sys"

local PATIENCE = 2 -- seconds; the box's root may have stopped the helper before its call

local programs = {} -- with a user namespace or without, and signal -> what the core made of the steps

local inputs_mt = { __close = function(inputs)
  for _, fd in pairs(inputs) do
    fd:close()
  end
end }

-- With root's rights no user namespace has to be entered.
local function has_user(task)
  return not probe.host().root.ok and config.has_namespace(task.config, "user")
end

-- Not by its pidfd, as for exec: that names none once the first thread has ended. Where the program's own wait has
-- reaped it, the number may be somebody else's by now, and all of those would be signalled.
local function open_namespaces(task)
  local inputs = setmetatable({}, inputs_mt)
  for _, name in ipairs { "pid", has_user(task) and "user" or nil } do
    local fd, message, errno = sys.open(("/proc/%d/ns/%s"):format(task.process:pid() or 0, name), "rdonly")
    if not fd then
      inputs_mt.__close(inputs)
      return nil, message, errno
    end
    inputs[name] = fd
  end
  if task.process:poll() then
    inputs_mt.__close(inputs)
    return nil, "the box has ended", sys.ESRCH
  end
  return inputs
end

local function steps_of(user, signo)
  local guard = { "prctl", "set_pdeathsig", "kill", why = "die with the caller" }
  local steps = {
    guard,
    { "getppid", expect = "@owner", why = "the caller lived until this guard stood" },
    { "setns", "@pid", "newpid", why = "the box's processes" },
    guard,
    { "clone", "vm,vfork,parent", why = "a process in the box's pid namespace" },
    guard,
    { "getppid", expect = 0, why = "read back: its parent lies outside, so that -1 means the box's processes" },
    { "close_fds", why = "nothing of the caller's stays open" },
    { "kill", -1, signo, ok = "ESRCH", why = "all but process 1" },
    { "barrier", "sent", why = "done" },
    { "execve", { "/" }, { "" }, {}, why = "never reached" },
  }
  if user then
    table.insert(steps, 3, { "setns", "@user", "newuser", why = "the right to enter the others, and to signal" })
  end
  for i, step in ipairs(steps) do
    local copy = { index = i }
    for key, v in pairs(step) do
      copy[key] = v
    end
    steps[i] = copy
  end
  return steps
end

local function program_of(inputs, signo)
  local key = (inputs.user and "user " or "") .. signo
  programs[key] = programs[key] or core.compile(steps_of(inputs.user, signo), inputs, "vm,files")
  return programs[key]
end

-- true | nil, message, errno; errno 0: the helper was killed.
local function once(program, inputs, deadline)
  local launch <close>, message, errno = core.launch(program, inputs,
    { copy = os.getenv "NSBOX_CLONE" == "copy", hidden = true })
  if not launch then
    return nil, message, errno
  end
  while sys.clock() < deadline do
    local event, number, err = launch:next(math.max(0, deadline - sys.clock()))
    if event == "barrier" then
      return true
    elseif event == "failed" then
      return nil, ("step %d: %s"):format(number, err == 0 and "killed" or core.strerror(err)), err
    elseif not event then
      return nil, number, err
    end
  end
  return nil, "the helper was stopped in the box", sys.ETIMEDOUT
end

--- Sends a signal, an integer, to all processes of a box in a pid namespace of its own but process 1: true
-- | nil, message, errno. Whom the caller may not signal is left out, as by kill(2). What kills the helper, a program in
-- the box may do for some time.
local function signal(task, signo)
  local inputs <close>, message, errno = open_namespaces(task)
  if not inputs then
    return nil, message, errno
  end
  local program, deadline = program_of(inputs, signo), sys.clock() + PATIENCE
  local ok
  repeat
    ok, message, errno = once(program, inputs, deadline)
  until ok or errno ~= 0 or task.process:poll() or sys.clock() >= deadline
  return ok, message, errno
end

return { signal = signal }
