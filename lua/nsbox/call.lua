-- call.lua: a Lua function in a box. The box's process does not become a program: it goes on as a copy of the caller's,
-- runs the function and sends its results through a pipe.

local E = require "nsbox.error"
local core = require "nsbox.core"
local handle = require "nsbox.process.handle"
local pack = require "nsbox.pack"
local process = require "nsbox.process"
local start = require "nsbox.start"
local sys = require "nsbox.sys"
local wait = require "nsbox.wait"

local MOST = 64 << 20 -- bytes of results
local MOST_TEXT = 1 << 20 -- of a message, and of a traceback
local HEAD = 8 -- bytes in front, that say how many follow

local RETURNED, RAISED = true, false
local YIELDED = "attempt to yield out of the function of a call"

-- ---- in the box ----

local function send(fd, text)
  local at = 1
  text = string.pack("<s8", text)
  while at <= #text do
    local n, message, errno = sys.write_nosig(fd, text, at)
    if n then
      at = at + n
    elseif errno ~= sys.EINTR then
      error("nsbox: the results could not be sent: " .. message, 0)
    end
  end
end

local function text_of(raised)
  local mt = debug.getmetatable(raised)
  if type(raised) == "string" or math.type(raised) or mt and (mt.__tostring or mt.__name) then
    local ok, text = pcall(tostring, raised)
    return ok and text or "(error object whose __tostring fails)"
  end
  return ("(error object is a %s value)"):format(type(raised))
end

local returned = pack.pack { RETURNED, n = 1 }

local function raised(message, traceback)
  return pack.pack { RAISED, message:sub(1, MOST_TEXT), traceback and traceback:sub(1, MOST_TEXT), n = 3 }
end

local function packed(results)
  local text, why = pack.pack(results, MOST)
  if text then
    return RETURNED, returned .. text
  end
  return RAISED, raised(why)
end

local function separate(first, ...)
  return first, table.pack(...)
end

-- In a coroutine of its own: a yield ends here, and a traceback has the function's lines and not the caller's.
local function perform(fn, args)
  local co = coroutine.create(fn)
  local ok, results = separate(coroutine.resume(co, table.unpack(args, 1, args.n)))
  local yielded = coroutine.status(co) == "suspended"
  if ok and not yielded then
    return packed(results)
  end
  local message = yielded and YIELDED or text_of(results[1])
  local traceback = debug.traceback(co, message)
  coroutine.close(co) -- its to-be-closed variables
  return RAISED, raised(message, traceback)
end

-- os.exit(n, true) would end the caller's objects.
local function exit(status)
  core.flush()
  sys._exit(math.type(status) == "integer" and status & 255 or status == false and 1 or 0)
end

-- The process is a copy of the caller's: what that waits for, writes to and would do at its end is not for here.
local function settle(environment)
  wait.reset()
  core.settle(environment)
  io.input(io.stdin)
  io.output(io.stdout)
  io.stdout:setvbuf "line" -- what was written before a kill is there
  os.exit = exit -- luacheck: ignore
end

local function inside(fd, environment, fn, args)
  settle(environment)
  local self = core.self()
  local ok, message = perform(fn, args)
  core.flush()
  if self == core.self() then -- a fork of the function's has nothing to say
    send(fd, message)
  end
  sys._exit(ok and 0 or 1)
end

-- ---- in the caller ----

-- The message, when all of it has come: its parts | nil.
local function parts_of(buffer)
  local text = buffer:contents()
  if #text < HEAD or #text - HEAD ~= string.unpack("<I8", text) then
    return nil
  end
  local parts = pack.unpack(text:sub(HEAD + 1))
  return parts and type(parts[1]) == "boolean" and parts or nil
end

local function how_text(result)
  return tostring(result):match ": ([^:]*)$"
end

local function failure(verb, parts, result)
  if parts then
    local traceback = type(parts[3]) == "string" and parts[3] or nil
    return E.fail { kind = "call", verb = verb, message = tostring(parts[2]), traceback = traceback, result = result }
  elseif result.reason == "timeout" then
    return E.fail { kind = "timeout", verb = verb, message = "the function had not returned in time", result = result,
      errno = sys.ETIMEDOUT, name = "ETIMEDOUT" }
  end
  return E.fail { kind = "call", verb = verb, result = result,
    message = ("the process ended before the function had returned: %s"):format(how_text(result)) }
end

-- Waits for the end, and answers what the function did.
local function outcome(verb, task, pipe)
  local buffer, rows = core.buffer(MOST + HEAD, false), { { fd = pipe, events = "in" } }
  local function fill() -- more than a pipe holds, and no more: who writes on without end keeps nobody waiting
    if buffer:fill(pipe) == 0 then
      rows[1] = nil -- its end is always ready
    end
  end
  wait.wait(function()
    fill()
    return handle.over(task)
  end, nil, rows, task)
  fill()
  local result, err, errno = handle.answer(task)
  if not result then
    return nil, err, errno
  end
  local parts = parts_of(buffer)
  if parts and parts[1] == RETURNED then
    return table.unpack(parts, 1, parts.n)
  end
  return failure(verb, parts, result)
end

local function check(verb, fn)
  wait.check_allowed(verb)
  if type(fn) ~= "function" then
    E.misuse("nsbox.%s: a function expected, got %s", verb, type(fn) == "table" and "a table" or tostring(fn))
  elseif core.several_threads() then
    return E.fail { kind = "unsupported", verb = verb,
      message = "the process has several threads: a copy of it could wait for ever for a lock that one of them holds",
      hint = "call it before threads are started, or run a program" }
  end
  return true
end

local function failed(verb, message, errno)
  return start.setup_failure(verb, "results", message, errno)
end

--- Runs a function in the process that `begin` starts. begin(copying) answers the handle of a process whose plan ends
-- in `return`, or nil, err, errno. copying: inputs, the plan's more descriptors; child(fd, environment), for the copy,
-- which never comes back. Answers what nsbox.call does.
local function run(verb, begin, fn, args)
  local ok, err, errno = check(verb, fn)
  if not ok then
    return nil, err, errno
  end
  local none <close>, message, number = sys.open("/dev/null", "path")
  if not none then
    return failed(verb, message, number)
  end
  local r, w
  r, w, number = sys.pipe2()
  if not r then
    return failed(verb, w, number)
  end
  local reading <close> = r
  local writing <close> = w
  sys.nonblock(reading, true)
  core.flush()
  collectgarbage() -- what is garbage now would be finalized in the copy, too
  local added <close>, why, err_number = begin {
    inputs = { result = writing, none = none },
    child = function(fd, environment) core.last(inside, fd, environment, fn, args) end,
  }
  if not added then
    return nil, why, err_number
  end
  writing:close()
  return outcome(verb, process.task_of(added), reading)
end

--- call(image, fn, opts, ...) -> true, results… | nil, err, errno. Runs fn(...) in a fresh box, as its main process: a
-- copy of this program, so that fn has copies of its arguments, its upvalues and the loaded modules; what it changes of
-- them is gone with it. Results are plain data (nil, booleans, numbers, strings, tables without metatables or
-- cycles), 64 MiB at most. opts: as of nsbox.run without entrypoint and check; stdout and stderr are inherited unless
-- they say otherwise; with "capture" err.result has them.
-- kind "call": fn raised (err.message, err.traceback), its results are no plain data, or its process ended before it
-- had returned (err.result says how: os.exit, a signal); kind "timeout"; or why the box could not be started. kind
-- "unsupported" in a program with threads. Raises on misuse.
-- Programs that fn starts in the box as its own user can read the copied memory.
local function call(image, fn, opts, ...)
  return run("call", function(copying)
    return start.start("call", image, { "nsbox.call" }, opts, process.new, { copying = copying })
  end, fn, table.pack(...))
end

return { call = call, run = run }
