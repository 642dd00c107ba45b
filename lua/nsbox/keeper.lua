-- keeper.lua: the caller's keepers, small processes that outlive it by a moment. The first is made at its first box:
-- pid 1 of the pid namespace below which all boxes live. What lives outside it, it could not signal: for a box that
-- shares or joins a pid namespace there is a second, in the caller's own.
--
-- The first makes the boxes' user namespaces too, which takes somebody outside them who may map ids, and their network
-- namespaces, which take the kernel longer than all else of a start. From the second box on it makes them ahead.

local core = require "nsbox.core"
local error_ = require "nsbox.error"
local file = require "nsbox.probe.file"
local hint = require "nsbox.hint"
local idmap = require "nsbox.idmap"
local idrows = require "nsbox.idrows"
local launch = require "nsbox.launch"
local probe = require "nsbox.probe"
local sys = require "nsbox.sys"

-- kind, root or not, user and group id -> { process, socket, caller, owner, … }. owner: the program that made it; maps:
-- of the user namespace that it is in, without root's rights; duties, room: how many it has and can have; taken: how
-- often namespaces were; last, asked: the request of the latest, and the one that is to be answered.
local keepers = {}
local last_id = 0

local handle_mt = { __name = "nsbox.keeper", __index = { fileno = function(k) return k.process:fileno() end } }

local DYING = 0.05 -- seconds
local LATE_CPU = 0.05 -- the same, in seconds of CPU time
local LATE = 0.1 -- seconds that the caller has, when a process's time is over, to see to it itself

-- Messages: see csrc/keeper.c.
local KILL, TTY, TIMER, CGROUP, CPU, DROP, ASK, NEW = ("KTWCUDQN"):byte(1, -1)

local MAX_DUTIES = 4096 -- as in csrc/keeper.c, which drops what is beyond
local FILES = 16        -- that it opens for other things

local PATIENCE = 10 -- seconds until a keeper that does not answer is taken for stopped
local STOPPED = "the keeper does not answer"

-- Not made by plan.lua: the keeper is no box. It shares all with the caller but, inside, pids and, unprivileged, ids.
-- maps: of idmap.of_caller, unprivileged.
local function plan_of(kind, maps)
  local inside = kind == "inside"
  local steps = {
    { "clone", "vm,files", side = "parent", why = "a helper that shares the caller's memory" },
    { "prctl", "set_pdeathsig", "kill", why = "die with the caller" },
    { "getppid", expect = "@owner", why = "the caller lived until this guard stood" },
    { "clone", "vm,vfork,parent" .. (inside and ",newpid" or "") .. (maps and ",newuser" or ""),
      why = inside and "pid 1, whose end is that of all below" or "a process of the caller's own pid namespace" },
    { "prctl", "set_pdeathsig", "kill", why = "die with the caller while it is set up" },
    { "close_fds", why = "nothing of the caller's stays open" },
    { "dup3", "@socket", 0, why = "what the caller tells it" },
    { "dup3", "@caller", 1, why = "the caller's life" },
  }
  local function add(step)
    steps[#steps + 1] = step
  end
  if maps and maps.setgroups then
    add { "barrier", "map", why = "newuidmap and newgidmap give it the caller's subordinate ids" }
  elseif maps then
    add { "write_file", "cwd", "/proc/self/setgroups", "deny", why = "asked for by the kernel" }
    add { "write_file", "cwd", "/proc/self/uid_map", idrows.text(maps.uid), why = "root here is the caller" }
    add { "write_file", "cwd", "/proc/self/gid_map", idrows.text(maps.gid), why = "and its group" }
  end
  add { "setsid", why = "its own session: keys of the terminal do not reach it" }
  add { "chdir", "/", why = "no folder is kept busy" }
  add { "prctl", "set_pdeathsig", 0, why = "that would fire when the thread ends; it watches the process" }
  add { "execve", "@program", { "nsbox-keeper" }, {}, why = "a tiny program: none of the caller's memory" }
  return steps
end

local function failure(message, errno)
  local name = errno and core.errno_name(errno) or nil
  return error_.fail { kind = "setup", verb = "keeper", message = tostring(message), errno = errno, name = name,
    hint = hint.of({}, name) }
end

-- Its program lies in memory, which a host may forbid.
local function no_program(message, errno)
  local name = core.errno_name(errno)
  return error_.fail { kind = errno == sys.EACCES and "unsupported" or "setup", verb = "keeper",
    message = "the keeper's program: " .. message, errno = errno, name = name,
    hint = hint.of({ "memfd_create" }, name) }
end

-- At the barrier: false, and why in maps.refused, when the programs did not map them.
local function map_ids(start, maps)
  local ok, why = idmap.write(core.pid_of(start.pidfd), maps)
  maps.refused = not ok and why or nil
  return ok
end

local function launch_it(kind, maps, program, its_end, caller)
  local start
  start = {
    plan = plan_of(kind, maps), verb = "keeper", inputs = { program = program, socket = its_end, caller = caller },
    barriers = { map = function() return map_ids(start, maps) or false end },
  }
  return launch.run(start)
end

local function make_with(kind, maps)
  local program <close>, message, errno = core.init_program()
  if not program then
    return no_program(message, errno)
  end
  local mine, its, number = sys.socketpair()
  if not mine then
    return failure(its, number)
  end
  local its_end <close> = its
  local caller, process, err
  caller, message, errno = sys.pidfd_open(sys.getpid())
  if caller then
    process, err, errno = launch_it(kind, maps, program, its_end, caller)
    if process then
      return setmetatable({ process = process, socket = mine, caller = caller, owner = core.self(), taken = 0,
        duties = 0, maps = maps }, handle_mt)
    end
    caller:close()
  end
  mine:close()
  if err then
    return nil, err, errno
  end
  return failure(message, errno)
end

-- Subordinate ids that the programs refuse are none.
local function make(kind, host)
  if kind ~= "inside" or host.root.ok then
    return make_with(kind)
  end
  local maps = idmap.of_caller(host)
  local made, err, errno = make_with(kind, maps)
  if not made and maps.refused then
    return make_with(kind, idmap.single(host, maps.refused))
  end
  return made, err, errno
end

-- One of a program we were forked from is not ours to use or to end: its descriptors are only let go.
local function forget(keeper)
  keeper.socket:close()
  keeper.caller:close()
  if keeper.owner == core.self() then
    keeper.process:close()
  else
    keeper.process:release()
  end
  keeper.owner = nil -- for those who have duties of it
end

-- Its own end comes after that of all below it. The socket's may come a moment after theirs: its maker of namespaces
-- has it too.
local function dead(keeper, seconds)
  local rows = { { fd = keeper.process, events = "in" }, { fd = keeper.socket, events = "" } }
  return keeper.owner ~= core.self() or (sys.poll(rows, seconds or 0) or 0) > 0
end

-- A caller that changes its user, or gives rights up, has no right over the keepers it had before: they stay, for the
-- day when it changes back.
local function get_kind(kind, host)
  local rootless = kind == "inside" and not host.root.ok
  local name = ("%s %s %d %d"):format(kind, rootless, host.euid, host.egid)
  local keeper = keepers[name]
  if keeper and dead(keeper) then
    keepers[name] = nil
    forget(keeper)
  end
  if not keepers[name] then
    local made, err, errno = make(kind, host)
    if not made then
      return nil, err, errno
    end
    keepers[name] = made
  end
  return keepers[name]
end

--- The caller's keeper, made when there is none: an object with fileno() (its pidfd) and `caller`, the caller's own
-- pidfd | nil, err, errno (kind setup). host: what probe.host() found.
local function get(host)
  return get_kind("inside", host or probe.host())
end

--- The ids that boxes of a caller without root's rights can have: see idmap.of_caller | nil, err, errno.
local function maps(host)
  local keeper, err, errno = get(host)
  return keeper and keeper.maps, err, errno
end

--- Whether a keeper's end is why a start failed with this errno (nil: the process was killed). These two may be seen
-- before the end is.
local function died(keeper, errno)
  return dead(keeper, (errno == nil or errno == sys.ESRCH) and DYING or 0)
end

local function reached(keeper, events, deadline)
  while sys.poll({ { fd = keeper.socket, events = events } }, math.max(0, deadline - sys.clock())) == 0 do
    if sys.clock() >= deadline then
      return false
    end
  end
  return true
end

-- What it has not read yet fills the socket.
local function send(keeper, kind, id, text, ...)
  if not reached(keeper, "out", sys.clock() + PATIENCE) then
    return nil, STOPPED, sys.ETIMEDOUT
  end
  return sys.sendfd(keeper.socket, string.pack("=I4I4", kind, id) .. text, ...)
end

-- How many duties it can have: each is a descriptor. It raises its soft limit to the hard one.
local function room_of(keeper)
  local limits = file.read(("/proc/%d/limits"):format(keeper.process:pid())) or ""
  return math.min(MAX_DUTIES, (tonumber(limits:match "Max open files +%S+ +(%d+)") or 0) - FILES)
end

local function tell(where, kind, fd, data)
  local keeper, err, errno = get_kind(where, probe.host())
  if not keeper then
    return nil, err, errno
  end
  keeper.room = keeper.room or room_of(keeper)
  if keeper.duties >= keeper.room then
    return nil, ("the keeper has %d duties, and takes no more"):format(keeper.duties),
      keeper.room < MAX_DUTIES and sys.EMFILE or sys.EAGAIN
  end
  last_id = last_id + 1
  local ok, message, number = send(keeper, kind, last_id, string.pack("c64", data or ""), fd)
  if not ok then
    return nil, message, number
  end
  keeper.duties = keeper.duties + 1
  return { keeper = keeper, id = last_id }
end

--- Makes the keeper of the duties that follow, where there is none: true | nil, err, errno. Of what is made before its
-- duty is, a caller that dies meanwhile leaves something: no start of a program belongs there.
local function be_ready()
  local keeper, err, errno = get_kind("outside", probe.host())
  return keeper and true, err, errno
end

--- What is to be done should the caller die: SIGKILL to a process of its own pid namespace or one below, by pidfd; a
-- terminal's settings. Each answers a duty for drop() | nil, message, errno (EAGAIN, EMFILE: it has as many as it can).
local function kill_later(pidfd)
  return tell("outside", KILL, pidfd)
end

local function restore_later(terminal, settings)
  return tell("inside", TTY, terminal, settings)
end

--- A cgroup, fd its folder's descriptor: all in it is killed, and it is removed with all below it. name: the folder's.
-- What lock the descriptor has is held until then. Answers as the others.
local function remove_later(fd, name)
  return tell("outside", CGROUP, fd, name)
end

local function drop(duty)
  if not duty.dropped and duty.keeper.owner == core.self() and send(duty.keeper, DROP, duty.id, "") then
    duty.dropped, duty.keeper.duties = true, duty.keeper.duties - 1
  end
end

-- ---- namespaces ----

-- What is mapped in a box that a caller without root's rights starts is mapped in the keeper's user namespace.
local function map_text(keeper, kind, rows)
  return idrows.text(keeper.maps and idrows.below(keeper.maps[kind], rows) or rows)
end

local function ask(keeper, request)
  last_id = last_id + 1
  local ok, message, errno = send(keeper, NEW, last_id, request.text)
  if ok then
    keeper.asked = { id = last_id, text = request.text, network = request.network }
  end
  return ok, message, errno
end

local function let_go(...)
  for _, fd in ipairs { ... } do
    fd:close()
  end
end

-- Descriptors for which there was no room did not come.
local function complete(request, ...)
  local count = request.network and 2 or 1
  for i = 1, count do
    local fd = select(i, ...)
    if not (fd and fd:fileno()) then
      let_go(...)
      return nil, "namespaces: " .. core.strerror(sys.EMFILE), sys.EMFILE
    end
  end
  return ...
end

-- The answer to what was asked last; earlier ones that nobody waits for any more come before it.
local function answered(keeper)
  local request, deadline = keeper.asked, sys.clock() + PATIENCE
  keeper.asked = nil
  while reached(keeper, "in", deadline) do
    local data, user, network = sys.recvfd(keeper.socket, 8, 2)
    if not data then
      return nil, user, network
    elseif data == "" then
      return nil, "the keeper has ended", sys.EPIPE
    end
    local id, errno = string.unpack("=I4I4", data)
    if id ~= request.id then
      let_go(user, network)
    elseif errno ~= 0 then
      return nil, "namespaces: " .. core.strerror(errno), errno
    else
      return complete(request, user, network)
    end
  end
  return nil, STOPPED, sys.ETIMEDOUT
end

-- What was made ahead, if that is what is wanted. If it could not be made then, it may be possible now.
local function ready_or_fresh(keeper, request)
  if keeper.asked and keeper.asked.text == request.text then
    local user, network, errno = answered(keeper)
    if user or errno == sys.ETIMEDOUT then
      return user, network, errno
    end
  end
  local ok, message, errno = ask(keeper, request)
  if not ok then
    return nil, message, errno
  end
  return answered(keeper)
end

--- A fresh user namespace, "newuser", or with a fresh network namespace whose loopback device is up, "newuser,newnet".
-- uid_rows, gid_rows: {inside, outside, count}, outside as the caller counts. Two descriptors, or one
-- | nil, message, errno.
local function namespaces(keeper, names, uid_rows, gid_rows)
  local uids, gids = map_text(keeper, "uid", uid_rows), map_text(keeper, "gid", gid_rows)
  local network = names ~= "newuser"
  local flags = network and sys.CLONE_NEWUSER | sys.CLONE_NEWNET or sys.CLONE_NEWUSER
  local request = { network = network, text = string.pack("=I4zz", flags, uids, gids) }
  keeper.last, keeper.taken = request, keeper.taken + 1
  return ready_or_fresh(keeper, request)
end

--- Asks for the next namespaces like those taken last, should the program start more boxes: it has started two.
local function ahead(keeper)
  if keeper.taken > 1 and not keeper.asked then
    ask(keeper, keeper.last)
  end
end

-- ---- timers ----

--- What the keeper does should the caller be busy when a process's time is over: at the clock time `at`, and a moment
-- for the caller to do it, the signal; `grace` seconds later SIGKILL. nested: whether the process lives below the
-- keeper. A duty for drop() and acted() | nil, message, errno.
local function end_later(nested, pidfd, at, grace, signo)
  local data = string.pack("=I8I8I4", math.floor((at + LATE) * 1e9), math.floor(grace * 1e9), signo)
  return tell(nested and "inside" or "outside", TIMER, pidfd, data)
end

--- What the keeper does should the caller be busy when a cgroup (fd: its folder) has used so many seconds of CPU time,
-- and a moment more: SIGKILL to all in it and below it. cpus: how many it can use at a time. A duty as end_later's.
local function cpu_later(fd, limit, cpus)
  return tell("outside", CPU, fd, string.pack("=I8I4I4I8", math.floor((limit + LATE_CPU) * 1e9), math.ceil(cpus), 0, 0))
end

-- Whether the keeper has sent a signal for this duty. The answer to what it was asked for ahead comes first, and is
-- given up: this is asked seldom.
local function acted(duty)
  local keeper = duty.keeper
  if keeper.owner ~= core.self() or dead(keeper) then
    return false
  end
  if keeper.asked then
    let_go(answered(keeper)) -- or nil first
  end
  if not send(keeper, ASK, duty.id, "") then
    return false
  end
  keeper.asked = { id = duty.id }
  return select(3, answered(keeper)) == sys.ETIME
end

return { get = get, maps = maps, namespaces = namespaces, ahead = ahead, died = died, be_ready = be_ready,
  kill_later = kill_later, restore_later = restore_later, remove_later = remove_later, drop = drop,
  end_later = end_later, cpu_later = cpu_later, acted = acted }
