-- What a configuration's resources may have beyond the options of nsbox, on boxes that run.
local assert = require "luassert"
local helper = require "spec.helper"
local limited = require "spec.limited"
local nsbox = require "nsbox"
local oci = require "nsbox.config.oci_resources"
local resources = require "nsbox.config.resources"

helper.leakcheck { settle = true, outside = true }
setup(limited.warm)

-- A start with these resources, in place of those of its options.
local function start(given, opts)
  local of = resources.of
  helper.cleanup(function() resources.of = of end)
  assert(oci.check(given))
  resources.of = function() return given end
  opts = opts or {}
  opts.cgroup = {} -- so that a cgroup is asked for
  return nsbox.start("busybox", { "sleep", "100" }, opts)
end

-- Of the caller, who may have no cgroup, of a version that may have nothing like it, of a kernel that may have no file.
local function started(given)
  local b, err = start(given)
  if not b and err.kind == "unsupported" then helper.skip(err.message) end
  assert(b, tostring(err))
  helper.cleanup(function() b:close() end)
  return b
end

describe("a box of OCI's resources", function()
  local node = (helper.read "/sys/devices/system/node/online" or "0"):match "%d+"
  -- resources, the option that is told of, its value, and what its file says
  local rows = {
    { { memory = { swappiness = 7 } }, "memory.swappiness", 7, "7" },
    { { memory = { kernelTCP = 1 << 22 } }, "memory.kernelTCP", 1 << 22, tostring(1 << 22) },
    { { memory = { disableOOMKiller = true } }, "memory.disableOOMKiller", true, "oom_kill_disable 1" },
    { { memory = { disableOOMKiller = false } }, "memory.disableOOMKiller", false, "oom_kill_disable 0" },
    { { memory = { useHierarchy = true } }, "memory.useHierarchy", 1, "1" },
    { { cpu = { quota = 50000, period = 100000, burst = 20000 } }, "cpu.burst", 20000, "20000" },
    { { cpu = { idle = 1 } }, "cpu.idle", 1, "1" }, { { cpu = { mems = node } }, "cpu.mems", node, node },
    { { cpu = { realtimePeriod = 500000 } }, "cpu.realtimePeriod", 500000, "500000" },
    { { cpu = { realtimeRuntime = 0 } }, "cpu.realtimeRuntime", 0, "0" },
  }
  for _, row in ipairs(rows) do
    it("has what it asks for: " .. row[2], function()
      local b = started(row[1])
      local told = b.limits["resources." .. row[2]]
      if not told and not limited.folders(b).memory then helper.skip "cgroup v2 has it by itself" end
      assert.equal(row[3], told.value)
      assert.equal(row[4], limited.says(b, told.by:match "%S+$"):match "^[^\n]*")
    end)
  end

  it("has no limit where it is -1", function()
    local b = started { memory = { limit = -1, swap = -1 }, cpu = { quota = -1 }, pids = { limit = -1 } }
    assert.is_true(b.limits.memory.value >= math.maxinteger - (1 << 20))
    assert.same({ math.huge, math.huge }, { b.limits.cpus.value, b.limits.pids.value })
  end)

  it("does not start where something cannot be had", function()
    started { pids = { limit = 50 } }
    local b, err = start { memory = { kernel = 1 << 25 } }
    assert.same({ nil, "unsupported" }, { b, err.kind })
    assert.matches("'resources.memory.kernel' cannot be enforced: Linux has no limit of the kernel's own", err.message)
  end)

  it("is told which limit the kernel refuses", function()
    started { pids = { limit = 50 } }
    local b, err = start { cpu = { quota = 50000, burst = 60000 } }
    assert.same({ nil, "limit", "EINVAL" }, { b, err.kind, err.name })
  end)

  it("is refused a limit below its use", function()
    local b = started { memory = { limit = 1 << 26, swap = 1 << 26, checkBeforeUpdate = true } }
    assert(b:exec { "sh", "-c", "dd if=/dev/zero of=/dev/shm/x bs=1M count=8 2>/dev/null" })
    local ok, err = b:update { memory = "2M" }
    assert.same({ nil, "limit", "EBUSY" }, { ok, err.kind, err.name })
    assert.equal(1 << 26, b.limits.memory.value)
    assert.equal("running", b.state)
  end)
end)
