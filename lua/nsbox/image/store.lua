-- image/store.lua: the folder that holds images.

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

--- Makes store/name by `build(folder)`, or uses what is there: all of it or nothing is ever seen under its name.
-- Returns the path | nil, err or message, errno of build.
local function once(path, name, build)
  local final = path .. "/" .. name
  if sys.lstat(final) then
    return final
  end
  local staging, message, errno = owner.folder(path)
  if not staging then
    return nil, message, errno
  end
  local part = ("%s/%s"):format(staging, name)
  owner.remove_tree(part)
  local ok
  ok, message, errno = sys.mkdir(part, "0755")
  if ok then
    ok, message, errno = build(part)
  end
  if ok then
    ok, message, errno = sys.rename(part, final, "noreplace")
    if not ok and errno == sys.EEXIST then -- another process was first, with the same contents
      owner.remove_tree(part)
      return final
    end
  end
  if not ok then
    owner.remove_tree(part)
    return nil, message, errno
  end
  return final
end

return { open = open, once = once }
