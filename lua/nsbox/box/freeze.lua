-- box/freeze.lua: how a box that has a cgroup is paused: by its freezer.
--
-- Of v2 a frozen process dies by SIGKILL. Of v1 it does not before it is let go: whoever kills has to, and the keeper
-- does.

local sys = require "nsbox.sys"
local wait = require "nsbox.wait"

local SHORTEST, LONGEST = 0.0005, 0.02 -- seconds between two looks

--- Whether it can be paused so.
local function can(task)
  return task.cgroup ~= nil and task.cgroup:can_freeze()
end

--- Until over(), or the clock time `deadline`: true | nil, message, errno.
local function freeze(task, over, deadline)
  local ok, message, errno = task.cgroup:freeze(true)
  if not ok then
    return nil, message, errno
  end
  local slice = SHORTEST
  while not over() and not task.cgroup:is_frozen() do
    if sys.clock() > deadline then
      return nil, "a process does not stop", sys.ETIMEDOUT
    end
    wait.wait(over, sys.clock() + slice, nil, task)
    slice = math.min(LONGEST, slice * 2)
  end
  return true
end

--- true | nil, message, errno. A cgroup that is gone holds nobody.
local function thaw(task)
  local ok, message, errno = task.cgroup:freeze(false)
  if ok or errno == sys.ENOENT or errno == sys.ENODEV then
    return true
  end
  return nil, message, errno
end

--- Whether somebody has frozen it: a process that would be born in it would not come to its exec.
local function is_frozen(task)
  return can(task) and task.cgroup:is_frozen()
end

return { can = can, freeze = freeze, thaw = thaw, is_frozen = is_frozen }
