-- probe/cgroup.lua: which cgroup hierarchies there are, and which of them the caller may write.

local file = require "nsbox.probe.file"
local sys = require "nsbox.sys"

local function unescape(path)
  return (path:gsub("\\(%d%d%d)", function(octal) return string.char(tonumber(octal, 8)) end))
end

-- Mounted hierarchies: { kind = "cgroup" | "cgroup2", point =, root =, options = }. proc(5), mountinfo.
local function hierarchies()
  local list = {}
  for line in (file.read "/proc/self/mountinfo" or ""):gmatch "[^\n]+" do
    local root, point, kind, options = line:match "^%S+ %S+ %S+ (%S+) (%S+) .* %- (cgroup2?) %S+ (%S+)"
    if root then
      list[#list + 1] = { kind = kind, point = unescape(point), root = unescape(root), options = options }
    end
  end
  return list
end

-- Where the caller is in one: by controller name, "" for v2. cgroups(7).
local function places()
  local map = {}
  for controllers, path in (file.read "/proc/self/cgroup" or ""):gmatch "%d+:([^:\n]*):([^\n]*)" do
    for name in (controllers .. ","):gmatch "([^,]*)," do
      map[name] = path
    end
  end
  return map
end

local function below(path, root)
  if root ~= "/" and path:sub(1, #root) == root then
    path = path:sub(#root + 1)
  end
  return path == "/" and "" or path
end

-- The caller may make cgroups below its own: the folder is its, and its list of processes opens for writing.
local function writable(folder)
  local stat = sys.stat(folder)
  if not stat or (stat.uid ~= sys.geteuid() and sys.geteuid() ~= 0) then
    return false
  end
  local fd <close> = sys.open(folder .. "/cgroup.procs", "wronly")
  return fd ~= nil
end

-- Sorts the hierarchies: v2's folder, v1's folders by controller.
local function look()
  local own, v2, v1 = places(), nil, {}
  for _, h in ipairs(hierarchies()) do
    if h.kind == "cgroup2" then
      v2 = v2 or h.point .. below(own[""] or "/", h.root)
    else
      for name in h.options:gmatch "[^,]+" do
        if own[name] and name:sub(1, 5) ~= "name=" then
          v1[name] = h.point .. below(own[name], h.root)
        end
      end
    end
  end
  return v2, v1
end

local cgroup = {}

local function v2_only(v2)
  local controllers = (file.line(v2 .. "/cgroup.controllers") or ""):match "^%s*(.-)%s*$"
  if writable(v2) then
    return { ok = true, value = "v2", where = v2,
      why = ("%s, with %s"):format(v2, controllers ~= "" and controllers or "no controllers") }
  end
  return { ok = false, value = "v2", where = v2, why = ("%s is not the caller's to write"):format(v2),
    fix = "systemd-run --user --scope -p Delegate=yes COMMAND" }
end

local function v1_too(kind, v1)
  local can, cannot = {}, {}
  for name, folder in pairs(v1) do
    table.insert(writable(folder) and can or cannot, name)
  end
  table.sort(can)
  table.sort(cannot)
  local row = { ok = #can > 0, value = kind, where = v1 }
  if row.ok then
    row.why = "v1 controllers " .. table.concat(can, " ")
      .. (#cannot > 0 and ("; not the caller's: " .. table.concat(cannot, " ")) or "")
  else
    row.why = "v1 controllers are not the caller's to write: " .. table.concat(cannot, " ")
    row.fix = "as root, make a cgroup in each, chown it to the user and put the caller into it"
  end
  return row
end

--- value: "v1", "v2" or "hybrid" (v1 controllers beside a v2 tree); where: v2's folder, or v1's by controller.
function cgroup.cgroup()
  local v2, v1 = look()
  if next(v1) then
    return v1_too(v2 and "hybrid" or "v1", v1)
  elseif v2 then
    return v2_only(v2)
  end
  return { ok = false, why = "no cgroup file system is mounted", fix = "mount -t cgroup2 cgroup2 /sys/fs/cgroup" }
end

return cgroup
