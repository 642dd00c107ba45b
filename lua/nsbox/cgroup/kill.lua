-- cgroup/kill.lua: the end of all that is in a cgroup, and of the cgroup. Boxes may make cgroups in theirs, deeper than
-- a path is long: what is below is reached by descriptors, and by few of them.

local file = require "nsbox.cgroup.file"
local sys = require "nsbox.sys"

local BATCH = 256   -- processes that are held at a time
local LIMIT = 65536 -- bytes
local PLAIN = 8     -- rounds without the freezer: tens of milliseconds

-- ---- processes ----

-- The numbers in a list of processes that was opened; 0 is one that this pid namespace does not show.
local function listed(list)
  local pids, chunks = {}, {}
  while list do
    local text = sys.read(list, LIMIT)
    if (text or "") == "" then
      break
    end
    chunks[#chunks + 1] = text
  end
  for pid in table.concat(chunks):gmatch "[1-9]%d*" do
    pids[#pids + 1] = tonumber(pid)
  end
  return pids
end

local function open_list(folder)
  return sys.openat(folder, "cgroup.procs", "rdonly")
end

local function set_of(list)
  local set = {}
  for _, value in ipairs(list) do
    set[value] = true
  end
  return set
end

-- A number that was read may be another's by now. In a list that is read when the descriptor is there it is not, or the
-- descriptor's process is dead. That list is opened first: descriptors may be few.
local function kill_these(folder, pids)
  local list <close> = open_list(folder)
  local held = {}
  for _, pid in ipairs(pids) do
    held[pid] = sys.pidfd_open(pid)
  end
  local there = set_of(listed(list))
  for pid, fd in pairs(held) do
    if there[pid] then
      sys.pidfd_send_signal(fd, sys.SIGKILL)
    end
    fd:close()
  end
end

local function kill_listed(folder)
  local list <close> = open_list(folder)
  local pids = listed(list)
  for first = 1, #pids, BATCH do
    kill_these(folder, table.move(pids, first, math.min(#pids, first + BATCH - 1), 1, {}))
  end
end

-- ---- cgroups below ----

local function open(folder, name)
  return sys.openat(folder, name, "rdonly,directory,nofollow")
end

-- What may be a cgroup below: each is a link to the folder, which has two of its own.
local function names_in(folder)
  local stat = sys.fstat(folder)
  return stat and stat.nlink > 2 and sys.readdir(folder) or {}
end

-- Goes through all cgroups below one, by one descriptor: enter(folder) on the way down, false ends it, leave(parent,
-- name) on the way up.
local function walk(folder, enter, leave)
  local at, way = open(folder, "."), {}
  local waiting = { at and names_in(at) }
  while at do
    local name = table.remove(waiting[#waiting])
    local up = not name and table.remove(way)
    local to = name and open(at, name) or up and open(at, "..")
    if to then
      at:close()
      at = to
    end
    if to and name and enter(at) == false then
      break
    elseif to and name then
      way[#way + 1], waiting[#waiting + 1] = name, names_in(at)
    elseif to then
      waiting[#waiting] = nil
      leave(at, up)
    elseif not name then
      break
    end
  end
  if at then
    at:close()
  end
end

local function nothing()
end

--- Calls look(path) for so many cgroups below one, while they live.
local function each_below(path, most, look)
  local top <close> = sys.open(path, "rdonly,directory")
  if top then
    walk(top, function(folder)
      look(("/proc/self/fd/%d"):format(folder:fileno()))
      most = most - 1
      return most > 0
    end, nothing)
  end
end

local function thaw(folder)
  sys.write_file(folder, "freezer.state", "THAWED")
end

-- In the freezer of v1 none forks meanwhile, and what was frozen is let go, to its end.
local function kill_one_by_one(top, freeze)
  if freeze then
    sys.write_file(top, "freezer.state", "FROZEN")
  end
  kill_listed(top)
  walk(top, function(folder)
    kill_listed(folder)
    thaw(folder)
  end, nothing)
  thaw(top)
end

--- SIGKILL to all in a cgroup and below it: of v2 in one call, of v1 to those that are there now; call it until the
-- cgroup is empty. rounds: how often it was called before, and there are some still. cgroup.kill does not reach a
-- process whose first thread has ended (tried on Linux 6.18). The freezer is not for the first rounds: with a pid
-- namespace its callers and their keepers end, and what is frozen then is let go by nobody.
local function kill(path, rounds)
  rounds = rounds or 0
  if file.write(path, "cgroup.kill", "1") and rounds == 0 then
    return
  end
  local top <close> = sys.open(path, "rdonly,directory")
  if top then
    kill_one_by_one(top, rounds >= PLAIN)
  end
end

local function remove_one(parent, name)
  sys.unlinkat(parent, name, "removedir")
end

--- Removes a cgroup with those below it: true | nil, message, errno (EBUSY: there are processes). One that is gone is
-- removed.
local function remove(path)
  local ok, message, errno = sys.rmdir(path)
  if not ok and errno == sys.EBUSY then
    local top <close> = sys.open(path, "rdonly,directory")
    if top then
      walk(top, nothing, remove_one)
    end
    ok, message, errno = sys.rmdir(path)
  end
  if ok or errno == sys.ENOENT then
    return true
  end
  return nil, message, errno
end

local SHORTEST, LONGEST = 0.0005, 0.02 -- seconds between two looks

local function finish_one(path, deadline)
  local pause, rounds = SHORTEST, 0
  while true do
    local ok, message, errno = remove(path)
    if ok then
      return true
    end
    kill(path, rounds)
    rounds = rounds + 1
    if sys.clock() >= deadline then
      return nil, message, errno
    end
    sys.nanosleep(pause)
    pause = math.min(LONGEST, pause * 2)
  end
end

--- Kills all in these cgroups and removes them, until the clock time `deadline`: true | nil, message, errno. One after
-- the other: what is in several is gone from all. What holds processes, a freezer, comes first.
local function finish(paths, deadline)
  local done, why, number = true, nil, nil
  for _, path in ipairs(paths) do
    local ok, message, errno = finish_one(path, deadline)
    if not ok then
      done, why, number = nil, message, errno
    end
  end
  return done, why, number
end

return { kill = kill, finish = finish, each_below = each_below }
