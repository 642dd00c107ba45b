-- cgroup.lua: the cgroup of a box, in each hierarchy that is needed: made, limited, asked and removed here alone.
--
-- What a box has is plain data, config.nsbox.cgroup.at: "v2" or a controller of v1 -> its folder.

local choice = require "nsbox.cgroup.choice"
local file = require "nsbox.cgroup.file"
local keeper = require "nsbox.keeper"
local kill = require "nsbox.cgroup.kill"
local leaf = require "nsbox.cgroup.leaf"
local limits = require "nsbox.cgroup.limit"
local owner = require "nsbox.cgroup.owner"
local proc = require "nsbox.probe.file"
local scope = require "nsbox.cgroup.scope"
local sys = require "nsbox.sys"
local tree = require "nsbox.cgroup.tree"

local row_of, v1, v2 = choice.row_of, choice.v1, choice.v2

local REMOVE = 10 -- seconds for what is left of a box to end

local group = {}
local group_mt = { __name = "nsbox.cgroup", __index = group }

-- ---- making it ----

-- v2: what the cgroups below get must be handed on first. must: controllers with limits; others only tell something.
local function hand_on(folder, place, must)
  local enabled = file.words(folder, "cgroup.subtree_control")
  for _, list in ipairs { must, v2.accounts } do
    for _, name in ipairs(list) do
      if place.controllers[name] and not enabled[name] then
        local ok, message, errno = file.write(folder, "cgroup.subtree_control", "+" .. name)
        if not ok and list == must then
          return nil, message, errno
        end
        enabled[name] = true
      end
    end
  end
  return true
end

local function prepare(where, place, parent, must)
  if where ~= "v2" then
    return v1.prepare(where, parent)
  end
  for _, folder in ipairs { place.folder, parent } do
    local ok, message, errno = hand_on(folder, place, must)
    if not ok then
      return nil, message, errno
    end
  end
  return true
end

-- Several controllers of v1 may be mounted together: one makes it, each prepares it. made: a set of those that are.
local function make_one(made, where, path)
  local ok, message, errno = true, nil, nil
  if not made[path] then
    ok, message, errno = sys.mkdir(path, "0755")
    made[path] = ok
  end
  if ok and where ~= "v2" then
    ok, message, errno = v1.prepare(where, path)
  end
  return ok, message, errno
end

-- Who is born in a frozen cgroup, or joins one, does not come to its exec.
local function can_run(self, where)
  if (where == "v2" or where == "freezer") and self:is_frozen() then
    return nil, ("a cgroup above %s is frozen"):format(self.at[where]), sys.EBUSY
  end
  return true
end

local function make(self, where)
  local place = where == "v2" and self.places.v2 or self.places.v1[where] or self.places.named[where]
  local parent, message, errno = owner.of(place.folder or place.bare, self.places)
  if not parent then
    return nil, message, errno
  end
  local ok = true
  if where ~= "v2" or self.counts then
    ok, message, errno = prepare(where, place, parent, self.must)
  end
  if not ok then
    return nil, message, errno
  end
  local path = parent .. "/" .. self.id
  self.at[where] = path
  local inner = leaf.of(self, where)
  for _, folder in ipairs { path, inner ~= path and inner or nil } do
    ok, message, errno = make_one(self.made, where, folder)
    if not ok then
      return nil, message, errno
    end
  end
  return can_run(self, where)
end

-- A step of the caller: a descriptor of the cgroup that the box joins | nil, message, errno.
function group:make(where)
  if not self.at[where] then -- else a start that is begun anew
    local ok, message, errno = make(self, where)
    if not ok then
      return nil, message, errno
    end
  end
  return sys.open(leaf.of(self, where), "path,directory")
end

--- A step of the caller, for a process that is added to a box with a leaf: a descriptor of the leaf of such processes,
-- made at first need | nil, message, errno (ENOENT: the box is gone).
local function added(where, path)
  local ok, message, errno = make_one({}, where, path)
  if not ok and errno ~= sys.EEXIST then
    return nil, message, errno
  end
  return sys.open(path, "path,directory")
end

-- ---- limits ----

-- A step of the caller: one of the writes.
function group:limit(where, name, text)
  for _, write in ipairs(self.writes) do
    if write.where == where and write.file == name and write.text == text then
      return limits.apply(self, write)
    end
  end
end

--- The steps of the caller that plan/cgroup.lua names, for launch.
function group:calls()
  return {
    cgroup = function(where) return self:make(where) end,
    cgroup_limit = function(...) return self:limit(...) end,
  }
end

--- Changes limits of a box that runs: see cgroup/limit.lua.
function group:update(resources)
  return limits.update(self, resources)
end

-- ---- what it tells ----

--- The fields of Result.usage that are known now.
function group:usage()
  if not self.counts then
    return {}
  end
  local found = v1.usage(self.at)
  for name, value in pairs(self.at.v2 and v2.usage(self.at.v2) or {}) do
    found[name] = value -- its clocks are finer
  end
  found.max_rss = found.memory_peak
  return found
end

--- CPU seconds so far, or nil.
function group:cpu_time()
  return self.at.v2 and v2.cpu_time(self.at.v2) or v1.cpu_time(self.at)
end

--- How many processes the kernel has killed for want of memory, or nil.
function group:oom_kills()
  return self.counts and (self.at.v2 and file.field(self.at.v2, "memory.events", "oom_kill")
    or self.at.memory and v1.oom_kills(self.at.memory)) or nil
end

-- What the kernel answers to a process that gets no more memory; without an errno it was killed.
local lacks = { ENOMEM = true, E2BIG = true, ENOSPC = true, EAGAIN = true, ENOBUFS = true, EFAULT = true, EBUSY = true }
local BATCH = 256 << 10 -- bytes that the kernel takes at a time, where there are so many

--- Whether a start that failed, with an errno of this name or none, lacked memory that its limit did not give. (v1's
-- failcnt stays 0 on Linux 6.18.)
function group:lacked_memory(name)
  local limit = self.limits.memory
  local peak = limit and self:usage().memory_peak
  return peak ~= nil and limit.value - peak < BATCH and (name == nil or lacks[name] == true)
end

local cpus -- that there are

local function count_cpus()
  local n = 0
  for first, last in ((proc.line "/sys/devices/system/cpu/online" or "0") .. ","):gmatch "(%d+)%-?(%d*)," do
    n = n + (tonumber(last) or tonumber(first)) - tonumber(first) + 1
  end
  return math.max(1, n)
end

--- How many CPUs can use time at once.
function group.cpus()
  cpus = cpus or count_cpus()
  return cpus
end

--- Seconds until at the earliest so many CPU seconds are used up, by all CPUs at once; 0: they are.
function group:cpu_left(limit)
  return math.max(0, limit - (self:cpu_time() or 0)) / group.cpus()
end

--- What the keeper does should the caller be busy when so many CPU seconds are used up: a duty | nil, message, errno.
function group:end_later(limit)
  self.limits.cpu_time = { value = limit, by = self.at.v2 and "cgroup v2 cpu.stat" or "cgroup v1 cpuacct.usage" }
  local folder <close>, message, errno = sys.open(self.at.v2 or self.at.cpuacct, "rdonly,directory")
  if not folder then
    return nil, message, errno
  end
  return keeper.cpu_later(folder, limit, group.cpus())
end

-- ---- freezing ----

--- Whether it can be frozen.
function group:can_freeze()
  return self.at.v2 ~= nil or self.at.freezer ~= nil
end

--- Stops all of its processes, or lets them run: true | nil, message, errno.
function group:freeze(on)
  if self.at.v2 then
    return file.write(self.at.v2, "cgroup.freeze", on and "1" or "0")
  end
  return file.write(self.at.freezer, "freezer.state", on and "FROZEN" or "THAWED")
end

--- Whether a box can freeze itself so that SIGKILL does not end it: by v1's freezer, see leaf.lua.
function group:can_hold()
  return self.leaf ~= nil and self.at.freezer ~= nil
end

--- Lets one process go, which SIGKILL is waiting for, while all others stand still: of v1 by a move to the caller's own
-- cgroup, which is not frozen. true | nil, message, errno.
function group:release(pid)
  if not self.at.freezer then
    return true -- it has died
  end
  return file.write(self.at.freezer:match "^(.*)/", "cgroup.procs", tostring(pid))
end

--- Whether all stand still.
function group:is_frozen()
  return self.at.v2 ~= nil and file.field(self.at.v2, "cgroup.events", "frozen") == 1
    or self.at.freezer ~= nil and file.read(self.at.freezer, "freezer.state") == "FROZEN"
end

-- ---- its end ----

-- The folder by which all of its processes can be reached: of v1's freezer, for what that holds does not die.
local function first_of(self)
  return self.at.freezer and "freezer" or self.at.v2 and "v2" or next(self.at)
end

-- What is to be removed, in this order.
local function folders_of(self)
  local first = first_of(self)
  local list = first and leaf.all(self, first) or {}
  for where in pairs(self.at) do
    local more = where ~= first and leaf.all(self, where) or {}
    table.move(more, 1, #more, #list + 1, list)
  end
  return list
end

--- SIGKILL to all of its processes.
function group:kill()
  local first = first_of(self)
  if first then
    kill.kill(self.at[first])
  end
end

--- Kills all, as often as it takes, where the box can hold itself: before its end is waited for.
function group:end_held()
  if self:can_hold() then
    kill.finish(leaf.all(self, "freezer"), sys.clock() + REMOVE)
  end
end

--- Kills what is left and removes the cgroup: true | nil, message, errno, and then the keeper will. Any number of
-- times.
function group:remove()
  return kill.finish(folders_of(self), sys.clock() + REMOVE)
end

-- What was killed for want of memory is not why it ended, then. Who stops it has sent SIGKILL, too.
local function ended_by_us(task)
  local sent = task.sent or {}
  return sent[sys.SIGKILL] or task.how == "signal" and sent[task.status]
end

--- For a task that has ended: what it used, and whether the kernel, or its CPU time, has ended it. What shares the
-- caller's pids ends with it, as in a pid namespace of its own.
local function ended(task)
  if not task.is_pid1 then
    task.cgroup:kill()
  end
  task.usage = task.cgroup:usage()
  local used = task.cpu_time and task.cgroup:cpu_time() or 0 -- v1 counts user and sys in ticks, and this exactly
  if task.reason or task.how == "exit" and task.status == 0 then
    return
  elseif task.cpu_time and used >= task.cpu_time and task.how == "signal" then
    task.reason = "cpu"
  elseif (task.usage.oom_kills or 0) > 0 and not ended_by_us(task) then
    task.reason = "oom"
  end
end

-- ---- its beginning ----

-- On pure v2 a user to whom no cgroup belongs may get one of the systemd that runs for the user.
local function ask_systemd(found)
  local folder, why, fix = scope.enter()
  if not folder then
    found.v2.why, found.v2.fix = ("%s, and %s"):format(found.v2.why, why), fix or found.v2.fix
    return found
  end
  found = tree.places_for()
  found.moved = folder
  return found
end

--- Where this caller's boxes may have cgroups, for host.cgroups: see tree.places_for. may_move: the caller itself may
-- be moved, into a scope of its own; `moved` is that then.
local function places(parent, may_move)
  local found = tree.places_for(parent)
  local none = next(found.v1) == nil and found.v2 and not found.v2.folder
  if none and may_move and not parent and sys.geteuid() ~= 0 then
    return ask_systemd(found)
  end
  return found
end

local own = {}

--- The same for a box that asks for no limits: looked at when mounts, or the caller's place, have changed.
local function own_places()
  local here, euid = tree.look(), sys.geteuid()
  if own.here ~= here or own.euid ~= euid then
    own = { here = here, euid = euid, places = tree.places_for() }
  end
  return own.places
end

local function must_of(writes)
  local list = {}
  for _, write in ipairs(writes) do
    local controller = row_of(write).controller
    if write.where == "v2" and controller ~= "" and controller ~= "cgroup" then
      list[#list + 1] = controller
    end
  end
  return list
end

--- The cgroup of a box that is to be started; its limits are known once its steps are made, and `notes`, a list, has
-- what cannot be enforced then.
local function new(config, places_, id, notes)
  local c = config.nsbox.cgroup
  return setmetatable({ at = c.at, leaf = c.leaf, counts = c.counts, writes = c.writes, must = must_of(c.writes),
    made = {}, places = places_, id = id, resources = config.linux.resources or {},
    degrade = config.nsbox.degrade or {}, notes = notes, limits = {}, told = {} }, group_mt)
end

--- The cgroup of a box that runs, by config.nsbox.cgroup.
local function of(c)
  return setmetatable({ at = c.at, leaf = c.leaf, counts = c.counts, limits = {}, told = {}, resources = {} }, group_mt)
end

--- The one of a task's box; of one that is detached by its folders; nil where it has none.
local function of_task(task)
  local c = task.config and task.config.nsbox.cgroup
  return task.cgroup or c and of(c)
end

return { places = places, own_places = own_places, added = added, new = new, of = of, of_task = of_task, ended = ended }
