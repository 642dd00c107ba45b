-- probe/caller.lua: settings that bear on the caller, the caller itself, and the programs it may use.

local facts = require "nsbox.probe.facts"
local file = require "nsbox.probe.file"
local reason = require "nsbox.probe.reason"
local subid = require "nsbox.subid"
local sys = require "nsbox.sys"

local HEAD = 4096 -- holds an ELF header and, in practice, the program headers
local PT_INTERP = 3
local SET_USER_ID = 2048 -- 04000

local caller = {}

-- ---- settings ----

-- An absent setting forbids nothing.
local function setting(path, allows, why, fix)
  local value = file.number(path)
  if value == nil then
    return { ok = true, value = "no such setting" }
  elseif allows(value) then
    return { ok = true, value = value }
  end
  return { ok = false, value = value, why = why, fix = fix }
end

function caller.apparmor()
  return setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", function(v) return v == 0 end,
    "user namespaces give no rights to programs without a profile of their own",
    reason.apparmor_fix_for(facts.program()))
end

function caller.unprivileged_userns_clone()
  return setting("/proc/sys/kernel/unprivileged_userns_clone", function(v) return v == 1 end,
    "only root may make user namespaces", "sysctl -w kernel.unprivileged_userns_clone=1")
end

function caller.max_user_namespaces()
  return setting("/proc/sys/user/max_user_namespaces", function(v) return v > 0 end,
    "nobody may make user namespaces", "sysctl -w user.max_user_namespaces=10000")
end

-- ---- the caller ----

function caller.no_new_privs()
  if sys.prctl("get_no_new_privs", 0, 0, 0, 0) == 1 then
    return { ok = false, value = 1, why = "no_new_privs is set for the caller: newuidmap gains nothing for it",
      fix = "start the caller without it" }
  end
  return { ok = true, value = 0, why = "not set for the caller: newuidmap may work for it" }
end

function caller.threads()
  local n = tonumber(file.status "Threads" or "")
  if n == 1 or not n then
    return { ok = true, value = n }
  end
  return { ok = true, value = n, why = "boxes start as ever; sys.unshare of a user namespace needs a single thread" }
end

local function ranges_text(list)
  local words = {}
  for i, range in ipairs(list) do
    words[i] = ("%d:%d"):format(range.first, range.count)
  end
  return table.concat(words, " ")
end

-- The first id behind the ranges of all; distributions begin at 100000.
local function free_id()
  local top = 100000
  for _, path in ipairs { subid.UIDS, subid.GIDS } do
    for _, range in ipairs(subid.read(path)) do
      top = math.max(top, range.first + range.count)
    end
  end
  return top
end

-- What to say to one of whom a list has no range: where, and the narrowest way to get one there.
local function missing(uid, name, files, first)
  local range, flags = ("%d-%d"):format(first, first + 65535), {}
  for i, path in ipairs(files) do
    flags[i] = ("--add-%ss %s"):format(path:match "[^/]*$", range)
  end
  return ("no ranges for %s in %s"):format(name or uid, table.concat(files, " and ")),
    name and ("usermod %s %s"):format(table.concat(flags, " "), name)
    or ("echo %d:%d:65536 | tee -a %s"):format(uid, first, table.concat(files, " "))
end

function caller.subids()
  local uid = sys.geteuid()
  local name = subid.user_name(uid)
  local uids, gids = subid.of(subid.UIDS, name, uid), subid.of(subid.GIDS, name, uid)
  if #uids > 0 and #gids > 0 then
    return { ok = true, value = ("uids %s, gids %s"):format(ranges_text(uids), ranges_text(gids)) }
  elseif uid == 0 then
    return { ok = false, why = "root has none, and needs none" }
  end
  local files = { #uids == 0 and subid.UIDS or nil }
  files[#files + 1] = #gids == 0 and subid.GIDS or nil
  local why, fix = missing(uid, name, files, free_id())
  return { ok = false, why = why, fix = fix }
end

-- ---- programs ----

-- By the paths that distributions use, never by PATH; each with the capability that it needs, by linux/capability.h.
local id_programs = { { "/usr/bin/newuidmap", "cap_setuid", 7 }, { "/usr/bin/newgidmap", "cap_setgid", 6 } }

-- Where the mount is that an open file lies on, and its flags. proc(5), mountinfo.
local function mount_of(fd)
  local id = (file.read(("/proc/self/fdinfo/%d"):format(fd:fileno())) or ""):match "mnt_id:%s*(%d+)"
  local list = "\n" .. (file.read "/proc/self/mountinfo" or "")
  return list:match(("\n%s %%d+ %%S+ %%S+ (%%S+) (%%S+)"):format(id or "none"))
end

-- By linux/capability.h, vfs_cap_data. nil: it cannot be known.
local function has_capability(fd, bit)
  local data, _, errno = sys.fgetxattr(fd, "security.capability")
  if not data then
    return errno ~= sys.ENODATA and errno ~= sys.EOPNOTSUPP and nil
  end
  local effective, permitted = string.unpack("<I4I4", data .. ("\0"):rep(8))
  return effective & 1 == 1 and permitted >> bit & 1 == 1
end

-- What the exec of one gives it: "setuid" or "file capabilities" | nil, why, fix.
local function rights_of(program, cap, bit)
  local stat = sys.stat(program)
  if not stat or stat.type ~= "file" then
    return nil, program .. " is not there", "apt-get install uidmap"
  end
  local fd <close> = sys.open(program, "rdonly") or sys.open(program, "path")
  local point, flags = "", ""
  if fd then
    point, flags = mount_of(fd)
  end
  local setuid = tonumber(stat.mode, 8) & SET_USER_ID ~= 0
  if flags and flags:find "%f[%l]nosuid%f[^%l]" then
    return nil, ("%s gains nothing: %s is mounted nosuid"):format(program, point),
      "mount -o remount,bind,suid " .. point
  elseif setuid and stat.uid == 0 then
    return "setuid"
  elseif fd and has_capability(fd, bit) ~= false then
    return "file capabilities"
  elseif stat.uid == file.number "/proc/sys/kernel/overflowuid" then
    return nil, ("%s gains nothing: its owner has no number in the caller's user namespace"):format(program),
      "start the caller outside that namespace"
  elseif stat.uid ~= 0 then
    return nil, ("%s gains nothing: it is uid %d's, not root's"):format(program, stat.uid),
      ("chown root %s && chmod u+s %s"):format(program, program)
  end
  return nil, ("%s is neither set-user-ID nor has it %s"):format(program, cap), "chmod u+s " .. program
end

function caller.newuidmap()
  local value
  for _, row in ipairs(id_programs) do
    local rights, why, fix = rights_of(table.unpack(row))
    if not rights then
      return { ok = false, why = why, fix = fix }
    end
    value = rights
  end
  return { ok = true, value = value }
end

--- Why newuidmap and newgidmap cannot give the caller the subordinate ids that are its, and the narrowest fix; nil when
-- nothing is known to be in their way.
function caller.no_newuidmap()
  for _, name in ipairs { "no_new_privs", "newuidmap", "subids" } do
    local row = caller[name]()
    if not row.ok then
      return row.why, row.fix
    end
  end
end

local function is_static(head)
  if head:sub(1, 4) ~= "\127ELF" or #head < 64 then
    return false
  end
  local wide, order = head:byte(5) == 2, head:byte(6) == 2 and ">" or "<"
  local at = string.unpack(order .. (wide and "I8" or "I4"), head, wide and 33 or 29)
  local size, count = string.unpack(order .. "I2I2", head, wide and 55 or 43)
  for i = 0, count - 1 do
    local from = at + i * size
    if from < 0 or from + 4 > #head then
      return false
    elseif string.unpack(order .. "I4", head, from + 1) == PT_INTERP then
      return false
    end
  end
  return true
end

function caller.busybox()
  local found
  for _, path in ipairs(require("nsbox.image.busybox").programs) do
    local f = io.open(path, "rb")
    if f then
      local head = f:read(HEAD) or ""
      f:close()
      if is_static(head) then
        return { ok = true, value = path .. ", static" }
      end
      found = found or path
    end
  end
  return { ok = false, why = found and found .. " needs libraries" or "the host has none: no image \"busybox\"",
    fix = "apt-get install busybox-static" }
end

return caller
