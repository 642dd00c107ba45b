-- Several boxes at once: all are served, and their time is kept.
local assert_misuse = require "spec.misuse"
local box = require "spec.box"
local helper = require "spec.helper"
local in_time = require "spec.in_time"
local nsbox = require "nsbox"
local begin = require "spec.start"
local sys = require "nsbox.sys"
helper.leakcheck { settle = true, outside = true }
setup(box.warm_shared)

local start = nsbox.start
local eventually, in_state = begin.eventually, begin.in_state -- which serve no box

local function error_of(kind, answer, err)
  assert.is_nil(answer)
  assert.equal(kind, err.kind, tostring(err))
  return err
end

describe("boxes at once", function()
  it("are all served by whoever waits for one", function()
    local flood = assert(start("busybox", "head -c 3000000 /dev/zero; echo done >&2; sleep 100", { max_output = 1000 }))
    local _ <close> = flood
    local late <close> = assert(start("busybox", { "sh", "-c", "sleep 100; true" }, { timeout = 0.2 }))
    local lines = {}
    local told <close> = assert(start("busybox", "echo a; echo b; printf c",
      { stdout = function(l) lines[#lines + 1] = l end }))
    local other <close> = assert(start("busybox", { "sleep", "1000" }))
    local deadline, seen = nsbox.clock() + helper.PATIENCE, {}
    while seen[1] ~= "ended" or seen[2] ~= "ended" or seen[3] == "" do
      assert.is_true(nsbox.clock() < deadline, table.concat(seen, " "))
      error_of("timeout", other:wait(0.1))
      seen = { late.state, told.state, flood:logs(nil, "stderr") }
    end
    assert.same({ "ended", "ended", "done\n" }, seen)
    assert.same({ { "a", "b", "c" }, "timeout" }, { lines, late:wait().reason })
  end)

  it("keep their time while the script is busy elsewhere, and those that were faster ended by themselves", function()
    for _, more in ipairs { {}, { namespaces = { pid = false } }, { init = true } } do
      in_time(0.2, { "timeout", "timeout", "exit", 3, "timeout", 4 }, function(seconds)
        more.timeout, more.stop_timeout = seconds, 0.3
        local slow <close> = assert(start("busybox", { "sleep", "100" }, more))
        local added <close> = slow:spawn({ "sleep", "100" }, { timeout = seconds / 2 })
        if not added then return "slow had ended" end
        local fast <close> = assert(start("busybox", "sleep 0.05; exit 3", { timeout = seconds }))
        local obeys <close> = assert(start("busybox", "trap 'exit 4' TERM; while :; do sleep 0.02; done",
          { timeout = seconds }))
        -- the end of slow waits for us to reap what was added
        local pids = { added = added.pid, fast = fast.pid, obeys = obeys.pid }
        sys.nanosleep(seconds)
        for name, pid in pairs(pids) do
          eventually(name .. " ends", function() return in_state(pid, "Z") end)
        end
        return { slow:wait().reason, added:wait().reason, fast:wait().reason, fast:wait().code, obeys:wait().reason,
          obeys:wait().code }
      end)
    end
  end)

  it("wait_any answers with the first to end, or times out", function()
    local slow <close> = assert(start("busybox", { "sleep", "100" }))
    local fast <close> = assert(start("busybox", "read x; exit 3", { stdin = "pipe" }))
    error_of("timeout", nsbox.wait_any({ slow, fast }, 0.01))
    fast.stdin:close()
    local first, r = nsbox.wait_any { slow, fast }
    assert.equal(fast, first)
    assert.equal(3, r.code)
    assert_misuse("wait_any", nsbox.wait_any, {})
    assert_misuse("wait_any", nsbox.wait_any, { 1 })
  end)

  it("wait_any says so of a handle whose start failed, and may not wait in on_created", function()
    local kept
    assert.is_nil(start("busybox", { "/none" }, { on_created = function(b)
      assert_misuse("on_created may neither start anything nor wait", nsbox.wait_any, { b })
      kept = b
    end }))
    local h, r, err = nsbox.wait_any({ kept }, 1)
    assert.equal(kept, h)
    error_of("closed", r, err)
    assert.equal("closed", kept.state)
    error_of("closed", kept:wait(1))
  end)

  it("gather runs many, fifty at once, with results in order", function()
    local list = {}
    for i = 1, 50 do list[i] = i end
    local results = assert(nsbox.gather(list, function(i)
      local r = assert(nsbox.run("busybox", { "sh", "-c", "sleep 0.2; exit " .. i }))
      return r.code
    end))
    assert.same(list, results)
  end)
end)
