-- tool.lua: a program of the host's that does what its caller may not: by its fixed path, in no box, with an empty
-- environment (but what its caller names) and nothing open but what it says is wrong.

local launch = require "nsbox.launch"
local sys = require "nsbox.sys"

local ENVIRONMENT = { "LC_ALL=C" }
local MAX_TEXT = 4096 -- of what a program says

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

-- In plain letters, on one line.
local function said(reading)
  sys.nonblock(reading, true)
  local text = sys.read(reading, MAX_TEXT) or ""
  return (text:gsub("%s+$", ""):gsub("[%c\x80-\xff]", "?"))
end

--- The same, to its end or for so many seconds, and it is gone then: "exit" | "signal" | "no end", its status, one line
-- of what it said was wrong | nil, err.
local function run(paths, words, seconds, environment)
  local reading, writing = sys.pipe2()
  if not reading then
    return nil, writing
  end
  local errors <close> = reading
  local its_end <close> = writing
  local process <close>, err = start(paths, words, its_end, nil, environment)
  if not process then
    return nil, err
  end
  local how, status = sys.waitid(process, seconds)
  return how or "no end", status, said(errors)
end

return { start = start, run = run }
