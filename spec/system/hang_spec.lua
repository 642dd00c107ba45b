-- What must not keep a caller waiting: descendants that hold the pipes of a process that has ended, and processes that
-- are stopped. Each in a script of its own: one that hangs is a failure.
local box = require "spec.box"
local helper = require "spec.helper"
local script = require "spec.script"
helper.leakcheck { settle = true, outside = true }

-- For scripts. HOLD: a command that says x and ends, and leaves a process behind that holds its streams and has `name`
-- among its arguments. within(what, fn): fn() takes less than half a minute.
local HOLDS = [[
  local name = %q
  local HOLD = "cd /tmp; trap '' HUP; test -p " .. name .. " || mkfifo " .. name .. "; cat " .. name .. " & echo x"
  local function within(what, fn)
    local before = sys.clock()
    local answers = table.pack(fn())
    assert(sys.clock() - before < 30, what .. " took long")
    return table.unpack(answers, 1, answers.n)
  end
  local function ended(what, r, err, out)
    assert(r, what .. ": " .. tostring(err))
    assert(r.reason == "exit" and r.code == 0, what .. ": " .. tostring(r))
    if out then assert(r.stdout:gsub("\r", "") == out, what .. ": " .. r.stdout) end
  end
  local function wait(what, p, out)
    local r, err = within(what, function() return p:wait() end)
    ended(what, r, err, out)
  end
]]

local function holds(text, wrapped)
  local name = box.marker()
  helper.cleanup(function()
    for _, pid in ipairs(box.pids(name)) do box.kill(pid) end -- of a box that shares the caller's pids
  end)
  script.succeeds(HOLDS:format(name) .. (wrapped or "%s"):format(text))
end

describe("a descendant that holds the pipes keeps nobody waiting,", function()
  local kinds = { own = "{}", shared = "{ namespaces = { pid = false } }", init = "{ init = true }" }
  for kind, opts in pairs(kinds) do
    it("who runs a box: " .. kind, function()
      holds([[
        for _, more in ipairs { {}, { stderr = "stdout" }, { stdout = "log", stderr = "log" },
          { input = ("x"):rep(1 << 20) }, { stdout = function() end }, { tty = true }, { timeout = 50 } } do
          local opts = ]] .. opts .. [[
          for k, v in pairs(more) do opts[k] = v end
          local r, err = within("run", function() return nsbox.run("busybox", HOLD, opts) end)
          ended("run", r, err, (opts.stdout == nil or opts.stdout == "log") and "x\n" or nil)
        end]])
    end)

    it("who runs something in a box: " .. kind, function()
      holds([[
        local b <close> = assert(nsbox.start("busybox", { "sleep", "1000" }, ]] .. opts .. [[))
        for _, o in ipairs { {}, { stdout = "log" }, { stderr = "stdout" }, { tty = true }, { timeout = 50 },
          { input = ("x"):rep(1 << 20) } } do
          local r, err = within("exec", function() return b:exec(HOLD, o) end)
          ended("exec", r, err, "x\n")
          local p <close> = assert(b:spawn(HOLD, o))
          assert(within("expect", function() return p:expect("x", 30) end) == "x")
          wait("wait", p, "x\n")
          local q <close> = assert(b:spawn(HOLD, o))
          within("expect never", function()
            local none, e = q:expect "never"
            assert(none == nil and e.kind == "exit", tostring(e))
          end)
          within("stop", function() assert(q:stop()) end)
          local other <close> = assert(b:spawn(HOLD, o))
          within("wait_any", function() assert(nsbox.wait_any { other }) end)
          local told = {}
          local lines <close> = assert(b:spawn(HOLD, { stdout = function(line) told[#told + 1] = line end }))
          wait("lines", lines)
          assert(told[1] == "x" and #told == 1)
        end
        local pipes = { stdin = "pipe", stdout = "pipe", stderr = "pipe" }
        for _, o in ipairs { pipes, { tty = true, stdin = "pipe", stdout = "pipe" } } do
          local p <close> = assert(b:spawn(HOLD, o))
          local r, err = within("communicate", function() return p:communicate(("x\n"):rep(1 << 15)) end)
          ended("communicate", r, err, not o.tty and "x\n" or nil)
          local q <close> = assert(b:spawn(HOLD, o))
          wait("wait", q)
          q.stdout:settimeout(0.1)
          within("read", function() q.stdout:read "a" end)
          within("expect", function() q:expect "never" end)
        end
        within("close", function() b:close() end)]])
    end)
  end

  it("who calls a function in a box, whose copy leaves one", function()
    holds [[
      local function fork()
        local s = require "nsbox.sys"
        assert(s.clone(s.SIGCHLD, function() s.nanosleep(1000) end))
        return 5
      end
      local b <close> = assert(nsbox.start("busybox", { "sleep", "1000" }))
      for _, call in ipairs {
        function(o) return b:call(fork, o) end, function(o) return nsbox.call("busybox", fork, o) end
      } do
        for _, o in ipairs { {}, { stdout = "capture" }, { timeout = 50 } } do
          local ok, five = within("call", function() return call(o) end)
          assert(ok and five == 5, tostring(five))
        end
      end]]
  end)

  it("who does all of it at once", function()
    holds [[
      local b <close> = assert(nsbox.start("busybox", { "sleep", "1000" }))
      local list = {}
      for i = 1, 24 do list[i] = i end
      within("gather", function()
        assert(nsbox.gather(list, function(i)
          if i % 3 == 0 then return (assert(b:exec(HOLD))) end
          if i % 3 == 1 then return (assert(nsbox.run("busybox", HOLD))) end
          local p <close> = assert(b:spawn(HOLD, { stdin = "pipe", stdout = "pipe" }))
          return (assert(p:communicate "x"))
        end))
      end)]]
  end)
end)

-- ---- stopped ----

-- each(what, timeout, fn, only): for each way to be stopped, or only the one of that name.
local STOPPED = [[
  local ways = {
    ["itself"] = function(opts)
      local b = assert(nsbox.start("busybox", "echo up; kill -STOP $$; while :; do usleep 20000; done", opts))
      assert(b:expect "up")
      return b, b
    end,
    ["from outside"] = function(opts)
      local b = assert(nsbox.start("busybox", "echo up; while :; do usleep 20000; done", opts))
      assert(b:expect "up")
      sys.kill(b.pid, "STOP")
      return b, b
    end,
    ["its init, from outside"] = function(opts)
      opts.init, opts.namespaces = true, nil
      local b = assert(nsbox.start("busybox", "echo up; while :; do usleep 20000; done", opts))
      assert(b:expect "up")
      sys.kill(b.pid, "STOP")
      return b, b
    end,
    ["a process that was added"] = function(opts)
      local o = { timeout = opts.timeout, stop_timeout = opts.stop_timeout }
      opts.timeout = nil
      local b = assert(nsbox.start("busybox", { "sleep", "1000" }, opts))
      local p = assert(b:spawn("echo up; kill -STOP $$; while :; do usleep 20000; done", o))
      assert(p:expect "up")
      return p, b
    end,
    ["by pause"] = function(opts)
      local b = assert(nsbox.start("busybox", "echo up; while :; do usleep 20000; done", opts))
      assert(b:expect "up")
      assert(b:pause())
      return b, b
    end,
    ["by pause, with one that was added"] = function(opts)
      local o = { timeout = opts.timeout, stop_timeout = opts.stop_timeout }
      opts.timeout = nil
      local b = assert(nsbox.start("busybox", { "sleep", "1000" }, opts))
      local p = assert(b:spawn("echo up; while :; do usleep 20000; done", o))
      assert(p:expect "up")
      assert(b:pause())
      return p, b
    end,
  }
  -- With a timeout the machine may be too slow to stop it before.
  local function stopped(make, pid, timeout)
    local ok, p, b = pcall(make, { namespaces = { pid = pid }, timeout = timeout, stop_timeout = timeout and 0.1 })
    if ok then return timeout, p, b end
    assert(timeout and timeout < 20, p)
    return stopped(make, pid, 5 * timeout)
  end
  local function each(what, first, fn, only)
    for way, make in pairs(only and { [only] = ways[only] } or ways) do
      for _, pid in ipairs { true, false } do
        local timeout, p, b <close> = stopped(make, pid, first)
        local before = sys.clock()
        local r, err = fn(p, b, timeout)
        local text = ("%s, stopped %s, pid = %s"):format(what, way, pid)
        assert(sys.clock() - before < 30 + (timeout or 0), text .. ": took long")
        assert(r, text .. ": " .. tostring(err))
        if r ~= true then
          local want = timeout and "timeout" or "killed"
          assert(r.reason == want, text .. ": " .. tostring(r) .. ", not " .. want)
        end
        p:close()
      end
    end
  end
]]

local WAYS = { "itself", "from outside", "its init, from outside", "a process that was added", "by pause",
  "by pause, with one that was added" }

describe("a process that is stopped", function()
  local cases = {
    { "is killed", nil, "assert(p:kill()) return p:wait()" },
    { "is ended by stop", nil, "return p:stop(0.1)" },
    { "is ended by stop without a grace", nil, "return p:stop(0)" },
    { "is closed", nil, "return p:close()" },
    { "goes with its box", nil, "return b:close()" },
    { "ends by its timeout", 1, "return p:wait()" },
    { "ends by its timeout, which communicate sees", 1, "return p:communicate()" },
    { "ends by its timeout while the caller is busy", 1, "sys.nanosleep(1.5 * timeout) return p:wait()" },
  }
  for _, case in ipairs(cases) do
    it(case[1], function()
      local texts = {}
      for i, way in ipairs(case[2] and WAYS or { false }) do -- at once where there is a time to wait for
        texts[i] = STOPPED .. ("each(%q, %s, function(p, b, timeout) %s end, %s)"):format(case[1], case[2], case[3],
          way and ("%q"):format(way) or "nil")
      end
      script.all_succeed(texts)
    end)
  end

  it("is collected", function()
    local marker = box.marker()
    script.succeeds(([[
      local marker = %q
      do
        local b = assert(nsbox.start("busybox", { "sh", "-c", "echo up; kill -STOP $$; true", marker }))
        assert(b:expect "up")
      end
      collectgarbage() collectgarbage()]]):format(marker))
    local deadline = require("nsbox").clock() + helper.PATIENCE
    while #box.pids(marker) > 0 do assert.is_true(require("nsbox").clock() < deadline) end
  end)
end)
