-- plan/root.lua: the box's root: a private writable layer over the image, and the change to it.

local fresh = require "nsbox.plan.fresh"
local placeholder = require("nsbox.plan.param").placeholder

local function own_mounts(box)
  return box.ns.mount == true
end

local function hold(box)
  if own_mounts(box) then
    box.add { "open", placeholder.root, "path,directory", out = "image", side = "parent",
      why = "the image: what is opened now is what the box gets" }
    box.add { "open", "/", "path,directory", out = "caller_root", side = "parent",
      why = "the caller's root, to be told from the box's" }
  end
end

local IDMAP = "the file system of %s, or this kernel, has no idmapped mounts, which show files with the box's owners"
local NO_IDS = "the joined user namespace has no ids yet, or "

-- A mount with owners as the box counts: what is root's on disk is its root's. From outside alone.
local function shift_owners(box, slot, what, more)
  local flags, joined = more.recursive and "empty_path,recursive" or "empty_path", box.ns.user ~= true
  box.add { "mount_setattr", "@" .. slot, "", flags, "idmap", 0, "private", "@ns_user", side = "parent",
    why = "with owners as the box counts them, and for itself", ok = more.ok,
    unsupported = (joined and NO_IDS or "") .. IDMAP:format(what), refused = "EINVAL,EPERM",
    hint = 'userns = "host" leaves ids as they are' }
end

-- The caller's own look at a folder, which root of the box may not see.
local function shifted(box, slot, path, what, more)
  more = more or {}
  box.add { "open_tree", "cwd", path, more.recursive and "clone,recursive" or "clone", out = slot, side = "parent",
    why = what }
  shift_owners(box, slot, type(path) == "string" and path or "the image", more)
end

local function shift(box)
  if not box.config.nsbox.shift or not own_mounts(box) then
    return
  end
  if box.config.nsbox.layer_path then
    shifted(box, "layer", placeholder.layer, "the folder that takes the writes")
  end
  local parts = box.config.nsbox.host
  if not parts then
    box.add { "open_tree", "@image", "", "clone,empty_path", out = "lower", side = "parent", why = "the image" }
    shift_owners(box, "lower", "the image", {})
    return
  end
  for i, e in ipairs(parts) do
    if e.how == "overlay" then
      shifted(box, "low" .. i, e.source, "the host's " .. e.source)
    elseif e.how == "bind" then
      shifted(box, "part" .. i, e.source, "the host's mount on " .. e.source, { recursive = true, ok = "EINVAL,EPERM" })
    end
  end
  if parts.workdir then
    shifted(box, "loww", parts.workdir.source, "the host's " .. parts.workdir.source)
  end
end

-- Stacked on "/", a mount is reached by its descriptor only: the process's own root stays below it.
local function attach_on_root(box, slot, why)
  box.add { "move_mount", "@" .. slot, "", "cwd", "/", "f_empty_path", why = why }
end

-- Above the image's own folder: of all places the one that is known to be there, and that is not needed any more. Who
-- has become root of the box may not see it.
local function attach_on_image(box, slot, why)
  if box.config.nsbox.become then
    attach_on_root(box, slot, why)
  else
    box.add { "move_mount", "@" .. slot, "", "cwd", placeholder.root, "f_empty_path,t_symlinks", why = why }
  end
end

-- Where writes go. Below Linux 6.6 a tmpfs has no user xattrs, which overlay needs, so a folder is used.
local function layer_folder(box)
  if box.config.nsbox.layer_path and not box.config.nsbox.shift then
    box.add { "open_tree", "cwd", placeholder.layer, "clone", out = "layer", why = "the folder that takes the writes" }
  end
end

local function layer(box)
  if not box.config.nsbox.layer_path then
    fresh.mount(box, { "tmpfs", slot = "layer", source = "layer", options = { mode = "0755" },
      why = "memory that takes the writes" })
  end
end

local function overlay(box, row)
  box.add { "fchdir", "@layer", why = "layers are named relative to it: any path length, any character" }
  fresh.mount(box, { "overlay", slot = row.slot, why = row.why, source = "overlay",
    options = { lowerdir = row.lower, upperdir = row.upper, workdir = row.work }, flags = { "userxattr" } })
end

-- What is found by its path, by a process that the host knows as the caller.
local function find_parts(box)
  if not own_mounts(box) then
    return
  end
  box.add { "mount_setattr", "cwd", "/", "recursive", 0, 0, "private", why = "no mount of the box reaches the host" }
  if not box.config.nsbox.host and not box.config.nsbox.shift then
    box.add { "open_tree", "cwd", placeholder.root, "clone", out = "lower", why = "the image" }
    box.add { "same_file", "@lower", "@image", why = "still the folder that was held" }
  end
  layer_folder(box)
end

local function folder(box)
  attach_on_image(box, "layer", "in the box's mount namespace: an overlay takes no other")
  for _, name in ipairs { "lower", "upper", "work" } do
    box.add { "mkdirat", "@layer", name, "0755", why = "a place for the overlay's parts" }
  end
  box.add { "move_mount", "@lower", "", "@layer", "lower", "f_empty_path", why = "attached, too" }
  overlay(box, { slot = "root", lower = "lower", upper = "upper", work = "work",
    why = "the image below, writes above" })
  attach_on_root(box, "root", "the new root, beside the old one")
end

local host_kinds = {}

function host_kinds.link(box, e)
  box.add { "symlinkat", e.target, "@root", e.path, why = "as on the host" }
end

function host_kinds.dir(box, e)
  box.add { "mkdirat", "@root", e.path, e.mode, why = "its parts follow" }
end

-- An overlay of one of the host's folders. What the caller has made of it is attached first: an overlay takes no other.
local function private(box, e, i)
  local upper, work, lower = "u" .. i, "w" .. i, e.source:gsub("[\\:]", "\\%0")
  box.add { "mkdirat", "@layer", upper, e.mode, why = "its writes" }
  box.add { "mkdirat", "@layer", work, "0755", why = "the overlay's work folder" }
  if box.config.nsbox.shift then
    lower = "l" .. i
    box.add { "mkdirat", "@layer", lower, "0755", why = "a place for what lies below" }
    box.add { "move_mount", "@low" .. i, "", "@layer", lower, "f_empty_path", why = "attached, too" }
  end
  overlay(box, { slot = "part" .. i, lower = lower, upper = upper, work = work,
    why = "the host's " .. e.source .. " below, writes above" })
end

function host_kinds.overlay(box, e, i)
  box.add { "mkdirat", "@root", e.path, "0755", why = "mount point" }
  private(box, e, i)
  box.add { "move_mount", "@part" .. i, "", "@root", e.path, "f_empty_path", why = "put it in place" }
end

-- A mount of the host below an overlay: shown, but neither written to nor trusted.
function host_kinds.bind(box, e, i)
  local slot, at = "part" .. i, "at" .. i
  if not box.config.nsbox.shift then
    box.add { "open_tree", "cwd", e.source, "clone,recursive", out = slot, ok = "EACCES,ENOENT",
      why = "the host's mount on " .. e.source }
  end
  box.add { "mount_setattr", "@" .. slot, "", "empty_path,recursive", "rdonly,nosuid,nodev", 0, "private",
    why = "to look at only" }
  box.add { "mkpath", "@root", e.path, e.kind == "file" and "file" or "dir", "0755", out = at, why = "mount point" }
  box.add { "move_mount", "@" .. slot, "", "@" .. at, "", "f_empty_path,t_empty_path", why = "put it in place" }
end

local function host(box)
  attach_on_root(box, "layer", "in the box's mount namespace: an overlay takes no other")
  fresh.mount(box, { "tmpfs", slot = "root", source = "root", options = { mode = "0755" },
    why = "a root of our own: an overlay of / itself is refused in a user namespace" })
  attach_on_root(box, "root", "the new root, beside the old one")
  for i, e in ipairs(box.config.nsbox.host) do
    host_kinds[e.how](box, e, i)
  end
end

--- What a Result has to note: the folders that are not taken apart.
local function notes(box)
  local list = {}
  for _, e in ipairs(box.config.nsbox.host or {}) do
    if e.whole then
      list[#list + 1] = { what = e.source,
        why = "it is read-only: mounts of the host lie in it, and too much beside them to take it apart" }
    end
  end
  return list
end

-- After the fresh /tmp and /run stand: the folder of the caller's that lies in one of them.
local function workdir(box)
  local e = box.config.nsbox.host and box.config.nsbox.host.workdir
  if e and own_mounts(box) then
    box.add { "mkpath", "@root", e.path, "dir", "0755", out = "fresh", why = "the working directory's place" }
    private(box, e, "w")
    box.add { "move_mount", "@partw", "", "@fresh", "", "f_empty_path,t_empty_path", why = "put it in place" }
  end
end

local function build(box)
  if not own_mounts(box) then
    return
  end
  layer(box)
  if box.config.nsbox.host then
    host(box)
  else
    folder(box)
  end
end

local function enter(box)
  local config = box.config
  if not own_mounts(box) then
    box.add { "openat", "cwd", "/", "path,directory", out = "root", why = "the box's root, to look for its program" }
    box.add { "chdir", placeholder.cwd, why = "the working directory" }
    return
  end
  box.add { "mkpath", "@root", placeholder.cwd, "dir", "0755", out = "workdir", why = "the working directory" }
  if config.root.readonly then
    box.add { "mount_setattr", "@root", "", "empty_path", "rdonly", why = "last: mount points were made until now" }
  end
  box.add { "fchdir", "@root", why = "the new root" }
  box.add { "pivot_root", ".", ".", why = "change to it; the old root now lies on top of it" }
  if config.nsbox.host or config.nsbox.become then
    box.add { "umount2", ".", "detach", why = "on the old root lies the memory of the layers: it goes" }
  end
  box.add { "umount2", ".", "detach", why = "and goes" }
  box.add { "openat", "cwd", "..", "path", out = "top", why = "what is above the root" }
  box.add { "same_file", "@top", "@root", why = "read back: the root itself, nothing of the host" }
  box.add { "fchdir", "@workdir", why = "the working directory" }
end

-- A process that is added finds the box's root as its own.
local function find(box)
  box.add { "openat", "cwd", "/", "path,directory", out = "root", why = "the box's root" }
  box.add { "mkpath", "@root", placeholder.cwd, "dir", "0755", out = "workdir", why = "the working directory" }
end

local function enter_workdir(box)
  box.add { "fchdir", "@workdir", why = "the working directory" }
end

return {
  hold = hold,
  shift = shift,
  find_parts = find_parts,
  build = build,
  workdir = workdir,
  enter = enter,
  find = find,
  enter_workdir = enter_workdir,
  notes = notes,
}
