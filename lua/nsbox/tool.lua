-- tool.lua: a program of the host's that does what its caller may not: by its fixed path, in no box, with an empty
-- environment (but what its caller names) and nothing open but what it says is wrong.

local launch = require "nsbox.launch"
local sys = require "nsbox.sys"

local ENVIRONMENT = { "LC_ALL=C" }

-- keeper: whether it runs as root of the keeper's user namespace.
local function plan_of(paths, words, keeper, environment)
  local steps = {
    { "clone", "vm,files", side = "parent", why = "a helper that shares the caller's memory" },
    { "prctl", "set_pdeathsig", "kill", why = "die with the caller" },
    { "getppid", expect = "@owner", why = "the caller lived until this guard stood" },
    { "clone", "vm,vfork,parent", why = "the program's process" },
    { "prctl", "set_pdeathsig", "kill", why = "die with the caller while it is set up" },
    { "close_fds", why = "nothing of the caller's stays open" },
    { "dup3", "@null", 0, why = "it reads nothing" },
    { "dup3", "@null", 1, why = "it says nothing" },
    { "dup3", "@errors", 2, why = "but what is wrong" },
    { "execve", paths, words, environment or ENVIRONMENT, why = "the host's own program" },
  }
  if keeper then
    table.insert(steps, 4, { "setns", "@keeper", "newuser", why = "which has all ids of the caller's boxes" })
    table.insert(steps, 5, { "prctl", "set_pdeathsig", "kill", why = "again: that may have cleared it" })
  end
  return steps
end

--- Starts the first program of a list that is there. words: its arguments, its name first; errors: what takes its
-- stderr, a descriptor, nil: nothing; keeper: as root of that keeper's user namespace; environment: "NAME=TEXT" each.
-- The process | nil, err, errno.
local function start(paths, words, errors, keeper, environment)
  local null <close>, message, errno = sys.open("/dev/null", "rdwr")
  if not null then
    return nil, message, errno
  end
  return launch.run { plan = plan_of(paths, words, keeper, environment), verb = "start",
    inputs = { null = null, errors = errors or null, keeper = keeper } }
end

return { start = start }
