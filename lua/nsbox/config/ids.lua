-- config/ids.lua: which ids a box has, and which of the host's they are.

local error_ = require "nsbox.error"
local idrows = require "nsbox.idrows"

local ALL = { { 0, 0, 4294967295 } }

-- Every id of the rows, from 0 on, but one that keeps its number.
local function keeping(own, rows)
  local kept, at = { { own, own, 1 } }, 0
  for i = 2, #rows do
    local outside, left = rows[i][2], rows[i][3]
    while left > 0 do
      at = at == own and at + 1 or at
      local count = at < own and math.min(left, own - at) or left
      kept[#kept + 1] = { at, outside, count }
      at, outside, left = at + count, outside + count, left - count
    end
  end
  return kept
end

--- Whether the ids have to be known that the caller's boxes may have: host.ids. With root's own mounts no file can be
-- shown with other owners than it has: there `auto` leaves ids as they are.
local function needs_ids(o, host)
  if not o.namespaces.user.new then
    return false
  end
  return not host.root.ok or o.userns == "auto" and not o.uid_map and o.namespaces.mount.new == true
end

-- mode -> uid rows, gid rows. host.ids: what this caller's boxes may have, the caller's own id first; of root a range
-- that is nobody's.
local modes = {}

function modes.auto(host, o)
  if not needs_ids(o, host) then
    return ALL, ALL
  end
  return host.ids.uid, host.ids.gid
end

function modes.single(host)
  return { { 0, host.euid, 1 } }, { { 0, host.egid, 1 } }
end

modes["keep-id"] = function(host)
  if host.root.ok then
    return ALL, ALL
  end
  return keeping(host.euid, host.ids.uid), keeping(host.egid, host.ids.gid)
end

local function spans(rows)
  local list = {}
  for i, row in ipairs(rows) do
    local last = row[2] + row[3] - 1
    list[i] = last == row[2] and tostring(last) or ("%d-%d"):format(row[2], last)
  end
  return table.concat(list, ", ")
end

local function refuse(verb, message, hint)
  return error_.fail { kind = "unsupported", verb = verb, message = message, hint = hint }
end

-- Rows that the user wrote: without root's rights of the caller's own ids, and with a root in the box.
local function check_explicit(verb, name, rows, own)
  if own then
    local _, id, row = idrows.below(own, rows)
    if id then
      return refuse(verb, ("%s: row %d: id %d is not the caller's, who has %s"):format(name, row, id, spans(own)),
        "ranges of more ids stand in /etc/subuid and /etc/subgid")
    end
  end
  if not idrows.outside(rows, 0) then
    return refuse(verb, ("%s: no row has 0 inside: a box needs its root, to whom its files belong"):format(name))
  end
  return true
end

local function explicit(verb, o, host)
  local maps = not host.root.ok and host.ids or {}
  for _, kind in ipairs { "uid", "gid" } do
    local name = kind .. "_map"
    local ok, err, errno = check_explicit(verb, name, o[name], maps[kind])
    if not ok then
      return nil, err, errno
    end
  end
  return o.uid_map, o.gid_map
end

-- Not of an id map that anybody wrote, nor of one that was asked to be single.
local function why_single(o, host)
  return not host.root.ok and (o.userns == "auto" or o.userns == "keep-id") and not o.uid_map and host.ids.why_single
    or nil
end

--- The ids of a box with these options: { uid, gid = rows, or nil for those of another user namespace; become = the
-- caller is not root in there, and what it makes there has to be root's; shift = files have to be shown with other
-- owners than they have; setgroups = groups can be set; why_single = why there is one id alone, for a note }
-- | nil, err, errno (kind unsupported).
local function map(verb, o, host)
  local user = o.namespaces.user
  if user.new == false then
    return { setgroups = host.root.ok }
  elseif not user.new then
    return { become = host.root.ok, shift = host.root.ok, setgroups = host.root.ok }
  end
  local uid, gid, errno
  if o.uid_map then
    uid, gid, errno = explicit(verb, o, host)
  else
    uid, gid = modes[o.userns](host, o)
  end
  if not uid then
    return nil, gid, errno
  end
  local foreign = idrows.inside(uid, host.euid) ~= 0 or idrows.inside(gid, host.egid) ~= 0
  local become = foreign and idrows.outside(uid, 0) ~= nil
  return {
    uid = uid, gid = gid, become = become, shift = become and host.root.ok,
    setgroups = host.root.ok or host.ids.setgroups,
    why_single = why_single(o, host),
  }
end

--- Whether a box may have the caller's own id: then it may write to what is the caller's, wherever it comes to see it.
-- Of a user namespace that is not the box's own this is not known.
local function has_callers(o, host)
  if not o.namespaces.user.new then
    return true
  elseif o.uid_map then
    return idrows.inside(o.uid_map, host.euid) ~= nil
  end
  return not host.root.ok or o.userns ~= "auto" or not needs_ids(o, host)
end

local function does_not_exist(verb, what, id, rows, why)
  local known = {}
  for i, row in ipairs(rows) do
    known[i] = { row[2], row[1], row[3] }
  end
  return refuse(verb, ("%s %d does not exist in the box, whose ids are %s"):format(what, id, spans(known)), why)
end

-- The first of a list that is not mapped.
local function unmapped(ids, rows)
  for _, id in ipairs(ids) do
    if not idrows.outside(rows, id) then
      return id
    end
  end
end

local function only_mapped(gids, rows)
  local list = {}
  for _, gid in ipairs(gids) do
    list[#list + 1] = idrows.outside(rows, gid) and gid or nil
  end
  return list
end

--- A user of users.lua as it can exist in a box with these mappings, OCI's: with those of the groups that a file lists
-- it in that there are | nil, err, errno (kind unsupported): its id, or a group that was asked for, does not exist. Of
-- a user namespace that is not the box's own this is not known.
local function existing(verb, user, linux, why)
  if not linux.uidMappings then
    return user
  end
  local uids, gids = idrows.of_oci(linux.uidMappings), idrows.of_oci(linux.gidMappings)
  local uid = unmapped({ user.uid }, uids)
  local gid = unmapped({ user.gid, table.unpack(user.groups) }, gids)
  if uid then
    return does_not_exist(verb, "user", uid, uids, why)
  elseif gid then
    return does_not_exist(verb, "group", gid, gids, why)
  end
  return { uid = user.uid, gid = user.gid, home = user.home, groups = user.groups,
    member = only_mapped(user.member, gids) }
end

--- Whose a command is that nobody said: who keeps its number is itself; nil: the image says.
local function default_user(o, host)
  local keeps = not host.root.ok and o.userns == "keep-id" and not o.uid_map
  return keeps and { uid = host.euid, gid = host.egid } or nil
end

return { map = map, needs_ids = needs_ids, existing = existing,
  has_callers = has_callers, default_user = default_user }
