-- removal.lua: what a box has left on disk with ids that its caller, without root's rights, may not remove: its
-- subordinate ones. Root of the keeper's user namespace may.

local probe = require "nsbox.probe"
local sys = require "nsbox.sys"
local tool = require "nsbox.tool"

local PATIENCE = 600 -- seconds

local programs = { "/bin/rm", "/usr/bin/rm" }

--- Removes a folder with all in it. Tried, no more: nothing is said. Nothing for root, who needs no help, and for a
-- caller whose boxes have no other ids than its own.
local function remove(path)
  local host = probe.host()
  if host.root.ok then
    return
  end
  local loaded, keepers = pcall(require, "nsbox.keeper") -- its file may be one descriptor too many
  local keeper = loaded and keepers.get(host)
  if not (keeper and keeper.maps.setgroups) then
    return
  end
  local process <close> = tool.start(programs, { "rm", "-rf", "--", path }, nil, keeper) -- it follows no link
  if process then
    sys.waitid(process, PATIENCE)
  end
end

return { remove = remove }
