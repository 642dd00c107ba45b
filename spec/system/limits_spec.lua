-- Limits: for each a program that breaks it, and what the cgroup's own files say of it.
local box = require "spec.box"
local helper = require "spec.helper"
local nsbox = require "nsbox"
local script = require "spec.script"
local sys = require "nsbox.sys"
helper.leakcheck { settle = true, outside = true }
setup(box.warm_cgroup)

local MIB = 1 << 20
local GROW = "x=a; while :; do x=$x$x; done"
local BUSY = "while :; do :; done"

-- A run for which the caller needs a cgroup.
local function run(cmd, opts, image)
  local r, err = nsbox.run(image or "busybox", cmd, opts)
  if not r and err.kind == "unsupported" then helper.skip("needs a cgroup: " .. err.message) end
  return assert(r, tostring(err))
end

local function file_of(limit)
  local version, name = limit.by:match "^cgroup (v[12]) (%S+)$"
  return version, name
end

describe("a limit of memory", function()
  it("holds: the peak is below it, the kernel ends what wants more", function()
    local r = run(GROW, { memory = "16M" })
    assert.same({ "oom", "KILL", true }, { r.reason, r.signal, r.usage.oom_kills > 0 })
    assert.is_true(r.usage.memory_peak <= 16 * MIB and r.usage.memory_peak > 4 * MIB)
    assert.same({ 16 * MIB, 0 }, { r.limits.memory.value, r.limits.swap and r.limits.swap.value or 0 })
  end)

  it("tells of a child that was ended below a command that goes on", function()
    local r = run({ "sh", "-c", "sh -c '" .. GROW .. "'; exit 0" }, { memory = "16M" })
    assert.same({ "exit", 0, true }, { r.reason, r.code, r.usage.oom_kills > 0 })
    r = run({ "sh", "-c", "sh -c '" .. GROW .. "'; exit 7" }, { memory = "16M" })
    assert.same({ "oom", 7 }, { r.reason, r.code })
  end)

  it("counts what is written to /dev/shm and, where it is memory, to the private layer", function()
    local places = { "/dev/shm/x" }
    if require("nsbox.probe").host().tmpfs_xattr.ok then places[2] = "/x" end
    for _, path in ipairs(places) do
      local r = run("dd if=/dev/zero of=" .. path .. " bs=1M count=60 2>/dev/null; echo $?", { memory = "24M" })
      assert.same({ path, "137\n", true }, { path, r.stdout, r.usage.oom_kills > 0 })
    end
  end)

  it("holds for all of a box: what is added to it, and a flood of output that nobody keeps", function()
    local b <close> = nsbox.start("busybox", { "sleep", "100" }, { memory = "24M" })
    if not b then helper.skip "needs a cgroup" end
    local r = assert(b:exec(GROW))
    assert.same({ "oom", "KILL" }, { r.reason, r.signal })
    assert.is_true(b:stats().memory_peak <= 24 * MIB)
    r = run({ "sh", "-c", "yes" }, { memory = "16M", max_output = "64K", overflow = "kill" })
    assert.same({ "output", 65536 }, { r.reason, #r.stdout })
  end)
end)

describe("a limit of processes", function()
  it("holds against a fork bomb", function()
    local r = run("f() { f | f & }; f; sleep 1", { pids = 25, timeout = 1, stop_timeout = 0.1 })
    assert.equal(25, r.limits.pids.value)
    assert.is_true((r.usage.pids_peak or 25) <= 25)
  end)
end)

describe("a limit of CPU", function()
  local SECONDS = 2

  it("holds: half a CPU is used, and no more", function()
    local r = run(BUSY .. " & " .. BUSY, { cpus = 0.5, timeout = SECONDS })
    local used = (r.usage.user + r.usage.sys) / (r.usage.wall - r.usage.setup)
    assert.is_true(used <= 0.55, ("%.2f CPUs"):format(used))
    assert.is_true(r.usage.throttled > 0)
    assert.equal(0.5, r.limits.cpus.value)
  end)

  it("chooses the CPUs, and refuses those that there are not", function()
    local r = run("grep Cpus_allowed_list /proc/self/status", { cpuset = "0" })
    assert.same({ "0", "0" }, { r.stdout:match "%S+$" or r.stdout:match "(%d+)\n", r.limits.cpuset.value })
    local bad, err = nsbox.run("busybox", { "true" }, { cpuset = "4000" })
    assert.same({ nil, "limit" }, { bad, err.kind })
    assert.matches("cpuset.cpus", tostring(err))
  end)

  it("shares one by weight", function()
    run({ "true" }, { cpuset = "0", cpu_weight = 5 })
    local function start(weight) return assert(nsbox.start("busybox", BUSY, { cpuset = "0", cpu_weight = weight })) end
    local heavy <close> = start(1000)
    local light <close> = start(50)
    local function used(b) return b:stats().user + b:stats().sys end
    nsbox.sleep(0.5)
    local before = { used(heavy), used(light) }
    nsbox.sleep(SECONDS)
    local most, least = used(heavy) - before[1], used(light) - before[2]
    assert.is_true(most > 2 * least, ("%.2f and %.2f s"):format(most, least))
    assert.same({ 1000, 50 }, { heavy.limits.cpu_weight.value, light.limits.cpu_weight.value })
  end)
end)

describe("a limit of CPU time", function()
  it("ends all of a box when it is used up, by one process or by many", function()
    local MANY = "while :; do sh -c 'i=0; while [ $i -lt 9999 ]; do i=$((i+1)); done'; done"
    for _, cmd in ipairs { BUSY, BUSY .. " & " .. BUSY, MANY } do
      local r = run(cmd, { cpu_time = 0.3, timeout = helper.PATIENCE })
      assert.same({ "cpu", "KILL" }, { r.reason, r.signal })
      local used = r.usage.user + r.usage.sys
      assert.is_true(used >= 0.3 and used < 1.5, ("%.2f s"):format(used))
    end
  end)

  it("ends it while the script is busy elsewhere", function()
    local b <close>, err = nsbox.start("busybox", BUSY, { cpu_time = 0.2 })
    if not b then helper.skip("needs a cgroup: " .. err.message) end
    local deadline = sys.clock() + helper.PATIENCE
    local fd = b:pidfd()
    while sys.poll({ { fd = fd, events = "in" } }, 0) == 0 and sys.clock() < deadline do sys.nanosleep(0.01) end
    local r = b:wait(1)
    assert.equal("cpu", r.reason)
  end)

  it("is not what ends a box that sleeps", function()
    assert.equal("timeout", run({ "sleep", "100" }, { cpu_time = 0.2, timeout = 0.5 }).reason)
  end)
end)

describe("a limit of I/O", function()
  local DISK = "/dev/nsbox-scratch" -- of the virtual machine, with /scratch on it

  it("holds for a disk", function()
    if not sys.stat(DISK) then helper.skip("needs a disk " .. DISK) end
    local path = ("/scratch/%d"):format(helper.pid)
    local r = run(("dd if=/dev/zero of=%s bs=1M count=4 oflag=direct && rm %s"):format(path, path),
      { io = { [DISK] = { wbps = "2M" } }, mounts = { "/scratch" }, timeout = helper.PATIENCE })
    assert.same({ "exit", 0 }, { r.reason, r.code }, r.stderr)
    assert.is_true(r.usage.wall - r.usage.setup > 1)
    assert.is_true(r.usage.io_write >= 4 * MIB)
    assert.matches("wbps=2097152", r.limits.io.value)
  end)
end)

describe("limits", function()
  local ALL = { memory = "64M", swap = "1M", memory_reservation = "16M", cpus = 1.5, cpu_weight = 200, cpuset = "0",
    pids = 50, cpu_time = 10 }

  it("are told, each with the file that has it", function()
    local r = run({ "true" }, ALL)
    for name, value in pairs { memory = 64 * MIB, memory_reservation = 16 * MIB, cpus = 1.5, cpu_weight = 200,
      cpuset = "0", pids = 50 } do
      assert.equal(value, r.limits[name].value, name)
      assert.is_truthy(file_of(r.limits[name]), name)
    end
    assert.same({ "exit", 0 }, { r.reason, r.code })
  end)

  it("go with every kind of box", function()
    run({ "true" }, { pids = 50 })
    for _, opts in ipairs { { init = true }, { tty = true }, { namespaces = { cgroup = false } },
      { namespaces = { pid = false } }, { userns = "keep-id" }, { userns = "single" }, { read_only = true } } do
      opts.pids, opts.memory = 50, "64M"
      local r = run({ "sh", "-c", "echo out; exit 3" }, opts)
      assert.same({ "exit", 3, 50 }, { r.reason, r.code, r.limits.pids.value })
    end
    assert.equal(0, run({ "true" }, { pids = 50, workdir = "/" }, "host").code)
    assert.same({ true, 5 }, { nsbox.call("busybox", function() return 5 end, { memory = "256M", pids = 50 }) })
  end)

  it("that are raw keys are the kernel's to judge", function()
    local r, err = nsbox.run("busybox", { "true" }, { cgroup = { ["memory.high"] = "32M" } })
    if r then
      assert.matches("memory.high = 33554432", r.limits.cgroup.value)
      r, err = nsbox.run("busybox", { "true" }, { cgroup = { ["memory.high"] = "much" } })
    end
    assert.is_nil(r)
    assert.is_true(err.kind == "limit" or err.kind == "unsupported", tostring(err))
    assert.matches("memory.high", tostring(err))
  end)

  it("that a caller cannot have are refused, with the reason and what to do, or left out when they may be", function()
    if nsbox.run("busybox", { "true" }, { memory = "64M" }) then helper.skip "needs a caller without cgroups" end
    local _, err = nsbox.run("busybox", { "true" }, { memory = "64M" })
    assert.equal("unsupported", err.kind)
    assert.matches("option 'memory' cannot be enforced: .+", err.message)
    assert.matches('; or degrade = { "memory" }$', err.hint)
    local r = assert(nsbox.run("busybox", { "true" }, { memory = "64M", degrade = { "memory" } }))
    local why
    for _, note in ipairs(r.notes) do why = note.what == "memory" and note.why or why end
    assert.matches("^not enforced: ", why)
    assert.is_nil(r.limits.memory)
  end)

  it("are gone with the script that asked for them", function()
    run({ "true" }, { pids = 50 })
    script.succeeds [[
      for i = 1, 3 do assert(nsbox.run("busybox", { "true" }, { pids = 50, memory = "64M" })) end]]
  end)
end)
