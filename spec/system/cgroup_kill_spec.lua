-- The end of boxes that have a cgroup: nothing of them is left, whatever they do and whoever is killed; and nothing
-- else is touched.
local box = require "spec.box"
local gone = require "spec.gone"
local helper = require "spec.helper"
local hierarchy = require "spec.hierarchy"
local lfs = require "lfs"
local nsbox = require "nsbox"
local script = require "spec.script"
local sys = require "nsbox.sys"
local tree = require "nsbox.cgroup.tree"

helper.leakcheck { outside = true, settle = true }

-- This machine's, and as if it had v1 alone.
local NO_V2 = [[
  local tree = require "nsbox.cgroup.tree"
  local places_for = tree.places_for
  function tree.places_for(...)
    local found = places_for(...)
    found.v2 = nil
    return found
  end
]]

local places_for = tree.places_for

local function without_v2(...)
  local found = places_for(...)
  found.v2 = nil
  return found
end

local function can_limit()
  local r, err = nsbox.run("busybox", { "true" }, { pids = 100 })
  if not r then helper.skip("needs a cgroup of its own: " .. tostring(err)) end
end

local ways = { { "", places_for, "" } }
if next(tree.look().v1) then ways[2] = { ", by v1 alone", without_v2, NO_V2 } end

setup(function()
  helper.warm()
  helper.warm_outside()
  for _, way in ipairs(ways) do -- what stays until this program ends
    tree.places_for = way[2]
    nsbox.run("busybox", { "true" }, { pids = 100 })
  end
  tree.places_for = places_for
end)

teardown(function() tree.places_for = places_for end)

local function test(name, fn)
  it(name, function()
    can_limit()
    fn()
  end)
end

local function stubborn()
  local root = box.image()
  box.program("stubborn", root)
  return root
end

-- Nothing of a caller that is dead is left: no process, no cgroup.
local function nothing_left(pid, marker, what)
  box.eventually(what .. ": left: " .. table.concat(hierarchy.of_caller(pid), " "), function()
    return #hierarchy.of_caller(pid) == 0 and #box.pids(marker) == 0
  end)
end

for _, way in ipairs(ways) do
  local by, places, prelude = table.unpack(way)

  local function choose()
    tree.places_for = places
  end

  describe("close" .. by, function()
    before_each(choose)

    test("ends 500 processes that hold memory, ignore all signals, and are orphans", function()
      local root, before = stubborn(), hierarchy.of_caller(helper.pid)
      for _, opts in ipairs { { pids = 2000 }, { pids = 2000, namespaces = { pid = false } } } do
        local marker = box.marker()
        local n = opts.namespaces and 40 or 500 -- orphans that share pids are the machine's process 1's to reap
        local b <close> = assert(nsbox.start(root, { "/stubborn", marker, "0", tostring(n), "128" }, opts))
        b:expect "ready"
        box.eventually("all processes", function() return #box.pids(marker) > n end)
        assert.is_true(#hierarchy.of_caller(helper.pid) > #before)
        b:close()
        assert.same({}, box.pids(marker))
        assert.same(before, hierarchy.of_caller(helper.pid))
      end
    end)

    test("ends pid namespaces in the box, what is stopped, and what forks all the time", function()
      local before = hierarchy.of_caller(helper.pid)
      for _, opts in ipairs { { memory = "256M", pids = 500 },
        { memory = "256M", pids = 500, namespaces = { pid = false } } } do
        local marker = box.marker()
        local b <close> = assert(nsbox.start("busybox", { "sh", "-c",
          "unshare -U -p -f sh -c 'sleep 100 & sleep 100; :' $0 & sh -c 'kill -STOP $$' $0 &"
            .. "for i in 1 2 3; do (while :; do (:); done) & done; (setsid sleep 100 &); sleep 0.05; echo ready; wait",
          marker }, opts))
        b:expect "ready"
        b:close()
        assert.same({}, box.pids(marker))
        assert.same(before, hierarchy.of_caller(helper.pid))
      end
    end)

    test("ends threads whose first one has ended", function()
      local root = box.image()
      box.program("spinner", root)
      local b <close> = assert(nsbox.start(root, { "sh", "-c", "/spinner threads & sleep 100" },
        { pids = 100, namespaces = { pid = false } }))
      b:expect "x\nx\n"
      local pid
      box.eventually("its first thread ends", function()
        for _, process in ipairs(b:processes()) do pid = process.state == "Z" and process.pid or pid end
        return pid
      end)
      local function threads() return #helper.names(("/proc/%d/task"):format(pid)) end
      assert.equal(2, threads())
      b:close()
      box.eventually("it lives on", function() return threads() < 2 end) -- as a zombie until it is reaped
    end)
  end)

  describe("a box that shares the caller's pids" .. by, function()
    before_each(choose)

    test("ends with its main process, daemons and all, and has no note that says otherwise", function()
      local marker = box.marker()
      local opts = { pids = 100, namespaces = { pid = false } }
      local r = assert(nsbox.run("busybox", { "sh", "-c", "(setsid sh -c 'sleep 100; :' $0 &); true", marker }, opts))
      assert.is_true(r.ok)
      assert.same({}, box.pids(marker))
      for _, note in ipairs(r.notes) do assert.not_equal("namespaces.pid", note.what) end
      local b <close> = assert(nsbox.start("busybox", { "sh", "-c",
        "(setsid sh -c 'sleep 100; :' $0 &); sleep 100; :", marker }, opts))
      box.eventually("a daemon", function() return #box.pids(marker) > 1 end)
      b:kill()
      assert.equal("killed", b:wait(30).reason)
      box.eventually("it lives on", function() return #box.pids(marker) == 0 end)
    end)
  end)

  -- Boxes of all kinds that live when the caller ends.
  local LIVE = prelude .. [[
    local nsbox = require "nsbox"
    local command = { "sh", "-c", "trap '' TERM; (setsid sh -c 'sleep 100; :' $0 &); sleep 100; :", arg[1] }
    live = {}
    for i, o in ipairs { {}, { namespaces = { pid = false } }, { memory = "64M" }, { cpu_time = 50 } } do
      o.pids = 100
      live[i] = assert(nsbox.start("busybox", command, o))
    end
    assert(nsbox.start("busybox", command, { pids = 100 }):pause())
    live.paused = assert(nsbox.start("busybox", command, { pids = 100, namespaces = { pid = false } }))
    live.paused:pause()
    io.write("ready\n"):flush()
  ]]

  describe("the end of the caller" .. by, function()
    local ends = { { "os.exit without close", "os.exit(0)" }, { "os.exit with the state closed", "os.exit(0, true)" },
      { "the script's end", "" }, { "an error", "error 'the end'" },
      { "SIGKILL", "require('nsbox.sys').kill(require('nsbox.sys').getpid(), 'kill')" } }
    for _, how in ipairs(ends) do
      test("leaves nothing: " .. how[1], function()
        local marker = box.marker()
        local s <close> = script.start(LIVE .. how[2],
          { marker = marker, before = function() sys.dup3(assert(sys.open("/dev/null", "rdwr")), 2) end })
        assert.equal("ready", s:line())
        s:wait()
        nothing_left(s.pid, marker, how[1])
      end)
    end

    test("is not a fork's end", function()
      script.succeeds(prelude .. [[
        local hierarchy_of = function()
          local f = io.popen("find /sys/fs/cgroup -type d -name 'nsbox-" .. sys.getpid() .. "-*' | sort")
          local text = f:read "a"
          f:close()
          return text
        end
        local b <close> = assert(nsbox.start("busybox", { "sleep", "100" }, { pids = 10 }))
        local before = hierarchy_of()
        assert(before ~= "")
        for _, fn in ipairs { function() collectgarbage() return 0 end, function() os.exit(0, true) end,
          function() return nsbox.run("busybox", { "true" }, { pids = 10 }).ok end } do
          local pid = assert(sys.clone(sys.SIGCHLD, fn))
          assert(select(2, sys.waitid(pid)) == 0)
          assert(hierarchy_of() == before)
          assert(b.state == "running")
        end
        assert(nsbox.call("busybox", function() return 1 end, { pids = 10 }))
        assert(hierarchy_of() == before)
        assert(nsbox.run("busybox", { "true" }, { pids = 10 }).ok)]])
    end)
  end)

  -- Killed at a moment of chance, the keepers too in every other round; then one start of another caller.
  local LOOP = prelude .. [[
    local nsbox = require "nsbox"
    io.write("ready\n"):flush()
    local kinds = { { pids = 50 }, { memory = "64M", namespaces = { pid = false } },
      { pids = 50, cpus = 0.5, userns = "single" } }
    while true do
      local list = {}
      for i, o in ipairs(kinds) do
        list[i] = assert(nsbox.start("busybox", { "sh", "-c", "usleep 3000; :", arg[1] }, o))
      end
      list[1]:pause()
      list[3]:exec({ "true" })
      for _, b in ipairs(list) do b:close() end
    end]]

  local function sweep(times)
    for i = 1, helper.rounds(times) do
      local marker, after = box.marker(), math.random() * 0.06
      local s <close> = script.start(LOOP, { marker = marker })
      assert.equal("ready", s:line())
      sys.nanosleep(after)
      local children, what = s:children(), ("round %d, after %.2f ms"):format(i, after * 1000)
      for _, pid in ipairs(i % 2 == 0 and children or {}) do
        if helper.read(("/proc/%d/comm"):format(pid)) == "nsbox-keeper\n" then sys.kill(pid, "kill") end
      end
      sys.kill(s.pid, "kill")
      s:wait()
      if i % 2 == 1 then gone.assert(marker, children, what) end
      script.succeeds(prelude .. 'assert(nsbox.run("busybox", { "true" }, { pids = 10 }).ok)')
      nothing_left(s.pid, marker, what)
    end
  end

  describe("SIGKILL at any moment" .. by, function()
    test("leaves nothing after one start", function() sweep(6) end)
    test("leaves nothing after one start, many times #soak", function() sweep(100) end)

    test("of the keeper alone ends its duty to no cgroup", function()
      local s <close> = script.start(prelude .. [[
        local nsbox, sys = require "nsbox", require "nsbox.sys"
        local function start() return assert(nsbox.run("busybox", { "true" }, { pids = 10 })) end
        start()
        local f = io.open(("/proc/%d/task/%d/children"):format(sys.getpid(), sys.getpid()))
        for pid in f:read "a":gmatch "%d+" do
          sys.kill(tonumber(pid), "kill")
          while (io.open("/proc/" .. pid .. "/stat"):read "a"):match "%) (%a)" ~= "Z" do sys.nanosleep(0.001) end
        end
        start()
        io.write("ready\n"):flush()
        os.exit(0)]])
      assert.equal("ready", s:line())
      s:wait()
      nothing_left(s.pid, "-none-", "the keeper was killed")
    end)
  end)
end

describe("a start that needs a cgroup", function()
  -- In the hierarchy of pids: a cgroup of this name with a process in it.
  local function foreign(name, hierarchy_name)
    local path = assert(hierarchy.own(hierarchy_name or "pids")) .. "/" .. name
    assert(lfs.mkdir(path))
    helper.cleanup(function() hierarchy.remove(path) end)
    local pid = assert(sys.clone(sys.SIGCHLD, function()
      assert(sys.write_file("cwd", path .. "/cgroup.procs", "0"))
      sys.close_range(3, 0xffffffff, 0)
      sys.execve("/bin/busybox", { "sleep", "1000" }, {})
    end))
    helper.cleanup(function()
      sys.kill(pid, "kill")
      sys.waitid(pid)
    end)
    box.eventually("it is in it", function() return helper.read(path .. "/cgroup.procs") ~= "" end)
    return path, pid
  end

  local function start_one(prelude)
    script.succeeds((prelude or "") .. 'assert(nsbox.run("busybox", { "true" }, { pids = 10 }).ok)')
  end

  local function lives(pid)
    return (sys.waitid(pid, 0)) == nil
  end

  local function needs_v1()
    if not hierarchy.own "pids" or not helper.root() then helper.skip "needs root, and v1" end
  end

  test("touches no cgroup that is another's", function()
    needs_v1()
    local list = {}
    local function add(name)
      local path, pid = foreign(name)
      list[path] = pid
      return path
    end
    add "nsbox-1-xyz"
    add("nsbox-spec-" .. helper.pid)
    local locked <close> = assert(sys.open(add "nsbox-1-abc1", "rdonly,directory"))
    assert(sys.flock(locked, "ex,nb"))
    assert(sys.chown(add "nsbox-1-abc2", 1000, 1000))
    start_one()
    for path, pid in pairs(list) do
      assert.equal("directory", lfs.attributes(path, "mode"), path)
      assert.is_true(lives(pid), path)
    end
  end)

  test("removes what dead callers left, with its processes", function()
    needs_v1()
    for _, name in ipairs { "pids", "freezer", "" } do
      local path, pid = foreign("nsbox-1-abc3", name)
      assert(lfs.mkdir(path .. "/0123"))
      assert(lfs.mkdir(path .. "/0123/below"))
      assert(sys.write_file("cwd", path .. "/0123/below/cgroup.procs", tostring(pid)))
      if name == "freezer" then assert(sys.write_file("cwd", path .. "/0123/freezer.state", "FROZEN")) end
      start_one(name == "freezer" and NO_V2 or nil)
      assert.is_nil(lfs.attributes(path, "mode"), path)
      assert.same({ "signal", 9 }, { sys.waitid(pid, 30) })
    end
  end)
end)

describe("the caller's cgroups", function()
  test("are open to nobody else, who could lock them", function()
    for _, path in ipairs(hierarchy.of_caller(helper.pid)) do
      if path:match "[^/]*$":find "^nsbox%-" then assert.equal("0700", assert(sys.stat(path)).mode, path) end
    end
  end)
end)

describe("boxes with limits", function()
  local LIMITS = { memory = "64M", pids = 50 }

  local function figures()
    local duties = 0
    for i = 1, 50 do -- the keeper's table, found by its field
      local name, value = debug.getupvalue(require("nsbox.keeper").get, i)
      if not name then break end
      if name == "get_kind" then
        for j = 1, 50 do
          local inner, keepers = debug.getupvalue(value, j)
          if not inner then break end
          if inner == "keepers" then
            for _, k in pairs(keepers) do duties = duties + k.duties end
          end
        end
      end
    end
    collectgarbage()
    collectgarbage()
    return { #helper.names "/proc/self/fd", duties, hierarchy.of_caller(helper.pid) }
  end

  test("are 100 at once", function()
    local before, list = figures(), {}
    for i = 1, helper.rounds(100) do
      list[i] = assert(nsbox.start("busybox", { "sleep", "100" }, LIMITS))
    end
    for _, b in ipairs(list) do b:close() end
    assert.same(before, figures())
  end)

  local function in_sequence(times)
    local before = figures()
    for _ = 1, helper.rounds(times) do
      assert.is_true(assert(nsbox.run("busybox", { "true" }, { memory = "64M", pids = 50, cpu_time = 10 })).ok)
    end
    assert.same(before, figures())
  end

  test("come and go, and nothing grows", function() in_sequence(60) end)
  test("come and go 1000 times, and nothing grows #soak", function() in_sequence(1000) end)
end)
