-- plan/mounts.lua: the file systems of config.mounts, the device nodes, and the paths that are hidden.

local fresh = require "nsbox.plan.fresh"

-- OCI's mount options that are attributes of the mount; the rest belongs to the file system.
local attributes = { ro = "rdonly", nosuid = "nosuid", nodev = "nodev", noexec = "noexec",
  strictatime = "strictatime", noatime = "noatime" }
local ignored = { rw = true, suid = true, dev = true, exec = true, relatime = true }

-- A fresh one shows the box's own namespace, and takes the right over it: with a new user namespace and
-- without the fresh namespace named here, the kernel refuses (EPERM), and the host's is bound instead.
local belongs_to = { proc = "pid", sysfs = "network", mqueue = "ipc" }

-- devpts and shm lie on dev, and are found by it.
local devices = { "null", "zero", "full", "random", "urandom", "tty" }
local links = {
  { "/proc/self/fd", "fd" }, { "/proc/self/fd/0", "stdin" }, { "/proc/self/fd/1", "stdout" },
  { "/proc/self/fd/2", "stderr" }, { "pts/ptmx", "ptmx" },
}

-- Among the paths that are masked by default, these are folders; the others are files.
local folders = {
  ["/proc/acpi"] = true, ["/proc/asound"] = true, ["/proc/scsi"] = true,
  ["/sys/firmware"] = true, ["/sys/devices/virtual/powercap"] = true,
}

local function split_options(list)
  local attr, options, flags = {}, {}, {}
  for _, o in ipairs(list or {}) do
    local key, value = o:match "^([^=]+)=(.*)$"
    if attributes[o] then
      attr[#attr + 1] = attributes[o]
    elseif key then
      options[key] = value
    elseif not ignored[o] then
      flags[#flags + 1] = o
    end
  end
  return #attr > 0 and table.concat(attr, ",") or nil, options, flags
end

local function slot_of(destination)
  return (destination:sub(2):gsub("[^%w]", "_"))
end

-- In a fresh file system of the box's own nothing can lead elsewhere, and nothing is there yet.
local function attach_in_own(box, slot, parent, name)
  box.add { "mkdirat", "@" .. parent, name, "0755", why = "mount point, in the box's own /" .. parent }
  box.add { "move_mount", "@" .. slot, "", "@" .. parent, name, "f_empty_path", why = "put it there" }
end

local function attach(box, slot, destination)
  local parent, name = destination:match "^/([^/]+)/([^/]+)$"
  if parent and box.own_tmpfs[parent] then
    return attach_in_own(box, slot, parent, name)
  end
  box.add { "mkpath", "@root", destination, "dir", "0755", out = slot .. "_at",
    why = "mount point, found without leaving the box's root" }
  box.add { "move_mount", "@" .. slot, "", "@" .. slot .. "_at", "", "f_empty_path,t_empty_path",
    why = "put it on " .. destination }
end

local function may_be_fresh(box, fs_type)
  local ns = belongs_to[fs_type]
  return not ns or box.ns[ns] == true or box.ns.user ~= true
end

--- What a Result has to note: { what, why } of each file system of config.mounts that is not the box's own.
local function notes(box)
  local list = {}
  for _, m in ipairs(box.config.mounts) do
    if not may_be_fresh(box, m.type) then
      list[#list + 1] = { what = m.destination,
        why = ("it is the host's, read-only: without a %s namespace of its own the box gets no fresh one"):format(
          belongs_to[m.type]) }
    end
  end
  return list
end

local function bind_of_host(box, m, slot)
  box.add { "open_tree", "cwd", m.destination, "clone,recursive", out = slot,
    why = ("the host's %s: without a %s namespace of its own the box gets no fresh one"):format(
      m.destination, belongs_to[m.type]) }
  box.add { "mount_setattr", "@" .. slot, "", "empty_path,recursive", "rdonly,nosuid,nodev,noexec",
    why = "to look at only" }
end

local function device_nodes(box)
  box.add { "fchdir", "@dev", why = "our own tmpfs: no image has a say in it" }
  for _, name in ipairs(devices) do
    box.add { "mknodat", "cwd", name, "ifreg,0666", 0, why = "a place for it" }
    box.add { "mount", "/dev/" .. name, name, nil, "bind", why = "the host's /dev/" .. name }
  end
  for _, link in ipairs(links) do
    box.add { "symlinkat", link[1], "cwd", link[2], why = "as programs expect" }
  end
end

-- Those of the host's come later: see plan/binds.lua.
local function fresh_ones(box)
  local list = {}
  for _, m in ipairs(box.config.mounts) do
    list[#list + 1] = m.type ~= "bind" and m or nil
  end
  return ipairs(list)
end

local function make(box)
  if box.ns.mount ~= true then
    return
  end
  box.own_tmpfs = {}
  for _, m in fresh_ones(box) do
    local slot = slot_of(m.destination)
    if may_be_fresh(box, m.type) then
      local attr, options, flags = split_options(m.options)
      fresh.mount(box, { m.type, slot = slot, source = m.source, options = options, flags = flags, attr = attr,
        why = "the box's own " .. m.destination })
    else
      bind_of_host(box, m, slot)
    end
    attach(box, slot, m.destination)
    box.own_tmpfs[slot] = m.type == "tmpfs"
    if m.destination == "/dev" then
      device_nodes(box)
    end
  end
end

-- /proc/x lies on the mount in slot "proc": paths are taken relative to our own file system, so that
-- a link in the image cannot lead them elsewhere.
local function below_mount(path)
  local base, rest = path:match "^/([^/]+)/(.+)$"
  return base, rest
end

-- ENOENT means that this kernel has no such file; /dev/null, the other path of the call, is known to exist
-- since the box's own was bound from it.
local function mask(box, base, rest, folder)
  if folder then
    box.add { "mount", "tmpfs", rest, "tmpfs", "rdonly,nosuid,nodev,noexec", "size=0k", ok = "ENOENT",
      why = ("hide /%s/%s: an empty folder"):format(base, rest) }
  else
    box.add { "mount", "/dev/null", rest, nil, "bind", ok = "ENOENT", why = ("hide /%s/%s"):format(base, rest) }
  end
end

local function protect(box, base, rest)
  box.add { "mount", rest, rest, nil, "bind,rec", ok = "ENOENT",
    why = ("a mount of its own for /%s/%s"):format(base, rest) }
  box.add { "mount_setattr", "cwd", rest, "", "rdonly", ok = "ENOENT", why = "which is read-only" }
end

local function hide(box)
  if box.ns.mount ~= true then
    return
  end
  local linux, at = box.config.linux, nil
  local function go(path)
    local base, rest = below_mount(path)
    if base ~= at then
      box.add { "fchdir", "@" .. base, why = "paths below are relative to the box's own /" .. base }
      at = base
    end
    return base, rest
  end
  for _, path in ipairs(linux.maskedPaths or {}) do
    local base, rest = go(path)
    mask(box, base, rest, folders[path])
  end
  for _, path in ipairs(linux.readonlyPaths or {}) do
    protect(box, go(path))
  end
end

return { make = make, hide = hide, notes = notes }
