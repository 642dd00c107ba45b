-- Shared by the specs of the core: hand-made plans, performed in shared memory and as copies.
local assert = require "luassert"
local core = require "nsbox.core"
local helper = require "spec.helper"
local sys = require "nsbox.sys"

local start = {
  BUSYBOX = "/bin/busybox",
  GUARD = { "prctl", "set_pdeathsig", "kill" },
  HOP = { "clone", "vm,vfork,parent" },
  WAY = { "clone", "vm,files,vfork,parent" }, -- a hop on the way to the last: its pidfd is the caller's, too
}

--- Steps that nobody else has: launching marks each with its number.
function start.copy_of(steps)
  local list = {}
  for i, step in ipairs(steps) do
    list[i] = {}
    for k, v in pairs(step) do list[i][k] = v end
  end
  return list
end

--- What the kernel may take a moment to show.
function start.eventually(what, test)
  local deadline = sys.clock() + helper.PATIENCE
  while not test() do
    assert(sys.clock() < deadline, what)
    sys.nanosleep(0.002)
  end
end

--- Whether a process has this state letter; one that is not there has none, and is dead.
function start.in_state(pid, state)
  return (helper.read(("/proc/%d/stat"):format(pid)) or ") Z"):find(") " .. state, 1, true) ~= nil
end

--- The steps in the box's process, guarded.
function start.guarded(steps)
  return { start.GUARD, start.HOP, start.GUARD, table.unpack(steps) }
end

function start.exec(...)
  return { "execve", { start.BUSYBOX }, { ... }, {} }
end

--- open, follow, perform and output for "shared memory" or "copies".
function start.mode(mode)
  local m = { copying = mode == "copies" }

  function m.open(steps, inputs, options)
    options = options or {}
    options.copy = m.copying
    return core.launch(start.copy_of(steps), inputs or {}, "vm,files", options)
  end

  --- To the first event that is no barrier. Half a minute is for ever: a hang shows as "again".
  function m.follow(launch, at_barrier)
    while true do
      local event, a, b, c = launch:next(30)
      if event ~= "barrier" then return event, a, b, c end
      assert(launch:go(at_barrier(a, b, c)))
    end
  end

  --- Answers the event; a process that was started is waited for, and answers its status.
  function m.perform(steps, inputs, at_barrier, options)
    local launch <close> = assert(m.open(steps, inputs, options))
    local event, a, b, c = m.follow(launch, at_barrier)
    if event == "started" then
      local process <close> = a
      return event, sys.waitid(process, 30)
    end
    if c then c:close() end
    return event, a, b
  end

  --- The output of a plan that ends in a program; the pipe's end is the slot "out". inputs: more slots.
  function m.output(steps, inputs)
    local r, w = sys.pipe2()
    local reading <close> = r
    local writing <close> = w
    local list = start.guarded { { "close_fds" }, { "dup3", "@out", 1 }, table.unpack(steps) }
    local all = { out = writing }
    for name, fd in pairs(inputs or {}) do all[name] = fd end
    local launch <close> = assert(m.open(list, all))
    local event, process, errno = m.follow(launch)
    assert.equal("started", event, ("step %s errno %s"):format(process, errno))
    local _ <close> = process
    writing:close()
    local text = {}
    repeat
      text[#text + 1] = assert(sys.read(reading))
    until text[#text] == ""
    assert.same({ "exit", 0 }, { sys.waitid(process, 30) })
    return table.concat(text)
  end

  return m
end

return start
