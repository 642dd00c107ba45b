-- What all specs share; `.busted` and spec/run load it before them, so that nsbox and its keeper are one for all files.
--
--   local helper = require "spec.helper"
--   helper.leakcheck()          first line of a file, outside describe: it then looks after the file's own after_each
--   describe("...", function()
--     it("...", function()
--       helper.needs("userns")            -- skips with the probe's reason when the host cannot
--       local dir = helper.tmpdir()       -- gone when the test ends
--
-- The leak check asks /proc and lfs, not the code under test.
local busted = require "busted"
local lfs = require "lfs"

-- busted forgets between files what was loaded in one: loaded here, nsbox and its keeper are one for all files.
require "nsbox.box"

local helper = {}
local current       -- the test that runs: busted's element
local latest        -- its name, still known in after_each
local cleanups = {} -- of that test, run last first

-- ---- the test that runs -----------------------------------------------------------------------------------------

busted.subscribe({ "test", "start" }, function(element)
  current, latest = element, element.name
  return nil, true
end)

busted.subscribe({ "test", "end" }, function()
  current = nil
  while #cleanups > 0 do table.remove(cleanups)() end
  return nil, true
end)

--- Runs fn when the test has ended, passed or not; unlike busted's finally it can be called more than once.
function helper.cleanup(fn)
  assert(current, "helper.cleanup belongs in a test")
  table.insert(cleanups, fn)
end

--- Skips the test that runs.
function helper.skip(reason)
  assert(current, "helper.skip belongs in a test")
  current.env.pending(reason)
end

-- ---- files ------------------------------------------------------------------------------------------------------

--- The whole file, or nil.
function helper.read(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read("a")
  file:close()
  return text
end

function helper.write(path, text)
  local file = assert(io.open(path, "wb"))
  assert(file:write(text))
  assert(file:close())
end

--- Sorted names of a folder; empty when it cannot be read.
function helper.names(path)
  local names = {}
  local ok, iterator, dir = pcall(lfs.dir, path)
  if not ok then return names end
  for name in iterator, dir do
    if name ~= "." and name ~= ".." then names[#names + 1] = name end
  end
  table.sort(names)
  return names
end

--- A word for the shell.
function helper.quote(word)
  return "'" .. tostring(word):gsub("'", "'\\''") .. "'"
end

-- A link is removed, not followed. Answers nothing where it cannot.
local function remove(path)
  if lfs.symlinkattributes(path, "mode") ~= "directory" then return os.remove(path) end
  for _, name in ipairs(helper.names(path)) do remove(path .. "/" .. name) end
  return lfs.rmdir(path)
end

local serial = 0

--- A fresh folder, for its owner alone, removed with all in it when the test has ended. Made and removed without the
-- shell's help where that goes: each program costs a slow machine more than the box does.
function helper.tmpdir()
  local sys = require "nsbox.sys"
  serial = serial + 1
  local path = ("%s/nsbox-spec-%d-%d"):format(os.getenv "TMPDIR" or "/tmp", helper.pid, serial)
  local made, why, errno = sys.mkdir(path, "0700")
  if errno == sys.EEXIST then return helper.tmpdir() end -- of a process that had this number before
  assert(made, why)
  helper.cleanup(function()
    if remove(path) then return end
    local here = helper.quote(path)
    os.execute("rm -rf " .. here .. " 2>/dev/null || { chmod -R u+rwX " .. here .. "; rm -rf " .. here .. "; }")
  end)
  return path
end

-- ---- the host ---------------------------------------------------------------------------------------------------

local function status_of(pid)
  local fields = {}
  for key, value in (helper.read("/proc/" .. pid .. "/status") or ""):gmatch("(%w+):%s*([^\n]*)") do
    fields[key] = value
  end
  return fields
end

helper.pid = tonumber(lfs.symlinkattributes("/proc/self", "target"))
helper.uid = tonumber((status_of("self").Uid or ""):match("%d+"))
--- The interpreter and the name of the run (root, user, asan ...) that spec/run fixed; a plain busted has neither.
helper.lua = os.getenv("LUA") or "lua5.4"
helper.run = os.getenv("NSBOX_SPEC_RUN") or "busted"
helper.build = os.getenv("NSBOX_SPEC_BUILD") or lfs.currentdir() .. "/build"

-- A suite that tested another build than it was told to would prove nothing.
local core = package.searchpath("nsbox.core", package.cpath) or "none, run make first"
assert(core:sub(1, 1) ~= "/" or core == helper.build .. "/nsbox/core.so", "the specs would load " .. core)

-- What is tried many times, at moments of chance: a run on an emulated processor says that it tries a part of them.
local share = tonumber(os.getenv "NSBOX_SPEC_SHARE" or "1")

--- Seconds after which what should come at once never will: the machine may be slow, and busy.
helper.PATIENCE = 30

--- How many of n rounds this run makes.
function helper.rounds(n)
  return math.ceil(n / share)
end

function helper.root()
  return helper.uid == 0
end

--- Whether boxes have more ids than the caller's own: as root, and as a user with subordinate ids.
function helper.has_ids()
  local host = require("nsbox.probe").host()
  return host.root.ok or require("nsbox.idmap").of_caller(host).setgroups
end

--- Skips unless the probe says that the host can: helper.needs("overlay_userns").
function helper.needs(feature)
  local row = require("nsbox").probe()[feature]
  assert(row, "the probe knows no " .. feature)
  if not row.ok then
    helper.skip(("needs %s: %s%s"):format(feature, row.why or "not here", row.fix and "; " .. row.fix or ""))
  end
end

local modules = {}

--- A C module that may be missing, or nil. It is loaded once for all files: a second luv in one Lua state crashes when
-- the loop of the first was collected.
function helper.module(name)
  if modules[name] == nil then
    local ok, module = pcall(require, name)
    modules[name] = ok and module or false
  end
  package.loaded[name] = modules[name] or nil
  return modules[name] or nil
end

-- ---- leaks ------------------------------------------------------------------------------------------------------
-- A snapshot is { kind = { key = text } }; two are compared key by key.

local snap = {}

function snap.descriptors()
  local open = {}
  for _, fd in ipairs(helper.names("/proc/self/fd")) do
    local target = lfs.symlinkattributes("/proc/self/fd/" .. fd, "target")
    if target then open[fd] = target end -- the listing's own is closed by now
  end
  return open
end

-- All processes below this one, by the parent that /proc names: also those below the keeper.
local function processes()
  local parent, name = {}, {}
  for _, pid in ipairs(helper.names("/proc")) do
    local stat = pid:match("^%d+$") and helper.read("/proc/" .. pid .. "/stat")
    if stat then
      local comm, state, ppid = stat:match("^%d+ %((.*)%) (%a) (%d+)")
      parent[pid], name[pid] = ppid, comm .. (state == "Z" and " (zombie)" or "")
    end
  end
  local found, me, making = {}, tostring(helper.pid), false
  for pid in pairs(parent) do
    local up = parent[pid]
    while up and up ~= me and up ~= "0" do up = parent[up] end
    if up == me then found[pid] = name[pid] end
    making = making or up == me and name[pid]:find "^nsbox%-keeper" and name[parent[pid]] == "nsbox-keeper"
  end
  return found, making
end

-- Without the process with which a keeper makes namespaces ahead: it lives for less than a millisecond.
local function own_processes()
  local deadline = busted.monotime() + helper.PATIENCE
  while true do
    local found, making = processes()
    if not making or busted.monotime() > deadline then return found end
    busted.sleep(0.001)
  end
end

function snap.processes(ours)
  return ours
end

function snap.mounts()
  local mounts = {}
  for line in (helper.read("/proc/self/mountinfo") or ""):gmatch("[^\n]+") do
    local id, rest = line:match("^(%d+) %d+ (.*)")
    mounts[id] = rest
  end
  return mounts
end

-- What another live process, not below this one, owns is its own affair: several may run the specs as root.
local function foreign(name, ours)
  local pid = name:match("%-(%d+)")
  return pid and tonumber(pid) ~= helper.pid and not ours[pid] and lfs.attributes("/proc/" .. pid, "mode")
end

-- Folders named nsbox* at the top of each hierarchy, in our own cgroup and beside it, and all below them.
local function cgroups_below(path, pattern, found, ours)
  for _, name in ipairs(helper.names(path)) do
    local child = path .. "/" .. name
    if name:find(pattern) and not foreign(name, ours) and lfs.symlinkattributes(child, "mode") == "directory" then
      found[child] = "cgroup"
      cgroups_below(child, "^[^.]*$", found, ours)
    end
  end
end

function helper.cgroup_roots()
  local roots, own = {}, helper.read("/proc/self/cgroup") or ""
  for line in (helper.read("/proc/self/mountinfo") or ""):gmatch("[^\n]+") do
    local point, kind, options = line:match("^%S+ %S+ %S+ %S+ (%S+) .* %- (cgroup2?) %S+ (%S+)")
    if point then
      roots[point] = true
      for controllers, path in own:gmatch("%d+:([^:\n]*):([^\n]*)") do
        local here = controllers == "" and kind == "cgroup2" or controllers ~= "" and options:find(controllers, 1, true)
        if here then roots[point .. path], roots[point .. path:gsub("/[^/]*$", "")] = true, true end
      end
    end
  end
  return roots
end

function snap.cgroups(ours)
  local found = {}
  for root in pairs(helper.cgroup_roots()) do cgroups_below(root, "^nsbox", found, ours) end
  return found
end

local function runtime_folder()
  if helper.root() then return "/run/nsbox" end
  local xdg = os.getenv("XDG_RUNTIME_DIR")
  return xdg and xdg .. "/nsbox" or "/tmp/nsbox-" .. helper.uid
end

local watched = false -- detached boxes, too: those of others, who may run as the same user, look just like ours

-- Not the file whose bytes root's callers lock for ranges of ids: it stays, and is empty.
function snap.runtime(ours)
  local found, locks = {}, runtime_folder() .. "/ids"
  local function walk(path)
    for _, name in ipairs(helper.names(path)) do
      local child = path .. "/" .. name
      if child ~= locks and not foreign(name, ours) and (watched or name ~= "boxes" and name ~= "names") then
        found[child] = lfs.symlinkattributes(child, "mode")
        if found[child] == "directory" then walk(child) end
      end
    end
  end
  walk(runtime_folder())
  return found
end

function snap.process()
  local status = status_of("self")
  local ids = { "Uid", "Gid", "Groups", "Umask", "Threads", "CapEff", "SigBlk", "SigIgn", "SigCgt" }
  local state = { cwd = lfs.currentdir() }
  for _, key in ipairs(ids) do state[key] = status[key] end
  for _, name in ipairs(helper.names("/proc/self/ns")) do
    state["namespace " .. name] = lfs.symlinkattributes("/proc/self/ns/" .. name, "target")
  end
  return state
end

local function look()
  local all, ours = {}, own_processes()
  for kind, take in pairs(snap) do all[kind] = take(ours) end
  return all
end

local function snapshot()
  collectgarbage()
  collectgarbage()
  return look()
end

--- What changed, as sorted lines; empty when nothing did.
function helper.compare(before, after)
  local lines = {}
  for kind, was in pairs(before) do
    local is = after[kind]
    for key, text in pairs(was) do
      if is[key] == nil then
        lines[#lines + 1] = ("%s: gone: %s %s"):format(kind, key, text)
      elseif is[key] ~= text then
        lines[#lines + 1] = ("%s: changed: %s: %s -> %s"):format(kind, key, text, is[key])
      end
    end
    for key, text in pairs(is) do
      if was[key] == nil then lines[#lines + 1] = ("%s: left behind: %s %s"):format(kind, key, text) end
    end
  end
  table.sort(lines)
  return lines
end

helper.snapshot = snapshot

local warm

--- The first box of this process: makes the keeper and what else is made once, so that both counts hold it.
function helper.warm()
  if warm then return end
  local result, err = require("nsbox").run("busybox", { "true" })
  warm = assert(result, "the first box did not start: " .. tostring(err))
  require("nsbox").run("busybox", { "true" }, { userns = "host" }) -- root's: this caller's cgroups
end

local outside

--- The same for boxes that are not below the keeper (namespaces.pid = false): they have a keeper of their own.
function helper.warm_outside()
  outside = outside or assert(require("nsbox").run("busybox", { "true" }, { namespaces = { pid = false } }))
end

local detached

--- For a file's setup: what the first detached box makes, and stays: folders, and the keeper of what is added to it.
function helper.warm_detached()
  helper.warm_outside()
  detached = detached
    or assert(assert(require("nsbox").start("busybox", { "true" }, { detach = true, name = "first" })):destroy())
end

-- What garbage holds is no change. It is collected only where there would be one: that takes the longer, the more specs
-- are loaded. Answers what is there, and how it differs.
local function differs(before)
  local now = look()
  local lines = helper.compare(before, now)
  if #lines > 0 then
    now = snapshot()
    lines = helper.compare(before, now)
  end
  return now, lines
end

--- Every test from here on must leave the host as it found it.
--- options.outside: the file starts boxes that share the caller's pids.
--- options.detached: the file starts detached boxes; nobody else of this user does meanwhile.
--- options.cold: makes no first box (the spec starts none). options.settle: what ends by itself may take a while.
function helper.leakcheck(options)
  options = options or {}
  local before
  busted.before_each(function()
    watched = options.detached or false
    if not options.cold then helper.warm() end
    if options.outside then helper.warm_outside() end
    before = before and differs(before) or snapshot()
  end)
  busted.after_each(function()
    local deadline = busted.monotime() + (options.settle and helper.PATIENCE or 0)
    local now, lines = differs(before)
    while #lines > 0 and busted.monotime() < deadline do
      busted.sleep(0.02)
      now, lines = differs(before)
    end
    before = now
    if #lines > 0 then error(("'%s' left the host changed:\n%s"):format(latest, table.concat(lines, "\n")), 0) end
  end)
end

return helper
