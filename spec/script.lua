-- Shared by specs that end the caller: Lua scripts in an interpreter of their own, by pid.
local assert = require "luassert"
local helper = require "spec.helper"
local sys = require "nsbox.sys"

local script = {}

local passed = { "PATH", "HOME", "TMPDIR", "XDG_RUNTIME_DIR", "LANG", "NSBOX_CLONE", "NSBOX_LUA",
  "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS" }

local function environment(more)
  local list = { "LUA_PATH=" .. package.path, "LUA_CPATH=" .. package.cpath }
  for _, name in ipairs(passed) do
    if os.getenv(name) then list[#list + 1] = name .. "=" .. os.getenv(name) end
  end
  for name, value in pairs(more or {}) do list[#list + 1] = name .. "=" .. value end
  return list
end

local interpreter

local function find_interpreter()
  if not interpreter then
    local pipe = assert(io.popen("command -v " .. helper.quote(helper.lua)))
    interpreter = assert(pipe:read "l", "no " .. helper.lua)
    pipe:close()
  end
  return interpreter
end

local methods = {}

--- The next line of the script's output | nil at its end, or after `seconds` (helper.PATIENCE).
function methods.line(s, seconds)
  local deadline = sys.clock() + (seconds or helper.PATIENCE)
  while true do
    local line, rest = s.text:match "^([^\n]*)\n(.*)$"
    if line then
      s.text = rest
      return line
    end
    local n = sys.poll({ { fd = s.out, events = "in" } }, math.max(0, deadline - sys.clock()))
    local chunk = n == 1 and sys.read(s.out) or nil
    if not chunk or chunk == "" then return nil end
    s.text = s.text .. chunk
  end
end

function methods.signal(s, name)
  assert(sys.kill(s.pid, name))
end

--- Waits for the script's end: "exit", code | "signal", number | nil, "timeout".
function methods.wait(s, seconds)
  local how, code = sys.waitid(s.pid, seconds or helper.PATIENCE)
  s.ended = how ~= nil
  return how, code
end

--- The host's pids of its children.
function methods.children(s)
  local list = {}
  for pid in (helper.read(("/proc/%d/task/%d/children"):format(s.pid, s.pid)) or ""):gmatch "%d+" do
    list[#list + 1] = tonumber(pid)
  end
  return list
end

local mt = { __index = methods }

function mt.__close(s)
  if not s.ended then
    sys.kill(s.pid, "kill")
    sys.waitid(s.pid, 10)
    s.ended = true
  end
  s.out:close()
end

--- Starts a script; it finds `marker` in arg[1] and its output is read by line(). To be closed, which kills it.
--- options: marker, env (name -> value), before (function in the new process, before exec), wrapper (list of words).
function script.start(text, options)
  options = options or {}
  local path = helper.tmpdir() .. "/script.lua"
  helper.write(path, text)
  local words = { find_interpreter(), path, options.marker or "-" }
  for i, word in ipairs(options.wrapper or {}) do table.insert(words, i, word) end
  local env = environment(options.env)
  local r, w = sys.pipe2()
  local pid, why = sys.clone(sys.SIGCHLD, function()
    assert(sys.dup3(w, 1))
    if options.before then options.before() end
    error(select(2, sys.execve(words[1], words, env)))
  end)
  w:close()
  assert(pid, why)
  return setmetatable({ pid = pid, out = r, text = "" }, mt)
end

--- A function for scripts: check(opts, code) runs a box that ends with this code.
script.CHECK = [[
  local function check(opts, code)
    local r, err = nsbox.run("busybox", { "sh", "-c", "echo out; exit " .. (code or 0) }, opts)
    assert(r, tostring(err))
    assert(r.reason == "exit" and r.code == (code or 0) and r.stdout == "out\n", tostring(r))
  end
]]

local function checked(text, options)
  text = ("io.stdout:setvbuf 'line'\nlocal nsbox = require 'nsbox'\nlocal sys = nsbox.sys\n%s\nprint 'done'")
    :format(text)
  return script.start(text, options)
end

local function assert_success(s)
  local said = {}
  for line in function() return s:line(4 * helper.PATIENCE) end do said[#said + 1] = line end
  assert.equal("done", table.concat(said, "\n"))
  assert.same({ "exit", 0 }, { s:wait() })
end

--- Runs a script, in which nsbox and sys are loaded, to its good end; what it prints is its complaint.
function script.succeeds(text, options)
  local s <close> = checked(text, options)
  assert_success(s)
end

--- The same of several at once, each with its own nsbox: for those that wait.
function script.all_succeed(texts)
  local list <close> = setmetatable({}, { __close = function(all)
    for _, s in ipairs(all) do mt.__close(s) end
  end })
  for i, text in ipairs(texts) do list[i] = checked(text) end
  for _, s in ipairs(list) do assert_success(s) end
end

--- For a script: each box's process waits, once its descriptors are closed, at a barrier called "spec".
script.barrier = [[
  local plan = require "nsbox.plan"
  local steps_of = plan.steps_of
  function plan.steps_of(...)
    local steps = {}
    for i, step in ipairs(steps_of(...)) do
      steps[#steps + 1] = step
      if step[1] == "close_fds" then
        steps[#steps + 1] = { "barrier", "spec", side = "child", why = "the spec" }
      end
    end
    return steps
  end
]]

return script
