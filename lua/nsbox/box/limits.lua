-- box/limits.lua: what a box uses, and what it may use: box:stats() and box:update().

local E = require "nsbox.error"
local cgroup = require "nsbox.cgroup"
local file = require "nsbox.probe.file"
local handle = require "nsbox.process.handle"
local members = require "nsbox.box.members"
local resources = require "nsbox.config.resources"
local sys = require "nsbox.sys"
local wait = require "nsbox.wait"

local TICKS = 100 -- a second, in /proc: USER_HZ
local ENDING = 1  -- seconds until a box whose worker does not answer is taken to live

-- ---- stats ----

-- User and system seconds of its processes, and of those that they have waited for; proc(5).
local function times_in_proc(task)
  local user, system
  for _, row in ipairs(members.list(task) or {}) do
    local u, s, below_u, below_s = (file.read(("/proc/%d/stat"):format(row.pid)) or ""):match(
      "^.*%) " .. ("%S+ "):rep(11) .. "(%d+) (%d+) (%d+) (%d+)")
    if u then
      user, system = (user or 0) + (u + below_u) / TICKS, (system or 0) + (s + below_s) / TICKS
    end
  end
  return user, system
end

local function live(task)
  local usage, group = handle.times_of(task), cgroup.of_task(task)
  for name, value in pairs(group and group:usage() or {}) do
    usage[name] = value
  end
  if not usage.user then
    usage.user, usage.sys = times_in_proc(task)
  end
  return usage
end

local function final(task)
  if task.detached then
    return task.ended.usage or {}
  end
  return handle.usage_of(task)
end

--- stats() -> what it has used so far, as Result.usage | nil, err; after the end that itself. Without a cgroup user and
-- sys are, while it runs, those of its processes and of what these have waited for.
local function stats(self)
  local task, err = handle.open(self, "stats")
  if not task then
    return nil, err
  elseif not task:look() then
    return live(task)
  end
  local usage = {}
  for name, value in pairs(final(task)) do
    usage[name] = value
  end
  return usage
end

-- ---- update ----

--- Changes limits of a box of this process: true | nil, problem as of cgroup/limit.lua.
local function change(task, wanted)
  local done, problem = (cgroup.of_task(task) or cgroup.of { at = {} }):update(wanted)
  if done then
    task.config.linux.resources = resources.merged(task.config.linux.resources, wanted)
  end
  return done, problem
end

-- Whether the box has ended meanwhile. Its worker answers nobody then, and a moment later the record tells.
local function ends(task, problem)
  if problem.kind ~= "setup" then
    return task:look()
  end
  return wait.wait(function() return task.closed or task:look() end, sys.clock() + ENDING, nil, task)
end

--- update(opts) -> true | nil, err, errno: other limits from now on, all of them or none, each read back: memory swap
-- memory_reservation cpus cpu_weight cpuset pids io, as of nsbox.run; also of a box that is paused. Raises on misuse.
-- kind "unsupported": the box has no cgroup for it; "limit": the kernel refuses. Less memory than the box uses: cgroup
-- v1 answers EBUSY when it cannot take the rest away; v2 obeys, and ends processes where it cannot (usage.oom_kills).
local function update(self, opts)
  local task, err = handle.alive(self, "update")
  if not task then
    return nil, err
  elseif task.refresh then
    task:refresh()
  end
  local wanted, problem, errno = resources.update_of(opts, task.config.linux.resources)
  if not wanted then
    return nil, problem, errno
  elseif not next(wanted) then
    return true
  end
  local done
  done, problem = (task.detached and task.update or change)(task, wanted)
  if done then
    return true
  elseif ends(task, problem) then
    return handle.ended(task, "update")
  end
  problem.verb = "update"
  return E.fail(problem)
end

-- ---- what has ended a process ----

-- Whoever kills the box kills what was added to it, too.
local function killed_by_us(task)
  return task.closed or task.sent and task.sent[sys.SIGKILL] or task.reason and task.reason ~= "oom"
end

local function ended_by_cpu(box, group)
  return box.reason == "cpu" or box.cpu_time ~= nil and (group:cpu_time() or 0) >= box.cpu_time
end

--- For a process that is to be added to a box: that it was killed for want of memory, or with the box at the end of its
-- CPU time, is to be told.
local function watch(added, box)
  local group = cgroup.of_task(box)
  if not group then
    return
  end
  local before = group:oom_kills() or 0
  table.insert(added.at_end, 1, function()
    if added.how ~= "signal" or added.status ~= sys.SIGKILL or killed_by_us(added) then
      return
    elseif ended_by_cpu(box, group) then
      added.reason = "cpu"
    elseif not killed_by_us(box) and (group:oom_kills() or box.usage and box.usage.oom_kills or 0) > before then
      added.reason = "oom"
    end
  end)
end

return { stats = stats, update = update, change = change, watch = watch }
