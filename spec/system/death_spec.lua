-- The end of the caller, of the keeper, of a start half way: soon nothing of the box is there.
local box = require "spec.box"
local gone = require "spec.gone"
local helper = require "spec.helper"
local lfs = require "lfs"
local script = require "spec.script"
local sys = require "nsbox.sys"
helper.leakcheck { settle = true, outside = true }

local function quiet()
  sys.dup3(assert(sys.open("/dev/null", "rdwr")), 2)
end

local function image_with(program)
  local root = box.image()
  box.program(program, root)
  return root
end

-- Boxes one after the other, of all kinds, each with the marker in its arguments.
local LOOP = [[
  local nsbox = require "nsbox"
  local root = nsbox.sys.geteuid() == 0
  assert(nsbox.run("busybox", { "true" }))
  local kinds = { {}, { tty = true }, { namespaces = { pid = false } }, { input = "x" }, { timeout = 0.002 },
    root and { user = 1000 } or {}, { namespaces = { net = false } } }
  io.write("ready\n"):flush()
  while true do
    for _, o in ipairs(kinds) do
      assert(nsbox.run("busybox", { "sh", "-c", "usleep 2000; true", arg[1] }, o))
    end
  end]]

local COLD = [[
  require("nsbox").run("busybox", { "sh", "-c", "usleep 50000; true", arg[1] })]]

local function sweep(times, text, ready, longest, signal)
  for i = 1, helper.rounds(times) do
    local marker, after = box.marker(), math.random() * longest
    local s <close> = script.start(text, { marker = marker })
    if ready then assert.equal("ready", s:line()) end
    sys.nanosleep(after)
    local children = s:children()
    sys.kill(s.pid, signal)
    s:wait()
    gone.assert(marker, children, ("round %d, killed after %.2f ms"):format(i, after * 1000))
  end
end

describe("SIGKILL of the caller leaves nothing,", function()
  it("whenever it comes", function() sweep(40, LOOP, true, 0.02, "kill") end)
  it("whenever it comes, many times #soak", function() sweep(600, LOOP, true, 0.03, "kill") end)
  it("also while the first box and its keeper are made", function() sweep(40, COLD, false, 0.025, "kill") end)
  it("also while the first box and its keeper are made, many times #soak", function()
    sweep(600, COLD, false, 0.025, "kill")
  end)
  it("nor does SIGTERM", function() sweep(20, LOOP, true, 0.01, "term") end)

  -- The script stops before its n-th word with a child, says so, and is killed there.
  it("at each barrier, and after each event of a start", function()
    for _, opts in ipairs { "{}", "{ tty = true }", "{ namespaces = { pid = false } }" } do
      for n = 1, 20 do
        local marker = box.marker()
        local s <close> = script.start(([[
          local core, sys = require "nsbox.core", require "nsbox.sys"
          local launch, events = core.launch, 0
          local mt = { __close = function(l) l.own:abort() end }
          mt.__index = function(l, name)
            return function(_, ...)
              if name == "next" or name == "go" then
                events = events + 1
                if events == N then
                  io.write("here\n"):flush()
                  while true do sys.nanosleep(10) end
                end
              end
              return l.own[name](l.own, ...)
            end
          end
          function core.launch(...)
            local own, why, errno = launch(...)
            return own and setmetatable({ own = own }, mt), why, errno
          end
          require("nsbox").run("busybox", { "sh", "-c", "true", arg[1] }, OPTS)
          io.write("through\n"):flush()]]):gsub("%u%u?%u?%u?", { N = tostring(n), OPTS = opts }), { marker = marker })
        local said = s:line()
        local children = s:children()
        if said == "through" then
          assert.is_true(n > 2)
          break
        end
        assert.equal("here", said)
        s:signal "kill"
        s:wait()
        gone.assert(marker, children, ("%s, event %d"):format(opts, n))
      end
    end
  end)

  it("at the end of a caller whose boxes had cgroups", function()
    for _ = 1, helper.rounds(20) do
      local s <close> = script.start [[
        local opts = { memory = "20M", pids = 50, cpus = 1, degrade = { "memory", "pids", "cpus" }, userns = "single" }
        require("nsbox").run("busybox", { "true" }, opts)
        io.write("through\n"):flush()]]
      assert.equal("through", s:line())
    end
  end)

  it("of a program that changed its ids, ignores all signals and has forked", function()
    local root = image_with "stubborn"
    for _, uid in ipairs(helper.has_ids() and { 1000, 0 } or { 0 }) do
      local marker = box.marker()
      local s <close> = script.start(([[
        require("nsbox").run(%q, { "/stubborn", arg[1], "%d", "6" }, { stdout = "inherit" })]]):format(root, uid),
        { marker = marker })
      assert.equal("ready", s:line())
      local children = s:children()
      local deadline = sys.clock() + helper.PATIENCE
      while #box.pids(marker) < 7 do assert.is_true(sys.clock() < deadline) end
      s:signal "kill"
      s:wait()
      gone.assert(marker, children, "uid " .. uid)
    end
  end)

  it("of a program as another user, by its option", function()
    if not helper.root() then helper.skip "needs root: a single id is mapped" end
    local root = image_with "stubborn"
    local marker = box.marker()
    local s <close> = script.start(([[
      require("nsbox").run(%q, { "/stubborn", arg[1], "0", "6" }, { stdout = "inherit", user = 1000 })]]):format(root),
      { marker = marker })
    assert.equal("ready", s:line())
    local children = s:children()
    s:signal "kill"
    s:wait()
    gone.assert(marker, children, "user = 1000")
  end)

  it("of a program that shares the caller's pids", function()
    local root = image_with "stubborn"
    for _, uid in ipairs(helper.has_ids() and { 1000, 0 } or { 0 }) do
      local marker = box.marker()
      local s <close> = script.start(([[
        require("nsbox").run(%q, { "/stubborn", arg[1], "%d", "0" },
          { stdout = "inherit", namespaces = { pid = false } })]]):format(root, uid), { marker = marker })
      assert.equal("ready", s:line())
      local children = s:children()
      s:signal "kill"
      s:wait()
      gone.assert(marker, children, "uid " .. uid)
    end
  end)

  it("of an image half made: the next start makes it anew", function()
    local store = helper.tmpdir() .. "/store"
    for _ = 1, helper.rounds(25) do
      local marker = box.marker()
      local s <close> = script.start(([[
        require("nsbox").run("busybox", { "true", arg[1] }, { store = %q })]]):format(store),
        { marker = marker })
      sys.nanosleep(math.random() * 0.03)
      local children = s:children()
      sys.kill(s.pid, "kill")
      s:wait()
      gone.assert(marker, children, "building busybox")
    end
    local s <close> = script.start(([[
      print(require("nsbox").run("busybox", { "echo", "made" }, { store = %q }).stdout)]]):format(store))
    assert.equal("made", s:line())
    s:wait()
    -- One killed before it had its lock, or while it gave up, is left alone for a minute.
    assert(os.execute("touch -c -d '2 minutes ago' " .. helper.quote(store) .. "/owner-* 2>/dev/null; true"))
    require("nsbox.owner").sweep(store)
    assert.same({ "busybox" }, helper.names(store))
    assert.equal("busybox", lfs.symlinkattributes(store .. "/busybox/bin/sh", "target"):match "[^/]*$")
  end)
end)

describe("SIGKILL of the keeper", function()
  it("ends its boxes, and the next run has a new one", function()
    local marker = box.marker()
    local s <close> = script.start([[
      local nsbox, sys = require "nsbox", require "nsbox.sys"
      assert(nsbox.run("busybox", { "true" }))
      local function keeper()
        local f = io.open(("/proc/%d/task/%d/children"):format(sys.getpid(), sys.getpid()))
        for pid in f:read "a":gmatch "%d+" do
          if io.open("/proc/" .. pid .. "/comm"):read "l" == "nsbox-keeper" then return tonumber(pid) end
        end
      end
      local first, fed = keeper(), false
      local r = assert(nsbox.run("busybox", { "sh", "-c", "read line; sleep 100", arg[1] }, { input = function()
        if fed then return nil end
        fed = true
        sys.kill(first, "kill")
        return "x\n"
      end }))
      print(r.reason, r.signal)
      print(nsbox.run("busybox", { "echo", "again" }).stdout)
      print(keeper() ~= first, keeper() ~= nil)]], { marker = marker })
    assert.equal("signal\tKILL", s:line())
    assert.equal("again", s:line())
    s:line()
    assert.equal("true\ttrue", s:line())
    assert.same({ "exit", 0 }, { s:wait() })
    gone.assert(marker, {}, "the keeper was killed")
  end)

  -- `kill` is called at the given moments of a start: before the clone, and while the child waits for the caller.
  local function killing(text)
    return script.barrier .. [[
      local launch, keeper = require "nsbox.launch", require "nsbox.keeper"
      local kills, with_barrier, run = 0, plan.steps_of, launch.run
      local function kill()
        local k = keeper.get()
        kills = kills + 1
        assert(sys.pidfd_send_signal(k, "kill"))
        return function() assert(sys.poll({ { fd = k.socket, events = "" } }, 30) == 1) end
      end
      local before, during = function() end, function() end
      function plan.steps_of(...)
        before()
        return with_barrier(...)
      end
      function launch.run(start)
        start.barriers = start.barriers or {}
        start.barriers.spec = function() during() end
        return run(start)
      end
      assert(nsbox.run("busybox", { "true" }))
    ]] .. text
  end

  local on_disk = [[
    local probe = require "nsbox.probe"
    local host = probe.host
    probe.host = function()
      local found = host()
      found.tmpfs_xattr = { ok = false }
      return found
    end
  ]]

  local ways = {
    { "", "{}" }, { "", "{ tty = true }" }, { "", "{ namespaces = { pid = false } }" },
    { " with its layer on disk", "{}", on_disk },
  }
  for _, way in ipairs(ways) do
    local what, opts, first = table.unpack(way)
    it("during a start is not seen: it is begun anew, once, " .. opts .. what, function()
      script.succeeds((first or "") .. killing(([[
        local function starts(what, wait)
          kills = 0
          local r, err = nsbox.run("busybox", { "echo", "here" }, %s)
          -- The command had begun: its socket closes before the kernel kills those below it.
          local late = (not wait or what == "during") and r and r.signal == "KILL"
          assert(late or r and r.ok and r.stdout:find "^here", what .. ": " .. tostring(err or r))
          assert(kills == 1, what .. ": " .. kills)
        end
        local function once(wait)
          return function()
            if kills > 0 then return end
            local ended = kill()
            if wait then ended() end
          end
        end
        for _, wait in ipairs { true, false } do
          before = once(wait)
          starts("before", wait)
          before, during = function() end, once(wait)
          starts("during", wait)
          during = function() end
        end]]):format(opts)))
    end)
  end

  it("during each start is an error in the end, and no loop", function()
    script.succeeds(killing [[
      during = function() kill()() end
      local r, err = nsbox.run("busybox", { "true" })
      assert(r == nil and err.kind == "setup" and kills == 2, tostring(err or r) .. kills)
      assert(tostring(err):find("the keeper was killed, twice", 1, true), tostring(err))
      during = function() end
      assert(nsbox.run("busybox", { "true" }).ok)]])
  end)

  it("at any moment never stops the caller, nor a start: each is a result", function()
    for _ = 1, helper.rounds(20) do
      local s <close> = script.start([[
        local nsbox = require "nsbox"
        assert(nsbox.run("busybox", { "true" }))
        io.write("ready\n"):flush()
        local failed = 0
        for i = 1, 15 do
          local r, err = nsbox.run("busybox", { "true" })
          if not r then
            failed = failed + 1
            print(tostring(err))
          end
        end
        print(failed == 0 and "done" or failed)]])
      assert.equal("ready", s:line())
      sys.nanosleep(math.random() * 0.01)
      for _, pid in ipairs(s:children()) do
        if helper.read(("/proc/%d/comm"):format(pid)) == "nsbox-keeper\n" then sys.kill(pid, "kill") end
      end
      assert.equal("done", s:line())
      assert.same({ "exit", 0 }, { s:wait() })
    end
  end)
end)

describe("Ctrl-C in a script", function()
  it("interrupts a run at once, and leaves nothing", function()
    for _, opts in ipairs { "{}", "{ tty = true }", "{ namespaces = { pid = false } }", "{ timeout = 50 }" } do
      local marker = box.marker()
      local s <close> = script.start(([[
        require("nsbox").run("busybox", { "true" })
        io.write("ready\n"):flush()
        require("nsbox").run("busybox", { "sh", "-c", "trap '' INT; sleep 100; true", arg[1] }, %s)]]):format(opts),
        { marker = marker, before = quiet })
      assert.equal("ready", s:line())
      assert.is_true(#box.find(marker) > 0)
      sys.nanosleep(0.05)
      local children, began = s:children(), sys.clock()
      s:signal "int"
      assert.same({ "exit", 1 }, { s:wait() }, opts)
      assert.is_true(sys.clock() - began < 20)
      gone.assert(marker, children, opts)
    end
  end)

  it("does so whenever it comes", function()
    for i = 1, helper.rounds(30) do
      local marker = box.marker()
      local s <close> = script.start([[
        local nsbox = require "nsbox"
        nsbox.run("busybox", { "true" })
        io.write("ready\n"):flush()
        while true do nsbox.run("busybox", { "sh", "-c", "usleep 1000; true", arg[1] }) end]],
        { marker = marker, before = quiet })
      assert.equal("ready", s:line())
      sys.nanosleep(math.random() * 0.01)
      local children = s:children()
      s:signal "int"
      assert.same({ "exit", 1 }, { s:wait() }, "round " .. i)
      gone.assert(marker, children, "round " .. i)
    end
  end)
end)
