-- cgroup/scope.lua: a cgroup of its own for a caller to whom none belongs, on pure v2: the user's systemd makes a
-- delegated scope and moves the caller into it. systemd ends the scope, with all in it, when the caller has ended.

local core = require "nsbox.core"
local file = require "nsbox.cgroup.file"
local sys = require "nsbox.sys"
local tool = require "nsbox.tool"
local tree = require "nsbox.cgroup.tree"

local BUSCTL = "/usr/bin/busctl"
local MANAGER = { "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager" }
local PATIENCE = 10 -- seconds
local PAUSE = 0.005
local LEAF = "caller"
local BY_HAND = "start the caller with: systemd-run --user --scope -p Delegate=yes COMMAND"

local made -- { pid =, folder = }: of the process that made it, not of a fork

-- ---- the bus ----

-- The environment that busctl needs | nil, why, fix.
local function bus_environment()
  local runtime = os.getenv "XDG_RUNTIME_DIR" or ("/run/user/%d"):format(sys.geteuid())
  local address = os.getenv "DBUS_SESSION_BUS_ADDRESS"
  if not address or address == "" then
    local stat = sys.stat(runtime .. "/bus")
    if not stat or stat.type ~= "socket" then
      return nil, ("no user bus: there is no %s/bus, and DBUS_SESSION_BUS_ADDRESS is not set"):format(runtime),
        "log the user in by systemd-logind, or: loginctl enable-linger USER; apt-get install dbus-user-session"
    end
    address = "unix:path=" .. runtime .. "/bus"
  end
  return { "LC_ALL=C", "XDG_RUNTIME_DIR=" .. runtime, "DBUS_SESSION_BUS_ADDRESS=" .. address }
end

-- By org.freedesktop.systemd1(5): name, what to do about jobs in its way, properties, auxiliary units.
local function request(scope, pid)
  local words = { "busctl", "--user", "--quiet", ("--timeout=%d"):format(PATIENCE), "call" }
  table.move(MANAGER, 1, #MANAGER, #words + 1, words)
  for _, word in ipairs { "StartTransientUnit", "ssa(sv)a(sa(sv))", scope, "fail", 4,
    "Description", "s", ("nsbox: the boxes of process %d"):format(pid),
    "PIDs", "au", 1, pid,
    "Delegate", "b", "true",
    "CollectMode", "s", "inactive-or-failed", 0 } do
    words[#words + 1] = tostring(word)
  end
  return words
end

-- true | nil, why, fix
local function ask(words, environment)
  local how, status, said = tool.run({ BUSCTL }, words, PATIENCE + 1, environment)
  if how == "exit" and status == 0 then
    return true
  elseif not how then
    return nil, ("%s cannot be run: %s"):format(BUSCTL, tostring(status)), BY_HAND
  elseif how == "no end" then
    return nil, ("the user's systemd did not answer within %d s"):format(PATIENCE + 1), BY_HAND
  end
  return nil, ("the user's systemd made no scope: %s"):format(said ~= "" and said
    or ("%s: %s %s"):format(BUSCTL, how, status)), BY_HAND
end

-- ---- the scope ----

-- The job is done a moment after the answer. The scope's folder | nil, why, fix.
local function wait_for(scope)
  local deadline = sys.clock() + PATIENCE
  repeat
    local own = tree.look().v2
    if own and own.path:sub(-#scope - 1) == "/" .. scope then
      return own.point .. own.path
    end
    sys.nanosleep(PAUSE)
  until sys.clock() > deadline
  return nil, ("the user's systemd did not move process %d into %s within %d s"):format(sys.getpid(), scope, PATIENCE),
    "look at: journalctl --user -u " .. scope
end

-- A cgroup that gives controllers to others may hold no process: all of the caller goes into a leaf.
local function settle(folder)
  local leaf = folder .. "/" .. LEAF
  local ok, why = sys.mkdir(leaf, "0755")
  if ok then
    ok, why = file.write(leaf, "cgroup.procs", tostring(sys.getpid()))
  end
  local controllers = (file.read(folder, "cgroup.controllers") or ""):gsub("%S+", "+%0")
  if ok and controllers:find "%S" then
    ok, why = file.write(folder, "cgroup.subtree_control", controllers)
  end
  if not ok then
    return nil, "the scope cannot be used: " .. tostring(why), BY_HAND
  end
  return folder
end

-- The scope's folder | nil, why, fix.
local function make_scope()
  local environment, why, fix = bus_environment()
  if not environment then
    return nil, why, fix
  elseif not sys.stat(BUSCTL) then
    return nil, BUSCTL .. " is not there", "apt-get install systemd"
  end
  local pid = sys.getpid()
  local scope = ("nsbox-%d-%s.scope"):format(pid, core.random_id())
  local asked
  asked, why, fix = ask(request(scope, pid), environment)
  if not asked then
    return nil, why, fix
  end
  return wait_for(scope)
end

local function make()
  if not tree.look().v2 then
    return nil, "no cgroup2 file system is mounted", "mount -t cgroup2 cgroup2 /sys/fs/cgroup"
  end
  local folder, why, fix = make_scope()
  if not folder then
    return nil, why, fix
  end
  return settle(folder)
end

--- Moves the caller, with all its threads, into a delegated scope of its own: the scope's folder, to make cgroups in |
-- nil, why, fix. Once a process: later calls answer the same.
local function enter()
  local pid = sys.getpid()
  if made and made.pid == pid then
    return made.folder
  end
  local folder, why, fix = make()
  if not folder then
    return nil, why, fix
  end
  made = { pid = pid, folder = folder }
  return folder
end

return { enter = enter }
