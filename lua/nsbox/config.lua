-- config.lua: options and the image's defaults -> a configuration in the terms of the OCI runtime specification.

local capabilities = require "nsbox.config.capabilities"
local core = require "nsbox.core"
local error_ = require "nsbox.error"
local process = require "nsbox.config.process"

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

-- As root: all ids, as they are. Else one id: root inside is the caller outside.
local function mapping(host, own)
  if host.root.ok then
    return { { containerID = 0, hostID = 0, size = 4294967295 } }
  end
  return { { containerID = 0, hostID = own, size = 1 } }
end

-- The lists are constant, so that plans can share what is made of them.
local mounts_with_group = table.move(mounts, 1, #mounts, 1, {})
mounts_with_group[3] = with_options(mounts[3], "gid=5") -- the group that owns terminals; a single-id map has no 5

-- Whether the box has ids beyond root's: as root in a user namespace of its own, and in the caller's. A joined one
-- may have.
local function has_group(o, host)
  local ns = o.namespaces.user
  return ns.new and host.root.ok or ns.new == false
end

local function all_mounts(o, image, host)
  if not o.namespaces.mount.new then
    return {}
  end
  local list = has_group(o, host) and mounts_with_group or mounts
  if not image.host then
    return list
  end
  list = table.move(list, 1, #list, 1, {})
  for _, m in ipairs(host_mounts) do
    list[#list + 1] = { destination = m.destination, type = "tmpfs", source = "tmpfs",
      options = { "nosuid", "nodev", "mode=" .. m.mode } }
  end
  return list
end

local function one_id(verb, o, host)
  if not host.root.ok and o.user and (o.user.uid ~= 0 or o.user.gid ~= 0) then
    return error_.fail { kind = "unsupported", verb = verb, hint = "leave user alone, or run as root",
      message = (host.euid == 0 and "as root without its rights" or "without root")
        .. ", only user 0 exists in a box so far: one id is mapped" }
  end
  return true
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
    return no(who .. ", a box needs a user namespace of its own", "leave namespaces.user alone")
  end
  if ns.pid.path or ns.pid.fd then
    return no(who .. ", a pid namespace of others cannot be joined by a box in its own user namespace")
  end
  return one_id(verb, o, host)
end

local no_command = { call = true, ["box:call"] = true }

-- Whether the command is reached through a program of ours: see plan/io.lua.
local function sealed(verb, host)
  return not no_command[verb] and not host.own_program.ok or nil
end

local function linux_of(o, host)
  local ns = o.namespaces
  return {
    namespaces = namespaces(o),
    uidMappings = ns.user.new and mapping(host, host.euid) or nil,
    gidMappings = ns.user.new and mapping(host, host.egid) or nil,
    timeOffsets = time_offsets(ns.time),
    sysctl = o.sysctls and next(o.sysctls) and o.sysctls or nil,
    personality = personality(o.personality),
    maskedPaths = masked,
    readonlyPaths = read_only,
  }
end

--- Makes the configuration; parts of it are shared between boxes, and not to be changed. `o` is what options.check
-- returned, `image` what image.resolve did, `host` a probe table. Returns config | nil, err, errno (kinds image,
-- unsupported).
local function config(verb, o, image, cmd, host, id)
  local ok, err, errno = unsupported(verb, o, image, host)
  if not ok then
    return nil, err, errno
  end
  local ns, args, caps = o.namespaces
  args, err, errno = arguments(verb, o, image, cmd)
  if not args then
    return nil, err, errno
  end
  caps, err, errno = capabilities.settle(verb, o, nil, ns.user.new == false, o.disable_userns)
  if not caps then
    return nil, err, errno
  end
  return {
    ociVersion = "1.0.2",
    process = process.main(o, image, args, caps),
    root = { path = image.root, readonly = o.read_only or false },
    hostname = ns.uts.new and (o.hostname or id) or nil,
    domainname = o.domainname,
    mounts = all_mounts(o, image, host),
    linux = linux_of(o, host),
    nsbox = {
      layer = "discard",
      host = image.host,
      on_created = o.on_created and true or nil,
      init = (o.init or cmd == false) or nil,
      sealed = sealed(verb, host),
      idle = cmd == false or nil,
      fds = fd_numbers(o.fds),
      call = verb == "call" or nil,
      affinity = o.affinity,
      disable_userns = o.disable_userns or nil,
      stop_signal = o.stop_signal or image.config.StopSignal or "TERM",
    },
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

--- The configuration of a process that is added to a box: of the box's configuration `box` the namespaces and
-- protections, and the main process's user, environment and working directory where the options name none. Returns
-- config | nil, err, errno (kind unsupported).
local function joining(verb, box, o, cmd, host)
  local ok, err, errno = one_id(verb, o, host)
  if not ok then
    return nil, err, errno
  end
  local shared = not has_namespace(box, "user")
  local caps
  caps, err, errno = capabilities.settle(verb, o, box.process.capabilities, shared, box.nsbox.disable_userns)
  if not caps then
    return nil, err, errno
  end
  local args = type(cmd) == "string" and { "/bin/sh", "-c", cmd } or cmd
  return { ociVersion = box.ociVersion, process = process.joining(box.process, o, args, caps), root = box.root,
    mounts = box.mounts, linux = box.linux,
    nsbox = { affinity = o.affinity or box.nsbox.affinity, fds = fd_numbers(o.fds),
      call = verb == "box:call" or nil, sealed = sealed(verb, host) } }
end

return { config = config, joining = joining, has_namespace = has_namespace, default_path = process.default_path }
