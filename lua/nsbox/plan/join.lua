-- plan/join.lua: which namespaces are entered, which are made, and the processes that takes.

local attributes = require "nsbox.plan.attributes"
local cgroup = require "nsbox.plan.cgroup"
local placeholder = require("nsbox.plan.param").placeholder

-- OCI's names, the kernel's flags; in the order in which they are entered. later: not made by clone but by the box's
-- process itself.
local namespaces = {
  { type = "cgroup", flag = "newcgroup", what = "a cgroup tree that starts at the box" },
  { type = "ipc", flag = "newipc", what = "its own System V IPC and message queues" },
  { type = "network", flag = "newnet", later = true, what = "its own network devices and configuration" },
  { type = "uts", flag = "newuts", what = "its own host name" },
  { type = "time", flag = "newtime", later = true, what = "its own clocks" },
  { type = "mount", flag = "newns", what = "its own mount points" },
  { type = "pid", flag = "newpid", what = "a fresh number space, in which it is process 1" },
}
local user = { type = "user", flag = "newuser", what = "its own ids: root inside need not be root outside" }

-- Privileged, the user namespace is entered last: it takes the right to enter the others away.
-- Unprivileged it is entered first: it gives that right.
local function ordered(host)
  local list = table.move(namespaces, 1, #namespaces, 1, {})
  table.insert(list, host.root.ok and #list + 1 or 1, user)
  return list
end

local function joined(box, ns)
  return type(box.ns[ns.type]) == "string"
end

-- Unprivileged, but root in the keeper's user namespace: what lies below that (other boxes' namespaces) can be entered
-- from there, and no more from the box's own.
local function in_order_of_entry(box)
  local own, others = {}, {}
  for _, ns in ipairs(ordered(box.host)) do
    local first = box.ns.user == true and joined(box, ns)
    table.insert(first and others or own, ns)
  end
  return table.move(own, 1, #own, #others + 1, others)
end

-- A user namespace of the box's own comes from the keeper, and with it the network namespace that it shall own.
local function from_keeper(box, ns)
  return box.ns.user == true and box.ns[ns.type] == true and (ns.type == "user" or ns.type == "network")
end

local function ask_keeper(box)
  local network = box.ns.network == true
  box.add { "namespaces", network and "newuser,newnet" or "newuser", placeholder.uid_map, placeholder.gid_map,
    out = network and { "ns_user", "ns_network" } or { "ns_user" }, side = "parent",
    why = "from the keeper: a user namespace, ids mapped (inside outside count)"
      .. (network and "; a network namespace, lo up" or "") }
end

local function open(box)
  if box.ns.user == true then
    ask_keeper(box)
  end
  for _, ns in ipairs(ordered(box.host)) do
    if joined(box, ns) then
      box.add { "open", box.ns[ns.type], "rdonly", out = "ns_" .. ns.type, side = "parent",
        why = "the " .. ns.type .. " namespace to join" }
    end
  end
end

local function guard(box, why)
  box.add { "prctl", "set_pdeathsig", "kill", why = why }
end

-- A clone into a pid namespace that was entered needs a process that is in it: setns moves only children. The
-- keeper watches the caller: below it, no process is left alone.
local function enter_keeper(box)
  box.add { "setns", "@keeper", "newuser,newpid", why = "the keeper's pid namespace: its end is the box's end" }
  box.add { "clone", "vm,files,vfork,parent", why = "a process inside it, from which the box nests" }
  guard(box, "die with the caller")
end

local function enter(box)
  local inside = box.nested and box.host.root.ok
  box.add { "clone", "vm,files", side = "parent", within = inside and "keeper" or nil,
    why = "a helper that shares the caller's memory: no page is copied, the caller stays free"
      .. (inside and "; below the keeper, whose end is the box's end" or "") }
  guard(box, "die with the caller")
  if not inside then
    box.add { "getppid", expect = "@owner", why = "the caller lived until this guard stood" }
  end
  attributes.raise(box)
  if box.nested and not inside then
    enter_keeper(box)
  end
  for _, ns in ipairs(in_order_of_entry(box)) do
    if joined(box, ns) then
      box.add { "setns", "@ns_" .. ns.type, ns.flag, why = "join the " .. ns.type .. " namespace" }
    elseif from_keeper(box, ns) then
      box.add { "setns", "@ns_" .. ns.type, ns.flag, why = ns.what }
    end
  end
end

local function make(box)
  local flags, why = { "vm", "vfork", "parent" }, {}
  for _, ns in ipairs(ordered(box.host)) do
    local later = ns.later or ns.type == "cgroup" and cgroup.joins_later(box)
    if box.ns[ns.type] == true and not later and not from_keeper(box, ns) then
      flags[#flags + 1] = ns.flag
      why[#why + 1] = ns.type
    end
  end
  box.add { "clone", table.concat(flags, ","), into = cgroup.into(box), hint = cgroup.hint(box),
    why = "the box's process" .. (#why > 0 and ", with its own view: " .. table.concat(why, " ") or "") }
  guard(box, "die with the caller while the box is set up")
  cgroup.join(box)
end

-- The kernel makes all of them in one call, or none. Two can be told from the caller's without /proc, where a look at
-- each would cost a start a tenth of its time.
local function read_back(box)
  if box.ns.pid == true then
    box.add { "getpid", expect = 1, why = "read back: the first process of a pid namespace" }
  end
  if box.ns.mount == true then
    box.add { "other_mount", "@caller_root", "/", why = "read back: not the caller's mounts" }
  end
end

-- What the caller cannot leave to the keeper's pid namespace, the keeper must know of before the program runs.
local function tell(box)
  if not box.nested then
    box.add { "barrier", "born", why = "the caller tells the keeper of this process" }
  end
end

-- ---- a process that is added to a box ----

-- The cgroup namespace comes last where there is a cgroup to join: from within, the kernel may not let who is outside
-- go into it.
local function flags_of(box, wanted)
  local flags = {}
  for _, ns in ipairs(ordered(box.host)) do
    local later = ns.type == "cgroup" and box.config.nsbox.cgroup
    if box.ns[ns.type] and not later and wanted(ns) then
      flags[#flags + 1] = ns.flag
    end
  end
  return table.concat(flags, ",")
end

-- Those that the box had joined are not its user namespace's: they are entered before that, with root's rights or from
-- the keeper's user namespace.
local function enter_box(box)
  box.add { "clone", "vm,files", side = "parent", why = "a helper that shares the caller's memory" }
  guard(box, "die with the caller")
  box.add { "getppid", expect = "@owner", why = "the caller lived until this guard stood" }
  attributes.raise(box)
  local before = box.ns.user == true and flags_of(box, function(ns) return joined(box, ns) end) or ""
  if before ~= "" and not box.host.root.ok then
    box.add { "setns", "@keeper", "newuser", why = "the keeper's user namespace, below which all boxes are" }
  end
  if before ~= "" then
    box.add { "setns", "@box", before, why = "the namespaces that the box had joined" }
  end
  local rest = flags_of(box, function(ns) return before == "" or not joined(box, ns) end)
  if rest ~= "" then
    box.add { "setns", "@box", rest, why = "the namespaces of the box, by its pidfd" }
  end
  guard(box, "again: a change of namespaces may have cleared it")
  box.add { "clone", "vm,vfork,parent", into = cgroup.into(box), hint = cgroup.hint(box),
    why = "the new process, in the box's pid namespace" }
  guard(box, "die with the caller while it is set up")
  cgroup.join(box)
  if box.config.nsbox.cgroup and box.ns.cgroup then
    box.add { "setns", "@box", "newcgroup", why = "and the cgroup namespace of the box" }
  end
end

return {
  open = open,
  enter = enter,
  make = make,
  read_back = read_back,
  tell = tell,
  enter_box = enter_box,
  namespaces = ordered { root = { ok = true } },
}
