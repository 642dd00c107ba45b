-- Shared by the specs that end a caller: that nothing of it is left.
local box = require "spec.box"
local helper = require "spec.helper"
local sys = require "nsbox.sys"

local gone = {}

-- Keepers whose owner is dead: the pidfd they watch says so.
local function orphaned_keepers()
  local found = {}
  for _, pid in ipairs(helper.names "/proc") do
    if pid:match "^%d+$" and helper.read("/proc/" .. pid .. "/comm") == "nsbox-keeper\n" then
      local owner = (helper.read("/proc/" .. pid .. "/fdinfo/1") or ""):match "Pid:%s*(%-?%d+)"
      if owner == "-1" then found[#found + 1] = tonumber(pid) end
    end
  end
  return found
end

local EXITING = 4 -- PF_EXITING of /proc/PID/stat: it waits until the host's process 1 has reaped what was below it

local function alive(pids)
  local found = {}
  for _, pid in ipairs(pids) do
    local state, flags = (helper.read(("/proc/%d/stat"):format(pid)) or ""):match "%) (%a) %S+ %S+ %S+ %S+ %S+ (%d+)"
    if state and state ~= "Z" and state ~= "X" and tonumber(flags) & EXITING == 0 then found[#found + 1] = pid end
  end
  return found
end

local function words(pids)
  for i, pid in ipairs(pids) do
    pids[i] = ("%d %s"):format(pid, (helper.read("/proc/" .. pid .. "/cmdline") or "?"):gsub("%z", " "))
  end
  return table.concat(pids, "\n")
end

--- Soon no process with this marker lives, none of `children` (pids of a caller that is dead by now), and no
-- keeper of any such caller.
function gone.assert(marker, children, what)
  local deadline = sys.clock() + helper.PATIENCE
  local left
  repeat
    left = alive(box.pids(marker))
    table.move(alive(children or {}), 1, 100, #left + 1, left)
    table.move(alive(orphaned_keepers()), 1, 100, #left + 1, left)
    if #left == 0 then return end
    sys.nanosleep(0.005)
  until sys.clock() > deadline
  error(("%s: left after %g s:\n%s"):format(what, helper.PATIENCE, words(left)), 2)
end

return gone
