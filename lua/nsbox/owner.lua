-- owner.lua: folders that belong to this process, and the removal of those whose process is gone.
--
-- BASE/owner-PID-NUMBER/ holds what would be left on disk, with a file `lock` that its owner keeps locked.
-- The kernel gives the lock back when the owner dies, so whoever gets it may remove the folder.

local core = require "nsbox.core"
local removal = require "nsbox.removal"
local sys = require "nsbox.sys"

local MAX_ROUNDS = 1000000 -- of removal, one for each level of folders; no process that makes more can hold us for ever

local OTHERS_WRITE = 18 -- 0022

local folders = {} -- base -> { path, lock, owner }

--- Whether this process is root of a system that is root's: in a user namespace that may be others'.
local function of_root()
  if sys.geteuid() ~= 0 then
    return false
  end
  local stat = sys.stat "/var/lib"
  return not stat or stat.uid == 0
end

--- nsbox's runtime folder: $XDG_RUNTIME_DIR/nsbox, else /tmp/nsbox-UID; as root of a system /run/nsbox. Not made yet.
local function runtime()
  if of_root() then
    return "/run/nsbox"
  end
  local xdg = os.getenv "XDG_RUNTIME_DIR"
  return xdg and xdg:sub(1, 1) == "/" and xdg .. "/nsbox" or "/tmp/nsbox-" .. sys.geteuid()
end

-- A folder's descriptor. Its mode is made to allow all to its owner: overlay leaves folders that nobody may read.
local function open_folder(parent, name)
  local at <close> = sys.openat(parent, name, "path,directory,nofollow")
  if not at then
    return nil
  end
  sys.chmod(("/proc/self/fd/%d"):format(at:fileno()), "0700")
  return sys.openat(at, ".", "rdonly,directory")
end

local function remove_entry(folder, name)
  return sys.unlinkat(folder, name, 0) or sys.unlinkat(folder, name, "removedir")
end

-- Folders in a folder go up into `top`: however deep a tree is, its paths stay short and few descriptors are open.
-- Returns whether anything went.
local function empty_into(top, folder)
  local some = false
  for _, name in ipairs(sys.readdir(folder) or {}) do
    local gone = remove_entry(folder, name)
    if not gone then
      local _ <close> = open_folder(folder, name) -- one without write permission cannot be moved
      gone = sys.rename(("/proc/self/fd/%d/%s"):format(folder:fileno(), name),
        ("/proc/self/fd/%d/removed-%s"):format(top:fileno(), core.random_id()), "noreplace")
    end
    some = some or gone
  end
  return some
end

-- Returns whether anything went: what is left then was in folders in folders.
local function remove_round(top)
  local some = false
  for _, name in ipairs(sys.readdir(top) or {}) do
    local gone = remove_entry(top, name)
    local folder <close> = not gone and open_folder(top, name) or nil
    if folder then
      gone = empty_into(top, folder)
      gone = remove_entry(top, name) or gone
    end
    some = some or gone
  end
  return some
end

local function remove_folder(path)
  local top <close> = open_folder("cwd", path)
  local rounds = 0
  while top and rounds < MAX_ROUNDS and remove_round(top) do
    rounds = rounds + 1
  end
  return sys.rmdir(path)
end

--- Removes a file, a link or a folder with all in it: by descriptors, and never through a link, for what lies there was
-- written by a box, and a process that is left of it may still be at work. Where files of other ids are in the way, by
-- their root. Returns what the last rmdir does.
local function remove_tree(path)
  if sys.unlink(path) then
    return true
  end
  local ok, message, errno = remove_folder(path)
  if not ok and (errno == sys.ENOTEMPTY or errno == sys.EACCES) and sys.lstat(path) then
    removal.remove(path)
    ok, message, errno = sys.rmdir(path)
    ok = ok or errno == sys.ENOENT
  end
  return ok, message, errno
end

--- Makes a folder 0700 with its parents. true | nil, message, errno. One that is not ours is refused.
local function make_folder(path)
  local ok, message, errno = sys.mkdir(path, "0700")
  if not ok and errno == sys.ENOENT then
    local parent = path:match "^(.+)/[^/]+$"
    if parent then
      local made, why, number = make_folder(parent)
      if not made then
        return nil, why, number
      end
      ok, message, errno = sys.mkdir(path, "0700")
    end
  end
  if not ok and errno ~= sys.EEXIST then
    return nil, message, errno
  end
  local stat, why, number = sys.lstat(path)
  if not stat then
    return nil, why, number
  end
  if stat.type ~= "dir" then
    return nil, path .. ": not a folder", sys.ENOTDIR
  end
  return true, stat
end

local function make_own_folder(path)
  local ok, stat, errno = make_folder(path)
  if not ok then
    return nil, stat, errno
  end
  if stat.uid ~= sys.geteuid() then
    return nil, path .. ": belongs to another user", sys.EPERM
  elseif tonumber(stat.mode, 8) & OTHERS_WRITE ~= 0 then
    return nil, path .. ": others may write to it (chmod go-w)", sys.EPERM
  end
  return true
end

-- Who waited to open it may hold a lock whose folder somebody else has swept, or made anew, meanwhile.
local function is_there(lock, path)
  local own, now = sys.fstat(lock), sys.lstat(path)
  return own and now and own.ino == now.ino and own.dev == now.dev
end

--- Locks a folder, for as long as this process lives: the lock | nil, message, errno (EAGAIN: another has it).
local function take_lock(path)
  local lock, message, errno = sys.open(path .. "/lock", "rdwr,creat,nofollow", "0600")
  if not lock then
    return nil, message, errno
  end
  local ok, why, number = sys.flock(lock, "ex,nb")
  if not ok then
    lock:close()
    return nil, why, number
  elseif not is_there(lock, path .. "/lock") then
    lock:close()
    return nil, path .. ": swept by another process", sys.EAGAIN
  end
  return lock
end

-- A new folder without its lock yet is a moment old: left alone, by age.
local function stale(path)
  local stat = sys.lstat(path)
  if not stat or stat.type ~= "dir" or stat.uid ~= sys.geteuid() then
    return nil
  end
  if not sys.lstat(path .. "/lock") and os.time() - stat.mtime < 60 then
    return nil
  end
  return take_lock(path)
end

--- Removes below `base` what dead owners left, in folders whose names match the pattern. Returns how many.
local function sweep(base, pattern)
  local n = 0
  for _, name in ipairs(sys.readdir(base) or {}) do
    if name:match(pattern or "^owner%-%d+%-%d+$") then
      local path = base .. "/" .. name
      local lock <close> = stale(path)
      if lock then
        remove_tree(path)
        n = n + 1
      end
    end
  end
  return n
end

local function claim(base)
  local ok, message, errno = make_own_folder(base)
  if not ok then
    return nil, message, errno
  end
  sweep(base)
  for number = 1, 1000 do
    local path = ("%s/owner-%d-%d"):format(base, sys.getpid(), number)
    ok, message, errno = sys.mkdir(path, "0700")
    if ok then
      local lock
      lock, message, errno = take_lock(path)
      if lock then
        return { path = path, lock = lock, owner = core.self() }
      end
      sys.rmdir(path)
    end
    if errno ~= sys.EEXIST and errno ~= sys.EAGAIN and errno ~= sys.ENOENT then
      break
    end
  end
  return nil, message, errno
end

local function let_go(folder)
  if folder.owner == core.self() then
    remove_tree(folder.path)
    folder.owner = nil
  end
  folder.lock:close()
end

--- This process's folder below `base`, made and locked at first use; it goes with the Lua state, or with
-- the next sweep after a death. path | nil, message, errno.
local function folder(base)
  local own = folders[base]
  if own and own.owner ~= core.self() then
    own.lock:close()
    own = nil
  end
  if not own then
    local message, errno
    own, message, errno = claim(base)
    if not own then
      return nil, message, errno
    end
    folders[base] = setmetatable(own, { __gc = let_go })
  end
  return own.path
end

--- Gives this process's folder below `base` up: it is removed now. folder() makes another.
local function forget(base)
  local own = folders[base]
  folders[base] = nil
  if own then
    let_go(own)
  end
end

return {
  of_root = of_root,
  runtime = runtime,
  folder = folder,
  forget = forget,
  sweep = sweep,
  remove_tree = remove_tree,
  make_folder = make_own_folder,
  lock = take_lock,
}
