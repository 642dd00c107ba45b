-- image/layer.lua: a folder on disk that takes a box's writes, where memory cannot (tmpfs before Linux 6.6).

local owner = require "nsbox.owner"
local store = require "nsbox.image.store"
local sys = require "nsbox.sys"

local layer_mt = { __name = "nsbox.layer" }

function layer_mt.__close(layer)
  owner.remove_tree(layer.path)
end

--- An empty folder of this process in the store, to be closed: that removes it with all that was written.
-- nil, message, errno.
local function open(id, store_path)
  local path, message, errno = store.open(store_path)
  if not path then
    return nil, message, errno
  end
  path, message, errno = owner.folder(path)
  if not path then
    return nil, message, errno
  end
  path = path .. "/layer-" .. id
  local ok
  ok, message, errno = sys.mkdir(path, "0755")
  if not ok then
    return nil, message, errno
  end
  return setmetatable({ path = path }, layer_mt)
end

return { open = open }
