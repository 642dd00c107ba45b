-- config/capabilities.lua: which capabilities a process of a box has.

local caps = require "nsbox.options.caps"
local error_ = require "nsbox.error"
local sys = require "nsbox.sys"

-- docker's default set (moby profiles, 14 capabilities).
local default = caps.set_of {
  "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
  "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SYS_CHROOT", "CAP_MKNOD", "CAP_AUDIT_WRITE",
  "CAP_SETFCAP",
}

local RESOURCE = caps.set_of { "CAP_SYS_RESOURCE" }
local NONE = { set = 0, named = 0 }

-- What the kernel says of each of a set: 1 it is in the caller's bounding set, 0 it is not, nil the kernel has none.
local function in_kernel(set, wanted)
  local found = 0
  for i = 0, #caps.names - 1 do
    if set >> i & 1 == 1 and wanted(sys.prctl("capbset_read", i, 0, 0, 0)) then
      found = found | 1 << i
    end
  end
  return found
end

local function is_known(answer)
  return answer ~= nil
end

local function is_held(answer)
  return answer == 1
end

local function words(set)
  return table.concat(caps.list(set), ", ")
end

-- Beyond the kernel's last one, and what root itself has not, where the box's rights are root's.
local function addable(verb, add, shared)
  local wanted = shared and is_held or is_known
  local missing = add.named & ~in_kernel(add.named, is_known)
  if missing ~= 0 then
    return error_.fail { kind = "unsupported", verb = verb,
      message = ("option 'cap_add': this kernel has no %s"):format(words(missing)) }
  end
  missing = add.named & ~in_kernel(add.named, wanted)
  if missing ~= 0 then
    return error_.fail { kind = "unsupported", verb = verb,
      message = ("option 'cap_add': the caller itself has not %s, and the box shares its user namespace"):format(
        words(missing)),
      hint = "in a user namespace of its own a box has all capabilities: leave namespaces.user alone" }
  end
  return add.all and in_kernel(add.set, wanted) or add.set
end

-- docker's rules: "all" of one list leaves what the other one names.
local function combined(base, add, set, drop)
  if add.all then
    return set & ~drop.named
  end
  return base & ~drop.set | set
end

--- Settles the options of capabilities. base: of a process that is added, those of the main process as OCI has them.
-- shared: the box's user namespace is the caller's. no_userns: the box may make no further user namespaces, so that it
-- must not get the capability by which it could allow itself some.
-- Returns { set = mask, ambient = mask } | nil, err, errno (kind unsupported); raises on misuse.
local function settle(verb, o, base, shared, no_userns)
  local add, drop, ambient = o.cap_add or NONE, o.cap_drop or NONE, (o.cap_ambient or NONE).set
  local set = add.set
  if set ~= 0 then
    local err, errno
    set, err, errno = addable(verb, add, shared)
    if not set then
      return nil, err, errno
    end
  end
  if no_userns and add.named & RESOURCE ~= 0 then
    error_.misuse("nsbox.%s: option 'cap_add' must not name CAP_SYS_RESOURCE with disable_userns: %s", verb,
      "with it the box could allow itself user namespaces again")
  end
  set = combined(base and caps.set_of(base.bounding) or default, add, set, drop) & ~(no_userns and RESOURCE or 0)
  if not o.cap_ambient then
    ambient = base and caps.set_of(base.ambient) & set or 0
  elseif o.cap_ambient.all then
    ambient = set
  elseif ambient & ~set ~= 0 then
    error_.misuse("nsbox.%s: option 'cap_ambient' names %s, which the box has not: add it with cap_add", verb,
      words(ambient & ~set))
  end
  return { set = set, ambient = ambient }
end

--- The sets of a process, as lists of names that are the same tables for the same sets. Root has all that the box may
-- have, any other user what is to stay with it.
local function lists(user, settled)
  local own = caps.list(user.uid == 0 and settled.set or settled.ambient)
  local ambient = caps.list(settled.ambient)
  return { bounding = caps.list(settled.set), permitted = own, effective = own, inheritable = ambient,
    ambient = ambient }
end

return { settle = settle, lists = lists }
