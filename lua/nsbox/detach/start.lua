-- detach/start.lua: the caller's side of a detached start: the arguments are checked here, and handed to a worker.

local E = require "nsbox.error"
local core = require "nsbox.core"
local launch = require "nsbox.launch"
local message = require "nsbox.detach.message"
local options = require "nsbox.options"
local pack = require "nsbox.pack"
local sys = require "nsbox.sys"
local wait = require "nsbox.wait"

-- ---- what may be handed over ----

local words = {
  stdin = { null = true },
  stdout = { log = true, null = true },
  stderr = { log = true, null = true, stdout = true },
}

local function check_streams(opts)
  if opts.fds ~= nil and next(opts.fds) ~= nil then
    E.misuse "nsbox.start: option 'fds' cannot be handed to a box that outlives its caller"
  end
  for _, name in ipairs { "stdin", "stdout", "stderr" } do
    local v = opts[name]
    if v ~= nil and not words[name][v] then
      E.misuse("nsbox.start: option '%s' of a box that outlives its caller must be %s, got %s", name,
        name == "stdin" and '"null" (or give input)' or '"log" or "null"',
        type(v) == "string" and '"' .. v .. '"' or "a " .. type(v))
    end
  end
end

-- Here, so that misuse is raised at the caller's line; the worker checks the same again.
local function check(cmd, opts)
  local o, err, errno = options.check("start", opts)
  if not o then
    return nil, err, errno
  end
  local ok
  ok, err, errno = options.command("start", cmd, o)
  if not ok then
    return nil, err, errno
  end
  check_streams(opts)
  local _, bad = pack.encode(opts)
  if bad then
    bad = bad:match "^value 1%.([%w_]+)" or bad
    E.misuse("nsbox.start: option '%s' cannot be handed to a box that outlives its caller: plain values can", bad)
  end
  return true
end

local function absolute(path)
  if path == nil or path:sub(1, 1) == "/" then
    return path
  end
  return (sys.getcwd() or "") .. "/" .. path
end

local function request_of(image, cmd, opts)
  local request = { image = image, cmd = cmd, opts = {} }
  for name, v in pairs(opts) do
    request.opts[name] = v
  end
  request.opts.store = absolute(opts.store) -- it is used to the end, and the worker leaves the folder
  return request
end

-- ---- the worker ----

local function interpreter()
  local given = os.getenv "NSBOX_LUA" -- of a program that embeds Lua, say
  if given and given ~= "" then
    return given
  end
  local own = sys.readlink "/proc/self/exe"
  if own and own:match "/lua%-?5?%.?4?$" then
    return own
  end
  return core.LUA
end

local function absolute_templates(path)
  return (path:gsub("[^;]+", absolute))
end

local function script()
  return ("package.path=%q package.cpath=%q require'nsbox.worker'.main()"):format(absolute_templates(package.path),
    absolute_templates(package.cpath))
end

-- Not made by plan.lua: the worker is no box. It shares all with the caller but its session, and outlives it.
local function plan_of()
  return {
    { "clone", "vm,files", side = "parent", why = "a helper that shares the caller's memory" },
    { "prctl", "set_pdeathsig", "kill", why = "die with the caller" },
    { "getppid", expect = "@owner", why = "the caller lived until this guard stood" },
    { "clone", "vm,vfork,parent", why = "the worker" },
    { "prctl", "set_pdeathsig", "kill", why = "die with the caller while it is set up" },
    { "close_fds", why = "nothing of the caller's stays open" },
    { "dup3", "@socket", 0, why = "the request, and the answer" },
    { "dup3", "@null", 1, why = "it says nothing" },
    { "dup3", "@null", 2, why = "it says nothing" },
    { "setsid", why = "its own session: no terminal, and no keys reach it" },
    { "prctl", "set_pdeathsig", 0, why = "it outlives the caller" },
    { "execve", { interpreter() }, { "nsbox-worker", "-E", "-e", script() }, core.environ(),
      why = "Lua with nsbox.worker" },
  }
end

local function failure(text, errno, hint)
  return E.fail { kind = "setup", verb = "start", message = "the worker: " .. tostring(text), errno = errno,
    name = errno and core.errno_name(errno) or nil, hint = hint }
end

local function start_worker(socket)
  local null <close>, text, errno = sys.open("/dev/null", "rdwr")
  if not null then
    return failure(text, errno)
  end
  local process <close>, err, number = launch.run { plan = plan_of(), verb = "start",
    inputs = { socket = socket, null = null } }
  if not process then
    return nil, err, number
  end
  sys.waitid(process) -- it goes on in a child of its own, at once
  return true
end

local function answer_of(mine)
  wait.wait(function() return sys.poll({ { fd = mine, events = "in" } }, 0) == 1 end, nil,
    { { fd = mine, events = "in" } })
  local answer = message.receive(mine)
  if not answer then
    return failure("it ended before the box was started", nil,
      ("%s must be Lua 5.4, and find nsbox by package.path and package.cpath"):format(interpreter()))
  elseif answer.raised then
    error(answer.raised, 0)
  elseif answer.error then
    return nil, E.new(answer.error), answer.error.errno
  end
  return answer.id
end

--- Starts a box below a worker of its own. Its id | nil, err, errno, as start.start; raises on misuse.
local function start(image, cmd, opts)
  local ok, err, errno = check(cmd, opts)
  if not ok then
    return nil, err, errno
  elseif type(image) ~= "string" then
    E.misuse("nsbox.start: the image of a box that outlives its caller must be named, got a %s", type(image))
  end
  local mine, its
  mine, its, errno = sys.socketpair()
  if not mine then
    return failure(its, errno)
  end
  local my_end <close> = mine
  local its_end <close> = its
  ok, err, errno = start_worker(its_end)
  if not ok then
    return nil, err, errno
  end
  its_end:close()
  ok, err, errno = message.send(my_end, request_of(image, cmd, opts))
  if not ok and errno ~= sys.EPIPE then
    return failure(err, errno)
  end
  return answer_of(my_end)
end

return { start = start }
