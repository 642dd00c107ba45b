-- gather, sleep, wait_any and the choice of a loop; functions of the user's that wait, close or raise; Ctrl-C.
local helper = require "spec.helper"
local nsbox = require "nsbox"
local script = require "spec.script"
local sys = nsbox.sys

helper.module "luv" -- its loop has descriptors of its own, from the first moment on
helper.module "cqueues"

helper.leakcheck()

-- A script whose complaints are expected.
local function silent_script(text)
  return script.start(text, { before = function() assert(sys.dup3(assert(sys.open("/dev/null", "rdwr")), 2)) end })
end

local function ended(box)
  return box.state == "closed"
end

describe("gather", function()
  it("answers in order, whoever is first", function()
    assert.same({ "3\n", "1\n", "2\n" }, assert(nsbox.gather({ 3, 1, 2 }, function(n)
      return assert(nsbox.run("busybox", ("sleep 0.%d; echo %d"):format(n, n))).stdout
    end)))
  end)

  it("runs fifty boxes at once", function()
    local list = {}
    for i = 1, 50 do list[i] = i end
    for i, text in ipairs(assert(nsbox.gather(list, function(i)
      return assert(nsbox.run("busybox", "sleep 0.1; echo " .. i)).stdout
    end))) do
      assert.equal(i .. "\n", text)
    end
  end)

  it("keeps its limit", function()
    local now, most = 0, 0
    assert(nsbox.gather({ 1, 2, 3, 4, 5 }, function()
      now = now + 1
      most = math.max(most, now)
      nsbox.sleep(0.01)
      now = now - 1
    end, { limit = 2 }))
    assert.equal(2, most)
  end)

  it("raises the first error, and all boxes have ended then, that of who raised, too", function()
    local boxes = {}
    local ok, err = pcall(nsbox.gather, { 1, 2, 3 }, function(i)
      local box <close> = assert(nsbox.start("busybox", "sleep 100"))
      boxes[i] = box
      while i == 2 and not (boxes[1] and boxes[3]) do nsbox.sleep(0.01) end
      nsbox.sleep(i == 2 and 0.05 or 100)
      error("it was " .. i, 0)
    end)
    assert.same({ false, "it was 2" }, { ok, err })
    for i = 1, 3 do assert.is_true(ended(boxes[i])) end
  end)

  it("returns the first nil, Error, and closes the rest", function()
    local box
    local r, err = nsbox.gather({ 1, 2 }, function(i)
      if i == 1 then return nsbox.run("busybox", { "/nothing" }) end
      local mine <close> = assert(nsbox.start("busybox", "sleep 100"))
      box = mine
      mine:wait()
    end)
    assert.is_nil(r)
    assert.equal("exec", err.kind)
    assert.is_true(box == nil or ended(box))
  end)

  it("may be nested", function()
    assert.same({ { 11, 12 }, { 21, 22 } }, assert(nsbox.gather({ 10, 20 }, function(n)
      return assert(nsbox.gather({ 1, 2 }, function(i)
        nsbox.sleep(0.01)
        return n + i
      end))
    end)))
  end)

  it("lets others go on while one yields by itself", function()
    local done
    assert(nsbox.gather({ 1, 2 }, function(i)
      if i == 1 then
        while not done do coroutine.yield() end
      else
        local box <close> = assert(nsbox.start("busybox", "sleep 0.1; echo there; sleep 100"))
        assert(box:expect "there")
        done = true
      end
    end))
    assert.is_true(done)
  end)

  it("a coroutine made in it waits without gather", function()
    assert.same({ { "a\n", "b\n" } }, assert(nsbox.gather({ 1 }, function()
      local list = {}
      for text in coroutine.wrap(function()
        for _, word in ipairs { "a", "b" } do
          coroutine.yield(assert(nsbox.run("busybox", { "echo", word })).stdout)
        end
      end) do list[#list + 1] = text end
      return list
    end)))
  end)

  it("a match of expect is not lost, a communicate closes its pipes", function()
    local r = assert(nsbox.gather({ 1, 2 }, function(i)
      local box <close> = assert(nsbox.start("busybox", i == 1 and "sleep 0.1; echo got 5; sleep 100" or "cat",
        i == 2 and { stdin = "pipe", stdout = "pipe" } or nil))
      if i == 1 then return box:expect "got (%d)" end
      return assert(box:communicate "text").stdout
    end))
    assert.same({ "5", "text" }, r)
  end)

  it("may wait for boxes in what is closed after an error", function()
    local said
    pcall(nsbox.gather, { 1, 2 }, function(i)
      local _ <close> = setmetatable({}, { __close = function()
        if i == 1 then said = assert(nsbox.run("busybox", "echo bye")).stdout end
      end })
      nsbox.sleep(i == 1 and 100 or 0.01)
      error "x"
    end)
    assert.equal("bye\n", said)
  end)

  it("names misuse", function()
    for _, case in ipairs { { nil, print }, { {}, nil }, { {}, print, 5 }, { {}, print, { limit = 0 } },
      { {}, print, { limit = "x" } }, { {}, print, { max = 2 } } } do
      local ok, why = pcall(nsbox.gather, case[1], case[2], case[3])
      assert.is_false(ok)
      assert.is_truthy(why:find "nsbox.gather: ")
    end
  end)
end)

describe("wait_any", function()
  it("tells the first that has ended, a timeout, misuse", function()
    local a <close> = assert(nsbox.start("busybox", "sleep 100"))
    local b <close> = assert(nsbox.start("busybox", "exit 2"))
    local first, r = nsbox.wait_any { a, b }
    assert.same({ true, 2 }, { first == b, r.code })
    local none, err = nsbox.wait_any({ a }, 0.01)
    assert.is_nil(none)
    assert.equal("timeout", err.kind)
    for _, bad in ipairs { {}, { 1 }, { {} }, 5 } do
      assert.has_error(function() nsbox.wait_any(bad) end)
    end
  end)
end)

describe("a line function", function()
  it("may wait for a process of its own box, and all lines come in order", function()
    local seen, box = {}, nil
    box = assert(nsbox.start("busybox", "echo a; echo b; echo c; read x; exit 0", { stdin = "pipe",
      stdout = function(line)
        seen[#seen + 1] = line .. assert(box:exec { "echo", "-n", "+" }).stdout
        if #seen == 3 then box.stdin:close() end
      end }))
    local _ <close> = box
    assert(box:wait())
    assert.same({ "a+", "b+", "c+" }, seen)
  end)

  it("may wait for the end of its own box, and is told the rest then", function()
    local seen, box, code = {}, nil, nil
    box = assert(nsbox.start("busybox", "echo a; sleep 0.1; echo b; echo -n c; exit 6", { stdout = function(line)
      seen[#seen + 1] = line
      code = code or assert(box:wait()).code
    end }))
    local _ <close> = box
    assert.equal(6, assert(box:wait()).code)
    assert.same({ 6, { "a", "b", "c" } }, { code, seen })
  end)

  it("may close its own box, and is told nothing more", function()
    local seen, box = {}, nil
    box = assert(nsbox.start("busybox", "echo a; echo b; sleep 100", { stdout = function(line)
      seen[#seen + 1] = line
      box:close()
    end }))
    local r, err = box:wait()
    assert.is_nil(r)
    assert.equal("closed", err.kind)
    assert.same({ "a" }, seen)
  end)

  it("that closes the boxes of others while it waits does no harm", function()
    local other, box
    other = assert(nsbox.start("busybox", "while :; do echo y; done", { stdout = function() end }))
    box = assert(nsbox.start("busybox", "echo a; echo b; echo c", { stdout = function()
      other:close()
      nsbox.sleep(0.02)
    end }))
    local _ <close> = box
    assert.is_true(assert(box:wait()).ok)
    assert.equal("closed", other.state)
  end)

  it("raises where its box is waited for", function()
    local bad <close> = assert(nsbox.start("busybox", "echo a; sleep 100", {
      stdout = function() error("mine", 0) end,
    }))
    assert.is_true(assert(nsbox.run("busybox", "sleep 0.1")).ok)
    assert.same({ false, "mine" }, { pcall(bad.wait, bad) })
  end)
end)

describe("use", function()
  it("names misuse, and the package of a library that is not there", function()
    assert.has_error(function() nsbox.use "glib" end)
    script.succeeds [[
      package.path = package.path:gsub("[^;]*share/lua[^;]*", "")
      package.cpath = package.cpath:gsub("[^;]*lib/[^;]*lua[^;]*", "")
      for _, name in ipairs { "copas", "luv", "cqueues" } do
        local ok, err = nsbox.use(name)
        assert(ok == nil and err.kind == "unsupported" and tostring(err):find(name, 1, true), name)
      end]]
  end)
end)

describe("in luv", function()
  local uv

  before_each(function()
    uv = helper.module "luv"
    if not uv then helper.skip "needs the module luv" end
    assert(nsbox.use "luv")
  end)

  after_each(function() nsbox.use(nil) end)

  it("a coroutine that is closed while it waits is not resumed, its box ends, the loop, too", function()
    local box, resumed
    local co = coroutine.create(function()
      local mine <close> = assert(nsbox.start("busybox", "sleep 100"))
      box = mine
      mine:wait()
      resumed = true
    end)
    assert(coroutine.resume(co))
    uv.run "nowait"
    assert(coroutine.close(co))
    uv.run()
    assert.same({ true, nil }, { ended(box), resumed })
  end)

  it("descriptors that a fork has copies of, and the fork's own waits, harm nobody", function()
    script.succeeds [[
      local uv = require "luv"
      assert(nsbox.use "luv")
      local done
      coroutine.wrap(function()
        local r, w = sys.pipe2()
        local box <close> = assert(nsbox.start("busybox", "while :; do echo y; done", { stdout = "pipe" }))
        assert(box.stdout:read() == "y")
        local copies = assert(sys.clone(sys.SIGCHLD, function() w:close() sys.read(r, 1) end))
        box:close()
        assert(nsbox.run("busybox", "sleep 0.1; echo x").stdout == "x\n")
        local fork = assert(sys.clone(sys.SIGCHLD, function()
          return nsbox.run("busybox", "echo x").stdout == "x\n"
        end))
        assert(select(2, sys.waitid(fork)) == 0)
        w:close()
        sys.waitid(copies)
        done = true
      end)()
      uv.run()
      assert(done)
    ]]
  end)

  it("an error in one coroutine is no other's", function()
    local s <close> = silent_script [[
      local nsbox, uv = require "nsbox", require "luv"
      nsbox.use "luv"
      local box <close> = assert(nsbox.start("busybox", "read x", { stdin = "pipe" }))
      for i = 1, 3 do
        coroutine.wrap(function()
          box:wait()
          if i == 1 then error "first" end
          print(i)
          io.stdout:flush()
        end)()
      end
      box.stdin:close()
      uv.run()
    ]]
    local lines = { s:line(), s:line() }
    table.sort(lines)
    assert.same({ "2", "3" }, lines)
    assert.same({ "exit", 255 }, { s:wait() })
  end)
end)

describe("in cqueues", function()
  it("a coroutine that is dropped while it waits is not kept, and the others wait on", function()
    local cqueues = helper.module "cqueues"
    if not cqueues then helper.skip "needs the module cqueues" end
    assert(nsbox.use "cqueues")
    helper.cleanup(function() nsbox.use(nil) end)
    local weak, resumed = setmetatable({}, { __mode = "v" }), false
    local box <close> = assert(nsbox.start("busybox", "read x; exit 0", { stdin = "pipe" }))
    do
      local dropped = cqueues.new()
      dropped:wrap(function()
        weak[1] = coroutine.running()
        box:wait()
        resumed = true
      end)
      assert(dropped:step(0))
      dropped:close()
    end
    collectgarbage()
    collectgarbage()
    box.stdin:close()
    local controller, code = cqueues.new(), nil
    controller:wrap(function() code = assert(box:wait()).code end)
    assert(controller:loop())
    assert.same({ 0, false, nil }, { code, resumed, weak[1] })
  end)
end)

-- Each waits for ever; Ctrl-C ends the script, and its boxes.
local waits = {
  ["nsbox.sleep"] = "say() nsbox.sleep(1000)",
  ["box:wait"] = "say() box:wait()",
  ["expect"] = "say() box:expect 'never'",
  ["a read"] = "say() box.stdout:read()",
  ["wait_any"] = "say() nsbox.wait_any { box }",
  ["gather"] = "say() nsbox.gather({ 1, 2 }, function() box:wait() end)",
  ["a plain coroutine"] = "say() coroutine.wrap(function() box:wait() end)()",
  ["a line function"] = "nsbox.run('busybox', 'echo a; sleep 100', { stdout = function() say() box:wait() end })",
  ["luv"] = "nsbox.use 'luv'; coroutine.wrap(function() box:wait() end)() say() require('luv').run()",
  ["cqueues"] = "nsbox.use 'cqueues'; local c = require('cqueues').new(); "
    .. "c:wrap(function() box:wait() end) say() assert(c:loop())",
}

describe("Ctrl-C", function()
  for name, text in pairs(waits) do
    it("ends a wait in " .. name .. ", and leaves nothing", function()
      if (name == "luv" or name == "cqueues") and not helper.module(name) then helper.skip("needs " .. name) end
      local s <close> = silent_script([[
        local nsbox = require "nsbox"
        local box <close> = assert(nsbox.start("busybox", "sleep 1000", { stdout = "pipe" }))
        local function say() print(box.pid) io.stdout:flush() end
      ]] .. text)
      local pid = tonumber(s:line())
      sys.nanosleep(0.05)
      s:signal "SIGINT"
      local how, code = s:wait()
      assert.equal("exit", how)
      assert.not_equal(0, code)
      local function lives() -- not as a zombie, which the host's process 1 reaps in its own time
        return (helper.read(("/proc/%d/stat"):format(pid)) or ") Z"):match ".*%) (%a)" ~= "Z"
      end
      local deadline = sys.clock() + helper.PATIENCE
      while lives() and sys.clock() < deadline do sys.nanosleep(0.01) end
      assert.is_false(lives())
    end)
  end
end)
