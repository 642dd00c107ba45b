-- Every verb in each loop: it waits there without blocking the loop, and leaves nothing in it.
local eventually = require("spec.box").eventually
local helper = require "spec.helper"
local in_time = require "spec.in_time"
local loops = require "spec.loops"
local nsbox = require "nsbox"

helper.module "luv" -- its loop has descriptors of its own, from the first moment on
helper.module "cqueues"

helper.leakcheck()

-- Runs fn in a coroutine of the loop while another ticks, to the end of both. Answers how often it has ticked; an error
-- of fn is raised here.
local function run(loop, fn)
  local ticks, over, ok, err = 0, false, nil, nil
  loop.start(function()
    ok, err = xpcall(fn, debug.traceback)
    over = true
  end)
  loop.start(function()
    while not over do
      loop.sleep(0.005)
      ticks = ticks + 1
    end
  end)
  loop.run()
  assert(over, "the loop has ended, and the wait has not")
  assert(ok, err)
  assert.equal(0, loop.left())
  return ticks
end

local function open(name)
  local ok, loop = pcall(loops[name])
  if not ok then helper.skip("needs the module " .. name .. ": " .. loop:match "[^\n]*") end
  assert(nsbox.use(loop.use))
  helper.cleanup(function()
    nsbox.use(nil)
    if name == "copas" then package.loaded.copas = nil end
  end)
  return loop
end

-- Each waits for so many seconds.
local verbs = {}

function verbs.run(seconds)
  assert.equal("hi\n", assert(nsbox.run("busybox", ("sleep %g; echo hi"):format(seconds))).stdout)
end

verbs["start and wait"] = function(seconds)
  local box <close> = assert(nsbox.start("busybox", ("sleep %g; exit 3"):format(seconds)))
  assert.equal(3, assert(box:wait()).code)
end

verbs["wait with a timeout"] = function(seconds)
  local box <close> = assert(nsbox.start("busybox", "sleep 100"))
  local r, err = box:wait(seconds)
  assert.is_nil(r)
  assert.equal("timeout", err.kind)
end

verbs["the option timeout"] = function(seconds)
  assert.equal("timeout", assert(nsbox.run("busybox", "sleep 100", { timeout = seconds })).reason)
end

verbs.stop = function(seconds)
  local box <close> = assert(nsbox.start("busybox", "trap true TERM; echo x; while :; do sleep 1; done"))
  assert(box:expect "x")
  assert.equal("KILL", assert(box:stop(seconds)).signal)
end

verbs.exec = function(seconds)
  local box <close> = assert(nsbox.start("busybox", "sleep 100"))
  assert.equal("in\n", assert(box:exec(("sleep %g; echo in"):format(seconds))).stdout)
end

verbs["stream read and write"] = function(seconds)
  local box <close> = assert(nsbox.start("busybox", ("read x; sleep %g; echo got $x; cat"):format(seconds),
    { stdin = "pipe", stdout = "pipe" }))
  assert(box.stdin:write "one\n")
  assert.equal("got one", box.stdout:read "l")
  local text = ("x"):rep(300000)
  local wrote
  assert(nsbox.gather({ 1, 2 }, function(i)
    if i == 1 then
      wrote = box.stdin:write(text)
      box.stdin:close()
    else
      assert.equal(#text, #box.stdout:read "a")
    end
    return true
  end))
  assert.equal(box.stdin, wrote)
end

verbs["a stream's timeout"] = function(seconds)
  local box <close> = assert(nsbox.start("busybox", "sleep 100", { stdout = "pipe" }))
  local line, err = box.stdout:settimeout(seconds):read()
  assert.is_nil(line)
  assert.equal("timeout", err.kind)
end

verbs.expect = function(seconds)
  local box <close> = assert(nsbox.start("busybox", ("sleep %g; echo ready 7; sleep 100"):format(seconds)))
  assert.equal("7", box:expect("ready (%d)", 30))
  local found, err = box:expect("never", seconds)
  assert.is_nil(found)
  assert.equal("timeout", err.kind)
end

verbs.communicate = function(seconds)
  local box <close> = assert(nsbox.start("busybox", ("sleep %g; cat"):format(seconds),
    { stdin = "pipe", stdout = "pipe" }))
  local text = ("y"):rep(200000)
  assert.equal(text, assert(box:communicate(text)).stdout)
end

verbs.sleep = function(seconds)
  local began = nsbox.clock()
  assert.is_true(nsbox.sleep(seconds))
  assert.is_true(nsbox.clock() - began >= seconds)
end

verbs.wait_any = function(seconds)
  local slow <close> = assert(nsbox.start("busybox", "sleep 100"))
  local fast <close> = assert(nsbox.start("busybox", { "sleep", tostring(seconds) }))
  local first, r = nsbox.wait_any({ slow, fast })
  assert.equal(fast, first)
  assert.is_true(r.ok)
end

verbs["gather"] = function(seconds)
  local results = assert(nsbox.gather({ 8, 5, 2 }, function(n)
    return assert(nsbox.run("busybox", ("sleep %g; echo %d"):format(n / 5 * seconds, n))).stdout
  end))
  assert.same({ "8\n", "5\n", "2\n" }, results)
end

verbs["a line function that waits"] = function(seconds)
  local seen, box = {}, nil
  box = assert(nsbox.start("busybox", "echo a; echo b; sleep 100", { stdout = function(line)
    seen[#seen + 1] = line .. assert(box:exec(("sleep %g; echo -n +"):format(seconds))).stdout
  end }))
  local _ <close> = box
  while #seen < 2 do nsbox.sleep(0.01) end
  assert.same({ "a+", "b+" }, seen)
end

verbs["an input function that waits"] = function(seconds)
  local n = 0
  local r = assert(nsbox.run("busybox", "cat", { input = function()
    n = n + 1
    nsbox.sleep(seconds / 2)
    return n < 4 and tostring(n) or nil
  end }))
  assert.equal("123", r.stdout)
end

local names = {}
for name in pairs(verbs) do names[#names + 1] = name end
table.sort(names)

for _, kind in ipairs { "luv", "cqueues", "copas", "own" } do
  describe("in a loop of " .. kind, function()
    for _, name in ipairs(names) do
      it(name .. " lets the loop go on", function()
        local loop = open(kind)
        in_time(0.05, true, function(seconds)
          return run(loop, function() verbs[name](seconds) end) > 3
        end)
      end)
    end

    it("several wait for one box, and each has its Result", function()
      local loop, codes, n = open(kind), {}, 0
      run(loop, function()
        local box <close> = assert(nsbox.start("busybox", "sleep 0.05; exit 4"))
        for i = 1, 3 do
          loop.start(function()
            codes[i] = assert(box:wait()).code
            n = n + 1
          end)
        end
        assert(box:wait())
        -- before the box is closed, which ends the waits for it
        eventually("each has its Result", function() return n == 3 end)
      end)
      assert.same({ 4, 4, 4 }, codes)
    end)

    it("a box that is closed ends the waits for it", function()
      local loop, kinds = open(kind), {}
      run(loop, function()
        local box = assert(nsbox.start("busybox", "sleep 100", { stdout = "pipe" }))
        loop.start(function() kinds[1] = select(2, box:wait()).kind end)
        loop.start(function() kinds[2] = select(2, box.stdout:read()).kind end)
        loop.start(function() kinds[3] = select(2, box:expect "x").kind end)
        nsbox.sleep(0.05)
        box:close()
        nsbox.sleep(0.05)
      end)
      assert.same({ "closed", "closed", "closed" }, kinds)
    end)

    it("a wait that blocks wakes those in the loop whose box it has seen end", function()
      local loop, code = open(kind), nil
      run(loop, function()
        local box <close> = assert(nsbox.start("busybox", "exit 5"))
        loop.start(function() code = assert(box:wait()).code end)
        table.sort({ 1, 2 }, function(a, b) -- no yield is possible here
          assert(box:wait())
          return a < b
        end)
        eventually("it has its Result", function() return code end)
      end)
      assert.equal(5, code)
    end)

    it("outside of its coroutines waits block", function()
      open(kind)
      assert.equal("hi\n", assert(nsbox.run("busybox", "echo hi")).stdout)
      assert.is_true(nsbox.sleep(0.01))
    end)
  end)
end
