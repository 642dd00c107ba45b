-- image/store.lua: the folder that holds images.

local core = require "nsbox.core"
local owner = require "nsbox.owner"
local sys = require "nsbox.sys"

--- $XDG_DATA_HOME/nsbox, else ~/.local/share/nsbox; as root of a system /var/lib/nsbox. nil, message without a home.
local function default()
  if owner.of_root() then
    return "/var/lib/nsbox"
  end
  local data, home = os.getenv "XDG_DATA_HOME", os.getenv "HOME"
  if data and data:sub(1, 1) == "/" then
    return data .. "/nsbox"
  elseif home and home:sub(1, 1) == "/" then
    return home .. "/.local/share/nsbox"
  end
  return nil, "neither XDG_DATA_HOME nor HOME is set: give store = a folder", sys.ENOENT
end

--- The store's path, made 0700 if it is missing | nil, message, errno.
local function open(path)
  local message, errno
  if not path then
    path, message, errno = default()
    if not path then
      return nil, message, errno
    end
  end
  local ok
  ok, message, errno = owner.make_folder(path)
  if not ok then
    return nil, message, errno
  end
  return path
end

local scratch_mt = { __name = "nsbox.scratch", __close = function(scratch)
  owner.remove_tree(scratch.path)
end }

--- An empty folder of this process below the store's path, { path }, to be closed: that removes it with all in it.
-- name: used once. nil, message, errno.
local function scratch(path, name)
  local folder, message, errno = owner.folder(path)
  if not folder then
    return nil, message, errno
  end
  folder = folder .. "/" .. name
  local ok
  ok, message, errno = sys.mkdir(folder, "0755")
  if not ok then
    return nil, message, errno
  end
  return setmetatable({ path = folder }, scratch_mt)
end

--- Makes store/name by `build(folder, final)`, or uses what is there: all of it or nothing is ever seen under its name,
-- which is the path `final`. Where build waits, another coroutine that comes meanwhile makes its own, as another
-- process does: nobody depends on one that may never go on. The first that is ready is kept.
-- Returns the path | nil, err or message, errno of build.
local function once(path, name, build)
  local final = path .. "/" .. name
  if sys.lstat(final) then
    return final
  end
  local part <close>, message, errno = scratch(path, ("%s-%s"):format(name, core.random_id()))
  if not part then
    return nil, message, errno
  end
  local ok
  ok, message, errno = build(part.path, final)
  if ok then
    ok, message, errno = sys.rename(part.path, final, "noreplace")
  end
  if not ok and not sys.lstat(final) then -- another may have been first, with the same contents
    return nil, message, errno
  end
  return final
end

return { open = open, scratch = scratch, once = once }
