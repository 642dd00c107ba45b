-- launch.lua: plan -> process. Makes the caller's steps, and those it owes the child at each barrier.

local core = require "nsbox.core"
local error_ = require "nsbox.error"
local file = require "nsbox.probe.file"
local hint = require "nsbox.hint"
local param = require "nsbox.plan.param"
local program = require "nsbox.program"
local step_text = require "nsbox.step"
local sys = require "nsbox.sys"

local MAX_ARGS = 8
local SLICE = 60 -- seconds; a signal ends the wait at once, so that Lua's own hooks run

-- Whether one of a step's names of errnos, "EINVAL,EPERM", is this one.
local function is_among(names, errno)
  local name = names and errno and errno ~= 0 and core.errno_name(errno)
  return name and ("," .. names .. ","):find("," .. name .. ",", 1, true) ~= nil
end

-- "@slot" is what an earlier step of the caller opened.
local function argument(start, v)
  local slot = type(v) == "string" and v:match "^@(.+)$"
  if slot then
    return start.slots[slot]
  end
  return param.value(v, start.params)
end

-- A step of the caller: the same row, made now, or a call that only the caller has.
local function perform(start, step)
  local call, args = start.calls and start.calls[step[1]] or sys[step[1]], {}
  for i = 1, MAX_ARGS do
    args[i] = argument(start, step[i + 1])
  end
  local results = table.pack(call(table.unpack(args, 1, MAX_ARGS)))
  if not results[1] then
    return is_among(step.ok, results[3]), results[2], results[3]
  end
  for i, slot in ipairs(type(step.out) == "table" and step.out or { step.out }) do
    start.slots[slot] = results[i]
  end
  return true
end

-- A step may have `unsupported`: what it means when it reads back something else, or fails with an errno of `refused`;
-- and `hint`, what to do instead.
local function unsupported(start, step, number, errno)
  if step and step.unsupported and is_among("EPROTO," .. (step.refused or ""), errno) then
    local name, read_back = core.errno_name(errno), errno == sys.EPROTO
    return { kind = "unsupported", verb = start.verb, step = number, message = step.unsupported,
      hint = hint.of(step, name), errno = not read_back and errno or nil, name = not read_back and name or nil }
  end
end

local function failure(start, number, message, errno)
  local step = start.plan[number] and param.bind(start.plan[number], start.params) or { "clone" }
  local name = errno and errno ~= 0 and core.errno_name(errno) or nil
  local known = unsupported(start, step, number, errno)
  if known then
    return error_.fail(known)
  end
  return error_.fail {
    kind = not hint.scarce[name] and ((step.kinds or {})[name] or step.kind) or "setup",
    verb = start.verb, step = number, call = step[1],
    errno = errno ~= 0 and errno or nil, name = name, path = step_text.subject(step),
    message = ("%s (%s)"):format(message, step.why or "?"),
    hint = hint.of(step, name),
  }
end

-- The caller's steps from `number` on, until one of the child's.
local function parent_steps(start, number)
  while start.plan[number] and start.plan[number].side == "parent" and start.plan[number][1] ~= "clone" do
    local ok, message, errno = perform(start, start.plan[number])
    if not ok then
      return nil, number, message, errno
    end
    number = number + 1
  end
  return number
end

local function child_steps(plan, from)
  local list = {}
  for number = from, #plan do
    local step = plan[number]
    if step.side ~= "parent" then
      local marked = { index = number }
      for key, v in pairs(step) do
        marked[key] = v
      end
      list[#list + 1] = marked
    end
  end
  return list
end

local programs = setmetatable({}, { __mode = "k" }) -- plan -> what the core made of the child's steps

local function program_of(plan, number, inputs)
  programs[plan] = programs[plan] or core.compile(child_steps(plan, number + 1), inputs, plan[number][2])
  return programs[plan]
end

local function go(launch, number)
  local ok, message, errno = launch:go()
  if not ok and errno ~= sys.EPIPE and errno ~= sys.ECONNRESET then -- a child that is gone says why in the next event
    return nil, number, message, errno
  end
  return true
end

local function at_barrier(start, launch, number, ...)
  start.pidfd = launch:pidfd()
  local take = start.barriers and start.barriers[start.plan[number][2]]
  if take and take(...) == false then
    return nil, number, "given up by the caller"
  end
  if start.born then
    local ok, why, err = start.born(launch:pidfd())
    start.born = nil
    if not ok then
      return nil, number, tostring(why), err
    end
  end
  return go(launch, number)
end

local function explain_failure(start, number, errno, root)
  local step = start.plan[number] and param.bind(start.plan[number], start.params)
  local is_program = step and step[1] == "execve" and (step[2] ~= "@program" or errno == sys.E2BIG)
  if is_program and errno ~= 0 and start.config then
    return error_.fail(program.explain(start, number, errno, root))
  end
  if errno == 0 then
    return failure(start, number, "the process was killed during set-up", 0)
  end
  local message = errno == sys.EPROTO and "read back: the kernel did not apply it" or core.strerror(errno)
  return failure(start, number, message, errno)
end

-- What holds it may not let it die, and a box does not end before each of its processes is reaped.
local function give_up(start, launch)
  local pidfd = launch:pidfd()
  if pidfd and start.let_go then
    sys.pidfd_send_signal(pidfd, sys.SIGKILL)
    start.let_go(tonumber((file.read(("/proc/self/fdinfo/%d"):format(pidfd)) or ""):match "\nPid:%s*(%d+)"))
  end
  launch:abort()
end

local function overdue(start)
  return error_.fail { kind = "timeout", verb = start.verb, errno = sys.ETIMEDOUT, name = "ETIMEDOUT",
    message = ("the process has not come to its exec in %g s"):format(start.patience),
    hint = "a process of the box may have stopped it: box:stop(0) ends them all" }
end

local function follow(start, launch)
  if start.meanwhile then
    start.meanwhile()
  end
  local deadline = start.patience and sys.clock() + start.patience
  while true do
    local left = deadline and deadline - sys.clock() or SLICE
    if left <= 0 then
      give_up(start, launch)
      return overdue(start)
    end
    local event, a, b, c = launch:next(math.min(left, SLICE))
    if event == "started" then
      return a
    elseif event == "failed" then
      local root <close> = c
      return explain_failure(start, a, b, root)
    elseif event == "barrier" then
      local ok, number, message, errno = at_barrier(start, launch, a, b, c)
      if not ok then
        launch:abort()
        return failure(start, number, message, errno)
      end
    elseif not event then
      return failure(start, 0, a, b)
    end
  end
end

local unconfirmed = { c = "init could not make a process for the program: ",
  t = "the terminal could not become the program's: " }

-- With an init the program runs when that says so.
local function confirmed(start, process)
  local ok, kind, errno, fd = start.confirm(process)
  local root <close>, last = fd, #start.plan
  if ok then
    return process
  end
  if kind == "late" and start.let_go then
    process:kill(sys.SIGKILL)
    start.let_go(process:pid())
  end
  process:close()
  if kind == "late" then
    return overdue(start)
  elseif kind == "x" then
    return error_.fail(program.explain(start, last, errno, root))
  elseif not unconfirmed[kind] then
    return failure(start, last, "the process was killed during set-up", 0)
  end
  return failure(start, last, unconfirmed[kind] .. core.strerror(errno), errno)
end

-- What the caller's steps opened is the start's alone.
local slots_mt = { __name = "nsbox.slots" }

function slots_mt.__close(slots)
  for _, fd in pairs(slots) do
    fd:close()
  end
end

local function all_inputs(start)
  local inputs = {}
  for _, from in ipairs { start.inputs, start.slots } do
    for name, fd in pairs(from) do
      inputs[name] = fd
    end
  end
  return inputs
end

--- Performs a plan. start:
--   plan      the steps; params: values of their placeholders. What is marshalled of a plan is kept as long as the plan
--   verb      for messages; config: for what is said of a program that cannot be run
--   inputs    slot name -> descriptor
--   calls     name -> function: what a step of the caller may name beside those of nsbox.sys
--   barriers  name -> function, called with the descriptors the child gives there; false gives the start up. Then
--             start.pidfd is the newest process's, borrowed
--   born      called at the first barrier with the new process's pidfd; nil, message, errno stops the start
--   meanwhile called when the child is at work
--   confirm   called with the process that was started: see pid1.lua
--   hidden    nobody may look into the caller's memory meanwhile
--   patience  seconds until it has to be at its exec: whom others can stop, such as a process among a box's own
--   let_go    called with the number of one that has not, and is killed: so that it can die
--   copy      true: a copying clone
--   child     for a plan that ends in `return`: called in the copy with the descriptor for results; never comes back
-- Returns the process | nil, err, errno (kinds setup, exec, unsupported, timeout). Nothing half made
-- stays.
local function run(start)
  start.slots, start.params = setmetatable({}, slots_mt), start.params or {}
  local _ <close> = start.slots
  local number, failed, message, errno = parent_steps(start, 1)
  if not number then
    return failure(start, failed, message, errno)
  end
  local clone = start.plan[number]
  local keeper = clone.within and start.inputs[clone.within]
  local inputs = all_inputs(start)
  local copy = start.copy or start.child ~= nil or os.getenv "NSBOX_CLONE" == "copy"
  local launch <close>, why, err = core.launch(program_of(start.plan, number, inputs), inputs, {
    copy = copy, hidden = start.hidden, params = start.params,
    within = keeper, self = keeper and keeper.caller,
  })
  if not launch then
    return failure(start, number, why, err)
  elseif why then -- this is the copy
    return start.child(why)
  end
  local process, failed_, errno_ = follow(start, launch)
  if process and start.confirm then
    return confirmed(start, process)
  end
  return process, failed_, errno_
end

return { run = run }
