-- probe/reason.lua: a step that the kernel refused, and what the host is set to -> why, and the narrowest fix. Pure.

local apparmor_fix = "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"

-- What may follow from AppArmor's restriction: the namespace is made, and gives no rights.
local toothless = { write_file = true, sethostname = true, fsopen = true, fsconfig = true, unshare = true,
  mount_setattr = true, move_mount = true }

local function no_clone(name, facts)
  if name == "ENOSPC" or name == "EUSERS" then
    if facts.max_user_namespaces == 0 then
      return "user.max_user_namespaces is 0", "sysctl -w user.max_user_namespaces=10000"
    end
    return "a limit of namespaces is reached, or they nest 32 deep already",
      ("raise the one of user.max_*_namespaces that is too low (user.max_user_namespaces is %s)"):format(
        facts.max_user_namespaces or "not to be read")
  elseif name == "EINVAL" or name == "ENOSYS" then
    return "this kernel is built without such namespaces"
  elseif name == "EAGAIN" then
    return "the limit of processes is reached", "raise ulimit -u, or pids.max of the cgroup"
  elseif name ~= "EPERM" then
    return nil
  elseif facts.unprivileged_userns_clone == 0 and facts.euid ~= 0 then
    return "kernel.unprivileged_userns_clone is 0", "sysctl -w kernel.unprivileged_userns_clone=1"
  elseif facts.seccomp == 2 then
    return "a system call filter of the caller forbids namespaces",
      "run it outside that container, or give the container more: docker run --security-opt seccomp=unconfined"
  end
  return "the kernel forbids it: the caller is in a chroot, or a security module has a say"
end

--- Why a trial failed, and what helps: why, fix (nil when nothing is known to). err: { call =, name =, message = };
-- facts: euid, max_user_namespaces, unprivileged_userns_clone, apparmor, seccomp (numbers, or nil).
local function of(err, facts)
  local call, name = err.call, err.name
  local why, fix
  if call == "clone" then
    why, fix = no_clone(name, facts)
  elseif name == "EPERM" and call == "fsmount" then
    why, fix = "parts of the caller's own /proc are hidden, so the kernel gives no fresh one",
      "run on the host's /proc, not inside a container that masks it"
  elseif (name == "EPERM" or name == "EACCES") and toothless[call] and facts.apparmor == 1 and facts.euid ~= 0 then
    why, fix = "AppArmor takes the rights of unprivileged user namespaces away", apparmor_fix
  elseif name == "ENODEV" then
    why, fix = "this kernel has no overlay file system", "modprobe overlay"
  elseif name == "EOPNOTSUPP" then
    why = "user xattrs on tmpfs came with Linux 6.6"
  elseif name == "EACCES" and call == "memfd_create" then
    why, fix = "vm.memfd_noexec is 2: no program may lie in memory", "sysctl -w vm.memfd_noexec=1"
  elseif name == "EMFILE" then
    why, fix = "the caller's limit of open descriptors is reached", "ulimit -n"
  end
  return why or ("%s: %s"):format(call or "set-up", err.message), fix
end

return { of = of }
