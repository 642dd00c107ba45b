-- probe.lua: what this host can do, what it cannot, and how to get the rest.

local core = require "nsbox.core"
local sys = require "nsbox.sys"

local release, machine = core.uname()

local function at_least(major, minor)
  local a, b = release:match "^(%d+)%.(%d+)"
  a, b = tonumber(a) or 0, tonumber(b) or 0
  return a > major or a == major and b >= minor
end

local INITIAL = "user:[4026531837]" -- fixed: PROC_USER_INIT_INO

-- What a box with all ids takes of its maker, by linux/capability.h. The bounding set is cheap to ask, and root without
-- one of them in there has it nowhere.
local capabilities = { { "CAP_SYS_ADMIN", 21 }, { "CAP_SETUID", 7 }, { "CAP_SETGID", 6 } }

-- Whether the caller's rights are root's. In any other user namespace root has but the ids that were mapped for it, and
-- may have no right to its own pid namespace: it is taken as a user who is called 0.
local function root(euid)
  if euid ~= 0 then
    return { ok = false, why = "a user: a box has the caller's own id, and its subordinate ones" }
  elseif (sys.readlink "/proc/self/ns/user" or INITIAL) ~= INITIAL then
    return { ok = false, why = "root of a user namespace, and treated as a user" }
  end
  for _, cap in ipairs(capabilities) do
    if sys.prctl("capbset_read", cap[2], 0, 0, 0) == 0 then
      return { ok = false, why = ("root without %s, and treated as a user"):format(cap[1]) }
    end
  end
  return { ok = true }
end

local GROUP_OR_OTHERS, OTHERS = 18, 2 -- 0022, 0002

local function who(stat)
  return (not stat or tonumber(stat.mode, 8) & OTHERS ~= 0) and "anybody" or "its owner"
end

-- Whether a box of the caller's could write to the program that the caller is: what runs on shared memory until its
-- exec has it in /proc/self/exe, and whoever runs that keeps a way to it.
local function own_program(is_root, euid)
  local stat = sys.stat "/proc/self/exe"
  if is_root or not stat or stat.uid == euid or tonumber(stat.mode, 8) & GROUP_OR_OTHERS ~= 0 then
    return { ok = false, value = who(stat),
      why = "ids of a box may write to the caller's program: commands are reached through a sealed one" }
  end
  return { ok = true, why = "no id of a box may write to the caller's program" }
end

local by_user = {} -- euid -> the answer

local function own_program_of(is_root, euid)
  local name = tostring(is_root) .. euid
  by_user[name] = by_user[name] or own_program(is_root, euid)
  return by_user[name]
end

--- What a plan needs to know, and no more: cheap enough for every start.
local function host()
  local euid = sys.geteuid()
  local is_root = root(euid)
  return {
    euid = euid,
    egid = sys.getegid(),
    root = is_root,
    own_program = own_program_of(is_root.ok, euid),
    kernel = release,
    arch = machine,
    tmpfs_xattr = { ok = at_least(6, 6), why = "user xattrs on tmpfs came with Linux 6.6" },
    exec_clocks = { ok = at_least(6, 3), why = "exec enters a time namespace from Linux 6.3 on" },
  }
end

-- In the order in which they are shown. Each is found out by the module of its group; what has none, host() finds.
local order = {
  { "root" }, { "own_program" },
  { "userns", "trial" }, { "overlay", "trial" }, { "tmpfs_xattr", "trial" }, { "proc", "trial" }, { "net", "trial" },
  { "time", "trial" }, { "keeper", "trial" },
  { "pidfd", "kernel" }, { "pidfd_info", "kernel" }, { "mount_api", "kernel" }, { "idmap", "kernel" },
  { "exec_clocks", "kernel" }, { "seccomp", "kernel" }, { "landlock", "kernel" },
  { "cgroup", "cgroup" },
  { "apparmor", "caller" }, { "unprivileged_userns_clone", "caller" }, { "max_user_namespaces", "caller" },
  { "no_new_privs", "caller" }, { "subids", "caller" }, { "newuidmap", "caller" }, { "threads", "caller" },
  { "busybox", "caller" },
}

local group_of, names = {}, {}
for i, row in ipairs(order) do
  names[i] = row[1]
  group_of[row[1]] = row[2]
end

local probe_mt = { __name = "nsbox.probe" }

-- Looked at when it is asked for, and once.
function probe_mt.__index(found, name)
  local group = group_of[name]
  if not group then
    return nil
  end
  local row = require("nsbox.probe." .. group)[name](at_least)
  rawset(found, name, row)
  return row
end

function probe_mt.__pairs(found)
  for _, name in ipairs(names) do
    local _ = found[name]
  end
  return next, found, nil
end

local function text_of(row)
  local parts = { row.value ~= nil and tostring(row.value) or nil }
  parts[#parts + 1] = row.why
  local text = table.concat(parts, ": ")
  return row.fix and ("%s; to get it: %s"):format(text, row.fix) or text
end

function probe_mt.__tostring(found)
  local lines = { ("Linux %s on %s, as uid %d, gid %d"):format(found.kernel, found.arch, found.euid, found.egid) }
  local width = 0
  for _, name in ipairs(names) do
    width = math.max(width, #name)
  end
  local form = "%-" .. width .. "s  %-3s  %s"
  for _, name in ipairs(names) do
    local row = found[name]
    lines[#lines + 1] = form:format(name, row.ok and "yes" or "no", text_of(row)):gsub("%s+$", "")
  end
  return table.concat(lines, "\n") .. "\n"
end

--- What the host can do: a table feature -> { ok =, value =, why =, fix = } with __tostring and __pairs, and the
-- fields kernel, arch, euid, egid. A feature is looked at, or tried, when it is first asked for; nothing of a trial
-- stays. A feature nobody knows is nil.
local function probe()
  local found = host()
  found.tmpfs_xattr, found.exec_clocks = nil, nil
  return setmetatable(found, probe_mt)
end

return { host = host, probe = probe, at_least = at_least, names = names }
