-- nsbox.sys: the kernel's calls, by their man-page names, here and now. Most are rows of the core's table of calls or
-- its own functions (csrc/lua_sys.c, csrc/lua_file.c); this file adds those that are several calls, or a loop.
-- A failure of the world is nil, "call subject: message", errno; misuse raises.

local core = require "nsbox.core"
local idrows = require "nsbox.idrows"
local misuse = require("nsbox.error").misuse

local sys = core.sys
local row = { setns = sys.setns, waitid = sys.waitid, readdir = sys.readdir }

local SLICE = 1 -- seconds; a signal ends a slice at once, unless it came just before the slice began

-- "setns: Operation not permitted" as "setns /proc/1/ns/net: Operation not permitted"
local function named(call, subject, message, errno)
  return nil, ("%s %s: %s"):format(call, subject, message:match ": ([^:]*)$" or message), errno
end

local function at_caller(ok, ...)
  if not ok then
    local why = ...
    misuse("%s", type(why) == "string" and why:gsub("^[^:]*:%d+: ", "") or tostring(why))
  end
  return ...
end

-- A call of the core whose misuse is to be told at the line of our caller, not at ours.
local function passed(fn, ...)
  return at_caller(pcall(fn, ...))
end

local function check_pid(call, pid)
  if pid <= 0 then
    misuse("%s: a process id expected, not %d", call, pid)
  end
  return pid
end

-- A Process of nsbox lends its pidfd; what else may be a descriptor is looked at in C.
local function handle_of(call, what)
  if type(what) == "table" and type(what.pidfd) == "function" then
    what = what:pidfd()
  end
  if math.type(what) ~= "integer" and type(what) ~= "table" and type(what) ~= "userdata" then
    misuse("%s: a number or a handle expected, not %s", call, type(what))
  elseif type(what) == "userdata" and what.fileno and not what:fileno() then
    misuse("%s: the descriptor is closed", call)
  end
  return what
end

--- setns(what, nstype) -> true | nil, message, errno. what: a path such as "/proc/1/ns/uts"; a process id or a handle
-- of a process, with nstype "newuts,newnet" naming the namespaces to join; a descriptor of a namespace. An integer is
-- always a process id.
function sys.setns(what, nstype)
  if math.type(what) ~= "integer" and type(what) ~= "string" then
    return passed(row.setns, handle_of("setns", what), nstype)
  end
  local fd, message, errno
  if type(what) == "string" then
    fd, message, errno = passed(sys.open, what, "rdonly")
  elseif nstype == nil or nstype == 0 then
    misuse("setns: of a process the namespaces must be named, such as \"newuts,newnet\"")
  else
    fd, message, errno = sys.pidfd_open(check_pid("setns", what))
  end
  if not fd then
    return named("setns", what, message, errno)
  end
  local opened <close> = fd
  local ok
  ok, message, errno = passed(row.setns, opened, nstype)
  if not ok then
    return named("setns", what, message, errno)
  end
  return true
end

-- A process of the core keeps its status, so that whoever asks next has it too.
local function wait_slice(target, seconds, by_pid)
  if type(target) ~= "userdata" or not target.poll then
    return row.waitid(target, seconds, by_pid)
  end
  local how, code = target:poll()
  if not how then
    sys.poll({ { fd = target, events = "in" } }, seconds)
    how, code = target:poll()
  end
  if how == "lost" then
    return nil, "waitid: the status was taken by another wait", sys.ECHILD
  end
  return how, how and code or "timeout"
end

local function wait(target, deadline, by_pid)
  while true do
    local left = math.max(0, deadline - sys.clock())
    local how, code, errno = wait_slice(target, math.min(SLICE, left), by_pid)
    if how then
      return how, code
    elseif code ~= "timeout" or left == 0 then
      return nil, code, errno
    end
  end
end

--- waitid(pid | pidfd | process, timeout) -> "exit", status | "signal", number | nil, "timeout"
-- | nil, message, errno. An integer is a process id; without a timeout (seconds) it waits to the end. ECHILD: it ended
-- and was no child of the caller, or its status was taken before. Ctrl-C works: between slices Lua runs its hooks.
function sys.waitid(what, timeout)
  local target = handle_of("waitid", what)
  if timeout ~= nil and not (math.type(timeout) and timeout >= 0) then
    misuse("waitid: the timeout is a number of seconds, not %s", tostring(timeout))
  end
  local deadline = sys.clock() + (timeout or math.huge)
  if math.type(what) ~= "integer" then
    return wait(target, deadline)
  end
  local fd <close>, message, errno = sys.pidfd_open(check_pid("waitid", what))
  if errno == sys.ENOSYS then -- under valgrind
    return wait(what, deadline, true)
  elseif not fd then
    return named("waitid", what, message, errno)
  end
  return wait(fd, deadline)
end

--- readdir(path | fd) -> sorted list of names without . and .. | nil, message, errno.
function sys.readdir(where)
  if type(where) ~= "string" then
    where = handle_of("readdir", where)
  end
  local names, message, errno = passed(row.readdir, where)
  if not names then
    return nil, message, errno
  end
  table.sort(names)
  return names
end

-- ---- id maps ----

local function map_text(call, rows)
  local ok, problem = idrows.check(rows)
  if not ok then
    misuse("%s: %s", call, problem)
  end
  return idrows.text(rows)
end

local function write_proc(call, pid, file, text)
  if pid ~= "self" and math.type(pid) ~= "integer" then
    misuse("%s: a process id or \"self\" expected, not %s", call, type(pid) == "string" and pid or type(pid))
  elseif pid ~= "self" then
    check_pid(call, pid)
  end
  local ok, message, errno = sys.write_file("cwd", ("/proc/%s/%s"):format(pid, file), text)
  if not ok then
    return named(call, pid, message, errno)
  end
  return true
end

--- uid_map(pid | "self", {{inside, outside, count}, ...}) -> true | nil, "uid_map 1234: message", errno. Once for each
-- user namespace, and all rows at once. A map without CAP_SETUID outside is one row, of the caller's own id.
function sys.uid_map(pid, rows)
  return write_proc("uid_map", pid, "uid_map", map_text("uid_map", rows))
end

--- gid_map(pid | "self", rows): as uid_map. Without CAP_SETGID outside setgroups_deny comes first.
function sys.gid_map(pid, rows)
  return write_proc("gid_map", pid, "gid_map", map_text("gid_map", rows))
end

--- setgroups_deny(pid | "self") -> true | nil, message, errno: for ever, and before the gid map.
function sys.setgroups_deny(pid)
  return write_proc("setgroups_deny", pid, "setgroups", "deny")
end

return sys
