-- Boxes and their processes as handles: every verb, in every state, and what becomes of what it started.
local box = require "spec.box"
local helper = require "spec.helper"
local in_time = require "spec.in_time"
local assert_misuse = require "spec.misuse"
local nsbox = require "nsbox"
local sys = require "nsbox.sys"
helper.leakcheck { settle = true, outside = true }
setup(box.warm_shared)

local start = nsbox.start
local ENDS_BY_TERM = "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.02; done"

local function error_of(kind, answer, err)
  assert.is_nil(answer)
  assert.equal(kind, err.kind, tostring(err))
  return err
end

describe("nsbox.start", function()
  it("answers with a running box, whose end is waited for", function()
    local b <close> = assert(start("busybox", "echo out; echo err >&2; read x; exit 3", { stdin = "pipe" }))
    assert.same({ "running", false }, { b.state, b.detached })
    assert.matches("^%x+$", b.id)
    assert.equal(b.pid, require("nsbox.core").pid_of(b:pidfd()))
    assert.is_nil(b:poll())
    error_of("timeout", b:wait(0.05))
    b.stdin:close()
    local r = assert(b:wait(30))
    assert.same({ "exit", 3, "out\n", "err\n", b.id }, { r.reason, r.code, r.stdout, r.stderr, r.id })
    assert.equal(r, b:wait())
    assert.equal(r, b:poll())
    assert.equal("ended", b.state)
  end)

  it("fails as run does, in its own name", function()
    local missing = { namespaces = { ipc = "/nonexistent/x" } }
    for _, row in ipairs { { "exec", { "/none" } }, { "setup", { "true" }, missing } } do
      local err = error_of(row[1], start("busybox", row[2], row[3]))
      assert.equal("start", err.verb)
    end
    assert_misuse("unknown option 'imeout'", start, "busybox", { "true" }, { imeout = 1 })
  end)

  it("leaves nothing when the handle is closed, collected, or an error leaves its block", function()
    local marker = box.marker()
    local function one() return assert(start("busybox", { "sh", "-c", "sleep 100; true", marker })) end
    one():close()
    pcall(function()
      local b <close> = one()
      error(b)
    end)
    do local _ = one() end
    collectgarbage()
    collectgarbage()
    local co = coroutine.create(function()
      local _ <close> = one()
      coroutine.yield()
    end)
    coroutine.resume(co)
    coroutine.close(co)
    assert.same({}, box.pids(marker))
  end)

  it("with check = true answers a bad end as an error", function()
    local b <close> = assert(start("busybox", "echo no >&2; exit 4", { check = true }))
    local err = error_of("exit", b:wait())
    assert.equal(4, err.result.code)
    assert.matches("exit code 4", tostring(err))
  end)
end)

describe("a method", function()
  local calls = {
    wait = {}, poll = {}, kill = { "KILL" }, stop = { 0 }, send = { "x" }, communicate = {}, logs = {},
    expect = { "x", 0 }, resize = { 1, 1 }, pidfd = {}, exec = { { "true" } }, spawn = { { "true" } },
  }

  it("of a closed handle is an error value", function()
    local b = assert(start("busybox", { "sleep", "100" }))
    local p = assert(b:spawn({ "sleep", "100" }, { stdin = "pipe" }))
    p:close()
    b:close()
    for _, h in ipairs { b, p } do
      for name, args in pairs(calls) do
        if h == b or name ~= "exec" and name ~= "spawn" then
          error_of("closed", h[name](h, table.unpack(args)))
        end
      end
      assert.is_true(h:close())
      assert.same({ "closed", nil }, { h.state, h.pid })
    end
  end)

  it("of one that has ended is defined", function()
    local b <close> = assert(start("busybox", "echo last; exit 2"))
    assert(b:wait())
    assert.same({ true, true, true }, { b:kill(), b:kill("TERM"), (b:kill(15)) })
    assert.equal(2, b:stop().code)
    assert.equal(2, b:communicate().code)
    assert.equal("last\n", b:logs())
    assert.equal("last", b:expect("%w+"))
    local err = error_of("exit", b:expect("%w+", 5))
    assert.same({ 2, "last\n" }, { err.result.code, err.log })
    for _, verb in ipairs { "exec", "spawn" } do
      err = error_of("closed", b[verb](b, { "true" }))
      assert.matches("has ended: exit code 2", tostring(err))
    end
    assert.equal("unsupported", select(2, b:send "x").kind)
    assert.is_number(b:pidfd())
  end)

  it("with arguments of another kind raises at the caller's line", function()
    local b <close> = assert(start("busybox", { "sleep", "100" }))
    for _, row in ipairs { { "wait", "x" }, { "wait", -1 }, { "kill", "NOPE" }, { "kill", 99 }, { "stop", {} },
      { "logs", "3" }, { "logs", 1, "stdin" }, { "expect", nil }, { "expect", "x", "y" }, { "communicate", {} },
      { "resize", 0, 1 }, { "exec", nil }, { "exec", {} }, { "exec", { "true" }, { hostname = "x" } },
      { "spawn", { "true" }, { bad = 1 } } } do
      assert_misuse("", b[row[1]], b, row[2], row[3])
    end
    assert.has_error(function() b.pid = 3 end)
  end)

  it("called with a dot raises at the caller's line", function()
    local b <close> = assert(start("busybox", { "sleep", "100" }))
    for _, verb in ipairs { "exec", "spawn", "wait", "kill", "stop", "logs", "close", "pause", "processes" } do
      assert_misuse(("methods take a colon, box:%s(...)"):format(verb), b[verb], "id")
    end
  end)
end)

describe("kill and stop", function()
  it("tell who ended it", function()
    local rows = {
      { "killed", "KILL", function(b) assert(b:kill()) end },
      { "killed", "KILL", function(b) b:stop(0) end },
      { "exit", 5, function(b) assert(b:kill "TERM") end },
      { "exit", 5, function(b) b:stop(10) end },
      { "signal", "KILL", function(b) assert(sys.kill(b.pid, "KILL")) end },
    }
    for i, row in ipairs(rows) do
      local b <close> = assert(start("busybox", { "sh", "-c", ENDS_BY_TERM }))
      assert(b:expect("up", 30))
      row[3](b)
      local r = assert(b:wait(30))
      assert.same({ i, row[1], row[2] }, { i, r.reason, r.code or r.signal })
    end
  end)

  it("of a program that ignores TERM: it is gone after the grace, at once as process 1", function()
    local b <close> = assert(start("busybox", { "sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.02; done" }))
    assert(b:expect("up", 30))
    local p <close> = assert(b:spawn({ "sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.02; done" }))
    assert(p:expect("up", 30))
    local began = nsbox.clock()
    assert.same({ "killed", "KILL" }, { p:stop(0.2).reason, p:wait().signal })
    assert.is_true(nsbox.clock() - began >= 0.2)
    assert.equal("killed", b:stop(30).reason)
  end)

  it("of process 1 with a signal that the kernel drops is unsupported, with the way out", function()
    local b <close> = assert(start("busybox", { "sleep", "100" }))
    local err = error_of("unsupported", b:kill "TERM")
    assert.matches("init = true", err.hint)
    assert.is_true(b:kill "CONT")
    assert.equal("running", b.state)
  end)

  it("end one that is stopped", function()
    local b <close> = assert(start("busybox", { "sleep", "100" }))
    local p <close> = assert(b:spawn { "sleep", "100" })
    assert(p:kill "STOP")
    assert.equal("killed", p:stop(0.1).reason)
    assert(b:kill "STOP")
    assert.equal("killed", b:stop(0.1).reason)
  end)
end)

describe("exec and spawn", function()
  it("enter the box: its processes, names, files, network, ids and protections", function()
    local b <close> = assert(start("busybox", "echo mark > /tmp/mark; echo up; sleep 100", { hostname = "inside" }))
    assert(b:expect("up", 30))
    local r = assert(b:exec "hostname; cat /tmp/mark; id -u; ps | grep -c 'sleep 10[0]'; ls /sys/class/net; echo $$")
    local lines = box.lines(r:check().stdout)
    assert.same({ "inside", "mark", "0", "1", "lo" }, table.move(lines, 1, 5, 1, {}))
    assert.is_true(tonumber(lines[6]) > 1)
    local what = "grep -E '^(Cap|NoNew|Groups|Uid|Gid|Seccomp:)' /proc/self/status; "
      .. "for n in /proc/self/ns/*; do readlink $n; done"
    local function without_pid_for_children(text) return (text:gsub("time:%b[]\n", "")) end
    local main <close> = assert(start("busybox", { "sh", "-c", what .. "; read x" }, { stdin = "pipe" }))
    assert(main:expect("uts:%b[]\n", 30))
    assert.equal(without_pid_for_children(main:logs()), without_pid_for_children(main:exec(what):check().stdout))
  end)

  it("take env, workdir, user and streams, and inherit what they are not given", function()
    local b <close> = assert(start("busybox", { "sleep", "100" }, { env = { A = 1, B = 2 }, workdir = "/srv/deep" }))
    local r = b:exec("echo $A$B$C$HOME; pwd", { env = { A = false, C = 3 } })
    assert.equal("23/root\n/srv/deep\n", r.stdout)
    assert.equal("/made/here\n", b:exec({ "pwd" }, { workdir = "/made/here" }).stdout)
    assert.equal("xy", b:exec({ "cat" }, { input = "xy" }).stdout)
    assert.equal("e", b:exec("printf e >&2", { stderr = "stdout" }).stdout)
    if helper.has_ids() then
      assert.equal("7:8:/\n", b:exec("echo $(id -u):$(id -g):$HOME", { user = "7:8" }).stdout)
      local r2 = b:exec("grep CapEff /proc/self/status", { user = 7 })
      assert.matches("CapEff:%s0+\n", r2.stdout)
    else
      error_of("unsupported", b:exec({ "true" }, { user = 7 }))
    end
  end)

  it("have a terminal of the box's own", function()
    local b <close> = assert(start("busybox", { "sleep", "100" }))
    local r = b:exec("tty; stty size; test -e /dev/pts/0 && echo there", { tty = { rows = 9, cols = 99 }, input = "" })
    assert.equal("/dev/pts/0\r\n9 99\r\nthere\r\n", r.stdout)
  end)

  it("work in boxes of every kind of namespace", function()
    local kinds = { { pid = false }, { net = false }, { mount = true, ipc = false }, { uts = false }, { time = true },
      { time = { monotonic = 1000, boottime = 1000 } }, { cgroup = false } }
    if sys.geteuid() == 0 then kinds[#kinds + 1] = { user = false } end
    for i, namespaces in ipairs(kinds) do
      local names = "for n in /proc/self/ns/*; do readlink $n; done"
      local b <close> = assert(start("busybox", { "sh", "-c", names .. "; read x" },
        { namespaces = namespaces, stdin = "pipe" }))
      assert(b:expect("uts:%b[]\n", 30))
      local r = assert(b:exec(names))
      assert.same({ i, b:logs() }, { i, r.stdout })
    end
    local b <close> = assert(start("host", { "sleep", "100" }))
    assert.equal(0, b:exec("test $(cat /proc/1/comm) = sleep").code)
  end)

  it("explain a missing program", function()
    local b <close> = assert(start("busybox", { "sleep", "100" }))
    local err = error_of("exec", b:exec { "none" })
    assert.same({ "exec", sys.ENOENT, "none" }, { err.verb, err.errno, err.path })
    assert.matches("PATH", err.hint)
    err = error_of("exec", b:spawn { "/etc/passwd" })
    assert.matches("it has no x bit", tostring(err))
    assert.equal("running", b.state)
  end)

  it("end with their box, which does not wait for whoever forgot them", function()
    local b <close> = assert(start("busybox", "read x; exit 0", { stdin = "pipe" }))
    local p <close> = assert(b:spawn { "sleep", "100" })
    do local _ = assert(b:spawn { "sleep", "100" }) end
    b.stdin:close()
    assert.equal(0, assert(b:wait(30)).code)
    assert.same({ "signal", "KILL" }, { p:wait(30).reason, p:wait().signal })
  end)

  it("may be collected while their box ends them", function()
    local b = assert(start("busybox", { "sleep", "100" }))
    assert(b:spawn { "sleep", "100" })
    local poll = sys.poll
    finally(function() sys.poll = poll end)
    function sys.poll(...)
      collectgarbage() -- as it may run when the rows are made
      return poll(...)
    end
    assert.is_true(b:close())
  end)

  it("are ended one by one where the box has no pid namespace of its own", function()
    local marker = box.marker()
    local b = assert(start("busybox", { "sleep", "100" }, { namespaces = { pid = false } }))
    local p <close> = assert(b:spawn { "sh", "-c", "sleep 100; true", marker })
    assert.is_true(#box.find(marker) > 0)
    b:close()
    assert.equal("KILL", p:wait(30).signal)
  end)

  it("with a timeout end by it, and the box goes on", function()
    local b <close> = assert(start("busybox", { "sleep", "100" }))
    in_time(0.2, { "timeout", "TERM", "part\n" }, function(seconds)
      local r = assert(b:exec("echo part; sleep 100", { timeout = seconds }))
      return { r.reason, r.signal, r.stdout }
    end)
    assert.equal("running", b.state)
  end)

  -- The joining process waits before its exec, while a program in the box looks at it.
  it("hide the caller from the box until they have exec'ed", function()
    local launch, plan = require "nsbox.launch", require "nsbox.plan"
    local run, joining_of = launch.run, plan.joining_of
    finally(function() launch.run, plan.joining_of = run, joining_of end)
    local b <close> = assert(start("busybox", { "sh", "-c", [[
      echo up; read x
      for d in /proc/[0-9]*; do
        [ $d = /proc/1 ] && continue
        grep -q . $d/comm && echo there
        for f in $d/fd/*; do readlink $f && echo fd; done
        head -c 1 $d/maps && echo maps; head -c 1 $d/mem && echo mem; ls $d/root/ && echo root
      done; echo done; read x]] }, { stdin = "pipe", stderr = "null" }))
    assert(b:expect("up", 30))
    function plan.joining_of(...)
      local steps = table.move(joining_of(...), 1, #joining_of(...), 1, {})
      table.insert(steps, #steps, { "barrier", "spec", why = "to be looked at", side = "child" })
      return steps
    end
    function launch.run(given)
      given.barriers.spec = function()
        assert(b:send "\n")
        assert(b:expect("done", 30))
      end
      return run(given)
    end
    assert(b:exec { "true" })
    assert.equal("up\nthere\ndone\n", b:logs())
  end)
end)

describe("on_created and on_exit", function()
  it("run in the parent: before exec, and in the call that sees the end", function()
    local seen = {}
    local b <close> = assert(start("busybox", { "sh", "-c", "exit 6" }, {
      on_created = function(made)
        local comm = helper.read(("/proc/%d/comm"):format(made.pid))
        seen[#seen + 1] = { made.state, comm ~= "sh\n", #made.id }
      end,
      on_exit = function(made, result) seen[#seen + 1] = { made.state, result.code, made } end,
    }))
    assert.equal(6, b:wait().code)
    assert.same({ { "created", true, 12 }, { "ended", 6, b } }, seen)
  end)

  it("raise their errors where they are seen; nothing is left of the start", function()
    local marker, thing = box.marker(), {}
    for _, verb in ipairs { "run", "start" } do
      local ok, raised = pcall(nsbox[verb], "busybox", { "sleep", "100", marker },
        { on_created = function() error(thing) end })
      assert.same({ false, true }, { ok, raised == thing })
    end
    assert.same({}, box.pids(marker))
    local ok, raised = pcall(nsbox.run, "busybox", { "true" }, { on_exit = function() error("so", 0) end })
    assert.same({ false, "so" }, { ok, raised })
    local b <close> = assert(start("busybox", { "true" }, { on_exit = function() error("late", 0) end }))
    assert.same({ false, "late" }, { pcall(b.wait, b) })
    assert.equal(0, b:wait().code)
  end)

  it("a box that is closed in on_created is none: its start says so, and no program runs", function()
    local marker = box.marker()
    for _, opts in ipairs { {}, { memory = "20M", degrade = { "memory" } }, { namespaces = { pid = false } } } do
      for _, verb in ipairs { "run", "start" } do
        local closed
        function opts.on_created(made)
          assert.is_true(made:close())
          assert.is_true(made:close())
          local ended, why = made:kill()
          closed = { made, made.state, ended, why.kind }
        end
        local r, err = nsbox[verb]("busybox", { "sh", "-c", "echo up; exec sleep 100", marker }, opts)
        assert.is_nil(r)
        assert.same({ "closed", verb, "the box was closed in on_created" }, { err.kind, err.verb, err.message })
        assert.same({ closed[1], "closed", nil, "closed" }, closed)
        assert.equal("closed", closed[1].state)
        assert.same({}, box.pids(marker))
      end
    end
  end)

  it("on_created may neither start nor wait", function()
    for _, forbidden in ipairs {
      function() nsbox.run("busybox", { "true" }) end, function() nsbox.sleep(0.1) end, function(b) b:wait() end,
      function(b) b:exec { "true" } end,
    } do
      local ok, raised = pcall(nsbox.run, "busybox", { "true" }, { on_created = forbidden })
      assert.is_false(ok)
      assert.matches("on_created may neither start anything nor wait", raised)
    end
    assert.equal(0, nsbox.run("busybox", { "true" }).code)
  end)
end)
