-- config/limits.lua: what of the limits that a box asks for can be enforced, and by what.

local choice = require "nsbox.cgroup.choice"
local error_ = require "nsbox.error"
local leaf = require "nsbox.cgroup.leaf"

local asking = { "memory", "memory_reservation", "cpus", "cpu_weight", "cpuset", "pids", "io", "hugetlb",
  "device_rules", "cgroup", "cgroup_parent", "cpu_time" }

--- Whether checked options ask for a cgroup, so that host.cgroups must be known.
local function needs_cgroup(o)
  for _, name in ipairs(asking) do
    if o[name] ~= nil then
      return true
    end
  end
  return false
end

local function refused(verb, problem)
  return error_.fail { kind = "unsupported", verb = verb,
    message = ("option '%s' cannot be enforced: %s"):format(problem.option, problem.why),
    hint = ('%s; or degrade = { "%s" }'):format(problem.fix, problem.option) }
end

local REACHES = "an id of the box is the caller's; where it may mount them, it reaches the caller's own cgroups, which "
  .. "the caller cannot write to: "

local function notes_of(chosen, host)
  local notes, cgroups = {}, host.cgroups or {}
  for i, out in ipairs(chosen.left_out) do
    notes[i] = { what = out.option, why = "not enforced: " .. out.why }
  end
  local reached = host.exposed and cgroups.out_of_reach or {}
  notes[#notes + 1] = reached[1] and { what = "cgroup", why = REACHES .. table.concat(reached, ", ") }
  notes[#notes + 1] = cgroups.moved and { what = "cgroup",
    why = "the calling process was moved, by the user's systemd, to " .. cgroups.moved }
  return notes
end

--- Sets nsbox.cgroup, of linux.resources and nsbox.cpu_time, with host.cgroups as cgroup.places found them: { joins =
-- list of controllers of v1 and "v2", writes = list, at = {}, counts = as of choice.choose, leaf = as of
-- cgroup/leaf.lua }, nil when it has none: nothing is enforced, and, host.exposed, no id of the box is the caller's.
-- Takes nsbox.cpu_time away where it is not enforced. Returns a list of notes, of what may stay unenforced and why
-- | nil, err (kind unsupported: the first that may not).
local function settle(verb, o, linux, nsbox, host)
  local asked = needs_cgroup(o)
  if not asked and not host.exposed then
    return {}
  end
  local resources = linux.resources or asked and not nsbox.cpu_time and { unified = {} } or {}
  local chosen, problem = choice.choose(resources, nsbox.cpu_time, host.cgroups or { v1 = {} }, nsbox.degrade or {},
    host.exposed)
  if not chosen then
    return refused(verb, problem)
  end
  nsbox.cpu_time = chosen.cpu_time
  nsbox.cgroup = chosen.joins[1] and { joins = chosen.joins, writes = chosen.writes, at = {},
    counts = chosen.counts, leaf = host.exposed and leaf.BOX or nil } or nil
  return notes_of(chosen, host)
end

return { needs_cgroup = needs_cgroup, settle = settle }
