-- detach/state.lua: what is known of detached boxes, in files of their user:
--
--   RUNTIME/boxes/ID/     state (pack.lua), lock (its worker holds it), socket, the logs
--   RUNTIME/boxes/new-ID  one that is being made; gone-ID: one that is being removed
--   RUNTIME/names/NAME    a link to the ID

local core = require "nsbox.core"
local owner = require "nsbox.owner"
local pack = require "nsbox.pack"
local sys = require "nsbox.sys"

local VERSION = 1
local TRIES = 100
local OTHERS_WRITE = 18 -- 0022

local function folder_of(name)
  return owner.runtime() .. "/" .. name
end

local function path_of(id)
  return folder_of "boxes" .. "/" .. id
end

-- ---- one box's folder ----

local function read(path)
  local f, message, errno = io.open(path .. "/state", "rb")
  if not f then
    return nil, message, errno
  end
  local text = f:read "a"
  f:close()
  local record = text and pack.decode(text)
  if type(record) ~= "table" or record.version ~= VERSION then
    return nil, path .. "/state: not of this version of nsbox", sys.EPROTO
  end
  return record
end

--- Writes a box's record into its folder: all of it or nothing. true | nil, message, errno.
local function write(path, record)
  record.version = VERSION
  local text = assert(pack.encode(record))
  local f, message, errno = io.open(path .. "/state.new", "wb")
  if not f then
    return nil, message, errno
  end
  local ok
  ok, message, errno = f:write(text)
  local closed, why, number = f:close()
  if not ok or not closed then
    return nil, message or why, errno or number
  end
  return sys.rename(path .. "/state.new", path .. "/state", 0)
end

-- Folders are made by us alone, for us alone: another's could have us signal what it likes.
local function check_own(path)
  local stat, message, errno = sys.lstat(path)
  if not stat then
    return nil, message, errno
  elseif stat.type ~= "dir" then
    return nil, path .. ": not a folder", sys.ENOTDIR
  elseif stat.uid ~= sys.geteuid() then
    return nil, path .. ": belongs to another user", sys.EPERM
  elseif tonumber(stat.mode, 8) & OTHERS_WRITE ~= 0 then
    return nil, path .. ": others may write to it (chmod go-w)", sys.EPERM
  end
  return true
end

--- The record of a box | nil, message, errno (EPERM, ENOTDIR: its folder is not ours).
local function load(id)
  for _, path in ipairs { owner.runtime(), folder_of "boxes", path_of(id) } do
    local ok, message, errno = check_own(path)
    if not ok then
      return nil, message, errno
    end
  end
  return read(path_of(id))
end

--- Whether the worker of the box at a path lives. Where that cannot be known, for want of descriptors, it may.
local function is_alive(path)
  local lock <close>, _, errno = sys.open(path .. "/lock", "rdonly,nofollow")
  if not lock then
    return errno ~= sys.ENOENT
  end
  local ok
  ok, _, errno = sys.flock(lock, "sh,nb")
  return not ok and errno == sys.EAGAIN
end

local function read_kernel(path)
  local f, message, errno = io.open(path)
  if not f then
    return nil, message, errno
  end
  local text
  text, message, errno = f:read "a"
  f:close()
  if not text or text == "" then
    return nil, message or "it has ended", errno or sys.ESRCH
  end
  return text
end

--- Which process is meant by a pid that another may get: the boot, clock ticks since, and the number of the pidfd's
-- inode, which Linux 6.9 gives to one process alone: within a tick, 10 ms, a pid may be given anew. proc(5).
-- fd: a pidfd of it. nil, message, errno: ENOENT or ESRCH when there is none. A record may outlive a boot, in /tmp.
local function started_at(pid, fd)
  local text, message, errno = read_kernel(("/proc/%d/stat"):format(pid))
  if not text then
    return nil, message, errno
  end
  local boot, stat
  boot, message, errno = read_kernel "/proc/sys/kernel/random/boot_id"
  if not boot and errno ~= sys.ENOENT then
    return nil, message, errno
  end
  stat, message, errno = sys.fstat(fd)
  if not stat then
    return nil, message, errno
  end
  local ticks = text:match "%) (.*)":match(("%S+ "):rep(19) .. "(%d+)")
  return ("%s %s %d"):format((boot or "?"):match "%S+", ticks, stat.ino)
end

-- ---- names ----

-- Names are given and taken away one at a time.
local function lock_names()
  local lock, message, errno = sys.open(folder_of "names" .. "/.lock", "rdwr,creat,nofollow", "0600")
  if not lock then
    return nil, message, errno
  end
  local ok
  repeat
    ok, message, errno = sys.flock(lock, "ex")
  until ok or errno ~= sys.EINTR
  if not ok then
    lock:close()
    return nil, message, errno
  end
  return lock
end

local function link_of(name)
  return folder_of "names" .. "/" .. name
end

local function is_taken(name)
  local id = sys.readlink(link_of(name))
  return id and (sys.lstat(path_of(id)) or is_alive(path_of("new-" .. id)))
end

local function claim_name(name, id)
  local lock <close>, message, errno = lock_names()
  if not lock then
    return nil, message, errno
  elseif is_taken(name) then
    return nil, ("the name %s is taken by box %s"):format(name, sys.readlink(link_of(name))), sys.EEXIST
  end
  sys.unlink(link_of(name))
  return sys.symlink(id, link_of(name))
end

local function drop_name(name, id)
  local lock <close> = lock_names()
  if lock and sys.readlink(link_of(name)) == id then
    sys.unlink(link_of(name))
  end
end

-- ---- from making to removal ----

local making = {}
local making_mt = { __index = making }

local function prepare()
  for _, path in ipairs { owner.runtime(), folder_of "boxes", folder_of "names" } do
    local ok, message, errno = owner.make_folder(path)
    if not ok then
      return nil, message, errno
    end
  end
  owner.sweep(folder_of "boxes", "^%l+%-%x+$")
  return true
end

-- A sweep may hold the lock for a moment before we do.
local function new_folder()
  local path, lock, message, errno
  for _ = 1, TRIES do
    local id = core.random_id()
    path = path_of("new-" .. id)
    lock, message, errno = sys.mkdir(path, "0700")
    if lock then
      lock, message, errno = owner.lock(path)
      local folder
      if lock then
        folder, message, errno = sys.open(path, "rdonly,directory,nofollow")
      end
      if folder then
        return setmetatable({ id = id, path = path, lock = lock, folder = folder }, making_mt)
      end
    end
    if errno ~= sys.EAGAIN and errno ~= sys.EEXIST and errno ~= sys.ENOENT then
      break
    end
  end
  return nil, message, errno
end

--- The folder of a new box, locked by this process for as long as it lives, and its name (may be nil):
-- { id, path, lock, folder = its descriptor } | nil, message, errno (EEXIST: the name is taken).
local function create(name)
  local ok, message, errno = prepare()
  if not ok then
    return nil, message, errno
  end
  local m
  m, message, errno = new_folder()
  if not m then
    return nil, message, errno
  end
  if name then
    ok, message, errno = claim_name(name, m.id)
    if not ok then
      m:drop()
      return nil, message, errno
    end
    m.name = name
  end
  return m
end

--- From now on the box can be found. true | nil, message, errno.
function making:publish(record)
  local ok, message, errno = write(self.path, record)
  if ok then
    ok, message, errno = sys.rename(self.path, path_of(self.id), "noreplace")
  end
  if not ok then
    return nil, message, errno
  end
  self.path = path_of(self.id)
  return true
end

--- Gives the folder and the name up.
function making:drop()
  if self.name then
    drop_name(self.name, self.id)
  end
  owner.remove_tree(self.path)
  self.lock:close()
end

--- Removes a box whose worker has ended, and its name: true | false while the worker lives, or may live.
local function remove(record)
  local path, gone = path_of(record.id), path_of("gone-" .. record.id)
  local lock <close>, _, errno = owner.lock(path)
  if not lock and errno ~= sys.ENOENT then
    return false
  end
  if sys.rename(path, gone, 0) then
    owner.remove_tree(gone)
  end
  if record.name then
    drop_name(record.name, record.id)
  end
  return true
end

-- ---- looking ----

--- The ids of all boxes of this user.
local function ids()
  local list = {}
  for _, name in ipairs(sys.readdir(folder_of "boxes") or {}) do
    if name:match "^%x+$" then
      list[#list + 1] = name
    end
  end
  return list
end

--- The id that a name, an id or the unique beginning of one stands for | nil, message, errno.
local function find(what)
  local found = {}
  for _, id in ipairs(ids()) do
    if id == what then
      return id
    elseif what ~= "" and id:sub(1, #what) == what then
      found[#found + 1] = id
    end
  end
  local id = what:match "^%w[%w_.-]*$" and sys.readlink(link_of(what))
  if id and sys.lstat(path_of(id)) then
    return id
  elseif #found > 1 then
    return nil, ("%s may be %s"):format(what, table.concat(found, " or ")), sys.EEXIST
  elseif not found[1] then
    return nil, "no such box: " .. what, sys.ENOENT
  end
  return found[1]
end

return {
  path_of = path_of,
  read = read,
  write = write,
  load = load,
  is_alive = is_alive,
  started_at = started_at,
  create = create,
  remove = remove,
  ids = ids,
  find = find,
}
