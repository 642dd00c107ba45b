-- probe/facts.lua: what the reasons of a failure are drawn from (reason.lua): the host's settings, and what is special
-- about the caller. What cannot be read is nil.

local core = require "nsbox.core"
local file = require "nsbox.probe.file"
local sys = require "nsbox.sys"

-- Those that boxes have, in the order in which the kernel counts them.
local kinds = { "user", "cgroup", "ipc", "uts", "mnt", "pid", "net", "time" }

-- The first kind of namespaces of which there may be none.
local function zero_limit()
  for _, kind in ipairs(kinds) do
    if file.number(("/proc/sys/user/max_%s_namespaces"):format(kind)) == 0 then
      return ("user.max_%s_namespaces"):format(kind)
    end
  end
end

-- user_namespaces(7): INSIDE OUTSIDE COUNT, a range a line.
local function is_mapped(id, path)
  local text = file.read(path)
  for first, count in (text or ""):gmatch "(%d+) +%d+ +(%d+)" do
    if id >= tonumber(first) and id - tonumber(first) < tonumber(count) then
      return true
    end
  end
  return text == nil
end

-- The list has the mounts below the caller's root alone. A chroot to a mount point looks like none.
local function is_chrooted()
  local text = file.read "/proc/self/mountinfo"
  return text ~= nil and text ~= "" and not text:find "%f[^\n\0]%d+ %d+ %S+ %S+ / "
end

--- The program that the caller is: an interpreter of Lua, or one with Lua inside.
local function program()
  return sys.readlink "/proc/self/exe" or core.LUA
end

-- The profile that AppArmor holds the caller to, by name.
local function profile()
  local name, mode = (file.line "/proc/self/attr/apparmor/current" or ""):match "^(.-) %((%l+)%)$"
  return mode == "enforce" and name or nil
end

--- The facts of now, in a table.
local function look()
  return {
    root = require("nsbox.probe").host().root.ok,
    max_user_namespaces = file.number "/proc/sys/user/max_user_namespaces",
    zero_limit = zero_limit(),
    unprivileged_userns_clone = file.number "/proc/sys/kernel/unprivileged_userns_clone",
    apparmor = file.number "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
    profile = profile(),
    program = program(),
    seccomp = tonumber(file.status "Seccomp" or ""),
    unmapped = not (is_mapped(sys.geteuid(), "/proc/self/uid_map") and is_mapped(sys.getegid(), "/proc/self/gid_map")),
    chrooted = is_chrooted(),
  }
end

return { look = look, program = program }
