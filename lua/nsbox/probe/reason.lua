-- probe/reason.lua: a step that the kernel refused, and what the host is set to -> why, and the narrowest fix. Pure.

local apparmor_fix = "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"

-- A profile for one program: what Ubuntu has for its own that need user namespaces.
local profile_fix = "echo 'abi <abi/4.0>, profile nsbox {program} flags=(unconfined) { userns, }' | "
  .. "tee /etc/apparmor.d/nsbox | apparmor_parser -r (for that program; for all: " .. apparmor_fix .. ")"

local container_fix = "run it outside that container, or give the container more: docker run --security-opt "

-- What may follow from AppArmor's restriction: the namespace is made, and gives no rights.
local rights = "write_file sethostname fsopen fsconfig fsmount open_tree unshare mount_setattr move_mount mount"

-- calls, names: of errnos; nil for any. when: facts that must be so; true: known and not false, false: not known or
-- false. {NAME} in a text is a fact. The first row that fits wins: those that are sure come before those that may be.
local rows = {
  -- no namespaces
  { calls = "clone unshare namespaces", names = "ENOSPC EUSERS", when = { zero_limit = true },
    why = "{zero_limit} is 0", fix = "sysctl -w {zero_limit}=10000" },
  { calls = "clone", names = "ENOSPC EUSERS", why = "a limit of namespaces is reached, or they nest 32 deep already",
    fix = "raise the one of user.max_*_namespaces that is too low "
      .. "(user.max_user_namespaces is {max_user_namespaces})" },
  { calls = "clone", names = "ENOSYS", when = { seccomp = 2 },
    why = "a system call filter of the caller hides clone3, as docker's default does",
    fix = container_fix .. "seccomp=unconfined" },
  { calls = "clone", names = "EINVAL ENOSYS", why = "this kernel is built without such namespaces" },
  { calls = "clone", names = "EAGAIN", why = "the limit of processes is reached",
    fix = "raise ulimit -u, or pids.max of the cgroup" },
  { calls = "clone", names = "EPERM", when = { unprivileged_userns_clone = 0, root = false },
    why = "kernel.unprivileged_userns_clone is 0", fix = "sysctl -w kernel.unprivileged_userns_clone=1" },
  { calls = "clone", names = "EPERM", when = { unmapped = true, root = false },
    why = "the caller's user or group has no number in its user namespace, and so may make none below it",
    fix = "unshare --user --map-current-user COMMAND" },
  { calls = "clone", names = "EPERM", when = { chrooted = true },
    why = "the caller is in a chroot, where nobody may make user namespaces",
    fix = "start it outside the chroot" },
  { calls = "clone", names = "EPERM", when = { seccomp = 2 },
    why = "a system call filter of the caller forbids namespaces",
    fix = container_fix .. "seccomp=unconfined (a systemd unit: RestrictNamespaces=no)" },
  { calls = "clone", names = "EPERM EACCES", when = { apparmor = 1, root = false },
    why = "AppArmor forbids user namespaces to programs without a profile of their own "
      .. "(kernel.apparmor_restrict_unprivileged_userns is 1)", fix = profile_fix },
  { calls = "clone", names = "EACCES",
    why = "a security module (SELinux, AppArmor) forbids user namespaces to the caller" },
  { calls = "clone", names = "EPERM",
    why = "the kernel forbids it: the caller is in a chroot, or a security module has a say" },
  -- namespaces, but no rights in them
  { calls = "fsmount", names = "EPERM",
    why = "parts of the caller's own /proc are hidden, so the kernel gives no fresh one",
    fix = container_fix .. "systempaths=unconfined" },
  { calls = rights, names = "EPERM EACCES", when = { apparmor = 1, root = false },
    why = "AppArmor takes the rights of unprivileged user namespaces away "
      .. "(kernel.apparmor_restrict_unprivileged_userns is 1)", fix = profile_fix },
  { calls = rights, names = "EACCES", when = { profile = true },
    why = "the caller's AppArmor profile {profile} forbids it", fix = container_fix .. "apparmor=unconfined" },
  { calls = rights, names = "EPERM ENOSYS", when = { seccomp = 2 },
    why = "a system call filter of the caller forbids {call}", fix = container_fix .. "seccomp=unconfined" },
  { calls = "write_file", names = "EACCES",
    why = "a caller that has changed its user is not dumpable, nor its /proc its own",
    fix = "prctl(PR_SET_DUMPABLE, 1)" },
  -- the rest
  { names = "ENODEV", why = "this kernel has no overlay file system", fix = "modprobe overlay" },
  { names = "EOPNOTSUPP", why = "user xattrs on tmpfs came with Linux 6.6" },
  { calls = "memfd_create", names = "EACCES", why = "vm.memfd_noexec is 2: no program may lie in memory",
    fix = "sysctl -w vm.memfd_noexec=1" },
  { names = "EMFILE", why = "the caller's limit of open descriptors is reached", fix = "ulimit -n" },
}

local function has(words, word)
  return words == nil or word ~= nil and (" " .. words .. " "):find(" " .. word .. " ", 1, true) ~= nil
end

local function holds(when, facts)
  for name, wanted in pairs(when or {}) do
    local is = facts[name]
    if type(wanted) == "boolean" then
      is = is ~= nil and is ~= false
    end
    if is ~= wanted then
      return false
    end
  end
  return true
end

local function fits(row, err, facts)
  return has(row.calls, err.call) and has(row.names, err.name) and holds(row.when, facts)
end

local function fill(text, facts, call)
  return text and (text:gsub("{([%l_]+)}", function(name)
    return name == "call" and call or tostring(facts[name] or "not known")
  end))
end

local function filled(row, err, facts)
  return fill(row.why, facts, err.call), fill(row.fix, facts, err.call)
end

--- Why a step failed, and what helps, where a setting or the caller's own state tells: why, fix | nil. err: { call =,
-- name =, message = }; facts: as of facts.look.
local function sure(err, facts)
  for _, row in ipairs(rows) do
    if row.when and fits(row, err, facts) then
      return filled(row, err, facts)
    end
  end
end

--- The same of a trial that failed; at the least, what failed: why, fix (nil when nothing is known to help).
local function of(err, facts)
  for _, row in ipairs(rows) do
    if fits(row, err, facts) then
      return filled(row, err, facts)
    end
  end
  return ("%s: %s"):format(err.call or "set-up", err.message)
end

--- The fix for AppArmor's restriction, for a caller that is this program.
local function apparmor_fix_for(program)
  return fill(profile_fix, { program = program })
end

return { of = of, sure = sure, apparmor_fix_for = apparmor_fix_for }
