-- cli/forward.lua: the signals that the nsbox command gets while its box runs are the box's.

local box = require "nsbox.box"
local core = require "nsbox.core"
local process = require "nsbox.process"
local sys = require "nsbox.sys"
local wait = require "nsbox.wait"

local signals = { sys.SIGINT, sys.SIGTERM, sys.SIGHUP }

-- A task for wait.lua.
local forwarding = {}
local forwarding_mt = { __index = forwarding }

-- The kernel drops what process 1 has no handler for: whoever asks a second time means it.
local function forward(self)
  local signo = core.next_signal(self.fd)
  if not signo or self.task.how then
    return
  end
  self.count = self.count + 1
  if self.task.is_pid1 and not self.task:handles(signo) then
    signo = self.count > 1 and sys.SIGKILL or signo
  end
  self.task.process:kill(signo)
end

function forwarding:rows(rows)
  rows[#rows + 1] = { fd = self.fd, events = "in", serve = forward, task = self }
end

function forwarding:patience()
  return self and 60
end

function forwarding:turned()
  return self
end

--- As nsbox.run; INT, TERM and HUP go to the command, also those that come before it runs. They stay blocked.
local function run(image, cmd, opts)
  local fd <close> = core.signals(table.unpack(signals))
  local b <close>, err, errno = box.open("run", image, cmd, opts)
  if not b then
    return nil, err, errno
  end
  local self = setmetatable({ fd = fd, task = process.task_of(b), count = 0, owner = core.self() }, forwarding_mt)
  if fd then
    wait.add(self)
  end
  local result
  result, err, errno = b:wait()
  wait.remove(self)
  return result, err, errno
end

return { run = run }
