-- Each limit, a program that breaks it, and a proof from outside that it held: what the box's cgroup has counted.
local assert = require "luassert"
local box = require "spec.box"
local helper = require "spec.helper"
local in_time = require "spec.in_time"
local limited = require "spec.limited"
local nsbox = require "nsbox"
local sys = nsbox.sys

helper.leakcheck { settle = true, outside = true }
setup(limited.warm)

local MIB = 1 << 20
local run, started, says = limited.run, limited.started, limited.says

-- Takes so many MiB at once.
local function eat(n)
  return ("dd if=/dev/zero of=/dev/null bs=%dM count=1 2>/dev/null"):format(n)
end

local function has_swap()
  return (helper.read "/proc/swaps" or ""):find "\n%S" ~= nil
end

describe("memory", function()
  it("is what a hog gets at most, and then it is killed", function()
    local r = run(eat(64), { memory = "16M" })
    assert.same({ "oom", "KILL", 1 }, { r.reason, r.signal, r.usage.oom_kills })
    assert.is_true(r.usage.memory_peak <= 16 * MIB and r.usage.memory_peak > 8 * MIB, r.usage.memory_peak)
    assert.equal(16 * MIB, r.limits.memory.value)
  end)

  it("is the box's, as the kernel says while it runs", function()
    local b = started(eat(64) .. "; echo eaten; sleep 100", { memory = "16M" })
    assert(b:expect("eaten", helper.PATIENCE))
    assert.equal(16 * MIB, tonumber(says(b, "memory.limit_in_bytes", "memory.max")))
    assert.is_true(tonumber(says(b, "memory.max_usage_in_bytes", "memory.peak")) <= 16 * MIB)
    assert.equal(1, limited.count(b, "oom_kill", "memory.oom_control", "memory.events"))
    assert.equal("running", b.state)
    b:kill()
    assert.equal("killed", assert(b:wait(helper.PATIENCE)).reason)
  end)

  it("tells of a child that was killed under a command that ends well", function()
    local r = run(eat(64) .. "; exit 0", { memory = "16M" })
    assert.same({ "exit", 0, true, 1 }, { r.reason, r.code, r.ok, r.usage.oom_kills })
    r = run(eat(64) .. "; exit 3", { memory = "16M" })
    assert.same({ "oom", 3, false }, { r.reason, r.code, r.ok })
  end)

  it("takes no swap unless it is given, where there is some", function()
    if not has_swap() then
      assert.is_true((run("true", { memory = "16M" }).limits.swap or { value = 0 }).value == 0)
      return helper.skip "needs swap"
    end
    assert.equal("oom", run(eat(24), { memory = "16M" }).reason)
    local r = run(eat(24), { memory = "16M", swap = "16M" })
    assert.same({ "exit", 0, 16 * MIB }, { r.reason, r.code, r.limits.swap.value })
    assert.is_true(r.usage.memory_peak <= 16 * MIB)
    assert.equal("oom", run(eat(48), { memory = "16M", swap = "16M" }).reason)
  end)

  it("may be reserved", function()
    local b = started({ "sleep", "100" }, { memory_reservation = "8M" })
    assert.equal(tostring(8 * MIB), says(b, "memory.soft_limit_in_bytes", "memory.low"))
    assert.equal(8 * MIB, b.limits.memory_reservation.value)
    assert.is_nil(b.limits.memory)
  end)

  for what, path in pairs { ["the private layer"] = "/x", ["/dev/shm"] = "/dev/shm/x" } do
    it("is taken by what is written to " .. what, function()
      local fill = ("dd if=/dev/zero of=%s bs=1M count=40 2>/dev/null"):format(path)
      local r = run(fill, { memory = "16M" })
      assert.is_true(r.usage.memory_peak <= 16 * MIB)
      -- a layer that has to be on a disk is written there
      if path == "/x" and (r.usage.io_write or 0) >= 40 * MIB then return end
      assert.same({ "oom", "KILL" }, { r.reason, r.signal })
      assert.equal("exit", run(fill, { memory = "128M" }).reason)
    end)
  end

  it("is not taken by a flood of output, which has a limit of its own", function()
    local r = run("yes", { memory = "16M", max_output = "1M", overflow = "kill" })
    assert.same({ "output", "KILL", MIB, 0 }, { r.reason, r.signal, #r.stdout, r.usage.oom_kills })
    r = run("yes | head -c 4000000", { memory = "16M", max_output = "1M" })
    assert.same({ "exit", MIB, true, 0 }, { r.reason, #r.stdout, r.truncated.stdout, r.usage.oom_kills })
    assert.is_true(r.usage.memory_peak <= 16 * MIB)
  end)
end)

describe("pids", function()
  it("hold a fork bomb, and the host goes on", function()
    -- the inner shell ends at a fork that fails; the outer one begins anew
    local b = started("while :; do sh -c 'while :; do sleep 100 & done' 2>/dev/null; done", { pids = 20 })
    local top = 0
    box.eventually("the bomb fills its box", function()
      top = math.max(top, tonumber(says(b, "pids.current")))
      return limited.count(b, "max", "pids.events") > 3
    end)
    assert.is_true(os.execute "true")
    assert.is_true(assert(nsbox.run("busybox", { "true" })).ok)
    top = math.max(top, tonumber(says(b, "pids.current")))
    assert.is_true(top > 10 and top <= 20, top)
    local r = assert(b:stop(0))
    assert.equal("killed", r.reason)
    assert.is_true((r.usage.pids_peak or 20) <= 20)
    assert.equal(20, r.limits.pids.value)
  end)

  it("count what is added", function()
    local b = started(false, { pids = 5 })
    local p <close> = assert(b:spawn { "sleep", "100" })
    assert.equal("2", says(b, "pids.current"))
    assert.matches("can't fork", assert(b:exec("for i in 1 2 3 4 5; do sleep 100 & done")).stderr)
    assert.equal("running", p.state)
  end)
end)

describe("cpus", function()
  local function burns(seconds)
    local b = started("while :; do :; done & while :; do :; done", { cpus = 0.5 })
    local before, used = sys.clock(), limited.cpu_count(b)
    nsbox.sleep(seconds)
    used = limited.cpu_count(b) - used
    local share = used / (sys.clock() - before)
    assert.is_true(used > 0 and share <= 0.55, share)
    assert(b:kill())
    local r = assert(b:wait(helper.PATIENCE))
    assert.is_true(r.usage.throttled > 0)
    assert.equal(0.5, r.limits.cpus.value)
  end

  it("are what a burner gets at most", function() burns(2) end)
  it("are what a burner gets at most, for longer #soak", function() burns(5) end)
end)

describe("cpu_weight", function()
  it("is 100 where none is given", function()
    local b = started({ "sleep", "100" }, { cpu_weight = 100 })
    local parent = limited.folder_with(b, "cpu.shares") or limited.folder_with(b, "cpu.weight")
    local file = limited.folder_with(b, "cpu.shares") and "cpu.shares" or "cpu.weight"
    assert.equal(helper.read(parent:match "^(.*)/" .. "/" .. file), says(b, file) .. "\n")
    assert.equal(100, b.limits.cpu_weight.value)
  end)

  it("shares a CPU", function()
    local cpu = limited.first_cpu()
    local heavy = started("while :; do :; done", { cpuset = cpu, cpu_weight = 1000 })
    local light = started("while :; do :; done", { cpuset = cpu, cpu_weight = 100 })
    local h, l = limited.cpu_count(heavy), limited.cpu_count(light)
    box.eventually("both run", function() return limited.cpu_count(heavy) > h and limited.cpu_count(light) > l end)
    in_time(1, true, function(seconds)
      h, l = limited.cpu_count(heavy), limited.cpu_count(light)
      nsbox.sleep(seconds)
      h, l = limited.cpu_count(heavy) - h, limited.cpu_count(light) - l
      return h > 2 * l
    end)
    assert.same({ 1000, 100 }, { heavy.limits.cpu_weight.value, light.limits.cpu_weight.value })
  end)
end)

describe("cpuset", function()
  it("is where the box runs", function()
    local cpu = limited.first_cpu()
    local b = started({ "sleep", "100" }, { cpuset = cpu })
    assert.equal(cpu, box.status(b.pid, "Cpus_allowed_list"))
    assert.equal(cpu, b.limits.cpuset.value)
    assert.equal("1\n", assert(b:exec("nproc")).stdout)
  end)

  it("is refused where a CPU is not there", function()
    local err = limited.refused({ cpuset = "1023" })
    assert.same({ "limit", "cgroup_limit" }, { err.kind, err.call })
    assert.matches("write '1023' to cpuset%.cpus: ", tostring(err))
    assert.matches("this machine has the CPUs 0", tostring(err))
  end)
end)

describe("cpu_time", function()
  local BURN = "while :; do :; done"

  local function ends_by_cpu(r, limit)
    assert.same({ "cpu", "KILL", limit }, { r.reason, r.signal, r.limits.cpu_time.value })
    assert.is_true(r.usage.user + r.usage.sys > limit / 2) -- cgroup v1 counts these in ticks
  end

  it("ends one that burns", function()
    local r = run(BURN, { cpu_time = 0.2 })
    ends_by_cpu(r, 0.2)
    assert.matches("used up its CPU time", tostring(r))
  end)

  it("is that of all processes together", function()
    ends_by_cpu(run(("%s & "):format(BURN):rep(4) .. "wait", { cpu_time = 0.3 }), 0.3)
  end)

  it("counts those that have ended", function()
    -- no process has much, and no more than two are there at a time
    local short = "sh -c 'i=0; while [ $i -lt 500 ]; do i=$((i+1)); done'"
    ends_by_cpu(run(("while :; do %s; done"):format(short), { cpu_time = 0.2 }), 0.2)
  end)

  it("counts what is added", function()
    local b = started({ "sleep", "100" }, { cpu_time = 0.2 })
    local r = assert(b:exec(BURN))
    assert.same({ "cpu", "KILL" }, { r.reason, r.signal })
    ends_by_cpu(assert(b:wait(helper.PATIENCE)), 0.2)
  end)

  for what, pause in pairs {
    ["a program that it runs"] = function() os.execute "sleep 0.1" end,
    ["what is no wait of nsbox's"] = function() sys.nanosleep(0.02) end,
  } do
    it("is kept while the script is busy with " .. what, function()
      local b = started(BURN, { cpu_time = 0.2 })
      local pid, deadline = b.pid, sys.clock() + helper.PATIENCE
      while (box.status(pid, "State") or "Z"):sub(1, 1) ~= "Z" do
        assert(sys.clock() < deadline, "it goes on")
        pause()
      end
      ends_by_cpu(assert(b:wait(helper.PATIENCE)), 0.2)
    end)
  end

  it("and timeout: what comes first", function()
    assert.equal("timeout", run(BURN, { cpu_time = 1000, timeout = 0.2, stop_timeout = 0 }).reason)
    assert.equal("timeout", run("sleep 100", { cpu_time = 5, timeout = 0.3, stop_timeout = 0 }).reason)
    assert.equal("cpu", run(BURN, { cpu_time = 0.2, timeout = 1000 }).reason)
  end)
end)

describe("io", function()
  local DISK = "/dev/nsbox-scratch"

  it("is set for a disk, and read back", function()
    local disk = limited.disk()
    local r = run("true", { io = { [disk] = { rbps = "1M", wbps = "4M", wiops = 100 } } })
    for _, n in ipairs { 1 << 20, 4 << 20, 100 } do
      assert.truthy(r.limits.io.value:find(tostring(n), 1, true), r.limits.io.value)
    end
    assert.matches("^" .. disk, r.limits.io.value)
  end)

  it("is refused for a disk that is not there", function()
    local none = { ["4000:1000"] = { rbps = "1M" } }
    local err = limited.refused { io = none }
    if err.message:find "an id of the box is the caller's" then helper.skip "needs ids of the box's own" end
    assert.same({ "limit", "ENODEV" }, { err.kind, err.name })
    assert.matches("4000:1000", err.message)
  end)

  it("has a weight where the kernel has, and is refused elsewhere", function()
    local r, err = nsbox.run("busybox", { "true" }, { io = { weight = 50 } })
    if r then return assert.matches("weight", r.limits.io.by) end
    assert.equal("unsupported", err.kind, tostring(err))
    r = assert(nsbox.run("busybox", { "true" }, { io = { weight = 50 }, degrade = { "io" } }))
    assert.same({ "io", nil }, { limited.notes(r), r.limits.io })
  end)

  it("slows what reads and writes a disk", function()
    if not sys.stat(DISK) then helper.skip("needs a disk to write to: " .. DISK) end
    local file = "/scratch/" .. box.marker()
    helper.cleanup(function() os.remove(file) end)
    local function dd(words, limits)
      local r = run("dd " .. words, { mounts = { "/scratch" }, io = { [DISK] = limits }, timeout = 600 }, "host")
      assert(r:check())
      return r
    end
    -- two seconds' worth each
    local r = dd(("if=/dev/zero of=%s bs=1M count=8 oflag=direct"):format(file), { wbps = "4M" })
    assert.is_true(r.usage.wall > 1.5 and r.usage.io_write >= 8 * MIB, tostring(r.usage.wall))
    r = dd(("if=%s of=/dev/null bs=1M count=8 iflag=direct"):format(file), { rbps = "4M" })
    assert.is_true(r.usage.wall > 1.5 and r.usage.io_read >= 8 * MIB, tostring(r.usage.wall))
    r = dd(("if=/dev/zero of=%s bs=4k count=60 oflag=direct conv=notrunc"):format(file), { wiops = 30 })
    assert.is_true(r.usage.wall > 1.5, tostring(r.usage.wall))
  end)
end)

describe("hugetlb", function()
  it("is set for a size of pages, and read back", function()
    local kib = (helper.names "/sys/kernel/mm/hugepages"[1] or ""):match "hugepages%-(%d+)kB"
    if not kib then helper.skip "needs huge pages" end
    local b = started({ "sleep", "100" }, { hugetlb = { [kib .. "K"] = kib * 2048 } })
    assert.equal(kib * 2048, b.limits.hugetlb.value)
    assert.equal(tostring(kib * 2048), says(b, b.limits.hugetlb.by:match "hugetlb%.%S+"))
  end)
end)

describe("cgroup", function()
  local v1 = require("spec.hierarchy").own "memory" ~= nil

  it("writes a key, and tells of it", function()
    local key, value = v1 and "memory.swappiness" or "memory.high", v1 and "10" or tostring(8 * MIB)
    local b = started({ "sleep", "100" }, { cgroup = { [key] = value } })
    assert.equal(value, says(b, key))
    assert.same({ value = key .. " = " .. value, by = ("cgroup %s %s"):format(v1 and "v1" or "v2", key) },
      b.limits.cgroup)
  end)

  it("is unsupported with a key that the kernel has not", function()
    local key = v1 and "memory.high" or "memory.swappiness"
    local err = limited.refused({ cgroup = { [key] = "10" } })
    assert.same({ "unsupported", "ENOENT" }, { err.kind, err.name })
    assert.equal('leave it out, or degrade = { "cgroup" }', err.hint)
    assert.truthy(tostring(err):find(("the kernel has no %s: the controller memory is on cgroup %s here"):format(key,
      v1 and "v1" or "v2"), 1, true))
    local r = run("true", { cgroup = { [key] = "10" }, degrade = { "cgroup" } })
    assert.same({ "cgroup", nil }, { limited.notes(r), r.limits.cgroup })
  end)

  it("may be read back in another form", function()
    local key = v1 and "memory.soft_limit_in_bytes" or "memory.high"
    local b = started({ "sleep", "100" }, { cgroup = { [key] = v1 and -1 or "8M" } })
    assert.equal(("%s = %s"):format(key, says(b, key)), b.limits.cgroup.value)
  end)

  it("is refused with a value that the kernel does not take", function()
    assert.same({ "limit", "EINVAL" }, { limited.refused({ cgroup = { ["pids.max"] = "-7" } }, "kind", "name") })
  end)
end)
