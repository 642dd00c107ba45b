-- box.lua: a running box as a handle: a Process with more.

local E = require "nsbox.error"
local call = require "nsbox.call"
local connect = require "nsbox.box.connect"
local core = require "nsbox.core"
local detach = require "nsbox.detach.start"
local freeze = require "nsbox.box.freeze"
local handle = require "nsbox.process.handle"
local join = require "nsbox.box.join"
local limits = require "nsbox.box.limits"
local pause = require "nsbox.box.pause"
local process = require "nsbox.process"
local processes = require "nsbox.box.processes"
local remote = require "nsbox.detach.remote"
local start = require "nsbox.start"
local state = require "nsbox.detach.state"
local sys = require "nsbox.sys"
local wait = require "nsbox.wait"

local DESTROY = 10 -- seconds until a box that was killed is given up
local ENDING = 1 -- seconds until a box that may be ending is taken to live

local methods, getters = { connect = connect }, {}

-- ---- the processes that were added ----

-- The kernel lets process 1 end when all others of its pid namespace are reaped, and those that were added are ours to
-- reap: of a handle that was collected, too. They are kept until then, by what the core has of them.
local function reap(task)
  for added in pairs(task.added) do
    if not added:fileno() or added:poll() then
      task.added[added] = nil
    end
  end
end

local function watch_added(task, rows)
  reap(task)
  for added in pairs(task.added) do
    rows[#rows + 1] = { fd = added, events = "in", serve = reap, task = task }
  end
end

-- In a pid namespace of the box's own they end with its process 1; else they are ended one by one.
local function end_added(task)
  task.process:kill(sys.SIGKILL)
  for added in pairs(task.added) do
    added:kill(sys.SIGKILL)
  end
  if task.thaw then
    task:thaw()
  end
  if task.cgroup then
    task.cgroup:end_held()
  end
  local _ <close> = wait.hold()
  local deadline = sys.clock() + 1
  repeat
    local rows = {}
    watch_added(task, rows)
    if rows[1] then
      sys.poll(rows, math.max(0, deadline - sys.clock()))
    end
  until not rows[1] or sys.clock() >= deadline
end

-- ---- exec, spawn ----

local function running(self, verb)
  local task, err = handle.alive(self, verb)
  if not task then
    return nil, err
  elseif task.paused or freeze.is_frozen(task) then -- a process would be born frozen, and never come to its exec
    return nil, E.new { kind = "unsupported", verb = verb, message = task.what .. " is paused",
      hint = "resume it first" }
  end
  return task
end

-- Whether the box has ended. Whoever finds its process 1 gone, or is killed, may be told so before that is reaped.
local function ends(task, errno)
  if (errno or 0) ~= 0 and errno ~= sys.ESRCH then
    return task:look()
  end
  return wait.wait(function() return task.closed or task:look() end, sys.clock() + ENDING, nil, task)
end

local function add(self, verb, cmd, opts, copying)
  wait.check_allowed(verb)
  local task, err, errno = running(self, verb)
  if not task then
    return nil, err, errno
  end
  local added
  added, err, errno = join.start(verb, task, cmd, opts, copying)
  if not added then
    if not E.is(err) or err.kind ~= "setup" or not ends(task, errno) then
      return nil, err, errno
    end
    return running(self, verb) -- it ended meanwhile: that is the reason
  end
  task.added[added.process], added.box = true, task
  return process.new(added)
end

--- spawn(cmd, opts) -> Process | nil, err, errno: one more process in the box, with the rights and the view of the main
-- one. cmd: list or string (for /bin/sh -c); opts: those marked for exec. Raises on misuse. kind "closed": the box has
-- ended.
function methods:spawn(cmd, opts)
  return add(self, "spawn", cmd, opts)
end

--- exec(cmd, opts) -> Result | nil, err, errno: spawn, and wait for its end.
function methods:exec(cmd, opts)
  local added <close>, err, errno = add(self, "exec", cmd, opts)
  if not added then
    return nil, err, errno
  end
  return added:wait()
end

--- call(fn, opts, ...) -> true, results… | nil, err, errno: as nsbox.call, in this box; opts: those marked for exec,
-- but check. The box's other processes can neither read nor trace the copy of this program; in it no nested box can be
-- made.
function methods:call(fn, opts, ...)
  return call.run("box:call", function(copying)
    return add(self, "box:call", { "nsbox.call" }, opts, copying)
  end, fn, table.pack(...))
end

-- Who else has a handle of a detached box, and its worker, would not know that it is paused.
local function of_own(verb, fn)
  return function(self, ...)
    local task = handle.open(self, verb)
    if task and task.detached then
      return E.fail { kind = "unsupported", verb = verb, message = "not built yet for a detached box" }
    end
    return fn(self, ...)
  end
end

methods.pause, methods.resume = of_own("pause", pause.pause), of_own("resume", pause.resume)
methods.processes = processes.processes
methods.stats, methods.update = limits.stats, limits.update

--- destroy() -> true | nil, err, errno: ends a detached box, deletes its state, and closes the handle.
function methods:destroy()
  local task, err = handle.open(self, "destroy")
  if not task then
    return nil, err
  elseif not task.detached then
    return E.fail { kind = "unsupported", verb = "destroy", message = "the box is not detached: it has no state",
      hint = "close ends it" }
  end
  if not task:look() then
    end_added(task)
  end
  local ok, message, errno = task:destroy(sys.clock() + DESTROY)
  if not ok then
    return E.fail { kind = "timeout", verb = "destroy", message = message, errno = errno,
      name = core.errno_name(errno) }
  end
  return self:close()
end

for _, verb in ipairs { "read", "write", "put",
  "get", "stat", "list", "remove", "changes", "commit" } do
  methods[verb] = function()
    return E.fail { kind = "unsupported", verb = verb, message = "not built yet" }
  end
end

function getters.image(task)
  return task.image
end

getters.limits = handle.limits_of

function getters.notes(task)
  return task.notes
end

function getters.name(task)
  return task.name
end

function getters.labels(task)
  return task.labels
end

function getters.detached(task)
  return task.detached == true
end

function getters.created(task)
  return task.created
end

local box_mt = process.class("nsbox.box", methods, getters)

local function handle_of(task)
  task.added, task.before_close, task.reap, task.watch_added = {}, end_added, reap, watch_added
  return process.new(task, box_mt)
end

local function open(verb, image, cmd, opts)
  wait.check_allowed(verb)
  return start.start(verb, image, cmd, opts, handle_of)
end

-- ---- detached boxes ----

local function no_box(verb, message, errno)
  return E.fail { kind = "setup", verb = verb, message = message, errno = errno,
    name = errno and core.errno_name(errno) or nil }
end

local function open_detached(verb, id)
  local task, message, errno = remote.open(id)
  if not task then
    return no_box(verb, message, errno)
  end
  task.added, task.reap, task.watch_added = {}, reap, watch_added
  return process.new(task, box_mt)
end

local function start_detached(image, cmd, opts)
  wait.check_allowed "start"
  local id, err, errno = detach.start(image, cmd, opts)
  if not id then
    return nil, err, errno
  end
  return open_detached("start", id)
end

--- The detached box of this user with this id, unique beginning of an id, or name: a Box | nil, err, errno (kind
-- "setup"; ENOENT: there is none). Its output so far, and after its end its status, are there until destroy.
local function box(what)
  if type(what) ~= "string" then
    E.misuse("nsbox.box: an id or a name expected, got a %s", type(what))
  end
  local id, message, errno = state.find(what)
  if not id then
    return no_box("box", message, errno)
  end
  return open_detached("box", id)
end

--- All detached boxes of this user, those that have ended too: a list of Boxes, the oldest first.
local function boxes(...)
  if select("#", ...) > 0 then
    E.misuse("nsbox.boxes: takes no arguments: choose from its list")
  end
  local list, order = {}, {}
  for _, id in ipairs(state.ids()) do
    local b = open_detached("boxes", id)
    if b then -- else it went meanwhile, or is not ours
      list[#list + 1] = b
      order[b] = process.task_of(b)
    end
  end
  table.sort(list, function(a, b)
    local x, y = order[a], order[b]
    if x.created ~= y.created then
      return x.created < y.created
    end
    return x.clock < y.clock
  end)
  return list
end

-- ---- starts ----

--- Runs a command in a fresh box: a Box | nil, err, errno (err.kind: setup image exec unsupported). It lives until its
-- main process ends, or until close, collection or the caller's end; with detach = true until destroy.
-- image, cmd, opts: as of nsbox.run; output goes to a log unless the options say otherwise.
local function public_start(image, cmd, opts)
  if type(opts) == "table" and opts.detach then
    return start_detached(image, cmd, opts)
  end
  return open("start", image, cmd, opts)
end

--- Runs a command in a fresh box and waits for its end.
-- image: see image.resolve; cmd: list, string (for /bin/sh -c), nil (the image's own) or false (only an init, which
-- ends with code 0 when it is told to: with a timeout, or never).
-- Returns a Result for every command that was started; nil, err, errno when the box could not be
-- (err.kind: setup image exec unsupported). Raises at the caller's line on misuse. Needs root, or user
-- namespaces for everyone; Linux 5.14.
local function run(image, cmd, opts)
  local running_box <close>, err, errno = open("run", image, cmd, opts)
  if not running_box then
    return nil, err, errno
  end
  return running_box:wait()
end

local function check_handles(handles)
  if type(handles) ~= "table" or #handles == 0 then
    E.misuse("nsbox.wait_any: a list of boxes or processes expected")
  end
  for i, h in ipairs(handles) do
    if type(h) ~= "table" or not process.task_of(h) then
      E.misuse("nsbox.wait_any: item %d: a box or a process expected, got a %s", i, type(h))
    end
  end
end

--- Waits until one of several handles has ended: handle, Result | nil, err, errno (kind "timeout"). Of one that is
-- closed: handle, nil, err.
local function wait_any(handles, timeout)
  wait.check_allowed "wait_any"
  check_handles(handles)
  local deadline = handle.seconds("wait_any", timeout) and sys.clock() + timeout
  local first
  local me = coroutine.running()
  local function any()
    for _, h in ipairs(handles) do
      if handle.over(process.task_of(h), me) then
        first = h
        return true
      end
    end
    return false
  end
  if not wait.wait(any, deadline) then
    return handle.timed_out({ what = "every one of them" }, "wait_any")
  end
  return first, first:wait()
end

return { open = open, run = run, start = public_start, box = box, boxes = boxes, wait_any = wait_any }
