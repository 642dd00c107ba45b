-- box/processes.lua: box:processes().

local E = require "nsbox.error"
local core = require "nsbox.core"
local file = require "nsbox.probe.file"
local handle = require "nsbox.process.handle"
local members = require "nsbox.box.members"

local function name_of(pid)
  return (file.read(("/proc/%d/comm"):format(pid)) or ""):match "^(.-)\n?$"
end

local function arguments(pid)
  local list = {}
  for word in (file.read(("/proc/%d/cmdline"):format(pid)) or ""):gmatch "([^\0]*)\0" do
    list[#list + 1] = word
  end
  return list
end

--- processes() -> list of { pid, inside, name, state, ppid, command } | nil, err, errno, ordered by `inside`, the
-- number in the box; pid and ppid are the host's. state: the letter of proc(5), R S D T Z; name: at most 15 bytes;
-- command: a list, which the process itself may have changed, empty for one that has ended. Of a box that shares the
-- caller's pids: its main process, those that were added, and all that descend from them. {} when it has ended.
local function processes(self)
  local task, err = handle.open(self, "processes")
  if not task then
    return nil, err
  elseif task:look() then
    return {}
  end
  local rows, message, errno = members.list(task)
  if not rows and task:look() then
    return {}
  elseif not rows then
    return E.fail { kind = "setup", verb = "processes", message = message, errno = errno,
      name = core.errno_name(errno) }
  end
  local list = {}
  for i, row in ipairs(rows) do
    list[i] = { pid = row.pid, inside = row.inside, ppid = row.ppid, state = row.state, name = name_of(row.pid),
      command = arguments(row.pid) }
  end
  return list
end

return { processes = processes }
