-- Shared by the specs of cgroups: folders of the machine's own hierarchies, for the test that runs.
local busted = require "busted"
local helper = require "spec.helper"
local lfs = require "lfs"
local sys = require "nsbox.sys"

local hierarchy = {}

local serial = 0

local function among(names, name)
  return ("," .. names .. ","):find("," .. name .. ",", 1, true) ~= nil
end

-- Where this process's own cgroup is, in the hierarchy of v2 (name "") or of a controller of v1.
local function own(name)
  local point
  for line in helper.read "/proc/self/mountinfo":gmatch "[^\n]+" do
    local at, kind, options = line:match "^%S+ %S+ %S+ %S+ (%S+) .* %- (cgroup2?) %S+ (%S+)"
    if name == "" and kind == "cgroup2" or kind == "cgroup" and among(options, name) then
      point = point or at
    end
  end
  for controllers, path in helper.read "/proc/self/cgroup":gmatch "%d+:([^:\n]*):([^\n]*)" do
    if controllers == name or name ~= "" and among(controllers, name) then
      return point and point .. path:gsub("/$", "")
    end
  end
end

-- What is below a folder, which may be deeper than a path is long.
local function empty(folder)
  for _, name in ipairs(sys.readdir(folder) or {}) do
    local below <close> = sys.openat(folder, name, "rdonly,directory,nofollow")
    local state <close> = below and sys.openat(below, "freezer.state", "wronly")
    if state then sys.write(state, "THAWED") end
    local list <close> = below and sys.openat(below, "cgroup.procs", "rdonly")
    for pid in (list and sys.read(list, 65536) or ""):gmatch "%d+" do sys.kill(tonumber(pid), "kill") end
    if below then
      empty(below)
      sys.unlinkat(folder, name, "removedir")
    end
  end
end

--- Kills what is in a cgroup and below it, by number, and removes all of it.
function hierarchy.remove(path)
  local deadline = busted.monotime() + helper.PATIENCE
  while lfs.attributes(path, "mode") and not lfs.rmdir(path) and busted.monotime() < deadline do
    for pid in (helper.read(path .. "/cgroup.procs") or ""):gmatch "%d+" do sys.kill(tonumber(pid), "kill") end
    local folder <close> = sys.open(path, "rdonly,directory")
    if folder then empty(folder) end
    busted.sleep(0.002)
  end
end

--- A fresh cgroup below this process's own, removed when the test has ended. name: "" for v2, or a controller of v1.
-- Answers its path, and its path in /proc/PID/cgroup; skips where there is none to be had.
function hierarchy.make(name)
  serial = serial + 1
  local base = own(name)
  if not base then helper.skip(("needs the hierarchy %q of cgroups"):format(name)) end
  local path = ("%s/nsbox-spec-%d-%d"):format(base, helper.pid, serial)
  local made, why = lfs.mkdir(path)
  if not made then helper.skip("needs the right to make cgroups: " .. why) end
  helper.cleanup(function() hierarchy.remove(path) end)
  return path, hierarchy.of("self", name):gsub("/$", "") .. path:match "/[^/]*$"
end

--- Where a process is in a hierarchy, as /proc says.
function hierarchy.of(pid, name)
  for controllers, path in (helper.read("/proc/" .. pid .. "/cgroup") or ""):gmatch "%d+:([^:\n]*):([^\n]*)" do
    if controllers == name then return path end
  end
end

-- Where a caller may have cgroups: its own, and those above it.
local function parents()
  local found = {}
  for root in pairs(helper.cgroup_roots()) do
    found[root:gsub("/+$", "")] = true
  end
  return found
end

local function add_below(path, list)
  list[#list + 1] = path
  for _, name in ipairs(helper.names(path)) do
    local child = path .. "/" .. name
    if lfs.symlinkattributes(child, "mode") == "directory" then add_below(child, list) end
  end
end

--- All cgroups, in every hierarchy, of the caller with this pid.
function hierarchy.of_caller(pid)
  local list = {}
  for parent in pairs(parents()) do
    for _, name in ipairs(helper.names(parent)) do
      if name:find("^nsbox%-" .. pid .. "%-%x+$") then add_below(parent .. "/" .. name, list) end
    end
  end
  table.sort(list)
  return list
end

--- The folder of this process's own cgroup in a hierarchy, or nil.
hierarchy.own = own

return hierarchy
