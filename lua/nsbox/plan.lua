-- plan.lua: config, host -> plan. Pure: makes no call. The order of a start, on one screen.

local attributes = require "nsbox.plan.attributes"
local binds = require "nsbox.plan.binds"
local cgroup = require "nsbox.plan.cgroup"
local join = require "nsbox.plan.join"
local ids = require "nsbox.plan.ids"
local io_steps = require "nsbox.plan.io"
local mounts = require "nsbox.plan.mounts"
local param = require "nsbox.plan.param"
local privileges = require "nsbox.plan.privileges"
local root = require "nsbox.plan.root"
local uts = require "nsbox.plan.uts"

-- Each phase gets the box's description and adds steps to the list.
local phases = {
  root.hold,             -- caller: hold the image, so that nothing can be put in its place
  join.open,             -- caller: get the namespaces to join
  root.shift,            -- caller: the image with owners as the box counts
  binds.hold,            -- caller: what of the host is to be seen
  cgroup.make,           -- caller: the box's cgroup, and its limits
  join.enter,            -- first process: enter them and the keeper's pid namespace
  join.make,             -- hop: the fresh namespaces; from here on it is the box's own process
  join.read_back,        -- what the kernel really made
  io_steps.descriptors,  -- only 0, 1, 2 and the plan's own descriptors stay open
  join.tell,
  uts.name,
  uts.network,
  ids.clocks,
  root.find_parts,       -- what the caller may look at, and root of the box perhaps not
  binds.find,
  ids.become,            -- root of the box: what is made from here on is its own
  root.build,            -- the new root, beside the old one
  mounts.make,           -- proc, dev, sys … below it
  attributes.parameters, -- kernel parameters of its namespaces
  root.workdir,
  mounts.hide,           -- what a box must not see or change there
  binds.attach,          -- files and folders of the host's; later: a link of the image may lead one to what is hidden
  io_steps.terminal,     -- a pty of the box's own devpts
  root.enter,            -- pivot_root: the old root is gone
  io_steps.session,
  privileges.drop,       -- ids, capabilities, no_new_privs
  attributes.apply,      -- limits, CPUs, personality
  privileges.read_back,  -- what the kernel really applied
  attributes.read_back,
  io_steps.created,      -- caller: the user's on_created
  io_steps.last,
}

-- Of a process that is added to a box.
local joining_phases = {
  cgroup.open,           -- caller: hold the box's cgroup
  join.enter_box,        -- first process: enter the box's namespaces; hop: the new process, in its pid namespace
  io_steps.descriptors,
  join.tell,
  ids.become,
  root.find,
  io_steps.find_terminals,
  io_steps.terminal,
  root.enter_workdir,
  io_steps.session,
  privileges.drop,
  attributes.apply,
  privileges.read_back,
  attributes.read_back,
  io_steps.last,
}

local MAX_KINDS = 64 -- plans that are kept

local plan_mt = { __name = "nsbox.plan" }

local function namespaces_of(config)
  local set = {}
  for _, ns in ipairs(config.linux.namespaces) do
    set[ns.type] = ns.path or true -- absent: the caller's own is shared
  end
  return set
end

local function make(config, host, order)
  local ns, steps = namespaces_of(config), {}
  local box = {
    config = config,
    host = host,
    ns = ns,
    joining = order == joining_phases,
    nested = ns.pid == true, -- below the keeper, and dying with it, which takes a pid namespace of the box's own
    steps = steps,
  }
  function box.add(step)
    step.side = step.side or "child"
    steps[#steps + 1] = step
  end
  for _, phase in ipairs(order) do
    phase(box)
  end
  return steps
end

local function offset_text(offset)
  return offset and ("%d.%d"):format(offset.secs, offset.nanosecs) or "-"
end

local function size_text(size)
  return size and ("%dx%d"):format(size.height, size.width) or "-"
end

-- All that a plan depends on, but for its parameters and the lists of config.lua, which are constant and compared as
-- such: two configurations with the same text have the same plan.
local function kind_of(config, host)
  local process, user, offsets = config.process, config.process.user, config.linux.timeOffsets or {}
  local parts = {
    tostring(host.root.ok), tostring(host.exec_clocks.ok), tostring(process.terminal), size_text(process.consoleSize),
    user.uid, user.gid, tostring(user.umask), table.concat(user.additionalGids or {}, " "),
    tostring(process.noNewPrivileges), tostring(config.root.readonly),
    tostring(config.hostname ~= nil), tostring(config.domainname ~= nil), tostring(config.nsbox.layer_path ~= nil),
    tostring(config.nsbox.on_created),
    tostring(config.nsbox.init), tostring(config.nsbox.idle), tostring(config.nsbox.sealed),
    table.concat(config.nsbox.fds or {}, " "),
    tostring(config.nsbox.call),
    tostring(config.nsbox.become), tostring(config.nsbox.shift), tostring(config.nsbox.setgroups),
    offset_text(offsets.monotonic), offset_text(offsets.boottime),
    privileges.kind(process), attributes.kind(config), cgroup.kind(config),
  }
  for _, ns in ipairs(config.linux.namespaces) do
    parts[#parts + 1] = ns.type
    parts[#parts + 1] = ns.path or "+"
  end
  return table.concat(parts, "\0")
end

local function lists_of(config)
  return { config.mounts, config.linux.maskedPaths, config.linux.readonlyPaths }
end

local function same_lists(one, other)
  for i = 1, #one do
    if one[i] ~= other[i] then
      return false
    end
  end
  return true
end

local kinds, number = {}, 0 -- kind -> { lists =, steps = }

local function cached(kind, config, host, order)
  local lists = lists_of(config)
  local known = kinds[kind]
  if known and same_lists(known.lists, lists) then
    return known.steps
  end
  if number >= MAX_KINDS then
    kinds, number = {}, 0
  end
  number = number + (known and 0 or 1)
  kinds[kind] = { lists = lists, steps = make(config, host, order) }
  return kinds[kind].steps
end

--- The steps of a start, as plan() has them, but with placeholders where boxes of a kind differ, whose values are
-- param.of(config)'s. The same table for the same kind of box: read, never changed.
local function steps_of(config, host)
  if config.nsbox.host or config.nsbox.binds then
    return make(config, host, phases) -- depends on what is mounted on the host, or on paths of the user's
  end
  return cached(kind_of(config, host), config, host, phases)
end

--- The same for a process that is added to a box; config: of config.joining.
local function joining_of(config, host)
  return cached("joining\0" .. kind_of(config, host), config, host, joining_phases)
end

--- The steps of a start: a list of {call, arguments…, why=, side="parent"|"child", out=, ok=, expect=}.
-- The caller's steps stand before the first clone. `config` is an OCI runtime configuration, `host` a table as `probe`
-- gives. Steps may be shared with other plans: they are read, never changed.
local function plan(config, host)
  local steps, values = setmetatable({}, plan_mt), param.of(config)
  for i, step in ipairs(steps_of(config, host)) do
    steps[i] = param.bind(step, values)
  end
  return steps
end

--- What is not as one may expect of a box: a list of { what =, why = }, for its Result.
local function notes(config)
  local box = { config = config, ns = namespaces_of(config) }
  local list = ids.notes(box)
  table.move(config.nsbox.left_out or {}, 1, #(config.nsbox.left_out or {}), #list + 1, list)
  for _, room in ipairs { mounts, root } do
    local more = room.notes(box)
    table.move(more, 1, #more, #list + 1, list)
  end
  return list
end

return { plan = plan, steps_of = steps_of, joining_of = joining_of, notes = notes }
