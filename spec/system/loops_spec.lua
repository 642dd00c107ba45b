-- Every verb in each loop: it waits there without blocking the loop, and leaves nothing in it.
local helper = require "spec.helper"
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

local verbs = {}

function verbs.run()
  assert.equal("hi\n", assert(nsbox.run("busybox", "sleep 0.05; echo hi")).stdout)
end

verbs["start and wait"] = function()
  local box <close> = assert(nsbox.start("busybox", "sleep 0.05; exit 3"))
  assert.equal(3, assert(box:wait()).code)
end

verbs["wait with a timeout"] = function()
  local box <close> = assert(nsbox.start("busybox", "sleep 100"))
  local r, err = box:wait(0.05)
  assert.is_nil(r)
  assert.equal("timeout", err.kind)
end

verbs["the option timeout"] = function()
  assert.equal("timeout", assert(nsbox.run("busybox", "sleep 100", { timeout = 0.1 })).reason)
end

verbs.stop = function()
  local box <close> = assert(nsbox.start("busybox", "trap true TERM; echo x; while :; do sleep 1; done"))
  assert(box:expect "x")
  assert.equal("KILL", assert(box:stop(0.05)).signal)
end

verbs.exec = function()
  local box <close> = assert(nsbox.start("busybox", "sleep 100"))
  assert.equal("in\n", assert(box:exec("sleep 0.05; echo in")).stdout)
end

verbs["stream read and write"] = function()
  local box <close> = assert(nsbox.start("busybox", "read x; sleep 0.05; echo got $x; cat",
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

verbs["a stream's timeout"] = function()
  local box <close> = assert(nsbox.start("busybox", "sleep 100", { stdout = "pipe" }))
  local line, err = box.stdout:settimeout(0.05):read()
  assert.is_nil(line)
  assert.equal("timeout", err.kind)
end

verbs.expect = function()
  local box <close> = assert(nsbox.start("busybox", "sleep 0.05; echo ready 7; sleep 100"))
  assert.equal("7", box:expect("ready (%d)", 30))
  local found, err = box:expect("never", 0.05)
  assert.is_nil(found)
  assert.equal("timeout", err.kind)
end

verbs.communicate = function()
  local box <close> = assert(nsbox.start("busybox", "sleep 0.05; cat", { stdin = "pipe", stdout = "pipe" }))
  local text = ("y"):rep(200000)
  assert.equal(text, assert(box:communicate(text)).stdout)
end

verbs.sleep = function()
  local began = nsbox.clock()
  assert.is_true(nsbox.sleep(0.05))
  assert.is_true(nsbox.clock() - began >= 0.05)
end

verbs.wait_any = function()
  local slow <close> = assert(nsbox.start("busybox", "sleep 100"))
  local fast <close> = assert(nsbox.start("busybox", "sleep 0.05"))
  local first, r = nsbox.wait_any({ slow, fast })
  assert.equal(fast, first)
  assert.is_true(r.ok)
end

verbs["gather"] = function()
  local results = assert(nsbox.gather({ 8, 5, 2 }, function(n)
    return assert(nsbox.run("busybox", ("sleep 0.0%d; echo %d"):format(n, n))).stdout
  end))
  assert.same({ "8\n", "5\n", "2\n" }, results)
end

verbs["a line function that waits"] = function()
  local seen, box = {}, nil
  box = assert(nsbox.start("busybox", "echo a; echo b; sleep 100", { stdout = function(line)
    seen[#seen + 1] = line .. assert(box:exec("sleep 0.05; echo -n +")).stdout
  end }))
  local _ <close> = box
  while #seen < 2 do nsbox.sleep(0.01) end
  assert.same({ "a+", "b+" }, seen)
end

verbs["an input function that waits"] = function()
  local n = 0
  local r = assert(nsbox.run("busybox", "cat", { input = function()
    n = n + 1
    nsbox.sleep(0.02)
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
        assert.is_true(run(open(kind), verbs[name]) > 3)
      end)
    end

    it("several wait for one box, and each has its Result", function()
      local loop, codes = open(kind), {}
      run(loop, function()
        local box <close> = assert(nsbox.start("busybox", "sleep 0.05; exit 4"))
        for i = 1, 3 do
          loop.start(function() codes[i] = assert(box:wait()).code end)
        end
        assert(box:wait())
        nsbox.sleep(0.05)
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
        nsbox.sleep(0.05)
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
