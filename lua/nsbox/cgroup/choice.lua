-- cgroup/choice.lua: which hierarchy enforces what, by controller: v1's where it is mounted so, else v2's. Pure:
-- `places` is what tree.places_for found.

local leaf = require "nsbox.cgroup.leaf"
local sorted = require "nsbox.sorted"
local v1 = require "nsbox.cgroup.v1"
local v2 = require "nsbox.cgroup.v2"

-- In the order in which they are written and told: { name =, v1 =, v2 = the controllers that have it ("" is every
-- cgroup of v2), program = whether v2 takes one }.
local options = {}

local function option_of(name)
  if not options[name] then
    options[#options + 1] = { name = name }
    options[name] = options[#options]
  end
  return options[name]
end

for _, row in ipairs(v1.rows) do
  option_of(row.option).v1 = row.controller
end
for _, row in ipairs(v2.rows) do
  local option = option_of(row.option)
  option.v2, option.program = row.controller, row.program
end
option_of("cpu_time").v1, option_of("cpu_time").v2 = "cpuacct", ""

-- write -> its row, which is no plain data as a configuration is.
local rows = setmetatable({}, { __mode = "k" })

local function new_write(where, row, text)
  local write = { option = row.option, where = where, file = row.file, text = text }
  rows[write] = row
  return write
end

-- A row whose file has a name that the resources give.
local function named(row, name)
  return setmetatable({ file = row.file:format(name) }, { __index = row })
end

--- The row of a write that this module has made.
local function row_of(write)
  return rows[write]
end

--- The options that decide, by either version, what a file says: a map to themselves, or, where the file has a name of
-- theirs, to this: "2MB".
local function deciders(file)
  local found = {}
  for _, version in ipairs { v1, v2 } do
    for _, row in ipairs(version.rows) do
      for _, own in ipairs { row.file, table.unpack(row.also or {}) } do
        found[row.option] = found[row.option]
          or file:match("^" .. own:gsub("%.", "%%."):gsub("%%s", "(%%w+)") .. "$")
      end
    end
  end
  return found
end

--- The writes of a version for these resources: a list of { option =, where = controller or "v2", file =, text = }.
local function writes_of(version, resources)
  local list = {}
  for _, row in ipairs(version.rows) do
    local found, where = row.of and row.of(resources), version == v1 and row.controller or "v2"
    for _, text in ipairs(type(found) == "table" and found or { found }) do
      list[#list + 1] = type(text) == "table" and new_write(where, named(row, text.name), text.text)
        or new_write(where, row, text)
    end
  end
  return list
end

-- By option its writes, and why the version cannot have them, if so: { writes =, lacks =, fix = }.
local function by_option(version, resources)
  local map = {}
  local function at(name)
    map[name] = map[name] or { writes = {} }
    return map[name]
  end
  for _, write in ipairs(writes_of(version, resources)) do
    table.insert(at(write.option).writes, write)
  end
  for _, row in ipairs(version.rows) do
    local lacks = row.lacks and row.lacks(resources)
    if lacks then
      at(row.option).lacks, at(row.option).fix = lacks, row.fix
    end
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

local NOT_ABOVE = { why = "an id of the box is the caller's, and cgroup v1 has it for the box's own cgroup alone, "
  .. "where such a box can change it", fix = 'give it other ids (as root userns = "auto", else uid_map)' }

-- Where an option is enforced: a controller of v1, "v2" | nil, { why =, fix = }.
local function place_of(places, option, exposed)
  local at = places.v1[option.v1]
  if at and at.folder and not leaf.holds({ leaf = exposed }, option.v1) then
    return nil, NOT_ABOVE
  elseif at and at.folder and option.program and not at.programs then
    return nil, NO_PROGRAM
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
  for _, some in ipairs { places.v1, places.named } do
    for name, at in pairs(some) do
      joins[name] = joins[name] or (at.folder or at.bare) and true or nil
    end
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

-- v1 first, then v2, each in order; a list is easier to compare than a set. But the freezer is before all: what it
-- holds does not die, so it is swept, and emptied, first.
local function in_order(joins)
  local list = { joins.freezer and "freezer" }
  for _, name in ipairs(sorted(joins)) do
    list[#list + 1] = name ~= "freezer" and name or nil
  end
  return list
end

-- What v1 and v2 call the same controller.
local renamed = { v1 = { io = "blkio" }, v2 = { blkio = "io" } }

-- A raw key: its file is of the version that has the controller.
local function raw_wish(key, text)
  local controller = key:match "^[^.]+"
  local function of(version, name)
    local row = { option = "cgroup", controller = name, file = key, raw = true, version = version,
      below = version == "v1" }
    return { writes = { new_write(version == "v1" and name or "v2", row, text) } }
  end
  local first, second = renamed.v1[controller] or controller, renamed.v2[controller] or controller
  return { key = key, option = { name = "cgroup", v1 = first, v2 = second ~= "cgroup" and second or "" },
    v1 = of("v1", first), v2 = of("v2", second) }
end

-- All that is asked for: a list of { option =, v1 =, v2 = as of by_option }.
local function wishes(resources, cpu_time)
  local of_v1, of_v2, list = by_option(v1, resources), by_option(v2, resources), {}
  for _, option in ipairs(options) do
    local name = option.name
    if of_v1[name] or of_v2[name] or name == "cpu_time" and cpu_time then
      list[#list + 1] = { option = option, v1 = of_v1[name], v2 = of_v2[name],
        cpu_time = name == "cpu_time" and cpu_time or nil }
    end
  end
  for _, key in ipairs(sorted(resources.unified)) do
    list[#list + 1] = raw_wish(key, resources.unified[key])
  end
  return list
end

-- Whether swap was given: with memory alone there is none beyond that.
local function swaps(resources)
  local memory = resources.memory or {}
  return memory.swap ~= memory.limit
end

-- Where, and its writes | nil, { option =, why =, fix = }.
local function granted(places, wish, exposed)
  local option = wish.option
  local of = wish[places.v1[option.v1] and "v1" or "v2"] or { writes = {} }
  local where, problem = place_of(places, option, exposed)
  if of.lacks then
    problem = { why = of.lacks, fix = of.fix or "leave it out" }
  elseif where then
    return where, of.writes
  end
  return nil, { option = option.name, why = wish.key and ("%s: %s"):format(wish.key, problem.why) or problem.why,
    fix = problem.fix }
end

-- A cgroup is asked for, without limits: why there is none.
local function no_cgroup(places)
  local _, problem = v2_place(places, "")
  for _, name in ipairs(sorted(places.v1)) do
    problem = problem == NOWHERE and places.v1[name] or problem
  end
  return { option = "cgroup", why = problem.why, fix = problem.fix }
end

-- Adds what of the wishes is granted, and what is left out, to a choice: whether something is | nil, the first refusal
-- of an option that is not in the set `degrade`.
local function grant(chosen, joins, list, places, degrade, exposed, has_swap)
  local enforced = false
  for _, wish in ipairs(list) do
    local name = wish.option.name
    local where, found = granted(places, wish, exposed)
    if where then
      joins[where], enforced = true, true
      table.move(found, 1, #found, #chosen.writes + 1, chosen.writes)
      chosen.cpu_time = chosen.cpu_time or wish.cpu_time
    elseif degrade[name] or name == "swap" and degrade.memory and has_swap then
      table.insert(chosen.left_out, found)
    elseif name ~= "swap" or not degrade.memory then
      return nil, found
    end
  end
  return enforced
end

--- For OCI resources and a limit of CPU time, or nil: { joins = list of controllers of v1 and "v2", writes = list,
-- cpu_time = the limit where it is enforced, left_out = list of { option =, why =, fix = }, counts = whether anything
-- is enforced, or counts are asked for } | nil, the first such refusal of an option that is not in the set `degrade`.
-- exposed: an id of the box is the caller's; it joins a cgroup wherever it can then.
local function choose(resources, cpu_time, places, degrade, exposed)
  local chosen, joins, raw = { writes = {}, left_out = {} }, {}, resources.unified
  local enforced, refusal = grant(chosen, joins, wishes(resources, cpu_time), places, degrade, exposed,
    swaps(resources))
  if refusal then
    return nil, refusal
  elseif enforced or raw then
    base_joins(places, joins)
    chosen.counts = next(joins) ~= nil or nil
  end
  local none = raw and not next(raw) and not chosen.counts and no_cgroup(places)
  if none and not degrade.cgroup then
    return nil, none
  end
  chosen.left_out[#chosen.left_out + 1] = none or nil
  if exposed and (chosen.counts or not degrade.cgroup) then
    hide(places, joins)
  end
  chosen.joins = in_order(joins)
  return chosen
end

return { choose = choose, deciders = deciders, row_of = row_of, writes_of = writes_of, v1 = v1, v2 = v2 }
