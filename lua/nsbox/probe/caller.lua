-- probe/caller.lua: settings that bear on the caller, the caller itself, and the programs it may use.

local file = require "nsbox.probe.file"
local sys = require "nsbox.sys"

local HEAD = 4096 -- holds an ELF header and, in practice, the program headers
local PT_INTERP = 3

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
    "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0")
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
    return { ok = false, value = 1, why = "set for the caller: newuidmap gains nothing for it",
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

local function user_name(uid)
  for line in (file.read "/etc/passwd" or ""):gmatch "[^\n]+" do
    local name, number = line:match "^([^:]+):[^:]*:(%d+):"
    if tonumber(number) == uid then
      return name
    end
  end
end

-- The ranges of a user, by name or number, and where the ranges of all end. subuid(5).
local function ranges(path, uid, name)
  local own, top = {}, 100000
  for who, first, count in (file.read(path) or ""):gmatch "([^:\n]+):(%d+):(%d+)" do
    first, count = tonumber(first), tonumber(count)
    if (who == name or who == tostring(uid)) and count > 0 then
      own[#own + 1] = ("%d:%d"):format(first, count)
    end
    top = math.max(top, first + count)
  end
  return own, top
end

function caller.subids()
  local uid = sys.geteuid()
  local name = user_name(uid)
  local uids, top = ranges("/etc/subuid", uid, name)
  local gids, gid_top = ranges("/etc/subgid", uid, name)
  if #uids > 0 and #gids > 0 then
    return { ok = true, value = ("uids %s, gids %s"):format(table.concat(uids, " "), table.concat(gids, " ")) }
  end
  local range = ("%d-%d"):format(math.max(top, gid_top), math.max(top, gid_top) + 65535)
  return { ok = false, why = uid == 0 and "root has none, and needs none" or "no ranges in /etc/subuid and /etc/subgid",
    fix = uid ~= 0 and ("usermod --add-subuids %s --add-subgids %s %s"):format(range, range, name or uid) or nil }
end

-- ---- programs ----

-- By the paths that distributions use, never by PATH.
function caller.newuidmap()
  local kinds = {}
  for _, program in ipairs { "/usr/bin/newuidmap", "/usr/bin/newgidmap" } do
    local stat = sys.stat(program)
    if not stat or stat.type ~= "file" then
      return { ok = false, why = program .. " is not there", fix = "apt-get install uidmap" }
    end
    local setuid = stat.uid == 0 and tonumber(stat.mode, 8) & 2048 ~= 0
    kinds[setuid and "setuid" or "not setuid: file capabilities, if any"] = true
  end
  return { ok = true, value = next(kinds) }
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
