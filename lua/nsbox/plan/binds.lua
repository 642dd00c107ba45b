-- plan/binds.lua: files and folders of the host's in a box, by the option `mounts`.

local attributes = { ro = "rdonly", nosuid = "nosuid", nodev = "nodev", noexec = "noexec" }

local NO_IDMAP = "mount %s on %s: its file system, or this kernel, has no idmapped mounts"

local OTHER = "%s was replaced while the box was made, or is another file for each process: try again, or name another"
local KINDS = "a folder takes a folder as target, a file what is no folder"

local function each(box)
  local list = {}
  for _, m in ipairs(box.ns.mount == true and box.config.mounts or {}) do
    if m.type == "bind" then
      list[#list + 1] = m
    end
  end
  return ipairs(list)
end

local function attributes_of(m)
  local list = {}
  for _, option in ipairs(m.options) do
    list[#list + 1] = attributes[option]
  end
  return table.concat(list, ",")
end

-- With all mounts below it: without those of more privileged namespaces the kernel hands none out.
local function tree(box, m, slot, side)
  box.add { "open_tree", "cwd", m.source, "clone,recursive", out = slot, side = side,
    why = ("%s, for %s"):format(m.source, m.destination) }
end

local function restrict(box, m, slot, side)
  box.add { "mount_setattr", "@" .. slot, "", "empty_path,recursive", attributes_of(m), 0, "private", side = side,
    why = "no more rights than were given, and no mount that reaches the host" }
end

local function shift(box, m, slot)
  box.add { "mount_setattr", "@" .. slot, "", "empty_path,recursive", "idmap", 0, 0, "@ns_user", side = "parent",
    why = "with owners as the box counts them", refused = "EINVAL,EPERM",
    unsupported = NO_IDMAP:format(m.source, m.destination), hint = "leave idmap away, or mount a folder that has them" }
end

--- Caller: what is to be shown, held. As root whole: the box's process may have no way to it.
local function hold(box)
  for i, m in each(box) do
    if box.host.root.ok then
      tree(box, m, "bind" .. i, "parent")
      restrict(box, m, "bind" .. i, "parent")
      if m.idmap then
        shift(box, m, "bind" .. i)
      end
    else
      box.add { "open", m.source, "path", out = "held" .. i, side = "parent",
        why = "what is opened now is what the box gets" }
    end
  end
end

--- Without root, the caller's mounts are not the box's: it finds them by their paths, as the caller.
local function find(box)
  if box.host.root.ok then
    return
  end
  for i, m in each(box) do
    tree(box, m, "bind" .. i)
    box.add { "same_file", "@bind" .. i, "@held" .. i, why = ("%s is still what was held"):format(m.source),
      hint = { ESTALE = OTHER:format(m.source) } }
    restrict(box, m, "bind" .. i)
  end
end

local function attach(box)
  for i, m in each(box) do
    box.add { "mkpath", "@root", m.destination, m.file and "file" or "dir", m.file and "0644" or "0755",
      out = "bind_at" .. i, why = ("mount point of %s, found without leaving the box's root"):format(m.source),
      hint = { ENOTDIR = KINDS, EROFS = "the mount that it lies in is read-only: make the target there first" } }
    box.add { "move_mount", "@bind" .. i, "", "@bind_at" .. i, "", "f_empty_path,t_empty_path",
      why = ("put %s on %s"):format(m.source, m.destination), hint = { EINVAL = m.file and KINDS, ENOTDIR = KINDS } }
  end
end

return { hold = hold, find = find, attach = attach }
