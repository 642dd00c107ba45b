-- idmap.lua: the ids that a caller without root's rights may give its boxes: its own, and the subordinate ones that
-- newuidmap and newgidmap map for it.

local idrows = require "nsbox.idrows"
local subid = require "nsbox.subid"
local tool = require "nsbox.tool"

local PATIENCE = 10 -- seconds
local MAX_ID = 4294967295

-- The caller as 0, and its ranges, one behind the other, from 1 on.
local function rows_of(own, ranges)
  local rows, next_id = { { 0, own, 1 } }, 1
  for _, range in ipairs(ranges) do
    local room = math.min(range.count, MAX_ID - next_id)
    if room > 0 and #rows < idrows.MAX_ROWS and (own < range.first or own >= range.first + range.count) then
      rows[#rows + 1] = { next_id, range.first, room }
      next_id = next_id + room
    end
  end
  return rows
end

local function single(host, why)
  return { uid = { { 0, host.euid, 1 } }, gid = { { 0, host.egid, 1 } }, setgroups = false, why_single = why }
end

--- The map that boxes of this caller can have at most: { uid = rows, gid = rows, setgroups = whether groups can be
-- set, why_single = why it is the caller's own id alone, or nil }. Nothing is tried.
local function of_caller(host)
  local why, fix = require("nsbox.probe.caller").no_newuidmap()
  if why then
    return single(host, fix and ("%s: %s"):format(why, fix) or why)
  end
  local name = subid.user_name(host.euid)
  local maps = {
    uid = rows_of(host.euid, subid.of(subid.UIDS, name, host.euid)),
    gid = rows_of(host.egid, subid.of(subid.GIDS, name, host.euid)),
    setgroups = true,
  }
  if not (maps.uid[2] and maps.gid[2] and idrows.check(maps.uid) and idrows.check(maps.gid)) then
    return single(host, "the ranges in /etc/subuid or /etc/subgid overlap or hold the caller's own id")
  end
  return maps
end

-- ---- newuidmap ----

local function map(program, pid, rows)
  local words = { program:match "[^/]*$", tostring(pid) }
  for _, row in ipairs(rows) do
    for i = 1, 3 do
      words[#words + 1] = tostring(row[i])
    end
  end
  local how, status, said = tool.run({ program }, words, PATIENCE)
  if how == "exit" and status == 0 then
    return true
  elseif not how then
    return nil, tostring(status)
  end
  return nil, said ~= "" and said or ("%s: %s %s"):format(program, how, status)
end

--- Maps the ids of a fresh user namespace, whose process this is: true | nil, why.
local function write(pid, maps)
  local ok, why = map("/usr/bin/newuidmap", pid, maps.uid)
  if not ok then
    return nil, why
  end
  return map("/usr/bin/newgidmap", pid, maps.gid)
end

return { of_caller = of_caller, single = single, write = write }
