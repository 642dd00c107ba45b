-- probe/cgroup.lua: which cgroup hierarchies there are, and in which of them the caller may make cgroups.

local sorted = require "nsbox.sorted"
local tree = require "nsbox.cgroup.tree"

local function words(set)
  return next(set) and table.concat(sorted(set), " ") or "no controllers"
end

local cgroup = {}

local function v2_only(place)
  if place.folder then
    return { ok = true, value = "v2", where = place.folder,
      why = ("%s, with %s"):format(place.folder, words(place.controllers)) }
  end
  return { ok = false, value = "v2", why = place.why, fix = place.fix }
end

local function v1_too(kind, places)
  local can, cannot, where, fix = {}, {}, {}, nil
  for name, place in pairs(places) do
    where[name], fix = place.folder, fix or place.fix
    local list = place.folder and can or cannot
    list[name] = true
  end
  if next(can) then
    return { ok = true, value = kind, where = where, why = "v1 controllers " .. words(can)
      .. (next(cannot) and "; not the caller's: " .. words(cannot) or "") }
  end
  return { ok = false, value = kind, where = where, fix = fix,
    why = "v1 controllers are not the caller's to write: " .. words(cannot) }
end

--- value: "v1", "v2" or "hybrid" (v1 controllers beside a v2 tree); where: v2's folder below which boxes have their
-- cgroups, or v1's by controller.
function cgroup.cgroup()
  local places = tree.places_for()
  if next(places.v1) then
    return v1_too(places.v2 and "hybrid" or "v1", places.v1)
  elseif places.v2 then
    return v2_only(places.v2)
  end
  return { ok = false, why = "no cgroup file system is mounted", fix = "mount -t cgroup2 cgroup2 /sys/fs/cgroup" }
end

return cgroup
