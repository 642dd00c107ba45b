-- cgroup/kill.lua: the end of all that is in a cgroup, and of the cgroup.

local file = require "nsbox.cgroup.file"
local proc = require "nsbox.probe.file"
local sys = require "nsbox.sys"

-- What /proc/PID/cgroup shows of a path: all from the caller's own cgroup on. Where that is mounted is not known here.
local function shown(folder)
  return (folder:match "/nsbox%-%d+%-%x+.*$" or folder:match "/[^/]*/[^/]*$") .. "\n"
end

-- Whether a thread of a process is in the cgroup: a number that was read may be another's by now. Of v1 the kernel
-- shows no more where a thread was that has ended, such as the first.
local function is_in(pid, name)
  if (proc.read(("/proc/%d/cgroup"):format(pid)) or ""):find(name, 1, true) then
    return true
  end
  for _, tid in ipairs(sys.readdir(("/proc/%d/task"):format(pid)) or {}) do
    if (proc.read(("/proc/%d/task/%s/cgroup"):format(pid, tid)) or ""):find(name, 1, true) then
      return true
    end
  end
  return false
end

local function kill_one(pid, name)
  local fd <close> = sys.pidfd_open(pid)
  if fd and is_in(pid, name) then
    sys.pidfd_send_signal(fd, sys.SIGKILL)
  end
end

local function kill_listed(folder)
  local name = shown(folder)
  for pid in (file.read(folder, "cgroup.procs") or ""):gmatch "[1-9]%d*" do
    kill_one(tonumber(pid), name)
  end
end

-- In the freezer of v1 none forks meanwhile, and what was frozen is let go, to its end.
local function kill_one_by_one(folder)
  local frozen = file.write(folder, "freezer.state", "FROZEN")
  kill_listed(folder)
  for _, name in ipairs(file.children(folder)) do
    kill_one_by_one(folder .. "/" .. name)
  end
  if frozen then
    file.write(folder, "freezer.state", "THAWED")
  end
end

--- SIGKILL to all in a cgroup and below it: of v2 in one call, of v1 to those that are there now; call it until the
-- cgroup is empty. again: it was called before, and there are some still: cgroup.kill does not reach a process whose
-- first thread has ended (tried on Linux 6.18).
local function kill(folder, again)
  if not file.write(folder, "cgroup.kill", "1") or again then
    kill_one_by_one(folder)
  end
end

--- Removes a cgroup with those below it: true | nil, message, errno (EBUSY: there are processes). One that is gone is
-- removed.
local function remove(folder)
  local ok, message, errno = sys.rmdir(folder)
  if not ok and errno == sys.EBUSY then
    for _, name in ipairs(file.children(folder)) do
      remove(folder .. "/" .. name)
    end
    ok, message, errno = sys.rmdir(folder)
  end
  if ok or errno == sys.ENOENT then
    return true
  end
  return nil, message, errno
end

local SHORTEST, LONGEST = 0.0005, 0.02 -- seconds between two looks

local function finish_one(folder, deadline)
  local pause, again = SHORTEST, false
  while true do
    local ok, message, errno = remove(folder)
    if ok then
      return true
    end
    kill(folder, again)
    again = true
    if sys.clock() >= deadline then
      return nil, message, errno
    end
    sys.nanosleep(pause)
    pause = math.min(LONGEST, pause * 2)
  end
end

--- Kills all in these cgroups and removes them, until the clock time `deadline`: true | nil, message, errno. One after
-- the other: what is in several is gone from all. What holds processes, a freezer, comes first.
local function finish(folders, deadline)
  local done, why, number = true, nil, nil
  for _, folder in ipairs(folders) do
    local ok, message, errno = finish_one(folder, deadline)
    if not ok then
      done, why, number = nil, message, errno
    end
  end
  return done, why, number
end

return { kill = kill, remove = remove, finish = finish }
