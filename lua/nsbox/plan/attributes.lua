-- plan/attributes.lua: limits, priority, CPUs, personality, kernel parameters, and reading them back.

local attributes = require "nsbox.options.attributes"
local limits = require "nsbox.options.limits"

local PRIO_PROCESS, SELF = 0, 0
local ADDR_NO_RANDOMIZE = 0x40000 -- linux/personality.h
local domains = { LINUX = 0, LINUX32 = 8 }
local ASK = 0xffffffff -- personality(2): answers, and changes nothing
local WORD = 64

local function nice_of(process)
  return process.scheduler and process.scheduler.nice
end

-- The kernel writes the score of all processes that share memory, the caller among them, but for a vfork child's.
local function oom_score(box)
  local score = box.config.process.oomScoreAdj
  if not score then
    return
  end
  box.add { "clone", "vm,files,vfork,parent", why = "a process whose OOM score is not the caller's" }
  box.add { "prctl", "set_pdeathsig", "kill", why = "die with the caller" }
  local hidden = box.joining and not box.host.root.ok
  if hidden then
    box.add { "prctl", "set_dumpable", 1, 0, 0, 0, why = "a copy, not in the box yet: its files in /proc are its own" }
  end
  box.add { "write_file", "cwd", "/proc/self/oom_score_adj", tostring(score), why = "how early the OOM killer takes it",
    refused = "EACCES,EPERM", unsupported = ("oom_score_adj cannot be %d here: below the caller's own it needs "
      .. "CAP_SYS_RESOURCE"):format(score),
    hint = "ask for no less than the caller has (/proc/self/oom_score_adj)" }
  if hidden then
    box.add { "prctl", "set_dumpable", 0, 0, 0, 0, why = "and nobody else's from here on" }
  end
end

--- Whether a process that is added can have its OOM score only as a copy: without root, one that shares the caller's
-- memory, into which nobody may look, does not own its files in /proc.
local function takes_copy(config, host)
  return config.process.oomScoreAdj ~= nil and not host.root.ok
end

--- Before any namespace is entered: what takes rights over the machine, where the caller has such.
local function raise(box)
  local process = box.config.process
  for _, limit in ipairs(process.rlimits or {}) do
    local name = limits.step_name(limit)
    box.add { "raise_limit", name, limit.hard, why = "up, if it has to, while the caller's own rights count",
      refused = "EPERM", unsupported = ("the hard limit of %s cannot be raised to %s: that needs CAP_SYS_RESOURCE")
        :format(name, limits.text(limit.hard)) }
  end
  local nice = nice_of(process)
  if nice then
    box.add { "setpriority", PRIO_PROCESS, SELF, nice, why = "its share when CPUs are scarce",
      refused = "EACCES,EPERM", unsupported = ("nice cannot be %d here: below the caller's own it needs CAP_SYS_NICE, "
        .. "or a limit of nice (RLIMIT_NICE)"):format(nice) }
  end
  oom_score(box)
end

-- ---- the box's own namespaces ----

-- The files below /proc/sys are those of the namespaces of whoever opens them, whichever proc they are in; ours may be
-- the host's read-only one.
local function parameter(box, path, text, fields)
  fields[1] = "write_file"
  if box.own_proc then
    fields[2], fields[3] = "@proc", "sys/" .. path
  else
    fields[2], fields[3] = "cwd", "/proc/sys/" .. path
  end
  fields[4] = text
  box.add(fields)
end

local function has_own_proc(box)
  for _, m in ipairs(box.config.mounts) do
    if m.destination == "/proc" then
      return m.type == "proc" and box.ns.mount == true and (box.ns.pid == true or box.ns.user ~= true)
    end
  end
  return false
end

local function path_of(name)
  return (name:gsub("[./]", { ["/"] = ".", ["."] = "/" }))
end

--- While the box's process has all rights over its namespaces, and its proc is not read-only yet.
local function parameters(box)
  local linux = box.config.linux
  box.own_proc = has_own_proc(box)
  local names = {}
  for name in pairs(linux.sysctl or {}) do
    names[#names + 1] = name
  end
  table.sort(names)
  for _, name in ipairs(names) do
    parameter(box, path_of(name), linux.sysctl[name], { why = "kernel parameter of the box's own namespaces",
      refused = "EACCES,EPERM,ENOENT",
      unsupported = ("this kernel lets no box set %s"):format(name) })
  end
  if box.config.nsbox.disable_userns and box.ns.user == true and not box.joining then
    parameter(box, "user/max_user_namespaces", "0", { why = "no user namespace below the box's own" })
  end
end

-- ---- what the program gets ----

local function persona(config)
  local p = config.linux.personality
  if not p then
    return nil
  end
  local number = domains[p.domain]
  for _, flag in ipairs(p.flags or {}) do
    number = number | (flag == "ADDR_NO_RANDOMIZE" and ADDR_NO_RANDOMIZE or 0)
  end
  return number
end

-- A cpu_set_t: words of the kernel's own order of bytes.
local function mask_of(text)
  local cpus, words = attributes.cpus_of(text), {}
  for i = 1, cpus[#cpus] // WORD + 1 do
    words[i] = 0
  end
  for _, cpu in ipairs(cpus) do
    words[cpu // WORD + 1] = words[cpu // WORD + 1] | 1 << cpu % WORD
  end
  return string.pack("=" .. ("i8"):rep(#words), table.unpack(words))
end

local function not_these(cpus)
  return ("affinity: the caller may not run on all of the CPUs %s"):format(cpus)
end

--- Last of all: what the set-up itself could not live with.
local function apply(box)
  local process, cpus, number = box.config.process, box.config.nsbox.affinity, persona(box.config)
  if number then
    box.add { "personality", number, why = "how the kernel runs the program" }
  end
  if cpus then
    box.add { "sched_setaffinity", mask_of(cpus), why = "the CPUs that it runs on", refused = "EINVAL",
      unsupported = not_these(cpus) }
  end
  for _, limit in ipairs(process.rlimits or {}) do
    box.add { "setrlimit", limits.step_name(limit), limit.soft, limit.hard, why = "soft and hard limit (-1: none)" }
  end
end

local function read_back(box)
  local process, cpus, number = box.config.process, box.config.nsbox.affinity, persona(box.config)
  if number then
    box.add { "personality", ASK, expect = number, why = "read back: the personality" }
  end
  if cpus then
    box.add { "check_affinity", mask_of(cpus), why = "read back: the CPUs", unsupported = not_these(cpus) }
  end
  local nice = nice_of(process)
  if nice then
    box.add { "getpriority", PRIO_PROCESS, SELF, expect = 20 - nice, why = "read back: nice, as 20 - nice" }
  end
  for _, limit in ipairs(process.rlimits or {}) do
    box.add { "check_rlimit", limits.step_name(limit), limit.soft, limit.hard, why = "read back: the limit" }
  end
end

--- What a plan depends on, as text; in which no two boxes that differ in these are alike.
local function kind(config)
  local process, linux, nsbox, parts = config.process, config.linux, config.nsbox, {}
  local named = { process.oomScoreAdj or "", nice_of(process) or "", tostring(nsbox.disable_userns),
    persona(config) or "", nsbox.affinity or "" }
  for _, limit in ipairs(process.rlimits or {}) do
    parts[#parts + 1] = ("%s %d %d"):format(limit.type, limit.soft, limit.hard)
  end
  for name, text in pairs(linux.sysctl or {}) do
    parts[#parts + 1] = name .. "=" .. text
  end
  table.sort(parts)
  return table.concat(table.move(named, 1, #named, #parts + 1, parts), "\0")
end

return {
  raise = raise,
  takes_copy = takes_copy,
  parameters = parameters,
  apply = apply,
  read_back = read_back,
  kind = kind,
}
