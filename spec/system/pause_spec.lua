-- A box that is paused, and what runs in it.
local box = require "spec.box"
local helper = require "spec.helper"
local in_time = require "spec.in_time"
local nsbox = require "nsbox"
local script = require "spec.script"
local sys = require "nsbox.sys"
helper.leakcheck { settle = true, outside = true }

local quiet = box.quiet
local COUNT = "i=0; while :; do i=$((i+1)); echo $i; done"

local kinds = { { "of its own pids", { degrade = { "cgroup" } } },
  { "that shares the caller's pids", { degrade = { "cgroup" }, namespaces = { pid = false } } } }

-- By the freezer, where boxes can have a cgroup.
local freezes = nsbox.run("busybox", { "true" }, { pids = 1000 }) ~= nil
if freezes then
  if next(require("nsbox.cgroup.tree").look().v1) then -- what stays until this program ends
    local tree = require "nsbox.cgroup.tree"
    local places_for = tree.places_for
    function tree.places_for(...)
      local found = places_for(...)
      found.v2 = nil
      return found
    end
    nsbox.run("busybox", { "true" }, { pids = 1000 })
    tree.places_for = places_for
  end
  kinds[3] = { "that has a cgroup", { pids = 1000 } }
  kinds[4] = { "that has a cgroup, and shares the caller's pids", { pids = 1000, namespaces = { pid = false } } }
end

local function start(cmd, opts)
  local b = assert(nsbox.start("busybox", cmd, opts))
  helper.cleanup(function() b:close() end)
  return b
end

local function letters(b)
  local list = {}
  for i, p in ipairs(assert(b:processes())) do list[i] = p.state end
  return table.concat(list)
end

local function note_of(r)
  for _, note in ipairs(r.notes) do
    if note.what == "pause" then return note.why end
  end
end

local function refuses(kind, errno, text, ...)
  local ok, err, third = ...
  assert.is_nil(ok)
  assert.equal("nsbox.error", getmetatable(err) and getmetatable(err).__name, tostring(err))
  assert.same({ kind, errno, errno }, { err.kind, err.errno, third }, tostring(err))
  assert.truthy(tostring(err):find(text, 1, true), tostring(err))
  return err
end

describe("pause", function()
  for _, kind in ipairs(kinds) do
    local what, opts = table.unpack(kind)

    it("lets nothing run in a box " .. what .. ", until resume", function()
      local b = start({ "sh", "-c", "(" .. COUNT .. ") & " .. COUNT }, opts)
      local added = assert(b:spawn { "sh", "-c", COUNT })
      b:expect "\n9\n"
      added:expect "\n9\n"
      assert.is_true(b:pause())
      assert.same({ "paused", "paused" }, { b.state, added.state })
      local one, other = quiet(b), quiet(added)
      assert.same({ one, other }, { quiet(b), quiet(added) })
      assert.equal(opts.pids and "SSS" or "TTT", (letters(b):gsub("[RD]", "S")))
      assert.is_true(b:resume())
      assert.same({ "running", "running" }, { b.state, added.state })
      box.eventually("it does not go on", function() return b:logs() ~= one and added:logs() ~= other end)
      for _ = 1, 20 do
        assert.is_true(b:pause())
        assert.is_true(b:resume())
      end
      b:pause()
      added:close()
      local left = b:processes()
      b:close()
      for _, p in ipairs(opts.namespaces and left or {}) do box.kill(p.pid) end
    end)

    it("says so in the notes, once, or by a cgroup not at all, " .. what, function()
      local b = start({ "sleep", "100" }, opts)
      local before = #b.notes
      for _ = 1, 3 do
        b:pause()
        b:resume()
      end
      assert.equal(before + (opts.pids and 0 or 1), #b.notes)
      b:kill()
      assert.equal(opts.pids == nil, (note_of(b:wait()) or ""):find "SIGSTOP" ~= nil)
    end)

    it("is true for a box that is paused, and resume for one that runs, " .. what, function()
      local b = start({ "sleep", "100" }, opts)
      assert.is_true(b:resume())
      assert.is_true(b:pause())
      assert.is_true(b:pause())
      assert.is_true(b:resume())
      assert.is_true(b:resume())
      assert.equal("running", b.state)
    end)

    it("keeps exec, spawn and CONT out " .. what, function()
      local b = start({ "sleep", "100" }, opts)
      local added = assert(b:spawn { "sleep", "100" })
      b:pause()
      for _, verb in ipairs { "exec", "spawn" } do
        assert.truthy(refuses("unsupported", nil, "is paused", b[verb](b, { "true" })).hint:find "resume")
      end
      assert.truthy(refuses("unsupported", nil, "is paused", b:kill "CONT").hint:find "resume")
      refuses("unsupported", nil, "is paused", added:kill "CONT")
      assert.equal(opts.pids and "SS" or "TT", (letters(b):gsub("[RD]", "S")))
      b:resume()
      assert.is_true(b:exec { "true" }.ok)
      added:close()
    end)

    it("ends in KILL, stop and close, each at once " .. what, function()
      for _, signal in ipairs { "KILL", 9 } do
        local b = start({ "sleep", "100" }, opts)
        b:pause()
        assert.is_true(b:kill(signal))
        local r = assert(b:wait(30))
        assert.same({ "killed", "KILL" }, { r.reason, r.signal })
        assert.equal("ended", b.state)
      end
      local b = start({ "sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done" }, opts)
      b:expect "ready"
      b:pause()
      local r = assert(b:stop(10))
      assert.same({ "exit", 7 }, { r.reason, r.code })
      b = start({ "sleep", "100" }, opts)
      b:pause()
      assert.is_true(b:close())
      assert.equal("closed", b.state)
    end)

    it("lets the deadline come " .. what, function()
      in_time(1, { true, "timeout", 7 }, function(seconds)
        local b = start({ "sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done" },
          { namespaces = opts.namespaces, pids = opts.pids, timeout = seconds, stop_timeout = 60 })
        b:expect "ready"
        local paused = b:pause()
        local early, err = b:wait(0.05)
        if paused and not early then refuses("timeout", sys.ETIMEDOUT, "still runs", early, err, err.errno) end
        local r = assert(b:wait(60))
        return { paused and not early, r.reason, r.code }
      end)
      local sleeper = start({ "sleep", "100" }, { namespaces = opts.namespaces, pids = opts.pids, timeout = 0.5 })
      sleeper:pause()
      assert.equal("timeout", assert(sleeper:wait(60)).reason)
    end)

    it("holds back another signal until resume " .. what, function()
      local b = start({ "sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done" }, opts)
      b:expect "ready"
      b:pause()
      assert.is_true(b:kill "TERM")
      refuses("timeout", sys.ETIMEDOUT, "still runs", b:wait(0.05))
      b:resume()
      assert.equal(7, assert(b:wait(30)).code)
    end)

    it("and resume answer for a box that has ended or is closed " .. what, function()
      local b = start({ "true" }, opts)
      b:wait()
      for _, verb in ipairs { "pause", "resume" } do
        assert.is_true(refuses("closed", nil, "has ended", b[verb](b)).result.ok)
      end
      assert.same({}, b:processes())
      b:close()
      for _, verb in ipairs { "pause", "resume", "processes" } do
        refuses("closed", nil, "is closed", b[verb](b))
      end
    end)

    it("is over when somebody else kills the box " .. what, function()
      local b = start({ "sleep", "100" }, opts)
      b:pause()
      sys.kill(b.pid, "KILL")
      assert.equal("signal", assert(b:wait(30)).reason)
      refuses("closed", nil, "has ended", b:resume())
    end)

    it("is over when the caller is killed: nothing stays of a box " .. what, function()
      local marker = box.marker()
      local s <close> = script.start(([[
        local nsbox = require "nsbox"
        local b = assert(nsbox.start("busybox", { "sh", "-c",
          "sh -c 'sh -c \"sleep 100; :\" $0; :' $0 & sleep 100; :", arg[1] }, %s))
        local p = assert(b:spawn { "sh", "-c", "sleep 100; :", arg[1] })
        while #b:processes() < 7 do nsbox.sleep(0.01) end
        assert(b:pause())
        print "paused"
        nsbox.sleep(100)]]):format(
        ("{ pids = %s, namespaces = { pid = %s } }"):format(opts.pids, opts.namespaces and "false" or "nil")),
        { marker = marker })
      assert.equal("paused", s:line())
      assert.is_true(#box.pids(marker) >= 5) -- and the script; a shell may have been stopped before its child's exec
      s:signal "kill"
      s:wait()
      box.eventually("left", function() return #box.pids(marker) == 0 end)
    end)
  end

  -- Of v1 a frozen process does not die before it is let go.
  it("by v1's freezer ends in KILL, stop, a deadline, close, and the death of what was added", function()
    local tree = require "nsbox.cgroup.tree"
    if not freezes or not tree.look().v1.freezer then helper.skip "needs the freezer of cgroup v1" end
    local places_for = tree.places_for
    helper.cleanup(function() tree.places_for = places_for end)
    function tree.places_for(...)
      local found = places_for(...)
      found.v2 = nil
      return found
    end
    for _, namespaces in ipairs { {}, { pid = false } } do
      for _, verb in ipairs { "kill", "stop" } do
        local b = start({ "sh", "-c", COUNT }, { pids = 1000, namespaces = namespaces })
        local added, other = assert(b:spawn { "sh", "-c", COUNT }), assert(b:spawn { "sleep", "100" })
        b:expect "\n9\n"
        assert.is_true(b:pause())
        local text = quiet(b)
        assert.equal(text, quiet(b))
        assert.is_true(added:kill())
        assert.equal("killed", assert(added:wait(30)).reason)
        other:close()
        assert.equal("paused", b.state)
        assert.equal(text, quiet(b))
        b[verb](b)
        assert.equal("killed", assert(b:wait(30)).reason)
        b:close()
      end
      in_time(0.3, { true, "timeout" }, function(seconds)
        local b = start({ "sh", "-c", COUNT }, { pids = 1000, namespaces = namespaces, timeout = seconds })
        local _ <close> = b:spawn { "sleep", "100" }
        b:expect "\n9\n"
        local paused = b:pause()
        local r = assert(b:wait(60))
        b:close()
        return { paused, r.reason }
      end)
      local b = start({ "sh", "-c", COUNT }, { pids = 1000, namespaces = namespaces })
      assert.is_true(b:pause())
      assert.is_true(b:resume())
      assert.is_true(b:exec({ "true" }).ok)
      assert.is_true(b:pause())
      b:close()
    end
  end)

  it("is kept from another user in the box, too", function()
    if not helper.root() then helper.skip "needs root: a single id is mapped" end
    for _, opts in ipairs { { user = 1000 }, { namespaces = { user = false } },
      { namespaces = { user = false }, user = 1000 } } do
      local b = start({ "sh", "-c", COUNT }, opts)
      b:expect "\n9\n"
      assert.is_true(b:pause())
      local text = quiet(b)
      assert.equal(text, quiet(b))
      b:resume()
      b:close()
    end
  end)

  it("ends what was added to the box at its own deadline, stop or KILL", function()
    for _, kind in ipairs(kinds) do
      local b = start({ "sleep", "100" }, kind[2])
      local list = {}
      for i = 1, 3 do
        list[i] = assert(b:spawn({ "sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done" },
          { timeout = i == 1 and 0.2 or nil, stop_timeout = 100 }))
        list[i]:expect "ready"
      end
      b:pause()
      local left = b:processes()
      assert.equal("timeout", assert(list[1]:wait(30)).reason)
      assert.same({ "killed", "KILL" }, { list[2]:stop().reason, list[2]:wait().signal })
      assert.is_true(list[3]:kill())
      assert.equal("killed", assert(list[3]:wait(30)).reason)
      assert.equal("paused", b.state)
      b:close()
      for _, p in ipairs(kind[2].namespaces and left or {}) do
        if p.name == "sleep" then box.kill(p.pid) end
      end
    end
  end)

  it("goes with a terminal, and from a function of the box's lines", function()
    local b = start({ "sh", "-c", COUNT }, { tty = true, stdin = "null", stdout = "log" })
    b:expect "9"
    assert.is_true(b:pause())
    local text = quiet(b)
    assert.equal(text, quiet(b))
    assert.is_true(b:resume())
    box.eventually("it does not go on", function() return b:logs() ~= text end)
    b:close()
    local lines, said = 0, nil
    b = start({ "sh", "-c", "echo one; read line; echo two" }, { stdin = "pipe", stdout = function()
      lines = lines + 1
      if lines == 1 then said = b:pause() end
    end })
    box.eventually("a line", function() return said end)
    assert.equal("paused", b.state)
    b.stdin:write "x\n"
    nsbox.sleep(0.05)
    assert.equal(1, lines)
    b:resume()
    assert.equal(0, b:wait(30).code)
    assert.equal(2, lines)
  end)

  it("refuses a /proc that is not of the caller's pids", function()
    local readlink = sys.readlink
    helper.cleanup(function() sys.readlink = readlink end)
    local b = start({ "sleep", "100" }, kinds[1][2])
    function sys.readlink(path) return path == "/proc/self" and "1" or readlink(path) end
    for _, verb in ipairs { "pause", "processes" } do
      refuses("setup", sys.ENOENT, "/proc is not of", b[verb](b))
    end
    sys.readlink = readlink
    box.eventually("it stands", function() return letters(b) == "S" end)
  end)

  it("that cannot be undone for want of descriptors is tried again by resume", function()
    script.succeeds [[
      local b = assert(nsbox.start("busybox", { "sh", "-c", "sleep 100 & sleep 100; :" }))
      while #b:processes() < 3 do nsbox.sleep(0.01) end
      assert(b:pause())
      local taken = {}
      sys.setrlimit("nofile", 40, 40)
      while true do
        local fd = sys.dup(0)
        if not fd then break end
        taken[#taken + 1] = fd
      end
      local ok, err = b:resume()
      assert(ok == nil and err.kind == "setup" and err.errno == sys.EMFILE, tostring(err))
      assert(b.state == "paused")
      for _, fd in ipairs(taken) do fd:close() end
      assert(b:resume())
      for _, p in ipairs(b:processes()) do assert(p.state ~= "T", p.state) end
      b:close()]]
  end)

  it("serves other boxes meanwhile, and is one of two coroutines", function()
    local list = {}
    for i = 1, 3 do list[i] = start { "sh", "-c", COUNT } end
    list[4] = list[1]
    local done = nsbox.gather(list, function(b) return b:pause() end)
    assert.same({ true, true, true, true }, done)
    for _, b in ipairs(list) do assert.equal("paused", b.state) end
  end)

  it("that fails lets the box run on", function()
    local members = require "nsbox.box.members"
    local list = members.list
    helper.cleanup(function() members.list = list end)
    for i = 1, 2 do
      local b = start({ "sleep", "100" }, kinds[i][2])
      local looks = 0
      function members.list(task)
        looks = looks + 1
        if looks > 1 then return nil, "readdir /proc: No such file or directory", sys.ENOENT end
        return list(task)
      end
      refuses("setup", sys.ENOENT, "readdir /proc", b:pause())
      members.list = list
      assert.equal("running", b.state)
      box.eventually("it stands", function() return letters(b) == "S" end)
      function members.list() error "interrupted!" end
      assert.has_error(function() b:pause() end)
      members.list = list
      assert.equal("running", b.state)
      box.eventually("it stands", function() return letters(b) == "S" end)
    end
  end)

  it("keeps no pidfd of what it has resumed", function()
    local b = start({ "sh", "-c", "sleep 100 & sleep 100 & wait" }, kinds[2][2])
    box.eventually("children", function() return #b:processes() == 3 end)
    local before = #helper.names "/proc/self/fd"
    b:pause()
    b:resume()
    assert.equal(before, #helper.names "/proc/self/fd")
  end)
end)
