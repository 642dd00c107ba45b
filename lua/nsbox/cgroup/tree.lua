-- cgroup/tree.lua: which cgroup hierarchies there are, where the caller is in them, and where it may make cgroups.

local file = require "nsbox.cgroup.file"
local proc = require "nsbox.probe.file"
local sys = require "nsbox.sys"

local function unescape(path)
  return (path:gsub("\\(%d%d%d)", function(octal) return string.char(tonumber(octal, 8)) end))
end

-- Mounted hierarchies: { kind = "cgroup" | "cgroup2", point =, root =, options = }. proc(5), mountinfo.
local function hierarchies(mountinfo)
  local list = {}
  for line in mountinfo:gmatch "[^\n]+" do
    local root, point, kind, options = line:match "^%S+ %S+ %S+ (%S+) (%S+) .* %- (cgroup2?) %S+ (%S+)"
    if root then
      list[#list + 1] = { kind = kind, point = unescape(point), root = unescape(root), options = options }
    end
  end
  return list
end

-- Where the caller is in one: by controller name, "" for v2. cgroups(7).
local function places(cgroup)
  local map = {}
  for controllers, path in cgroup:gmatch "%d+:([^:\n]*):([^\n]*)" do
    for name in (controllers .. ","):gmatch "([^,]*)," do
      map[name] = path
    end
  end
  return map
end

-- A path, reckoned from a root that it is below; "" for the root itself.
local function below(path, root)
  if path == root then
    return ""
  elseif path:sub(1, #root + 1) == root .. "/" then
    return path:sub(#root + 1)
  end
  return path == "/" and "" or path
end

--- The caller may make cgroups below this one: the folder is its, and its list of processes opens for writing.
local function is_writable(folder)
  local stat, euid = sys.stat(folder), sys.geteuid()
  if not stat or stat.uid ~= euid and euid ~= 0 then
    return false
  end
  local fd <close> = sys.open(folder .. "/cgroup.procs", "wronly")
  return fd ~= nil
end

local function found_in(mountinfo, cgroup)
  local own, v2, v1, named = places(cgroup), nil, {}, {}
  for _, h in ipairs(hierarchies(mountinfo)) do
    if h.kind == "cgroup2" then
      v2 = v2 or { point = h.point, path = below(own[""] or "/", h.root) }
    else
      for name in h.options:gmatch "[^,]+" do
        local map = name:sub(1, 5) == "name=" and named or v1
        if own[name] then
          map[name] = map[name] or { point = h.point, path = below(own[name], h.root) }
        end
      end
    end
  end
  return { v2 = v2, v1 = v1, named = named, own = own }
end

local seen = {} -- what was read last, and found in it: reading is a fifth of the work

--- The caller's own cgroups: { v2 = { point =, path = } or nil, v1 = those by controller, named = those without, by
-- "name=…", own = what /proc says of each hierarchy, mounted or not, v2's by "" }; the same table until that changes.
local function look()
  local mountinfo, cgroup = proc.read "/proc/self/mountinfo" or "", proc.read "/proc/self/cgroup" or ""
  if seen.mountinfo ~= mountinfo or seen.cgroup ~= cgroup then
    seen = { mountinfo = mountinfo, cgroup = cgroup, found = found_in(mountinfo, cgroup) }
  end
  return seen.found
end

-- ---- v2: where cgroups with controllers can be made ----

local DELEGATE = "systemd-run --user --scope -p Delegate=yes COMMAND"

-- A cgroup that has processes hands no controller on, but the root of all does; cgroups(7).
local function is_leaf(folder)
  return file.exists(folder, "cgroup.type") and (file.read(folder, "cgroup.procs") or "") ~= ""
end

-- The kernel asks for the right to write where the old and the new cgroup meet, when the process is in the box's user
-- namespace already: only what is the caller's by its id counts, for root too.
local function is_owned(folder)
  local stat = sys.stat(folder .. "/cgroup.procs")
  return is_writable(folder) and stat ~= nil and stat.uid == sys.geteuid()
end

-- programs: bpf(2), and v1's rules of devices, are root's.
local function v2_place(folder)
  return { folder = folder, controllers = file.words(folder, "cgroup.controllers"), programs = sys.geteuid() == 0 }
end

-- Beside v1, which has the controllers, it is a place as any other.
local function busy_place(folder, beside_v1)
  return { folder = beside_v1 and folder or nil, bare = folder, controllers = {},
    why = ("the cgroup %s has processes, and can hand no controller on"):format(folder),
    fix = "move them to a cgroup below it" }
end

-- The nearest cgroup, from the caller's own upwards, below which boxes can have controllers. Beside v1 any will do.
local function find_v2(at, beside_v1)
  local busy
  local path = at.path
  while true do
    local folder = at.point .. path
    if is_owned(folder) and not is_leaf(folder) then
      return v2_place(folder)
    end
    busy = busy or is_owned(folder) and folder
    if path == "" or busy and beside_v1 then
      break
    end
    path = path:match "^(.*)/[^/]*$"
  end
  if busy then
    return busy_place(busy, beside_v1)
  end
  return { why = ("the cgroup %s is not the caller's"):format(at.point .. at.path), fix = DELEGATE }
end

local function given_v2(at, parent)
  local folder, own = at.point .. parent, find_v2(at, true)
  if not sys.stat(folder) then
    return { why = ("there is no cgroup %s"):format(folder), fix = "make it, or name another cgroup_parent",
      bare = own.folder }
  elseif not is_writable(folder) then
    return { why = ("the cgroup %s is not the caller's"):format(folder), fix = "chown it, with the files in it",
      bare = own.folder }
  end
  return v2_place(folder)
end

local function v1_of(at, parent)
  local folder, own = at.point .. (parent or at.path), at.point .. at.path
  if is_writable(folder) then
    return { folder = folder, programs = sys.geteuid() == 0 }
  end
  return { bare = parent and is_writable(own) and own or nil,
    why = sys.stat(folder) and ("the cgroup %s is not the caller's"):format(folder)
    or ("there is no cgroup %s"):format(folder),
    fix = "as root: make a cgroup in each hierarchy, chown it to the user, and put the caller into it" }
end

-- Hierarchies in which root's box could reach the caller's cgroup, were it to mount them, and the caller cannot.
local function out_of_reach(own, found)
  local list = {}
  for name in pairs(sys.geteuid() == 0 and own or {}) do
    local place = found.v1[name] or found.named[name] or name == "" and found.v2
    if not (place and (place.folder or place.bare)) then
      list[#list + 1] = name == "" and "v2" or name
    end
  end
  table.sort(list)
  return list
end

--- Where the caller's boxes may have cgroups: { v2 = place or nil, v1, named = { controller, or name, = place },
-- out_of_reach = list of hierarchies }; a place is { folder =, controllers = set (of v2), programs = whether it may
-- have rules of devices }, or { why =, fix =, bare = folder of one that can have cgroups without limits, or nil };
-- of v2 also with why a controller lacks. parent: the path of a cgroup to take, nil: the caller's own, or of v2 the
-- nearest above that can hand controllers on.
local function places_for(parent)
  local here = look()
  parent = parent and parent:gsub("/+$", "") or nil
  local found = { v1 = {}, named = {} }
  for name, at in pairs(here.v1) do
    found.v1[name] = v1_of(at, parent)
  end
  for name, at in pairs(here.named) do
    found.named[name] = v1_of(at)
  end
  if here.v2 then
    found.v2 = parent and given_v2(here.v2, parent) or find_v2(here.v2, next(here.v1) ~= nil)
  end
  found.out_of_reach = out_of_reach(here.own, found)
  return found
end

return { look = look, places_for = places_for }
