-- image/layer.lua: a folder on disk that takes a box's writes, where memory cannot (tmpfs before Linux 6.6).

local store = require "nsbox.image.store"

--- An empty folder of this process in the store, { path }, to be closed: that removes it with all that was written.
-- nil, message, errno.
local function open(id, store_path)
  local path, message, errno = store.open(store_path)
  if not path then
    return nil, message, errno
  end
  return store.scratch(path, "layer-" .. id)
end

return { open = open }
