-- box/join.lua: one more process in a running box: exec and spawn, from their arguments to a task.

local attributes = require "nsbox.plan.attributes"
local cgroup = require "nsbox.cgroup"
local config = require "nsbox.config"
local keeper = require "nsbox.keeper"
local launch = require "nsbox.launch"
local limits = require "nsbox.box.limits"
local options = require "nsbox.options"
local param = require "nsbox.plan.param"
local plan = require "nsbox.plan"
local serve = require "nsbox.serve"
local start = require "nsbox.start"
local streams = require "nsbox.streams"
local sys = require "nsbox.sys"
local terminal = require "nsbox.terminal"
local users = require "nsbox.users"

-- Whether a process of the box may trace one that joins it, although that is hidden: it must not reach the caller's
-- memory, and gets a copy.
local function traces(box)
  if config.has_namespace(box.config, "user") then
    return false
  end
  for _, cap in ipairs(box.config.process.capabilities.bounding) do
    if cap == "CAP_SYS_PTRACE" then
      return true
    end
  end
  return false
end

local function let_go(box, pid)
  local group = cgroup.of_task(box)
  if group and pid then
    group:release(pid)
  end
end

local LONGEST, SHORTEST = 20, 2 -- seconds in which a process that is added has to come to its exec

local function launched(b, box, c)
  local err, errno
  if not box.process:fileno() then -- of a detached box: seen since it was looked at
    return start.setup_failure(b.verb, "box", "it has ended", sys.ESRCH)
  end
  b.keeper, err, errno = keeper.get(b.host)
  if not b.keeper then
    return nil, err, errno
  end
  local inputs = start.inputs_of(b)
  inputs.box = box.process
  local params = param.of(c)
  local init
  init, err, errno = start.open_init(b, c, params, inputs)
  if not init then
    return nil, err, errno
  end
  local _ <close> = init ~= true and init or nil
  return launch.run {
    plan = plan.joining_of(c, b.host), params = params, verb = b.verb, inputs = inputs, config = c,
    calls = { cgroup_added = cgroup.added },
    barriers = { terminal = function(fd) b.terminal = fd end },
    born = not box.is_pid1 and start.born_of(b) or nil,
    patience = b.until_exec,
    let_go = function(pid) let_go(box, pid) end,
    hidden = true, -- the box sees this process, whose memory is the caller's until it has exec'ed
    copy = config.has_namespace(c, "time") -- EUSERS for a process that shares memory; time_namespaces(7)
      or attributes.takes_copy(c, b.host) or traces(box),
    child = start.child_of(b, c),
    confirm = start.confirm_of(b, init),
  }
end

local TRIES, PAUSE = 5, 0.002 -- seconds

-- While the kernel is still at the exec of a box's program, it may refuse to look at it, without root: seen on Linux
-- 6.1, right after a start.
local function launched_soon(b, box, c)
  local process, err, errno
  for i = 1, TRIES do
    process, err, errno = launched(b, box, c)
    if process or err.call ~= "setns" or err.name ~= "EPERM" or i == TRIES then
      break
    end
    sys.nanosleep(PAUSE)
  end
  return process, err, errno
end

-- No keeper of the caller's ends the pid namespace of a detached box: what was added is to end with the caller all the
-- same.
local function end_with_caller(b, box)
  if not box.detached or b.duty then
    return true
  end
  local message, errno
  b.duty, message, errno = keeper.kill_later(b.process)
  return b.duty, message, errno
end

--- Starts one more process in the box of a task. Returns its task | nil, err, errno; raises on misuse. copying: of a
-- call, see call.lua.
local function join(verb, box, cmd, opts, copying)
  local began = sys.clock()
  local o, err, errno = options.check(verb, opts)
  if not o then
    return nil, err, errno
  end
  local ok
  ok, cmd, errno = options.command(verb, cmd, o)
  if not ok then
    return nil, cmd, errno
  end
  local user
  user, err, errno = users.of_box(verb, o, box)
  if not user then
    return nil, err, errno
  end
  local c
  c, err, errno = config.joining(verb, box.config, o, cmd, box.host, user)
  if not c then
    return nil, err, errno
  end
  local s, message
  s, message, errno = streams.open(o)
  if not s then
    return start.setup_failure(verb, "streams", message, errno)
  end
  local b = serve.new { verb = verb, id = box.id, began = began, host = box.host, streams = s, command = c.process.args,
    stop_signal = o.stop_signal or "TERM", stop_timeout = o.stop_timeout, overflow = o.overflow, check = o.check,
    is_pid1 = false, until_exec = math.min(LONGEST, math.max(SHORTEST, o.timeout or LONGEST)),
    below_keeper = box.below_keeper, notes = {}, copying = copying,
    what = ("%s in box %s"):format(c.process.args[1], box.id) }
  local making <close> = setmetatable({ box = b }, start.making_mt)
  terminal.size(b, c, o)
  limits.watch(b, box)
  b.process, err, errno = launched_soon(b, box, c)
  if not b.process then
    return nil, err, errno
  end
  ok, message, errno = end_with_caller(b, box)
  if not ok then
    return start.setup_failure(verb, "keeper", message, errno)
  end
  ok, message, errno = start.serving(b, o)
  if not ok then
    return start.setup_failure(verb, "streams", message, errno)
  end
  making.box = nil
  return b
end

return { start = join }
