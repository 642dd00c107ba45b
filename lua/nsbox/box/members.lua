-- box/members.lua: the processes of a box, as the host's /proc shows them.
--
-- Those of its pid namespace and of all below. Of a box that shares the caller's pids: the main process, those that
-- were added, and their descendants. One whose parents have all ended is nobody's then, and is not found.

local file = require "nsbox.probe.file"
local sys = require "nsbox.sys"

-- proc(5). Status has the state of the first thread alone.
local function read(pid)
  local text = file.read(("/proc/%d/status"):format(pid))
  local state, ppid, numbers = (text or ""):match "\nState:%s*(%a).-\nPPid:%s*(%d+).-\nNSpid:%s*([%d\t]+)"
  if not state then
    return nil
  end
  local row = { pid = pid, state = state, ppid = tonumber(ppid), numbers = {},
    threads = tonumber(text:match "\nThreads:%s*(%d+)") }
  for number in numbers:gmatch "%d+" do
    row.numbers[#row.numbers + 1] = tonumber(number)
  end
  return row
end

-- A /proc of another pid namespace would number other processes by the same numbers.
local function each()
  if sys.readlink "/proc/self" ~= tostring(sys.getpid()) then
    return nil, "/proc is not of the caller's pid namespace", sys.ENOENT
  end
  local entries, message, errno = sys.readdir "/proc"
  if not entries then
    return nil, message, errno
  end
  local rows = {}
  for _, name in ipairs(entries) do
    local pid = name:match "^%d+$"
    local row = pid and read(tonumber(pid))
    if row then
      rows[row.pid] = row
    end
  end
  return rows
end

local function space_of(pid)
  return sys.readlink(("/proc/%d/ns/pid"):format(pid))
end

-- A namespace of its own is the box's, whoever entered it; a process whose name of it may not be read has its parent's.
local function belongs(row, rows, box)
  if row.member == nil then
    local parent = rows[row.ppid]
    row.member = box.roots[row.pid] or #row.numbers >= box.depth and parent ~= nil and belongs(parent, rows, box)
      or box.space ~= nil and #row.numbers == box.depth and space_of(row.pid) == box.space
  end
  return row.member
end

local function roots_of(task, pid)
  local roots = { [pid] = true }
  for added in pairs(task.added) do
    if added:fileno() and not added:poll() then
      roots[added:pid() or pid] = true
    end
  end
  return roots
end

--- Its processes now, as a list of { pid =, ppid =, inside =, state =, threads = }, by their number in the box
-- | nil, message, errno.
local function list(task)
  local rows, message, errno = each()
  if not rows then
    return nil, message, errno
  end
  local pid = task.process:pid()
  local main, found = rows[pid], {}
  if not main then
    return nil, ("/proc does not show process %d"):format(pid or 0), sys.ESRCH
  end
  local box = { roots = roots_of(task, pid), depth = #main.numbers, space = task.is_pid1 and space_of(pid) or nil }
  for _, row in pairs(rows) do
    if belongs(row, rows, box) then
      row.inside = row.numbers[box.depth]
      found[#found + 1] = row
    end
  end
  table.sort(found, function(a, b) return a.inside < b.inside end)
  return found
end

return { list = list, read = read }
