-- A box without a command: its init alone.
local box = require "spec.box"
local helper = require "spec.helper"
local in_time = require "spec.in_time"
local nsbox = require "nsbox"
local script = require "spec.script"
local sys = require "nsbox.sys"
helper.leakcheck { settle = true, outside = true }

local run = nsbox.run

-- The host's pid of the init that a process has below it, when it has come.
local function init_below(ancestor)
  local deadline = nsbox.clock() + helper.PATIENCE
  repeat
    for _, pid in ipairs(helper.names "/proc") do
      local stat = pid:match "^%d+$" and helper.read("/proc/" .. pid .. "/stat")
      local up = stat and stat:match "%((.*)%)" == "nsbox-init" and stat:match "%) %a (%d+)"
      while up and up ~= "0" and up ~= tostring(ancestor) do
        up = (helper.read("/proc/" .. up .. "/stat") or ""):match "%) %a (%d+)"
      end
      if up == tostring(ancestor) then return tonumber(pid) end
    end
  until nsbox.clock() > deadline
  error "there is no init"
end

describe("an idle box", function()
  it("ends well when it is told to: by a timeout, by its stop signal", function()
    local all = { {}, { stop_signal = "INT" }, { stop_signal = "USR1", entrypoint = { "/none" } }, { tty = true } }
    for _, opts in ipairs(all) do
      in_time(0.1, { "timeout", 0, false, "", { "nsbox-init" } }, function(seconds)
        opts.timeout = seconds
        local r = assert(run("busybox", false, opts))
        return { r.reason, r.code, r.ok, r.stderr, r.command }
      end)
    end
  end)

  it("takes commands, one after the other and at once, and ends well when it is stopped", function()
    local b <close> = assert(nsbox.start("busybox", false))
    assert.equal("running", b.state)
    for i = 1, 3 do
      local r = assert(b:exec(("echo %d >>/list; cat /list; exit %d"):format(i, i)))
      assert.same({ i, i * 2 }, { r.code, #r.stdout })
    end
    local one <close> = assert(b:spawn "sleep 60; true")
    local two <close> = assert(b:spawn { "sleep", "60" })
    assert.matches("nsbox%-init\n", assert(b:exec "cat /proc/1/comm; ls -l /proc/1/fd/ >&2").stdout)
    assert.is_true(two:kill "TERM")
    assert.equal("TERM", assert(two:wait()).signal)
    assert.equal("running", one.state)
    local r = assert(b:stop())
    assert.same({ true, 0, "exit" }, { r.ok, r.code, r.reason })
    assert.equal("KILL", assert(one:wait()).signal)
  end)

  it("reaps what its commands leave behind", function()
    local b <close> = assert(nsbox.start("busybox", false))
    assert(b:exec "i=0; while [ $i -lt 50 ]; do (true & sleep 0.01 &); i=$((i+1)); done")
    local r = assert(b:exec [[
      i=0; while [ $i -lt 100 ]; do
        n=$(cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z '); [ $n = 0 ] && break; sleep 0.1; i=$((i+1))
      done; echo $n; cat /proc/1/maps 2>/dev/null]])
    assert.equal("0\n", r.stdout)
  end)

  it("goes with its caller", function()
    local s <close> = script.start([[
      local nsbox = require "nsbox"
      nsbox.run("busybox", "exit 0")
      print "ready"
      nsbox.run("busybox", false)]])
    assert.equal("ready", s:line())
    s:signal "KILL"
    assert.same({ "signal", 9 }, { s:wait() })
  end)

  it("reaps orphans of those who join it", function()
    if not helper.root() then helper.skip "needs root: without, a pid namespace of others cannot be joined" end
    local s <close> = script.start [[
      local nsbox = require "nsbox"
      nsbox.run("busybox", "exit 0")
      print "ready"
      nsbox.run("busybox", false)]]
    assert.equal("ready", s:line())
    local pid = init_below(s.pid)
    local r, w = sys.pipe2() -- the orphans end when nobody can write to it any more
    assert(run("busybox", "i=0; while [ $i -lt 50 ]; do (true & true & cat <&3 &); i=$((i+1)); done",
      { timeout = 60, namespaces = { pid = pid }, fds = { [3] = r } }))
    r:close()
    local path = ("/proc/%d/task/%d/children"):format(pid, pid)
    box.eventually("it has orphans", function() return helper.read(path) ~= "" end)
    w:close()
    box.eventually("it reaps them", function() return helper.read(path) == "" end)
  end)

  it("is what explain says: an init that is told no program", function()
    local e = assert(nsbox.explain("busybox", false))
    assert.same({ { "nsbox-init" }, true, true }, { e.config.process.args, e.config.nsbox.init, e.config.nsbox.idle })
    assert.matches("execve%(@program, {nsbox%-init @status 15}", tostring(e))
    e = assert(nsbox.explain("busybox", { "true" }, { init = true }))
    assert.matches("{nsbox%-init @status [^}]*/bin/true %-%- true}", (tostring(e):gsub("\n +", " ")))
  end)
end)
