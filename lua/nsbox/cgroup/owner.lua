-- cgroup/owner.lua: the cgroup of this caller, one a hierarchy, below which its boxes' are: nsbox-PID-HEX. A lock on
-- its folder, which nobody else can open, says that the caller lives; the keeper has the same lock, and removes the
-- cgroup when the caller is gone. What two deaths left is known by its name, and by a lock that nobody has.

local core = require "nsbox.core"
local keeper = require "nsbox.keeper"
local kill = require "nsbox.cgroup.kill"
local sys = require "nsbox.sys"

local NAME = "^nsbox%-%d+%-%x+$"
local SWEEP = 5 -- seconds for what a dead caller left
local TRIES = 3

-- At the end of the Lua state; a fork leaves them to their maker.
local held_mt = { __name = "nsbox.cgroup.owner", __gc = function(held)
  if held.owner == core.self() then
    kill.finish(held.paths, sys.clock() + SWEEP)
  end
end }

-- Of a fork it is its maker's. paths: in the order in which they were made.
local function new_held()
  return setmetatable({ owner = core.self(), by_parent = {}, swept = {}, paths = {} }, held_mt)
end

local held -- made after the keeper: of what ends with the Lua state the last made is the first

local function lock(folder)
  local fd, message, errno = sys.open(folder, "rdonly,directory")
  if not fd then
    return nil, message, errno
  end
  local ok
  ok, message, errno = sys.flock(fd, "ex,nb")
  if not ok then
    fd:close()
    return nil, message, errno
  end
  return fd
end

--- Removes what callers that are gone left below a cgroup. Returns how many.
local function sweep(parent)
  local n = 0
  for _, name in ipairs(sys.readdir(parent) or {}) do
    local path = parent .. "/" .. name
    local stat = name:find(NAME) and sys.lstat(path)
    if stat and stat.type == "dir" and stat.uid == sys.geteuid() then
      local fd <close> = lock(path)
      if fd and kill.finish({ path }, sys.clock() + SWEEP) then
        n = n + 1
      end
    end
  end
  return n
end

-- Another caller may sweep it before it is locked: nothing is in it then. One that is there after that stays.
local function make_once(parent)
  local name = ("nsbox-%d-%s"):format(sys.getpid(), core.random_id())
  local path = parent .. "/" .. name
  local ok, fd, duty, message, errno
  ok, message, errno = sys.mkdir(path, "0700")
  if not ok then
    return nil, message, errno
  end
  fd, message, errno = lock(path)
  if fd and not sys.stat(path) then
    message, errno = "it was swept", sys.ENOENT
  elseif fd then
    duty, message, errno = keeper.remove_later(fd, name)
  end
  if not duty then
    sys.rmdir(path)
    if fd then
      fd:close()
    end
    return nil, message, errno
  end
  table.insert(held.paths, path)
  return { path = path, name = name, fd = fd, duty = duty, euid = sys.geteuid() }
end

-- Those that somebody has removed, as with the cgroup above.
local function forget_gone()
  for parent, own in pairs(held.by_parent) do
    if not sys.stat(own.path) then
      keeper.drop(own.duty)
      own.fd:close()
      held.by_parent[parent] = nil
    end
  end
  for i = #held.paths, 1, -1 do
    if not sys.stat(held.paths[i]) then
      table.remove(held.paths, i)
    end
  end
end

-- What a caller left may be in more hierarchies than the next one's box is in. A freezer is first: what it holds does
-- not die.
local function sweep_all(places)
  local all = { places.v1.freezer or false, places.v2 or false }
  for _, some in ipairs { places.v1, places.named } do
    for _, place in pairs(some) do
      all[#all + 1] = place
    end
  end
  for _, place in ipairs(all) do
    local parent = place and (place.folder or place.bare)
    if parent and not held.swept[parent] then
      held.swept[parent] = true
      sweep(parent)
    end
  end
end

local function make(parent, places)
  local own, message, errno
  forget_gone()
  sweep_all(places)
  for _ = 1, TRIES do
    own, message, errno = make_once(parent)
    if own or errno ~= sys.EAGAIN and errno ~= sys.ENOENT then
      break
    end
  end
  return own, message, errno
end

-- It was made, and is there. A keeper that was killed had a duty, which the next one gets.
local function is_kept(own)
  if own.euid ~= sys.geteuid() or not sys.stat(own.path) then
    return false
  end
  if keeper.died(own.duty.keeper, 0) then
    own.duty = keeper.remove_later(own.fd, own.name) or own.duty
  end
  return true
end

--- This caller's cgroup of a hierarchy, made at first need: its folder | nil, message, errno. It goes with the caller.
-- places: as of tree.places_for; parent: the folder of the one that it is to be below.
local function of(parent, places)
  local mine = held and held.owner == core.self()
  local own = mine and held.by_parent[parent]
  if own and is_kept(own) then
    return own.path
  end
  local ok, message, errno = keeper.be_ready()
  if not ok then
    return nil, message, errno
  end
  held = mine and held or new_held()
  own, message, errno = make(parent, places)
  held.by_parent[parent] = own
  return own and own.path, message, errno
end

return { of = of, sweep = sweep }
