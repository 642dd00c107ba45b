-- config.lua: options and the image's defaults -> a configuration in the terms of the OCI runtime specification.

local binds = require "nsbox.config.binds"
local capabilities = require "nsbox.config.capabilities"
local core = require "nsbox.core"
local error_ = require "nsbox.error"
local idrows = require "nsbox.idrows"
local ids = require "nsbox.config.ids"
local leaf = require "nsbox.cgroup.leaf"
local limits_ = require "nsbox.config.limits"
local process = require "nsbox.config.process"
local resources = require "nsbox.config.resources"

-- docker's default masked and read-only paths.
local masked = {
  "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
  "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
  "/sys/devices/virtual/powercap", "/sys/firmware",
}
local read_only = { "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger" }

local mounts = {
  { destination = "/proc", type = "proc", source = "proc", options = { "nosuid", "noexec", "nodev" } },
  { destination = "/dev", type = "tmpfs", source = "tmpfs",
    options = { "nosuid", "noexec", "strictatime", "mode=755", "size=65536k" } },
  { destination = "/dev/pts", type = "devpts", source = "devpts",
    options = { "nosuid", "noexec", "ptmxmode=0666", "mode=0620" } },
  { destination = "/dev/shm", type = "tmpfs", source = "shm",
    options = { "nosuid", "noexec", "nodev", "mode=1777", "size=65536k" } },
  { destination = "/sys", type = "sysfs", source = "sysfs", options = { "nosuid", "noexec", "nodev", "ro" } },
}

-- With the host as image: places that hold sockets and secrets of the host are fresh.
local host_mounts = {
  { destination = "/tmp", mode = "1777" },
  { destination = "/var/tmp", mode = "1777" },
  { destination = "/run", mode = "755" },
}

local oci_names = { pid = "pid", mount = "mount", uts = "uts", ipc = "ipc", net = "network", user = "user",
  cgroup = "cgroup", time = "time" }
local order = { "user", "mount", "pid", "net", "ipc", "uts", "cgroup", "time" }

local function with_options(row, more)
  local copy = {}
  for k, v in pairs(row) do
    copy[k] = v
  end
  copy.options = table.move(row.options, 1, #row.options, 1, {})
  table.insert(copy.options, more)
  return copy
end

local function namespaces(o)
  local list = {}
  for _, name in ipairs(order) do
    local ns = o.namespaces[name]
    if ns.path or ns.fd then
      list[#list + 1] = { type = oci_names[name], path = ns.path or ("/proc/self/fd/%d"):format(core.fileno(ns.fd)) }
    elseif ns.new then
      list[#list + 1] = { type = oci_names[name] }
    end
  end
  return list
end

-- Entrypoint and Cmd as docker combines them; a string is for a shell, and leaves the Entrypoint out.
local function arguments(verb, o, image, cmd)
  if verb == "call" then
    return cmd
  elseif cmd == false then
    return { "nsbox-init" }
  elseif type(cmd) == "string" then
    return { "/bin/sh", "-c", cmd }
  end
  local entry = o.entrypoint
  if entry == nil then
    entry = image.config.Entrypoint
  end
  local args = {}
  for _, list in ipairs { entry or {}, cmd or (o.entrypoint == nil and image.config.Cmd) or {} } do
    table.move(list, 1, #list, #args + 1, args)
  end
  if #args == 0 then
    return error_.fail { kind = "image", verb = verb, path = image.name,
      message = ("no command was given, and image '%s' has none"):format(image.name) }
  end
  return args
end

local function seconds(n)
  local secs = math.floor(n)
  return { secs = secs, nanosecs = math.floor((n - secs) * 1e9) }
end

local function time_offsets(time)
  if not time.new or not (time.boottime or time.monotonic) then
    return nil
  end
  return {
    boottime = time.boottime and seconds(time.boottime) or nil,
    monotonic = time.monotonic and seconds(time.monotonic) or nil,
  }
end

-- OCI has a place for flags, and names none so far: the kernel's name stands there.
local function personality(set)
  if not set or not next(set) then
    return nil
  end
  return { domain = set.linux32 and "LINUX32" or "LINUX", flags = { set.no_aslr and "ADDR_NO_RANDOMIZE" or nil } }
end

-- The lists are constant, so that plans can share what is made of them.
local mounts_with_group = table.move(mounts, 1, #mounts, 1, {})
mounts_with_group[3] = with_options(mounts[3], "gid=5") -- the group that owns terminals; a single-id map has no 5

-- Whether the box has the group 5. A joined user namespace may have it.
local function has_group(o, map)
  return map.gid and idrows.outside(map.gid, 5) or o.namespaces.user.new == false
end

local function all_mounts(o, image, map, more)
  if not o.namespaces.mount.new then
    return {}
  end
  local list = has_group(o, map) and mounts_with_group or mounts
  if not image.host and not more[1] then
    return list
  end
  list = table.move(list, 1, #list, 1, {})
  for _, m in ipairs(image.host and host_mounts or {}) do
    list[#list + 1] = { destination = m.destination, type = "tmpfs", source = "tmpfs",
      options = { "nosuid", "nodev", "mode=" .. m.mode } }
  end
  return table.move(more, 1, #more, #list + 1, list)
end

-- The plan depends on the numbers alone; whose descriptors they are belongs to the call.
local function fd_numbers(fds)
  local list = {}
  for n in pairs(fds) do
    list[#list + 1] = n
  end
  table.sort(list)
  return list[1] and list or nil
end

-- What the arguments allow, and this caller cannot have.
local function unsupported(verb, o, image, host)
  local ns = o.namespaces
  local function no(message, hint)
    return error_.fail { kind = "unsupported", verb = verb, message = message, hint = hint }
  end
  if not ns.mount.new and not image.host then
    return no("without a mount namespace of its own a box has no other root than the caller's",
      "use the image \"host\", or leave namespaces.mount alone")
  end
  if host.root.ok then
    return true
  end
  local who = host.euid == 0 and "as root without its rights" or "without root"
  if not ns.user.new then
    return no(who .. ", a box needs a user namespace of its own", o.userns == "host"
      and 'userns = "auto", "single" or "keep-id" give it one' or "leave namespaces.user alone")
  end
  if ns.pid.path or ns.pid.fd then
    return no(who .. ", a pid namespace of others cannot be joined by a box in its own user namespace")
  end
  return true
end

local no_command = { call = true, ["box:call"] = true }

-- Whether the command is reached through a program of ours: see plan/io.lua. Root's program belongs to no id of a box
-- whose ids are shifted.
local function sealed(verb, host, shifted)
  local safe = host.own_program.ok or shifted and host.own_program.value ~= "anybody"
  return not no_command[verb] and not safe or nil
end

local function linux_of(o, map, limits)
  return {
    namespaces = namespaces(o),
    uidMappings = map.uid and idrows.to_oci(map.uid),
    gidMappings = map.gid and idrows.to_oci(map.gid),
    timeOffsets = time_offsets(o.namespaces.time),
    resources = limits,
    sysctl = o.sysctls and next(o.sysctls) and o.sysctls or nil,
    personality = personality(o.personality),
    maskedPaths = masked,
    readonlyPaths = read_only,
  }
end

local function nsbox_of(verb, o, image, cmd, host, map, user)
  return {
    layer = "discard",
    host = image.host,
    home = user.home,
    on_created = o.on_created and true or nil,
    init = (o.init or cmd == false) or nil,
    sealed = sealed(verb, host, map.shift),
    become = map.become or nil,
    shift = map.shift or nil,
    setgroups = map.setgroups or nil,
    why_single = map.why_single,
    idle = cmd == false or nil,
    fds = fd_numbers(o.fds),
    call = verb == "call" or nil,
    affinity = o.affinity,
    disable_userns = o.disable_userns or nil,
    cpu_time = o.cpu_time,
    cgroup_parent = o.cgroup_parent,
    degrade = next(o.degrade) and o.degrade or nil,
    stop_signal = o.stop_signal or image.config.StopSignal or "TERM",
  }
end

--- Makes the configuration; parts of it are shared between boxes, and not to be changed. `o` is what options.check
-- returned, `image` what image.resolve did, `host` a probe table, with ids where ids.needs_ids says so, `user` as
-- users.lua resolved it. Returns config | nil, err, errno (kinds image, unsupported).
local function config(verb, o, image, cmd, host, id, user)
  local ok, err, errno = unsupported(verb, o, image, host)
  if not ok then
    return nil, err, errno
  end
  local args, map, caps, limits, mounted, left_out
  args, err, errno = arguments(verb, o, image, cmd)
  if not args then
    return nil, err, errno
  end
  map, err, errno = ids.map(verb, o, host)
  if not map then
    return nil, err, errno
  end
  limits, err, errno = resources.of(verb, o)
  if err then
    return nil, err, errno
  end
  local linux = linux_of(o, map, limits)
  user, err, errno = ids.existing(verb, user, linux, map.why_single)
  if not user then
    return nil, err, errno
  end
  caps, err, errno = capabilities.settle(verb, o, nil, o.namespaces.user.new == false, o.disable_userns)
  if not caps then
    return nil, err, errno
  end
  mounted, left_out, errno = binds.find(verb, o, host)
  if not mounted then
    return nil, left_out, errno
  end
  local nsbox = nsbox_of(verb, o, image, cmd, host, map, user)
  ok, err, errno = limits_.settle(verb, o, linux, nsbox, host)
  if not ok then
    return nil, err, errno
  end
  table.move(ok, 1, #ok, #left_out + 1, left_out)
  nsbox.binds, nsbox.left_out = mounted[1] and true, left_out[1] and left_out
  return {
    ociVersion = "1.0.2",
    process = process.main(o, image, args, user, caps),
    root = { path = image.root, readonly = o.read_only or false },
    hostname = o.namespaces.uts.new and (o.hostname or id) or nil,
    domainname = o.domainname,
    mounts = all_mounts(o, image, map, mounted),
    linux = linux,
    nsbox = nsbox,
  }
end

-- ---- a process that is added to a box ----

--- Whether a box has a namespace that is not the caller's: of its own, or joined.
local function has_namespace(c, kind)
  for _, ns in ipairs(c.linux.namespaces) do
    if ns.type == kind then
      return true
    end
  end
  return false
end

local function of_running(c)
  return c and { joins = c.joins, writes = {}, at = c.at, counts = c.counts, leaf = c.leaf and leaf.ADDED }
end

--- The configuration of a process that is added to a box: of the box's configuration `box` the namespaces and
-- protections, and the main process's environment, working directory and so on where the options name none; `user` as
-- users.lua resolved it. Returns config | nil, err, errno (kind unsupported).
local function joining(verb, box, o, cmd, host, user)
  local err, errno, caps
  user, err, errno = ids.existing(verb, user, box.linux, box.nsbox.why_single)
  if not user then
    return nil, err, errno
  end
  local shared = not has_namespace(box, "user")
  caps, err, errno = capabilities.settle(verb, o, box.process.capabilities, shared, box.nsbox.disable_userns)
  if not caps then
    return nil, err, errno
  end
  local args = type(cmd) == "string" and { "/bin/sh", "-c", cmd } or cmd
  return { ociVersion = box.ociVersion, process = process.joining(box, o, args, user, caps), root = box.root,
    mounts = box.mounts, linux = box.linux,
    nsbox = { affinity = o.affinity or box.nsbox.affinity, fds = fd_numbers(o.fds),
      call = verb == "box:call" or nil, become = box.nsbox.become, setgroups = box.nsbox.setgroups,
      sealed = sealed(verb, host, box.nsbox.shift),
      cgroup = of_running(box.nsbox.cgroup) } }
end

return { config = config, joining = joining, has_namespace = has_namespace, default_path = process.default_path }
