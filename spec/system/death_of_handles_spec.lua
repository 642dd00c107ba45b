-- The caller ends while it holds handles of all kinds and is in the middle of every verb: what it started goes with it,
-- but a detached box.
local box = require "spec.box"
local gone = require "spec.gone"
local helper = require "spec.helper"
local nsbox = require "nsbox"
local script = require "spec.script"
local sys = require "nsbox.sys"
helper.leakcheck { settle = true, outside = true }

-- A script with four boxes, and more processes in each: one as usual, one with an init, one that shares the caller's
-- pids, a detached one called `name`; and one to be paused. `verbs` are what it may be in the middle of, each for ever.
local CAST = [[
  local nsbox = require "nsbox"
  local sys, marker, name = nsbox.sys, arg[1], %q
  local FOREVER = "trap '' TERM; while :; do usleep 20000; done"
  local SILENT = { "sh", "-c", FOREVER, marker }
  local PIPES = { stdin = "pipe", stdout = "pipe", stderr = "pipe" }
  local function start(opts) return assert(nsbox.start("busybox", SILENT, opts)) end
  local plain, with_init, shared = start(), start { init = true, tty = true }, start { namespaces = { pid = false } }
  local detached = assert(nsbox.start("busybox", { "sh", "-c", FOREVER }, { detach = true, name = name }))
  local other = start()
  local boxes, kept = { plain, with_init, shared, detached }, {}
  for i, b in ipairs(boxes) do
    assert(b:exec { "true" })
    kept[i] = { assert(b:spawn(SILENT)), assert(b:spawn(SILENT, { tty = true })), assert(b:spawn(SILENT, PIPES)) }
  end
  local function idle()
    sys.nanosleep(0.02)
    return 1
  end
  local function one(verb)
    return function(b, i) return verb(b, kept[i]) end
  end
  local verbs = {
    wait = one(function(b) return b:wait() end),
    communicate = one(function(_, p) return p[3]:communicate(("x"):rep(1 << 20)) end),
    expect = one(function(_, p) return p[2]:expect "never" end),
    connect = one(function(b) return b:connect(80) end),
    read = one(function(_, p) return p[3].stdout:read "a" end),
    exec = one(function(b)
      while true do assert(b:exec { "sh", "-c", "usleep 2000; true", marker }) end
    end),
    spawn = one(function(b)
      while true do
        local p <close> = assert(b:spawn(SILENT))
        nsbox.sleep(0.001)
      end
    end),
    run = one(function()
      while true do assert(nsbox.run("busybox", { "sh", "-c", "usleep 2000; true", marker })) end
    end),
    start = one(function(_, _)
      while true do
        local b <close> = assert(nsbox.start("busybox", SILENT, { namespaces = { pid = math.random(2) == 1 } }))
        nsbox.sleep(0.001)
      end
    end),
    call = one(function()
      while true do assert(nsbox.call("busybox", idle)) end
    end),
    box_call = one(function(b)
      while true do assert(b:call(idle)) end
    end),
    pause = one(function()
      while true do
        assert(other:pause())
        assert(other:resume())
        nsbox.sleep(0.001)
      end
    end),
    stop = one(function(_, p) return p[1]:stop(100) end),
    wait_any = one(function() return nsbox.wait_any(boxes) end),
    sleep = one(function() return nsbox.sleep(100) end),
  }
  local names = {}
  for n in pairs(verbs) do names[#names + 1] = n end
  table.sort(names)
  local function ready() io.write("ready\n"):flush() end
]]

-- Starts it, lets `finish` end it, and looks at what is left: the detached box, without what was added to it. Answers
-- a function that destroys it: that waits until the host's process 1 has reaped what was added, which takes its time.
local function begin(text, what, finish)
  local marker, name = box.marker(), box.marker()
  local s <close> = script.start(CAST:format(name) .. text, { marker = marker, before = function()
    sys.dup3(assert(sys.open("/dev/null", "rdwr")), 2)
  end })
  helper.cleanup(function()
    local left = nsbox.box(name)
    if left then left:destroy() end
  end)
  assert.equal("ready", s:line(), what)
  local children = s:children()
  for i = #children, 1, -1 do -- the worker of the detached box lives on
    local comm = helper.read(("/proc/%d/comm"):format(children[i]))
    if comm ~= "nsbox-keeper\n" and #helper.names(("/proc/%d/task"):format(children[i])) > 0
      and (helper.read(("/proc/%d/cmdline"):format(children[i])) or ""):find("nsbox.worker", 1, true) then
      table.remove(children, i)
    end
  end
  finish(s)
  gone.assert(marker, children, what)
  local left = assert(nsbox.box(name), what)
  assert.equal("running", left.state, what)
  return function()
    local _ <close> = left
    assert.equal("running", left.state, what)
    assert(left:destroy())
  end
end

local function round(...)
  begin(...)()
end

local ALONE = [[
  local verb = verbs["%s"]
  ready()
  verb(boxes[%d], %d)]]

local TOGETHER = [[
  local work = {}
  for i = 1, 3 * #names do work[i] = names[(i - 1) %% #names + 1] end
  ready()
  nsbox.gather(work, function(n, i)
    return verbs[n](boxes[i %% #boxes + 1], i %% #boxes + 1)
  end)]]

local VERBS = { "wait", "communicate", "expect", "connect", "read", "exec", "spawn", "run", "start", "call", "box_call",
  "pause", "stop", "wait_any", "sleep" }

local function killed(after)
  return function(s)
    sys.nanosleep(after)
    s:signal "kill"
    assert.same({ "signal", 9 }, { s:wait() })
  end
end

local function kill_rounds(n)
  local destroy = {}
  for i = 1, helper.rounds(n) do
    local verb, which, after = VERBS[(i - 1) % #VERBS + 1], math.random(4), math.random() * 0.04
    local text = i % 4 == 0 and TOGETHER:format() or ALONE:format(verb, which, which)
    local what = ("round %d, %s, box %d, after %.2f ms"):format(i, verb, which, after * 1000)
    destroy[i] = begin(text, what, killed(after))
  end
  for _, fn in ipairs(destroy) do fn() end
end

local function ends(code)
  return function(s) assert.same({ "exit", code }, { s:wait() }) end
end

-- In the middle of all verbs at once.
local AMID = [[
  local work = {}
  for i = 1, #names do work[i] = names[i] end
  work[#work + 1] = "end"
  local function finish()
    %s
  end
  local co = coroutine.%s(function()
    return nsbox.gather(work, function(n, i)
      if n ~= "end" then return verbs[n](boxes[i %% #boxes + 1], i %% #boxes + 1) end
      nsbox.sleep(0.05)
      ready()
      finish()
    end)
  end)
  %s]]

describe("the end of a caller with live handles leaves nothing but its detached box,", function()
  setup(helper.warm_detached)

  it("by SIGKILL, whenever it comes", function() kill_rounds(6) end)
  it("by SIGKILL, whenever it comes, in every verb #soak", function() kill_rounds(80) end)

  for _, case in ipairs {
    { "os.exit(1)", "os.exit(1)", 1 },
    { "os.exit(1, true)", "os.exit(1, true)", 1 },
    { "an error", "error 'the end'", 1 },
    { "SIGTERM", "sys.kill(sys.getpid(), 'term') sys.nanosleep(9)", nil },
  } do
    it("by " .. case[1], function()
      round(AMID:format(case[2], "wrap", "co()"), case[1], case[3] and ends(case[3]) or function(s)
        assert.same({ "signal", 15 }, { s:wait() })
      end)
    end)
  end

  it("by an error in a coroutine that is dropped, and then its end", function()
    local drop = "coroutine.resume(co) co = nil collectgarbage()"
    round(AMID:format("error 'the end'", "create", drop), "dropped", ends(0))
  end)

  it("by its end while a coroutine that waits is dropped", function()
    round([[
      for i, n in ipairs(names) do
        local work = { n, "yield" }
        coroutine.wrap(function()
          nsbox.gather(work, function(what)
            if what == "yield" then return nsbox.sleep(0.01) end
            local co = coroutine.wrap(function()
              nsbox.use(function() coroutine.yield() end)
              verbs[n](boxes[i % #boxes + 1], i % #boxes + 1)
            end)
            co()
          end)
        end)()
      end
      ready()]], "coroutines", ends(0))
  end)
end)
