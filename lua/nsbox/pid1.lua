-- pid1.lua: the init of a box as its caller sees it, or what becomes the command: its program, and the channel on which
-- it tells of the command.

local core = require "nsbox.core"
local sys = require "nsbox.sys"

local SLICE = 60   -- seconds; a signal ends the wait at once, so that Lua's own hooks run
local MESSAGE = 8  -- bytes; struct nsb_status in csrc/init.h
local STARTED = "s"
local LATE = "late"

local handle_mt = { __name = "nsbox.pid1", __index = {} }

local function let_go(handle)
  for _, fd in pairs(handle.inputs) do
    fd:close()
  end
end

function handle_mt.__close(handle)
  let_go(handle)
  handle.status:close()
end

-- One message: its kind, the number in it, what came along | "" when init has ended without a word | LATE.
local function told(handle, process, seconds)
  local rows = { { fd = handle.status, events = "in" }, { fd = process, events = "in" } }
  local deadline = sys.clock() + (seconds or math.huge)
  local n
  repeat
    n = sys.poll(rows, math.max(0, math.min(SLICE, deadline - sys.clock())))
    if n == 0 and sys.clock() >= deadline then
      return LATE
    end
  until n and n > 0
  local data, fd
  if rows[1].revents then
    data, fd = sys.recvfd(handle.status, MESSAGE, 1)
  end
  if not data or #data < MESSAGE then
    return ""
  end
  local kind, number = string.unpack("=i4i4", data)
  return string.char(kind), number, type(fd) == "userdata" and fd:fileno() and fd or nil
end

--- Waits until init has told whether the command runs. True, and the process's status is the command's from here on |
-- nil, kind, errno, root: "x" it could not be exec'ed, with the box's root or nil, "c" there could be no process for
-- it, "t" it could not have the terminal, "" init was killed, "late" it has told nothing in so many seconds, if given.
function handle_mt.__index.confirm(handle, process, seconds)
  let_go(handle) -- its end is init's alone: that init ends shows
  local kind, errno, root = told(handle, process, seconds)
  if not handle.init and kind == "" then -- exec has closed it
    return true
  elseif kind ~= STARTED then
    return nil, kind, errno, root
  end
  process:status_from(handle.status)
  return true
end

-- A step of the plan that gives a number to the program would move the channel, and init be told the program's.
local function apart(fd, fds)
  local taken, tries, message, errno = {}, {}, nil, nil
  for _, n in ipairs(fds) do
    taken[n] = true
  end
  while fd and taken[fd:fileno()] do
    tries[#tries + 1] = fd
    fd, message, errno = sys.dup(fd)
  end
  for _, other in ipairs(tries) do
    other:close()
  end
  return fd, message, errno
end

--- For one start with these parameters (param.of), in which the program gets the numbers of the list fds: a handle, to
-- be closed, with inputs, slot name -> descriptor | nil, message, errno. The number of the channel goes into the words
-- for init. init: false where the command takes its place; what it tells then is why it could not.
local function open(params, fds, init)
  local program, message, errno = core.init_program()
  if not program then
    return nil, message, errno
  end
  local mine, its
  mine, its, errno = sys.socketpair()
  if not mine then
    program:close()
    return nil, its, errno
  end
  its, message, errno = apart(its, fds)
  if not its then
    program:close()
    mine:close()
    return nil, message, errno
  end
  params.init_argv[2] = tostring(its:fileno())
  return setmetatable({ init = init, status = mine, inputs = { program = program, status = its } }, handle_mt)
end

return { open = open }
