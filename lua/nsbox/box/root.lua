-- box/root.lua: the root of a running box, from outside.

local sys = require "nsbox.sys"

--- A descriptor (O_PATH) of the root that the main process of a task has, as it is mounted there now. What is looked
-- up in it belongs to the box, whose programs may change it at any moment: openat2 with in_root and no_magiclinks.
-- nil, message, errno.
local function open(task)
  local root, message, errno = sys.open(("/proc/%d/root"):format(task.process:pid()), "path,directory")
  if root and task.process:poll() then -- the number may be somebody else's by now
    root:close()
    return nil, "the box has ended", sys.ESRCH
  end
  return root, message, errno
end

return { open = open }
