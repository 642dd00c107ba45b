-- hint.lua: what to do about a step that failed: the probe's answer for what it is about.

local file = require "nsbox.probe.file"
local limits = require "nsbox.options.limits"

-- call, errno -> the feature whose probe explains it. The first row that fits wins.
local rows = {
  { call = "clone", name = "ENOSPC", feature = "userns" },
  { call = "clone", name = "EPERM", feature = "userns" },
  { call = "clone", name = "EACCES", feature = "userns" },
  { call = "clone", name = "ENOSYS", feature = "userns" },
  { call = "clone", name = "EAGAIN", text = "the limit of processes is reached: ulimit -u, or pids.max of a cgroup" },
  { call = "execve", name = "EAGAIN", text = "the limit of processes is reached: ulimit -u, or pids.max of a cgroup" },
  { call = "setns", name = "EPERM",
    text = "it belongs to a user namespace in which the caller has no rights: joining it needs root" },
  { call = "memfd_create", name = "EACCES",
    text = "vm.memfd_noexec is 2, so no program may lie in memory: sysctl -w vm.memfd_noexec=1" },
  { call = "dup3", name = "EBADF", text = "the number is beyond the caller's limit of open descriptors: ulimit -n" },
  { call = "raise_limit", name = "EPERM", ask = function(step)
    local hard = limits.hard_in(file.read "/proc/self/limits", step[2])
    return ("the caller's own hard limit is %s: raise that, or ask for no more"):format(hard or "unknown")
      .. (step[2] == "nofile" and "; none may be above sysctl fs.nr_open" or "")
  end },
  { call = "setpriority", name = "EACCES", text = "ask for a higher number, or start the caller with more rights" },
  { name = "EMFILE", text = "the caller's limit of open descriptors is reached: ulimit -n" },
  { name = "ENFILE", text = "the system's limit of open descriptors is reached: sysctl fs.file-max" },
  { call = "namespaces", name = "ENOSPC", feature = "userns" },
  { call = "namespaces", name = "EPERM", feature = "userns" },
  { call = "namespaces", name = "EACCES", feature = "userns" },
  { call = "namespaces", name = "ENOSYS", feature = "userns" },
  { call = "namespaces", name = "ETIMEDOUT", text = "the process nsbox-keeper is stopped: kill -CONT" },
  { call = "write_file", name = "EPERM", feature = "userns" },
  { call = "write_file", name = "EACCES", feature = "userns" },
  { call = "write_file", name = "EACCES",
    text = "a caller that has changed its user is not dumpable, nor its /proc its own: prctl(PR_SET_DUMPABLE, 1)" },
  { call = "fsconfig", name = "EINVAL", feature = "overlay" },
  { call = "fsconfig", name = "EPERM", feature = "overlay" },
  { call = "fsconfig", name = "ENODEV", feature = "overlay" },
  { call = "fsopen", name = "ENODEV", feature = "overlay" },
  { call = "fsopen", name = "EPERM", feature = "overlay" },
  { call = "fsopen", name = "ENOSYS", feature = "overlay" },
  { call = "mount_setattr", name = "EPERM", feature = "overlay" },
  { call = "mount_setattr", name = "EACCES", feature = "overlay" },
  { call = "move_mount", name = "EACCES", feature = "overlay" },
  { call = "fsmount", name = "EPERM", feature = "proc" },
  { call = "pivot_root", name = "EINVAL",
    text = "the caller's root is not a mount point (a chroot): start it from the real root" },
  { call = "same_file", name = "ESTALE", text = "the image's path was replaced while the box was made: try again" },
  { call = "unshare", name = "ENOSPC", feature = "userns" },
  { name = "ENOSPC",
    text = "no space, or a limit of mounts or namespaces: sysctl fs.mount-max, user.max_*_namespaces" },
  { name = "ENOMEM", text = "memory, or the caller's memory cgroup, is exhausted" },
}

local function joined(why, fix)
  return fix and why .. ": " .. fix or why
end

local function ask_probe(feature)
  if require("nsbox.probe.trial").busy() then
    return nil -- the step is one of the probe itself, which says more
  end
  local found = require("nsbox.probe").probe()[feature]
  if found and not found.ok then
    return joined(found.why, found.fix)
  end
end

-- What can be done may be done in another way than the trial's, or need namespaces of more kinds: the settings may be
-- telling all the same.
local function ask_settings(call, name)
  local err = { call = call == "namespaces" and "clone" or call, name = name }
  return joined(require("nsbox.probe.reason").sure(err, require("nsbox.probe.facts").look()))
end

--- The errnos of want of descriptors, which is no matter of what the step is about.
local scarce = { EMFILE = true, ENFILE = true }

--- A hint for a failed step ({}: for what is none) and the name of its errno, or nil: also when nothing is left to ask
-- the probe with. A step may bring its own, for all that it fails with or by the errno's name.
local function of(step, name)
  local own = step.hint
  if type(own) == "table" then
    own = own[name]
  elseif scarce[name] then
    own = nil
  end
  if own then
    return own
  end
  for _, row in ipairs(rows) do
    if (not row.call or row.call == step[1]) and row.name == name then
      local ok, text = true, row.text
      if row.feature then
        ok, text = pcall(ask_probe, row.feature)
        if ok and not text and row.feature == "userns" then
          ok, text = pcall(ask_settings, step[1], name)
        end
      elseif row.ask then
        ok, text = pcall(row.ask, step)
      end
      if ok and text then
        return text
      end
    end
  end
end

return { of = of, scarce = scarce }
