-- connect.lua: a connection from the caller to what listens in a box: no port mapping, no tool in the image. Nothing
-- here waits; who calls it does, in a loop of its own.

local core = require "nsbox.core"
local misuse = require("nsbox.error").misuse
local sys = require "nsbox.sys"
local value = require "nsbox.options.value"

local MAX_PORT, MAX_PATH = 65535, 4095
local RACES = 16 -- openat2(2): EAGAIN, when a rename elsewhere raced with a ".." on the way

--- Whether `where` names something to connect to: true | nil, the problem, to stand after a name of the argument.
local function check(where)
  local port = value.integer(where)
  if port and port >= 1 and port <= MAX_PORT then
    return true
  elseif type(where) ~= "string" or where:sub(1, 1) ~= "/" then
    return value.must(("a port from 1 to %d, or the path of a socket in the box"):format(MAX_PORT), where)
  elseif where:find("\0", 1, true) then
    return nil, "must not contain a NUL byte"
  elseif #where > MAX_PATH then
    return nil, ("must not be longer than %d bytes, got %d"):format(MAX_PATH, #where)
  end
  return true
end

local function failed(fd, where, message, errno)
  if fd then
    fd:close()
  end
  return nil, ("connect %s: %s"):format(where, message:match ": ([^:]*)$" or message), errno
end

-- A socket of the box's network namespace. Where the box sees the caller's processes, what makes it is kept apart.
local function socket_of(target, family)
  if not target.net then
    return core.socket(family, "stream")
  end
  local apart = not target.pid or os.getenv "NSBOX_CLONE" == "copy"
  return core.socket_in(target.pidfd, target.user and "newuser,newnet" or "newnet", family, "stream", apart)
end

-- The kernel answers for its own loopback within the call, but for a listener whose queue is full.
local function settled(fd, state)
  if state == "connected" or sys.poll({ { fd = fd, events = "out" } }, 0) == 1 then
    local ok, message, errno = core.connected(fd)
    return ok and "connected", message, errno
  end
  return state
end

local function connect_port(target, family, port)
  local fd, message, errno = socket_of(target, family)
  if not fd then
    return failed(nil, port, message, errno)
  end
  local state
  state, message, errno = core.connect(fd, family, port)
  if state then
    state, message, errno = settled(fd, state)
  end
  if not state then
    return failed(fd, port, message, errno)
  end
  return fd, state
end

local function open_socket(target, path)
  local root <close>, why, number = target.root()
  if not root then
    return nil, why, number
  end
  local fd, message, errno
  for _ = 1, RACES do
    fd, message, errno = sys.openat2(root, path, "path", nil, "in_root,no_magiclinks")
    if errno ~= sys.EAGAIN then
      break
    end
  end
  if fd and sys.fstat(fd).type ~= "socket" then
    fd:close()
    return nil, core.strerror(sys.ENOTSOCK), sys.ENOTSOCK
  end
  return fd, message, errno
end

-- A path leads to the same socket from each network namespace: an inode has one. What was looked at is what is
-- connected to, by its descriptor, however long the path, and wherever it leads by now.
local function connect_path(target, path)
  local at <close>, message, errno = open_socket(target, path)
  if not at then
    return failed(nil, path, message, errno)
  end
  local fd
  fd, message, errno = core.socket("unix", "stream")
  if not fd then
    return failed(nil, path, message, errno)
  end
  local state
  state, message, errno = core.connect(fd, "unix", ("/proc/thread-self/fd/%d"):format(at:fileno()))
  if not state then
    return failed(fd, path, message, errno)
  end
  return fd, state
end

--- Begins to connect to what listens in a box. target:
--   pidfd  of a process in it (a handle or an integer)
--   net    whether it has a network namespace other than the caller's; user: the same of its user namespace, which is
--          then entered first; pid: of its pid namespace (false or nil: its processes may see the caller's)
--   root   function() -> an open descriptor of its root, which is closed here | nil, message, errno; for paths only
-- where: a port (of 127.0.0.1, else of ::1, in the box) or the absolute path of a stream socket in the box's root,
-- whose links lead nowhere else. Returns a non-blocking descriptor, "connected"
-- | a descriptor, "pending": wait until it can be written to, then ask finish()
-- | nil, message, errno: ECONNREFUSED or ENOENT when nothing listens there (yet), EAGAIN when the queue of a path's
--   socket is full: try again a little later; ENOTSOCK, EPROTOTYPE for a path that is no such socket.
-- Raises for another `where`. The caller's own namespaces are never left, by none of its threads.
local function begin(target, where)
  local ok, problem = check(where)
  if not ok then
    misuse("connect: the place %s", problem)
  elseif type(where) == "string" then
    return connect_path(target, where)
  end
  local port = value.integer(where)
  local fd, message, errno = connect_port(target, "inet", port)
  if not fd and errno == sys.ECONNREFUSED then
    local second, state = connect_port(target, "inet6", port)
    if second then
      return second, state
    end
  end
  return fd, message, errno
end

--- How a pending connection ended, once it can be written to: true | nil, message, errno. EINPROGRESS: it has not yet.
-- The descriptor stays open.
local function finish(fd)
  return core.connected(fd)
end

return { check = check, begin = begin, finish = finish }
