-- One row for each way in which a run can end: every `reason` of a Result, every `kind` of an Error so far.
local helper = require "spec.helper"
local in_time = require "spec.in_time"
local nsbox = require "nsbox"
local sys = require "nsbox.sys"
helper.leakcheck { outside = true }

local box = require "spec.box"
setup(box.warm_shared)
local run, fails = nsbox.run, box.fails

local shared = { namespaces = { pid = false } } -- not process 1: signals end it as they do elsewhere

local function with(opts, more)
  local all = {}
  for _, map in ipairs { opts, more } do
    for key, value in pairs(map) do all[key] = value end
  end
  return all
end

-- What, command, options; then reason, code, signal, and what unpack() answers.
local ends = {
  { "exit 0", "exit 0", {}, "exit", 0, nil, { true, "exit", 0 } },
  { "exit 3", "exit 3", {}, "exit", 3, nil, { nil, "exit", 3 } },
  { "exit 255", "exit 255", {}, "exit", 255, nil, { nil, "exit", 255 } },
  { "exit 127, which is the command's own", "no_such_program", {}, "exit", 127, nil, { nil, "exit", 127 } },
  { "exit 137, which is no signal", "exit 137", {}, "exit", 137, nil, { nil, "exit", 137 } },
  { "SEGV", "kill -SEGV $$", shared, "signal", nil, "SEGV", { nil, "signal", 11 } },
  { "KILL", "kill -KILL $$", shared, "signal", nil, "KILL", { nil, "signal", 9 } },
  { "a real-time signal", "kill -36 $$", shared, "signal", nil, "RTMIN+2", { nil, "signal", 36 } },
  { "timeout", "sleep 60; true", { timeout = 0.2 }, "timeout", nil, "KILL", { nil, "signal", 9 } },
  { "timeout, where TERM works", "sleep 60; true", with(shared, { timeout = 0.2 }),
    "timeout", nil, "TERM", { nil, "signal", 15 } },
  { "output", "while :; do echo line; done", { max_output = 100, overflow = "kill" },
    "output", nil, "KILL", { nil, "signal", 9 } },
}

describe("a result", function()
  for _, row in ipairs(ends) do
    local what, command, opts, reason, code, signal, unpacked = table.unpack(row, 1, 7)
    it("tells of " .. what, function()
      local r = assert(run("busybox", { "sh", "-c", command }, opts))
      assert.same({ reason = reason, code = code, signal = signal, ok = reason == "exit" and code == 0 },
        { reason = r.reason, code = r.code, signal = r.signal, ok = r.ok })
      assert.same(unpacked, { r:unpack() })
      assert.same({ "sh", "-c", command }, r.command)
      assert.matches("^%x+$", r.id)
      assert.same({}, r.limits)
      assert.is_true(0 < r.usage.setup and r.usage.setup < r.usage.wall)
      if not r.ok then assert.has_error(function() r:check() end) else assert.equal(r, r:check()) end
    end)
  end

  it("tells of a kill by somebody else as a signal", function()
    local marker = box.marker()
    local r = assert(run("busybox", { "sh", "-c", "cat; true", marker }, { input = function()
      local pids = box.find(marker)
      assert(#pids > 0)
      for _, pid in ipairs(pids) do sys.kill(pid, "KILL") end -- one may be a fork that has become another program
    end }))
    assert.same({ "signal", "KILL", false }, { r.reason, r.signal, r.ok })
  end)

  it("measures the wall clock, and the set-up in it", function()
    local began, asked = sys.clock(), nil
    local r = assert(run("busybox", { "cat" }, { input = function() -- asked for when the set-up is over
      asked = sys.clock()
      sys.nanosleep(0.3)
    end }))
    local wall = sys.clock() - began
    assert.is_true(r.usage.wall >= 0.3 and r.usage.wall <= wall)
    assert.is_true(r.usage.setup <= r.usage.wall - 0.3 and r.usage.setup <= asked - began)
  end)

  it("keeps what was written before the timeout", function()
    in_time(0.3, { "timeout", "before\n", "error\n" }, function(seconds)
      local r = assert(run("busybox", "echo before; echo error >&2; sleep 60", { timeout = seconds }))
      return { r.reason, r.stdout, r.stderr }
    end)
  end)
end)

describe("a timeout", function()
  local loop = "while :; do sleep 0.02; done"

  it("asks first: a handler may end the program in its own way", function()
    in_time(0.3, { "timeout", 7, nil, "bye\n", false }, function(seconds)
      local r = assert(run("busybox", "trap 'echo bye; exit 7' TERM; " .. loop, { timeout = seconds }))
      return { r.reason, r.code, r.signal, r.stdout, r.ok }
    end)
  end)

  it("is no success, though the program then ends with 0", function()
    local r
    in_time(0.3, { "timeout", 0, false }, function(seconds)
      r = assert(run("busybox", "trap 'exit 0' TERM; " .. loop, { timeout = seconds }))
      return { r.reason, r.code, r.ok }
    end)
    assert.same({ true, "exit", 0 }, { r:unpack() })
  end)

  it("kills after stop_timeout when the handler does not end the program", function()
    in_time(0.3, { "timeout", "KILL", "no\n" }, function(seconds)
      local r = assert(run("busybox", "trap 'echo no' TERM; " .. loop, { timeout = seconds, stop_timeout = seconds }))
      assert.is_true(r.usage.wall >= 2 * seconds)
      return { r.reason, r.signal, r.stdout }
    end)
  end)

  local at_once = {
    { "process 1 has no handler for the signal", loop, {} },
    { "process 1 ignores the signal", "trap '' TERM; " .. loop, {} },
    { "stop_timeout is 0", "trap 'exit 7' TERM; " .. loop, { stop_timeout = 0 } },
    { "the stop signal is KILL", "trap 'exit 7' TERM; " .. loop, { stop_signal = "KILL" } },
  }
  for _, row in ipairs(at_once) do
    it("kills at once when " .. row[1], function()
      local opts = with({ timeout = 0.2, stop_timeout = 30 }, row[3])
      local r = assert(run("busybox", row[2], opts))
      assert.same({ "timeout", nil, "KILL" }, { r.reason, r.code, r.signal })
      assert.is_true(r.usage.wall < 20)
    end)
  end

  it("sends the stop signal that was asked for", function()
    in_time(0.3, { "timeout", 8 }, function(seconds)
      local opts = { timeout = seconds, stop_signal = "USR1", stop_timeout = 30 }
      local r = assert(run("busybox", "trap 'exit 7' TERM; trap 'exit 8' USR1; " .. loop, opts))
      return { r.reason, r.code }
    end)
  end)

  it("does not touch a program that ends in time", function()
    local r = assert(run("busybox", "exit 4", { timeout = 30 }))
    assert.same({ "exit", 4 }, { r.reason, r.code })
  end)
end)

describe("a lost status", function()
  it("is not lost where the kernel keeps it, though SIGCHLD is ignored", function()
    -- Not by a shell's trap: dash catches this signal itself, whatever it was told.
    local out, ok = box.script("LUA", [[
      require "host".sigchld "ignore"
      local status <close> = io.open "/proc/self/status"
      assert(tonumber(status:read "a":match "SigIgn:%s*(%x+)", 16) >> 16 & 1 == 1)
      local r = assert(require "nsbox".run("busybox", "exit 3"))
      print(r.reason, r.code, r:unpack())]])
    local release = helper.read "/proc/sys/kernel/osrelease"
    local major, minor = release:match "^(%d+)%.(%d+)"
    local kept = tonumber(major) * 1000 + tonumber(minor) >= 6015 -- PIDFD_INFO_EXIT
    assert.same({ kept and "exit\t3\tnil\texit\t3\n" or "lost\tnil\tnil\tlost\n", true }, { out, ok })
  end)

  it("is a result that says so", function()
    local serve = require "nsbox.serve"
    local new = serve.new
    finally(function() serve.new = new end)
    function serve.new(fields)
      local task = new(fields)
      local look = task.look
      function task.look(self)
        local ended = look(self)
        if ended then self.how, self.status = "lost", nil end
        return ended
      end
      return task
    end
    local r = assert(run("busybox", "echo out; exit 3"))
    assert.same({ "lost", nil, nil, false, "out\n" }, { r.reason, r.code, r.signal, r.ok, r.stdout })
    assert.same({ nil, "lost" }, { r:unpack() })
    assert.matches("status was lost", tostring(r))
  end)
end)

describe("an error", function()
  it("of kind setup names step, call, path and errno: a namespace that is not there", function()
    local opts = { namespaces = { ipc = "/nonexistent/ipc" } }
    local err = fails("setup", 2, "busybox", { "true" }, opts)
    assert.same({ "run", "open", "ENOENT", "/nonexistent/ipc" }, { err.verb, err.call, err.name, err.path })
    assert.equal("open", nsbox.explain("busybox", { "true" }, opts).plan[err.step][1])
    assert.matches("^nsbox: run: step %d+ open /nonexistent/ipc: No such file or directory", tostring(err))
  end)

  it("of kind setup comes from the child as well: a file that is no namespace", function()
    local path = helper.tmpdir() .. "/file"
    helper.write(path, "")
    local err = fails("setup", 22, "busybox", { "true" }, { namespaces = { ipc = path } })
    assert.same({ "setns", "EINVAL", "number" }, { err.call, err.name, type(err.step) })
  end)

  -- In a script of its own: the caller's limit sinks and rises again. `each` gets the body of the loop: attempt(limit).
  local function exhausted(each)
    local out, ok = box.script("LUA", [[
      local nsbox = require "nsbox"
      local sys = nsbox.sys
      assert(nsbox.run("busybox", { "true" })) -- makes the keeper
      collectgarbage() collectgarbage()
      local limits <close> = assert(io.open "/proc/self/limits")
      local hard = tonumber(limits:read "a":match "Max open files%s+%d+%s+(%d+)")
      local before = sys.readdir "/proc/self/fd"
      local failed, worked = 0, 0
      local function attempt(limit)
        assert(sys.setrlimit("nofile", limit, hard))
        local r, err, errno = nsbox.run("busybox", { "true" }, { stdin = "inherit" })
        assert(sys.setrlimit("nofile", hard, hard))
        if r then
          worked = worked + 1
          assert(r.ok)
        else
          failed = failed + 1
          assert(err.kind == "setup" and errno == sys.EMFILE, tostring(err))
          assert(err.hint and err.hint:find("ulimit -n", 1, true), tostring(err))
        end
        return r ~= nil
      end
    ]] .. each .. "\nprint(failed > 3, worked > 3)")
    assert.same({ "true\ttrue\n", true }, { out, ok })
  end

  it("of kind setup tells of exhausted descriptors, wherever that happens, and nothing stays open", function()
    exhausted [[
      for limit = 0, 60 do
        attempt(limit)
        local now = sys.readdir "/proc/self/fd"
        assert(table.concat(now, " ") == table.concat(before, " "), limit .. ": " .. table.concat(now, " "))
      end]]
  end)

  it("of kind setup tells of them also where the keeper is yet to be made", function()
    exhausted [[
      for limit = 0, 60 do
        local pid = assert(sys.clone("", function() return attempt(limit) and 0 or 7 end)) -- has none of its own
        local _, code = sys.waitid(pid)
        assert(code == 0 or code == 7, code)
        if code == 0 then worked = worked + 1 else failed = failed + 1 end
      end]]
  end)

  it("of kind image: no such image", function()
    local err = fails("image", 2, "no-such-image", { "true" })
    assert.matches("no image named 'no%-such%-image'", tostring(err))
    assert.is_string(err.hint)
  end)

  it("of kind exec: no such program", function()
    local err = fails("exec", 2, "busybox", { "no-such-program" })
    assert.same({ "no-such-program", "ENOENT", "run" }, { err.path, err.name, err.verb })
  end)

  it("of kind unsupported: known, and not built", function()
    local err = fails("unsupported", nil, "busybox", { "true" }, { dns = { "1.1.1.1" } })
    assert.matches("dns", tostring(err))
  end)

  it("of kind exit: a bad result, when check is asked for", function()
    local err = fails("exit", nil, "busybox", { "sh", "-c", "echo why >&2; exit 3" }, { check = true })
    assert.same({ "exit", 3, "why\n" }, { err.result.reason, err.result.code, err.result.stderr })
    assert.matches("sh %-c 'echo why >&2; exit 3': exit code 3", tostring(err))
    assert.matches("why", tostring(err))
    err = fails("exit", nil, "busybox", { "sleep", "60" }, { check = true, timeout = 0.2 })
    assert.equal("timeout", err.result.reason)
  end)

  it("is none with check, when the result is good", function()
    assert.is_true(assert(run("busybox", { "true" }, { check = true })).ok)
  end)
end)
