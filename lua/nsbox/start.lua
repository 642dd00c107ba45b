-- start.lua: from a user's arguments to the task of a running box.

local cgroup = require "nsbox.cgroup"
local config = require "nsbox.config"
local core = require "nsbox.core"
local error_ = require "nsbox.error"
local handle = require "nsbox.process.handle"
local hint = require "nsbox.hint"
local idrange = require "nsbox.idrange"
local ids = require "nsbox.config.ids"
local image = require "nsbox.image"
local keeper = require "nsbox.keeper"
local launch = require "nsbox.launch"
local layer = require "nsbox.image.layer"
local limits = require "nsbox.config.limits"
local options = require "nsbox.options"
local param = require "nsbox.plan.param"
local pid1 = require "nsbox.pid1"
local plan = require "nsbox.plan"
local probe = require "nsbox.probe"
local process = require "nsbox.process"
local serve = require "nsbox.serve"
local streams = require "nsbox.streams"
local sys = require "nsbox.sys"
local terminal = require "nsbox.terminal"
local users = require "nsbox.users"
local wait = require "nsbox.wait"

-- What a start has made goes, unless it succeeds. Its handle, which on_created had, is a closed one.
local making_mt = { __name = "nsbox.making" }

function making_mt.__close(making)
  if making.box then
    process.close(making.box)
  elseif making.ids then
    idrange.give_back(making.ids)
  end
end

-- The ids that boxes of this caller may have, where they must be known: ids_of(o, host) finds them. true
-- | nil, err, errno.
local function find_ids(o, host, ids_of)
  if not ids.needs_ids(o, host) then
    return true
  end
  local err, errno
  host.ids, err, errno = ids_of(o, host)
  return host.ids ~= nil, err, errno
end

--- Options, command and image -> config. The way from a user's arguments to the second station, for starts and
-- explain. ids_of: see find_ids. Returns config, checked options, image | nil, err, errno; raises on misuse.
local function describe(verb, name, cmd, opts, host, id, ids_of)
  local o, err, errno = options.check(verb, opts)
  if not o then
    return nil, err, errno
  end
  local ok
  ok, cmd, errno = options.command(verb, cmd, o)
  if not ok then
    return nil, cmd, errno
  end
  local img
  img, err, errno = image.resolve(verb, name, o, host)
  if not img then
    return nil, err, errno
  end
  host.exposed = ids.has_callers(o, host)
  if limits.needs_cgroup(o) then
    host.cgroups = host.cgroups or cgroup.places(o.cgroup_parent, verb ~= "explain")
  elseif host.exposed then
    host.cgroups = cgroup.own_places()
  end
  ok, err, errno = find_ids(o, host, ids_of)
  if not ok then
    return nil, err, errno
  end
  local user
  user, err, errno = users.of_image(verb, o, img, ids.default_user(o, host))
  if not user then
    return nil, err, errno
  end
  local c
  c, err, errno = config.config(verb, o, img, cmd, host, id, user)
  if not c then
    return nil, err, errno
  end
  return c, o, img
end

local function setup_failure(verb, what, message, errno)
  local name = errno and core.errno_name(errno) or nil
  return error_.fail { kind = "setup", verb = verb, message = what .. ": " .. tostring(message), errno = errno,
    name = name, hint = hint.of({}, name) }
end

-- Where this kernel's tmpfs cannot be an overlay's upper layer, a folder is.
local function open_layer(b, c, o)
  if b.host.tmpfs_xattr.ok or not o.namespaces.mount.new then
    return true
  end
  local message, errno
  b.layer, message, errno = layer.open(b.id, o.store)
  if not b.layer then
    return nil, message, errno
  end
  c.nsbox.layer_path = b.layer.path
  return true
end

local function inputs_of(b)
  local inputs = { keeper = b.keeper }
  for _, from in ipairs { b.streams.inputs, b.copying and b.copying.inputs } do
    for name, fd in pairs(from) do
      inputs[name] = fd
    end
  end
  return inputs
end

-- What the copy does that a call makes; nil for a program.
local function child_of(b, c)
  return b.copying and function(fd)
    b.copying.child(fd, c.process.env)
  end or nil
end

local function born_of(b)
  return not b.is_pid1 and function(pidfd)
    local message, errno
    b.duty, message, errno = keeper.kill_later(pidfd)
    return b.duty, message, errno
  end or nil
end

-- The user's function, before exec. An error of it is raised when nothing of the start is left.
local function created(b, pidfd)
  local _ <close> = wait.forbid "on_created"
  b.pid, b.in_created = core.pid_of(pidfd), true
  local ok, err = pcall(b.on_created, b.handle)
  b.in_created = nil
  b.raised = not ok and { err } or nil
  return ok and not b.given_up
end

-- Of a program of ours, which is to become the command or its init: its handle, and what is more of the start.
local function open_init(b, c, params, inputs)
  if not c.nsbox.init and not c.nsbox.sealed then
    return true
  end
  local init, message, errno = pid1.open(params, c.nsbox.fds or {}, c.nsbox.init)
  if not init then
    return setup_failure(b.verb, "init", message, errno)
  end
  for name, fd in pairs(init.inputs) do
    inputs[name] = fd
  end
  return init
end

local function confirm_of(b, init)
  return init ~= true and function(made)
    b.process = made -- an error, such as Ctrl-C, ends it
    return init:confirm(made, b.until_exec)
  end or nil
end

-- What the caller's steps name beside nsbox.sys.
local function calls_of(b, k)
  local calls = b.cgroup and b.cgroup:calls() or {}
  function calls.namespaces(...)
    return keeper.namespaces(k, ...)
  end
  return calls
end

local function start_once(b, c)
  local k, err, errno = keeper.get(b.host)
  b.keeper = k
  if not k then
    return nil, err, errno
  end
  local params, inputs, launching = param.of(c), inputs_of(b), nil
  local init, problem, number = open_init(b, c, params, inputs)
  if not init then
    return nil, problem, number
  end
  local _ <close> = init ~= true and init or nil
  launching = {
    plan = plan.steps_of(c, b.host), params = params, verb = b.verb, inputs = inputs, config = c,
    calls = calls_of(b, k),
    barriers = {
      terminal = function(fd) b.terminal = fd end,
      created = function() return created(b, launching.pidfd) end,
    },
    meanwhile = function() keeper.ahead(k) end,
    born = born_of(b),
    confirm = confirm_of(b, init),
    hidden = b.joins_pids,
    copy = b.enters_time, -- EUSERS for a process that shares memory; time_namespaces(7)
    child = child_of(b, c),
  }
  return launch.run(launching)
end

-- What a start that failed has made.
local function reset(b, c, o)
  if b.terminal then
    b.terminal:close()
    b.terminal = nil
  end
  if b.layer then
    local _ <close> = b.layer
    b.layer = nil
  end
  return open_layer(b, c, o)
end

local function keeper_died(b, err)
  return err.kind == "setup" and b.keeper and keeper.died(b.keeper, err.errno)
end

-- Below a keeper that dies, a start dies: nothing of the command has run then, and it is begun anew, once.
local function start_twice(b, c, o)
  local made, err, errno = start_once(b, c)
  if made or not keeper_died(b, err) then
    return made, err, errno
  end
  local ok, message, number = reset(b, c, o)
  if not ok then
    return setup_failure(b.verb, "layer", message, number)
  end
  made, err, errno = start_once(b, c)
  if not made and keeper_died(b, err) then
    err.hint = err.hint or "the keeper was killed, twice"
  end
  return made, err, errno
end

local function start_process(b, c, o)
  local made, err, errno = start_twice(b, c, o)
  if not made and b.cgroup and b.cgroup:lacked_memory(err.name) then
    err.hint = "the box needed more memory than it may have: raise the option memory"
  end
  return made, err, errno
end

local function prepare(b, c, o)
  b.command, b.config, b.what = c.process.args, c, ("box %s"):format(b.id)
  b.stop_signal, b.stop_timeout, b.overflow, b.check = c.nsbox.stop_signal, o.stop_timeout, o.overflow, o.check
  b.is_pid1, b.has_init = o.namespaces.pid.new == true, c.nsbox.init == true
  b.below_keeper = o.namespaces.pid.new == true
  b.enters_time = o.namespaces.time.path ~= nil or o.namespaces.time.fd ~= nil
    or o.namespaces.time.new and not b.host.exec_clocks.ok
  b.joins_pids = not b.is_pid1 and (o.namespaces.pid.path or o.namespaces.pid.fd) ~= nil
  b.notes = plan.notes(c)
  if c.nsbox.cgroup then
    b.cgroup = cgroup.new(c, b.host.cgroups, b.id, b.notes)
    b.cpu_time = c.nsbox.cpu_time
    table.insert(b.at_end, 1, cgroup.ended)
  end
  if not b.is_pid1 and not b.cgroup then
    table.insert(b.notes, 1, { what = "namespaces.pid",
      why = "the pid namespace is shared: descendants of the command may outlive it" })
  end
end

--- Once the process of a task runs: its streams are served, its deadline counts. true | nil, message, errno when the
-- descriptors run out.
local function serving(b, o)
  local message_, errno_
  b.exec_at = sys.clock()
  b.deadline = o.timeout and b.exec_at + o.timeout
  streams.started(b.streams)
  if b.terminal then
    local ok, message, errno = streams.attach(b.streams, b.terminal)
    if not ok then
      return nil, message, errno
    end
  end
  if b.deadline then
    local timer, message, errno = keeper.end_later(b.below_keeper, b.process, b.deadline, b.stop_timeout,
      sys["SIG" .. b.stop_signal])
    if not timer then
      return nil, message, errno
    end
    timer.at, b.timer = b.deadline, timer
  end
  if b.cpu_time then
    b.cpu_duty, message_, errno_ = b.cgroup:end_later(b.cpu_time)
    if not b.cpu_duty then
      return nil, message_, errno_
    end
  end
  if b.in_worker and b.streams.relay then
    b.streams.relay.null = nil -- nobody is there yet, which is no end of input
  end
  b.serving = b.streams.relay and terminal.serve(b) or nil
  b:begin()
  return true
end

local function take_ids(verb, making, o, host)
  if not host.root.ok then
    return keeper.maps(host)
  end
  local message, errno
  making.ids, message, errno = idrange.take(not o.namespaces.pid.new)
  if not making.ids then
    return setup_failure(verb, "ids", message, errno)
  end
  return making.ids
end

--- Starts a box. handle_of: makes the handle of its task. more: copying, of a call (call.lua); worker, of a box that is
-- detached: { id = its id, log = function(name, max) -> buffer for what is kept of a stream }. Returns the handle
-- | nil, err, errno (kinds setup image exec unsupported closed); raises on misuse.
local function start(verb, name, cmd, opts, handle_of, more)
  local worker = more and more.worker
  local began, id = sys.clock(), worker and worker.id or core.random_id()
  local host = probe.host()
  local making <close> = setmetatable({}, making_mt)
  local c, o, img = describe(verb, name, cmd, opts, host, id, function(...) return take_ids(verb, making, ...) end)
  if not c then
    return nil, o, img
  end
  local s, message, errno = streams.open(o, worker and worker.log)
  if not s then
    return setup_failure(verb, "streams", message, errno)
  end
  local b = serve.new { verb = verb, id = id, began = began, host = host, streams = s, image = img.name, name = o.name,
    labels = o.labels, max_output = o.max_output, in_worker = worker ~= nil, copying = more and more.copying,
    ids = making.ids }
  making.box = b
  b.handle, b.on_created = handle_of(b), o.on_created
  b.at_end[1] = o.on_exit and function() o.on_exit(b.handle, handle.result_of(b)) end or nil
  local ok
  ok, message, errno = open_layer(b, c, o)
  if not ok then
    return setup_failure(verb, "layer", message, errno)
  end
  prepare(b, c, o)
  terminal.size(b, c, o)
  local err
  b.process, err, errno = start_process(b, c, o)
  if b.raised then
    error(b.raised[1], 0)
  elseif b.given_up then
    return error_.fail { kind = "closed", verb = verb, message = "the box was closed in on_created" }
  elseif not b.process then
    return nil, err, errno
  end
  ok, message, errno = serving(b, o)
  if not ok then
    return setup_failure(verb, "streams", message, errno)
  end
  making.box, making.ids = nil, nil
  return b.handle
end

return { start = start, describe = describe, serving = serving, setup_failure = setup_failure, making_mt = making_mt,
  inputs_of = inputs_of, open_init = open_init, confirm_of = confirm_of, born_of = born_of, child_of = child_of }
