-- Shared by specs, and by their scripts: cgroups one in the other, as a box may make them.
local sys = require "nsbox.sys"

local NAME = ("d"):rep(200) -- a path of twenty is too long for the kernel

local function join(folder, command)
  local r, w = sys.pipe2() -- exec closes it
  local pid = assert(sys.clone(sys.SIGCHLD, function()
    assert(sys.write_file(folder, "cgroup.procs", "0"))
    sys.execve("/bin/busybox", { "sh", "-c", command }, {})
  end))
  w:close()
  assert(sys.read(r) == "")
  r:close()
  return pid
end

-- There is an empty one beside it, before and behind.
local function descend(folder)
  for _, name in ipairs { "a", NAME, "z" } do assert(sys.mkdirat(folder, name, "0755")) end
  return assert(sys.openat(folder, NAME, "rdonly,directory"))
end

--- Makes `levels` of them below a folder, and in each `every`th a process that runs this command of sh. state: of the
-- freezer, for those that have one. Answers the processes' pids.
return function(folder, levels, every, command, state)
  local pids, busy, at = {}, {}, assert(sys.open(folder, "rdonly,directory"))
  for i = 1, levels do
    local below = descend(at)
    if not busy[at] then at:close() end
    at = below
    if i % every == 0 then
      pids[#pids + 1] = join(at, command)
      busy[at] = true
    end
  end
  for held in pairs(busy) do -- nobody joins one that is frozen
    if state then assert(sys.write_file(held, "freezer.state", state)) end
    held:close()
  end
  return pids
end
