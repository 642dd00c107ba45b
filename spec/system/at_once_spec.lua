-- Several boxes at once: all are served, and their time is kept.
local assert_misuse = require "spec.misuse"
local box = require "spec.box"
local helper = require "spec.helper"
local nsbox = require "nsbox"
local sys = require "nsbox.sys"
helper.leakcheck { settle = true, outside = true }
setup(box.warm_shared)

local start = nsbox.start

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
    assert(nsbox.run("busybox", { "sleep", "0.5" }))
    assert.same({ "ended", "ended", { "a", "b", "c" } }, { late.state, told.state, lines })
    assert.same({ "done\n", "timeout" }, { flood:logs(nil, "stderr"), late:wait().reason })
  end)

  it("keep their time while the script is busy elsewhere, and those that were faster ended by themselves", function()
    for _, more in ipairs { {}, { namespaces = { pid = false } }, { init = true } } do
      more.timeout, more.stop_timeout = 0.2, 0.3
      local slow <close> = assert(start("busybox", { "sleep", "100" }, more))
      local added <close> = assert(slow:spawn({ "sleep", "100" }, { timeout = 0.1 }))
      local fast <close> = assert(start("busybox", "sleep 0.05; exit 3", { timeout = 0.3 }))
      local obeys <close> = assert(start("busybox", "trap 'exit 4' TERM; while :; do sleep 0.02; done",
        { timeout = 0.2 }))
      local pids = { added.pid, obeys.pid } -- the end of slow waits for us to reap what was added
      sys.nanosleep(1.2)
      for _, pid in ipairs(pids) do
        assert.is_truthy((helper.read("/proc/" .. pid .. "/stat") or ") Z"):find "%) [ZX]")
      end
      assert.same({ "timeout", "timeout", "exit", 3, "timeout", 4 }, { slow:wait().reason, added:wait().reason,
        fast:wait().reason, fast:wait().code, obeys:wait().reason, obeys:wait().code })
    end
  end)

  it("wait_any answers with the first to end, or times out", function()
    local slow <close> = assert(start("busybox", { "sleep", "100" }))
    local fast <close> = assert(start("busybox", "sleep 0.1; exit 3"))
    error_of("timeout", nsbox.wait_any({ slow, fast }, 0.01))
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
