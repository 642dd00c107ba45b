-- cgroup/leaf.lua: where the processes of a box are that has an id of the caller's.
--
-- Such a box may write to what its cgroup namespace shows, for that is the caller's: its own cgroup and those below.
-- Its limits, and what freezes it, lie one above; the processes are in two below that: of the box itself, and of who is
-- added to it, which the box does not hold by freezing its own. c: { at =, counts =, leaf = BOX, ADDED or nil }, as
-- config.nsbox.cgroup.

local BOX, ADDED = "box", "added"

-- v1 throttles block I/O of what is in a cgroup, not of what is below, and marks packets so.
local flat = { blkio = true, net_cls = true, net_prio = true }

-- v1's rules of devices are not set where there are cgroups below. They are changed by root's CAP_SYS_ADMIN alone,
-- which a box has that shares root's user namespace and was given it: against that one they do not hold.
local without = { blkio = true, net_cls = true, net_prio = true, devices = true }

-- Without limits there is nothing else to hold.
local function has(c, where)
  return c.leaf ~= nil and not without[where] and (c.counts or where == "v2" or where == "freezer")
end

--- The folder that a process joins.
local function of(c, where)
  return has(c, where) and c.at[where] .. "/" .. c.leaf or c.at[where]
end

--- Whether the box cannot change what is written to its cgroup of a controller of v1, or "v2".
local function holds(c, where)
  return not c.leaf or not flat[where]
end

--- All folders that there may be, the innermost first.
local function all(c, where)
  local path = c.at[where]
  return has(c, where) and { path .. "/" .. BOX, path .. "/" .. ADDED, path } or { path }
end

return { of = of, all = all, holds = holds, BOX = BOX, ADDED = ADDED }
