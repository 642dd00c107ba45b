-- box/connect.lua: box:connect: a Stream to what listens in the box.

local E = require "nsbox.error"
local config = require "nsbox.config"
local connect = require "nsbox.connect"
local core = require "nsbox.core"
local handle = require "nsbox.process.handle"
local root = require "nsbox.box.root"
local stream = require "nsbox.stream"
local sys = require "nsbox.sys"
local wait = require "nsbox.wait"

local FIRST_PAUSE, LONGEST_PAUSE = 0.005, 0.25 -- seconds between two tries

-- Nobody listens yet, or not to us. ECONNRESET: who listened was gone before it had taken us. ESRCH: the box is at its
-- end, has left its namespaces already, and is not gone yet.
local not_yet = { [sys.ECONNREFUSED] = true, [sys.ENOENT] = true, [sys.EAGAIN] = true, [sys.ECONNRESET] = true,
  [sys.ESRCH] = true }

local function target_of(task)
  return {
    pidfd = task.process,
    user = config.has_namespace(task.config, "user"),
    net = config.has_namespace(task.config, "network"),
    pid = task.is_pid1,
    root = function() return root.open(task) end,
  }
end

-- A connected, non-blocking descriptor | nil, message, errno.
local function try(task, target, where, deadline)
  local fd, state, errno = connect.begin(target, where)
  if not fd or state == "connected" then
    return fd, state, errno
  end
  local ok, message = nil, nil
  local function settled()
    ok, message, errno = connect.finish(fd)
    return ok or errno ~= sys.EINPROGRESS or handle.over(task)
  end
  if not wait.wait(settled, deadline, { { fd = fd, events = "out" } }, task) then
    message, errno = "connect: " .. core.strerror(sys.ETIMEDOUT), sys.ETIMEDOUT
  end
  if ok then
    return fd
  end
  fd:close()
  return nil, message, errno
end

local function failed(task, message, errno)
  local timed_out = errno == sys.ETIMEDOUT
  return nil, E.new { kind = timed_out and "timeout" or "setup", verb = "connect", message = tostring(message),
    errno = errno, name = errno and core.errno_name(errno), log = handle.log(task) }, errno
end

local function ended(task, where)
  return nil, E.new { kind = "exit", verb = "connect", result = handle.result_of(task), log = handle.log(task),
    message = ("%s ended (%s) and nothing had listened on %s"):format(task.what, handle.how(task), where) }
end

--- connect(where, timeout) -> Stream | nil, err, errno. where: a port (127.0.0.1, then ::1, of the box's network) or
-- the path of a unix socket in the box. Tries until something listens there: kind "timeout" after so many seconds,
-- "exit" (with result and log) at once when the box ends. The socket is made in the box's network namespace.
return function(self, where, timeout)
  wait.check_allowed "connect"
  local ok, problem = connect.check(where)
  if not ok then
    handle.misuse("connect", "the first argument %s", problem)
  end
  local deadline = handle.seconds("connect", timeout) and sys.clock() + timeout
  local task, err = handle.open(self, "connect")
  if not task then
    return nil, err
  end
  local pause = FIRST_PAUSE
  while not handle.over(task) do
    local fd, message, errno = try(task, target_of(task), where, deadline)
    if fd then
      return stream.new(fd, tostring(where), "both")
    elseif not not_yet[errno] and not handle.over(task) then
      return failed(task, message, errno)
    elseif deadline and sys.clock() >= deadline then
      return failed(task, ("nothing listened on %s in time: %s"):format(where, message), sys.ETIMEDOUT)
    end
    local try_again = sys.clock() + pause
    wait.wait(function() return handle.over(task) end, math.min(deadline or try_again, try_again), nil, task)
    pause = math.min(pause * 2, LONGEST_PAUSE)
  end
  if task.closed then
    return handle.open(self, "connect")
  end
  return ended(task, where)
end
