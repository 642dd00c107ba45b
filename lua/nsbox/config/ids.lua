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
    return refuse(verb, ("%s: no row has 0 inside: a box needs its root, whose its files are"):format(name))
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
-- owners than they have; setgroups = groups can be set; user = whose the command is if nobody says; why_single = why
-- there is one id alone, for a note } | nil, err, errno (kind unsupported).
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
    user = not host.root.ok and o.userns == "keep-id" and not o.uid_map and { uid = host.euid, gid = host.egid } or nil,
    why_single = why_single(o, host),
  }
end

local function check_mapped(verb, what, id, mappings, why)
  local rows, known = idrows.of_oci(mappings), {}
  if idrows.outside(rows, id) then
    return true
  end
  for i, row in ipairs(rows) do
    known[i] = { row[2], row[1], row[3] }
  end
  return refuse(verb, ("%s %d does not exist in the box, whose ids are %s"):format(what, id, spans(known)), why)
end

--- Whether the ids of a user exist in a box of this configuration: true | nil, err, errno (kind unsupported). Of a
-- user namespace that is not its own this is not known.
local function check_user(verb, user, linux, why)
  local list = { { "user", user.uid, linux.uidMappings }, { "group", user.gid, linux.gidMappings } }
  for _, gid in ipairs(user.additionalGids or {}) do
    list[#list + 1] = { "group", gid, linux.gidMappings }
  end
  for _, row in ipairs(list) do
    if row[3] then
      local ok, err, errno = check_mapped(verb, row[1], row[2], row[3], why)
      if not ok then
        return nil, err, errno
      end
    end
  end
  return true
end

return { map = map, needs_ids = needs_ids, check_user = check_user }
