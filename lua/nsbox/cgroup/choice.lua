-- cgroup/choice.lua: which hierarchy enforces what, by controller: v1's where it is mounted so, else v2's. Pure:
-- `places` is what tree.places_for found.

local devices = require "nsbox.cgroup.device_rules"
local leaf = require "nsbox.cgroup.leaf"
local v1 = require "nsbox.cgroup.v1"
local v2 = require "nsbox.cgroup.v2"

-- In the order in which they are written and told. v1, v2: the controllers that have it, "" is every cgroup of v2.
local options = {
  { name = "memory", v1 = "memory", v2 = "memory" }, { name = "swap", v1 = "memory", v2 = "memory" },
  { name = "memory_reservation", v1 = "memory", v2 = "memory" },
  { name = "cpus", v1 = "cpu", v2 = "cpu" }, { name = "cpu_weight", v1 = "cpu", v2 = "cpu" },
  { name = "cpuset", v1 = "cpuset", v2 = "cpuset" }, { name = "pids", v1 = "pids", v2 = "pids" },
  { name = "io", v1 = "blkio", v2 = "io" }, { name = "hugetlb", v1 = "hugetlb", v2 = "hugetlb" },
  { name = "device_rules", v1 = "devices", v2 = "", program = true }, { name = "cpu_time", v1 = "cpuacct", v2 = "" },
}

-- write -> its row, which is no plain data as a configuration is.
local rows = setmetatable({}, { __mode = "k" })

local function new_write(where, row, text)
  local write = { option = row.option, where = where, file = row.file, text = text }
  rows[write] = row
  return write
end

--- The row of a write that this module has made.
local function row_of(write)
  return rows[write]
end

--- The writes of a version for these resources: a list of { option =, where = controller or "v2", file =, text = }.
local function writes_of(version, resources)
  local list = {}
  local function add(row)
    local texts = row.of(resources)
    for _, text in ipairs(type(texts) == "table" and texts or { texts }) do
      list[#list + 1] = new_write(version == v1 and row.controller or "v2", row, text)
    end
  end
  for _, row in ipairs(version.rows) do
    add(row)
  end
  for _, of in ipairs(version.more_rows) do
    for _, row in ipairs(of(resources)) do
      add(row)
    end
  end
  return list
end

local function by_option(writes)
  local map = {}
  for _, write in ipairs(writes) do
    map[write.option] = map[write.option] or {}
    table.insert(map[write.option], write)
  end
  return map
end

local NOWHERE = { why = "no cgroup file system with the controller is mounted",
  fix = "mount -t cgroup2 cgroup2 /sys/fs/cgroup, or boot Linux with the controller enabled" }

local NO_PROGRAM = { why = "rules of devices need root's rights", fix = "run it as root" }

local function v2_place(places, controller)
  local at = places.v2
  if not at then
    return nil, NOWHERE
  elseif not at.folder then
    return nil, at
  elseif controller ~= "" and not at.controllers[controller] then
    return nil, at.why and at or { why = ("the cgroup %s has no controller %s"):format(at.folder, controller),
      fix = ("enable it in the cgroups above: echo +%s > cgroup.subtree_control (systemd: Delegate=yes)")
        :format(controller) }
  end
  return "v2"
end

local NOT_ABOVE = { why = "an id of the box is the caller's, and cgroup v1 limits io of the box's own cgroup alone, "
  .. "which such a box can change", fix = 'give it other ids (as root userns = "auto", else uid_map)' }

-- Where an option is enforced: a controller of v1, "v2" | nil, { why =, fix = }.
local function place_of(places, option, resources, exposed)
  local at = places.v1[option.v1]
  if at and at.folder and not leaf.holds({ leaf = exposed }, option.v1) then
    return nil, NOT_ABOVE
  end
  if at and at.folder and option.program then
    if not at.programs then
      return nil, NO_PROGRAM
    end
    local writes, why = devices.writes(resources.devices)
    return writes and option.v1, { why = why, fix = "name the devices in another way" }
  elseif at then
    return at.folder and option.v1 or nil, at
  end
  local where, problem = v2_place(places, option.v2)
  if where and option.program and not places.v2.programs then
    return nil, NO_PROGRAM
  end
  return where, problem
end

-- A box that has an id of the caller's leaves the caller's cgroups, and those of its other boxes, out of its sight.
local function hide(places, joins)
  for name, at in pairs(places.v1) do
    joins[name] = joins[name] or (at.folder or at.bare) and true or nil
  end
  joins.v2 = joins.v2 or places.v2 and (places.v2.folder or places.v2.bare) and true or nil
end

local function base_joins(places, joins)
  for name in pairs(v1.accounts) do
    joins[name] = joins[name] or places.v1[name] and places.v1[name].folder and true or nil
  end
  if places.v2 and places.v2.folder then
    joins.v2 = true
  elseif places.v1.freezer and places.v1.freezer.folder then
    joins.freezer = true -- to reach all of its processes
  end
end

local function raw_writes(places, unified, chosen, exposed)
  local keys = {}
  for key in pairs(unified or {}) do
    keys[#keys + 1] = key
  end
  table.sort(keys)
  for _, key in ipairs(keys) do
    local controller = key:match "^[^.]+"
    local where, problem = place_of(places, { v1 = controller, v2 = controller == "cgroup" and "" or controller },
      nil, exposed)
    if not where then
      return nil, { why = ("%s: %s"):format(key, problem.why), fix = problem.fix }
    end
    chosen[#chosen + 1] = new_write(where, { option = "cgroup", controller = controller, file = key, raw = true },
      unified[key])
  end
  return true
end

-- v1 first, then v2, each in order; a list is easier to compare than a set. But the freezer is before all: what it
-- holds does not die, so it is swept, and emptied, first.
local function sorted(joins)
  local list = {}
  for name in pairs(joins) do
    list[#list + 1] = name
  end
  table.sort(list, function(a, b)
    if (a == "freezer") ~= (b == "freezer") then
      return a == "freezer"
    end
    return a < b
  end)
  return list
end

local function refusal(option, problem)
  return { option = option, why = problem.why, fix = problem.fix }
end

--- For OCI resources and a limit of CPU time, or nil: { joins = list of controllers of v1 and "v2", writes = list,
-- left_out = list of { option =, why =, fix = }, counts = limits or counts are asked for, and there are some }
-- | nil, the first such refusal of an option that is not in the set `degrade`. exposed: an id of the box is the
-- caller's; it joins a cgroup wherever it can then.
local function choose(resources, cpu_time, places, degrade, exposed)
  local of = { v1 = by_option(writes_of(v1, resources)), v2 = by_option(writes_of(v2, resources)) }
  local chosen = { joins = {}, writes = {}, left_out = {} }
  local enforced, joins = resources.unified ~= nil, {}
  local function refuse(option, problem)
    if option == "swap" and degrade.memory then
      return -- comes with memory
    elseif not degrade[option] then
      return refusal(option, problem)
    end
    table.insert(chosen.left_out, refusal(option, problem))
  end
  for _, option in ipairs(options) do
    local asked = option.name == "cpu_time" and cpu_time or of.v1[option.name] or of.v2[option.name]
    local where, problem
    if asked then
      where, problem = place_of(places, option, resources, exposed)
    end
    local writes = where and of[where == "v2" and "v2" or "v1"][option.name] or {}
    if where then
      joins[where], enforced = true, true
    end
    local stop = asked and not where and refuse(option.name, problem)
    if stop then
      return nil, stop
    end
    table.move(writes, 1, #writes, #chosen.writes + 1, chosen.writes)
  end
  local ok, problem = raw_writes(places, resources.unified, chosen.writes, exposed)
  local stop = not ok and refuse("cgroup", problem)
  if stop then
    return nil, stop
  end
  if enforced then
    for _, write in ipairs(chosen.writes) do
      joins[write.where] = true
    end
    base_joins(places, joins)
    chosen.counts = true
  end
  if exposed then
    hide(places, joins)
  end
  chosen.joins = sorted(joins)
  return chosen
end

return { choose = choose, row_of = row_of, writes_of = writes_of, v1 = v1, v2 = v2 }
