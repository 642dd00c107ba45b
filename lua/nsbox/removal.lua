-- removal.lua: what a box has left on disk with ids that its caller, without root's rights, may not remove: its
-- subordinate ones. Root of the keeper's user namespace may.

local launch = require "nsbox.launch"
local probe = require "nsbox.probe"
local sys = require "nsbox.sys"

local PATIENCE = 600 -- seconds

local programs = { "/bin/rm", "/usr/bin/rm" }

local function plan_of(path)
  return {
    { "clone", "vm,files", side = "parent", why = "a helper that shares the caller's memory" },
    { "prctl", "set_pdeathsig", "kill", why = "die with the caller" },
    { "getppid", expect = "@owner", why = "the caller lived until this guard stood" },
    { "setns", "@keeper", "newuser", why = "the keeper's user namespace, which has all ids of the caller's boxes" },
    { "prctl", "set_pdeathsig", "kill", why = "again: a change of namespaces may have cleared it" },
    { "clone", "vm,vfork,parent", why = "the program's process" },
    { "prctl", "set_pdeathsig", "kill", why = "die with the caller while it is set up" },
    { "close_fds", why = "nothing of the caller's stays open" },
    { "dup3", "@null", 0, why = "it reads nothing" },
    { "dup3", "@null", 1, why = "it says nothing" },
    { "dup3", "@null", 2, why = "it says nothing" },
    { "execve", programs, { "rm", "-rf", "--", path }, {}, why = "the host's own rm, which follows no link" },
  }
end

--- Removes a folder with all in it. Tried, no more: nothing is said. Nothing for root, who needs no help, and for a
-- caller whose boxes have no other ids than its own.
local function remove(path)
  local host = probe.host()
  if host.root.ok then
    return
  end
  local loaded, keepers = pcall(require, "nsbox.keeper") -- its file may be one descriptor too many
  local keeper = loaded and keepers.get(host)
  local null <close> = sys.open("/dev/null", "rdwr")
  if not (keeper and keeper.maps.setgroups and null) then
    return
  end
  local process <close> = launch.run { plan = plan_of(path), verb = "start", inputs = { keeper = keeper, null = null } }
  if process then
    sys.waitid(process, PATIENCE)
  end
end

return { remove = remove }
