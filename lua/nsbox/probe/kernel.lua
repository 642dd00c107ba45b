-- probe/kernel.lua: what the kernel has, whoever asks.

local core = require "nsbox.core"
local file = require "nsbox.probe.file"
local sys = require "nsbox.sys"

local PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2

local kernel = {}

function kernel.pidfd()
  local fd <close>, message = sys.pidfd_open(sys.getpid())
  return fd and { ok = true } or { ok = false, why = message }
end

-- A status that another wait has taken, on purpose.
function kernel.pidfd_info()
  local process, err = require("nsbox.probe.trial").process()
  if not process then
    return { ok = false, why = err.message }
  end
  local pid = core.pid_of(process)
  local _ = pid and sys.waitid(pid, 1)
  local how = process:poll()
  process:close()
  if how == "exit" then
    return { ok = true, value = "an exit status is known though another wait took it" }
  end
  return { ok = false, why = "an exit status that another wait of the program takes is lost; Linux 6.15 keeps it" }
end

-- Both answer before they look at anything: ENOSYS, or what is wrong with the arguments or the caller.
function kernel.mount_api()
  local fd <close>, _, errno = sys.fsopen("tmpfs")
  local _, _, set_errno = sys.mount_setattr("cwd", "", 0)
  if (not fd and errno == sys.ENOSYS) or set_errno == sys.ENOSYS then
    return { ok = false, why = "the mount calls of Linux 5.12 are not there, or a system call filter hides them" }
  end
  return { ok = true, value = "fsopen to mount_setattr" }
end

function kernel.exec_clocks(at_least)
  if at_least(6, 3) then
    return { ok = true, value = "exec enters a new time namespace" }
  end
  return { ok = false, why = "exec enters a time namespace from Linux 6.3 on; before, nsbox copies memory for one" }
end

function kernel.idmap(at_least)
  if not at_least(5, 12) then
    return { ok = false, why = "idmapped mounts came with Linux 5.12" }
  end
  local where = { "ext4 xfs fat", at_least(5, 19) and "overlay's layers" or nil }
  where[#where + 1] = at_least(6, 3) and "tmpfs" or nil
  return { ok = true, value = "by the kernel's version, on " .. table.concat(where, ", ") }
end

-- A filter that is NULL: EFAULT says that it was looked for.
function kernel.seccomp()
  local _, _, errno = sys.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, 0, 0, 0)
  if errno ~= sys.EFAULT then
    return { ok = false, why = "this kernel takes no system call filters" }
  end
  local mode = file.status "Seccomp"
  return { ok = true, value = mode == "2" and "filters; the caller runs below one itself" or "filters" }
end

-- securityfs need not be mounted to be read by root: the mount is attached nowhere, and goes with its descriptor.
local function lsm_of_root()
  local fs <close> = sys.fsopen("securityfs")
  if not fs or not sys.fsconfig(fs, "cmd_create") then
    return nil
  end
  local mount <close> = sys.fsmount(fs)
  local list <close> = mount and sys.openat(mount, "lsm", "rdonly")
  return list and sys.read(list, 4096)
end

-- The security modules that are on | nil.
local function modules()
  local list = file.line "/sys/kernel/security/lsm"
  if not list and sys.geteuid() == 0 then
    list = lsm_of_root()
  end
  if list then
    return list
  end
  local release = core.uname()
  local config = file.read("/boot/config-" .. release) or file.read(("/lib/modules/%s/config"):format(release))
  if not config then
    return nil
  end
  return config:find("\nCONFIG_SECURITY_LANDLOCK=y", 1, true) and config:match '\nCONFIG_LSM="([^"]*)"' or ""
end

-- linux/Documentation/userspace-api/landlock.rst
local abis = { { 6, 15, 7 }, { 6, 12, 6 }, { 6, 10, 5 }, { 6, 7, 4 }, { 6, 2, 3 }, { 5, 19, 2 }, { 5, 13, 1 } }

function kernel.landlock(at_least)
  local list = modules()
  if not list then
    return { ok = false, why = "not known: the list of security modules cannot be read",
      fix = "mount -t securityfs securityfs /sys/kernel/security" }
  elseif not ("," .. list .. ","):find(",landlock,", 1, true) then
    return { ok = false, why = "it is not among the kernel's security modules", fix = "boot with lsm=landlock,..." }
  end
  for _, abi in ipairs(abis) do
    if at_least(abi[1], abi[2]) then
      return { ok = true, value = ("ABI %d, by the kernel's version"):format(abi[3]) }
    end
  end
  return { ok = false, why = "it came with Linux 5.13" }
end

return kernel
