-- Memory that ends: the kernel kills the box, not the script that runs it.
local box = require "spec.box"
local helper = require "spec.helper"
local lfs = require "lfs"
local script = require "spec.script"
local sys = require "nsbox.sys"
helper.leakcheck { settle = true }

local MIB = 1 << 20

-- Where memory is limited: v1's own hierarchy, or v2 where the controller is at hand. Answers what to make and write.
local function controller()
  local v1 = "/sys/fs/cgroup/memory"
  if helper.read(v1 .. "/memory.limit_in_bytes") then
    return { root = v1, limit = "memory.limit_in_bytes", swap = "memory.memsw.limit_in_bytes", join = "tasks",
      kills = function(at) return tonumber(helper.read(at .. "/memory.oom_control"):match "oom_kill (%d+)") end }
  end
  local v2 = "/sys/fs/cgroup"
  if (helper.read(v2 .. "/cgroup.subtree_control") or ""):find "memory" then
    return { root = v2, limit = "memory.max", swap = "memory.swap.max", join = "cgroup.procs",
      kills = function(at) return tonumber(helper.read(at .. "/memory.events"):match "oom_kill (%d+)") end }
  end
end

local serial = 0

-- A cgroup of `bytes`, gone with the test.
local function memory_cgroup(bytes)
  if not helper.root() then helper.skip "needs root: it makes a memory cgroup" end
  local c = controller()
  if not c then helper.skip "needs a memory controller: cgroup v1 memory, or v2 with memory in subtree_control" end
  serial = serial + 1
  c.folder = ("%s/nsbox-spec-oom-%d-%d"):format(c.root, helper.pid, serial)
  assert(lfs.mkdir(c.folder))
  helper.cleanup(function()
    for pid in (helper.read(c.folder .. "/cgroup.procs") or ""):gmatch "%d+" do sys.kill(tonumber(pid), "kill") end
    local deadline = sys.clock() + helper.PATIENCE
    while not lfs.rmdir(c.folder) and sys.clock() < deadline do sys.nanosleep(0.01) end
  end)
  helper.write(c.folder .. "/" .. c.limit, tostring(bytes))
  pcall(helper.write, c.folder .. "/" .. c.swap, c.swap:find "memsw" and tostring(bytes) or "0")
  function c.join_it() assert(sys.write_file("cwd", c.folder .. "/" .. c.join, "0")) end
  return c
end

local function image_with_hog()
  local root = box.image()
  box.program("hog", root)
  return root
end

describe("a box that takes all memory", function()
  it("dies, and its caller reports it", function()
    local c, root = memory_cgroup(64 * MIB), image_with_hog()
    for _, opts in ipairs { "{}", "{ tty = true }", "{ namespaces = { pid = false } }", "{ user = 1000 }" } do
      local s <close> = script.start(([[
        local nsbox = require "nsbox"
        for i = 1, 5 do
          local r = assert(nsbox.run(%q, { "/hog", "500" }, %s))
          if r.signal ~= "KILL" then print(r) end
          assert(nsbox.run(%q, { "/bin/busybox", "true" }))
        end
        print "survived"]]):format(root, opts, root), { before = c.join_it })
      assert.equal("survived", s:line(60), opts)
      assert.same({ "exit", 0 }, { s:wait() })
    end
    assert.is_true(c.kills(c.folder) >= 20)
  end)
end)

describe("an exec into a box that takes all memory", function()
  -- `eater`: the main process eats, or what is added does. The caller is the smaller one in the same cgroup.
  local function beside(eater)
    local c, root = memory_cgroup(64 * MIB), image_with_hog()
    for _, opts in ipairs { "{}", "{ namespaces = { pid = false } }" } do
      local s <close> = script.start(([[
        local nsbox = require "nsbox"
        local EATER, root, opts = %q, %q, %s
        local eat, sleep, yes = { "/hog", "500" }, { "/bin/busybox", "sleep", "1000" }, { "/bin/busybox", "true" }
        local function one_of_death(r, err)
          if not (r and r.signal == "KILL") then print("no death of memory", r, err) end
        end
        for i = 1, 6 do
          local b <close> = assert(nsbox.start(root, EATER == "main" and eat or sleep, opts))
          local hog <close> = EATER == "added" and assert(b:spawn(eat)) or nil
          local eating = hog or b
          assert(nsbox.gather({ 1, 2, 3, 4 }, function(n)
            if n == 1 then return b:communicate(nil, 0.05) and 1 or 0 end
            while eating.state == "running" do
              local r, err
              if n == 2 then r, err = b:exec(yes) end
              if n == 3 then r, err = b:call(function() return true end) end
              if n == 4 then r, err = b:exec(yes, { tty = true }) end
              if r == nil and not (type(err) == "table" and err.kind) then print("no answer", r, err) end
              nsbox.sleep(0.001)
            end
            return 1
          end))
          one_of_death(eating:wait(30))
          if hog and not assert(b:exec(yes)).ok then print "the box is not well" end
        end
        print "survived"]]):format(eater, root, opts), { before = c.join_it })
      assert.equal("survived", s:line(60), opts)
      assert.same({ "exit", 0 }, { s:wait() })
    end
    assert.is_true(c.kills(c.folder) >= 12)
  end

  -- Where caller, box and copies fill one small cgroup, the kernel may reclaim for minutes before it kills.
  it("answers, and its caller lives, when the main process eats #soak", function() beside "main" end)
  it("answers, and its caller lives, when what was added eats", function() beside "added" end)
end)

-- A process of the start that shares the script's memory is as big as the script in the kernel's eyes, and who kills it
-- kills the script; only one that a vfork waits for is passed over.
describe("a process of the start, in a cgroup that is full,", function()
  local function start_beside_a_hog(which)
    if os.getenv "NSBOX_CLONE" == "copy" then helper.skip "needs shared memory: a copy dies alone" end
    local c, root = memory_cgroup(24 * MIB), image_with_hog()
    local s <close> = script.start(script.barrier .. ([[
      local which, join, hog, root = %q, %q, %q, %q
      local core, launch, nsbox = require "nsbox.core", require "nsbox.launch", require "nsbox"
      local sys = nsbox.sys
      assert(nsbox.run(root, { "/bin/busybox", "true" })) -- makes the keeper
      local ballast = ("x"):rep(64 << 20) -- the script is bigger than a hog can get

      local function other_sharers(but) -- children as big as the script
        local list <close> = io.open(("/proc/self/task/%%d/children"):format(sys.getpid()))
        local found = {}
        for pid in list:read "a":gmatch "%%d+" do
          local status <close> = io.open("/proc/" .. pid .. "/status")
          local size = tonumber(status:read "a":match "VmRSS:%%s*(%%d+)")
          if size and size > 60000 and tonumber(pid) ~= but then found[#found + 1] = pid end
        end
        return found
      end

      local function all_die_for_memory()
        local pid = assert(sys.clone(sys.SIGCHLD, function()
          assert(sys.write_file("cwd", join, "0"))
          sys.execve(hog, { "hog", "400" }, {})
        end))
        return sys.waitid(pid, 30)
      end

      local run = launch.run
      function launch.run(start)
        local born = start.born
        function start.born(pidfd) -- the box's process waits for the caller, at a barrier
          local pid = core.pid_of(pidfd)
          local others = other_sharers(pid)
          assert(#others == 1, #others)
          assert(sys.write_file("cwd", join, which == "box" and tostring(pid) or others[1]))
          print("hog", all_die_for_memory())
          if not born then return true end
          return born(pidfd)
        end
        return run(start)
      end
      local r, err = nsbox.run(root, { "/bin/busybox", "true" })
      print("survived", r and r.ok or err, #ballast)]]):format(which, c.folder .. "/" .. c.join, root .. "/hog", root))
    local said = {}
    for line in function() return s:line(60) end do said[#said + 1] = line end
    return said, { s:wait() }, c.kills(c.folder)
  end

  it("is spared when it is the box's: the hog dies, the box starts", function()
    local said, status, kills = start_beside_a_hog "box"
    assert.same({ "hog\tsignal\t9", ("survived\ttrue\t%d"):format(64 * MIB) }, said)
    assert.same({ "exit", 0 }, status)
    assert.is_true(kills >= 1)
  end)

  it("takes the script with it when no vfork waits for it: the helper, which no box's cgroup may hold", function()
    local said, status = start_beside_a_hog "helper"
    assert.same({ {}, { "signal", 9 } }, { said, status })
  end)
end)

describe("a caller whose memory cgroup is full", function()
  -- The hog outside eats what there is again and again; each time the kernel looks for a victim, a start is under way.
  -- The hog asks to be that: under a sanitizer the script grows with every start, and would be the biggest before long.
  -- Both go on for `seconds`, and on a slow machine until each has come far enough.
  local function beside_a_hog(seconds)
    local c, root = memory_cgroup(128 * MIB), image_with_hog()
    local over = helper.tmpdir() .. "/over"
    local hogs <close> = script.start(([[
      local sys = require "nsbox.sys"
      local before, died = sys.clock(), 0
      while sys.clock() - before < %g or died < 3 and sys.clock() - before < 60 do
        local pid = sys.clone(sys.SIGCHLD, function()
          assert(sys.write_file("cwd", "/proc/self/oom_score_adj", "1000"))
          assert(sys.write_file("cwd", %q, "0"))
          sys.execve(%q, { "hog", "400" }, {})
        end)
        if select(2, sys.waitid(pid)) == sys.SIGKILL then died = died + 1 end
      end
      io.open(%q, "w"):close()
      print "hogs over"]]):format(seconds, c.folder .. "/" .. c.join, root .. "/hog", over))
    local s <close> = script.start(([[
      local nsbox = require "nsbox"
      local sys = nsbox.sys
      local before, good, bad = sys.clock(), 0, 0
      local function over() local f <close> = io.open(%q) return f ~= nil end
      while not (over() and good > 20) and sys.clock() - before < 90 do
        local r, err = nsbox.run(%q, { "/bin/busybox", "true" })
        if r and r.ok then good = good + 1 else bad = bad + 1 end
        if not r and not err.kind then print(err) end
      end
      print("survived", good, bad)]]):format(over, root), { before = c.join_it })
    local said = s:line(100)
    assert.matches("^survived", said or "the script died")
    local good = tonumber(said:match "survived%s+(%d+)")
    assert.is_true(good > 20, said)
    assert.same({ "exit", 0 }, { s:wait() })
    assert.equal("hogs over", hogs:line())
    hogs:wait()
    assert.is_true(c.kills(c.folder) >= 3, "the kernel killed for memory " .. c.kills(c.folder) .. " times")
  end

  it("survives starts beside a hog", function() beside_a_hog(2) end)
  it("survives starts beside a hog for long #soak", function() beside_a_hog(20) end)
end)
