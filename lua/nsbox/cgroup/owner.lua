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
  return setmetatable({ owner = core.self(), by_parent = {}, paths = {} }, held_mt)
end

local held = new_held()

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

local function make(parent)
  local own, message, errno
  sweep(parent)
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

--- This caller's cgroup below `parent`, made at first need: its folder | nil, message, errno. It goes with the caller.
local function of(parent)
  if held.owner ~= core.self() then
    held = new_held()
  end
  local own, message, errno = held.by_parent[parent], nil, nil
  if not own or not is_kept(own) then
    own, message, errno = make(parent)
    held.by_parent[parent] = own
  end
  return own and own.path, message, errno
end

return { of = of, sweep = sweep }
