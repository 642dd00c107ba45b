-- Limits alone and together, with what else a box may be, and where they cannot be had.
local assert = require "luassert"
local helper = require "spec.helper"
local hierarchy = require "spec.hierarchy"
local limited = require "spec.limited"
local nsbox = require "nsbox"
local process = require "spec.process"
local script = require "spec.script"

helper.leakcheck { settle = true, outside = true, detached = true }
setup(function()
  helper.warm_detached()
  limited.warm()
end)

local MIB = 1 << 20
local HUNGRY = { "dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1" }

local cpu = limited.first_cpu()
local v1 = hierarchy.own "memory" ~= nil
local disk = limited.disk(true)

-- option -> what is given, and what is told of it
local options = {
  memory = { "64M", 64 * MIB }, memory_reservation = { "16M", 16 * MIB }, cpus = { 0.5, 0.5 },
  cpu_weight = { 321, 321 }, cpuset = { cpu, cpu }, pids = { 50, 50 }, cpu_time = { 100, 100 },
  io = disk and { { [disk] = { wbps = "8M" } } },
  device_rules = { { "c 10:229 rwm" } },
  cgroup = v1 and { { ["memory.swappiness"] = 10 }, "memory.swappiness = 10" }
    or { { ["memory.high"] = "48M" }, "memory.high = " .. 48 * MIB },
}

-- Every limit of a box is told of, by files that are there.
local function look(b, given)
  for name in pairs(given) do
    local limit = assert(b.limits[name], name .. " is not told of")
    assert.equal(options[name][2] or limit.value, limit.value, name)
    for by in (limit.by .. ", "):gmatch "(.-), " do
      local version, file = by:match "^cgroup (v[12]) (%S+)$"
      local is_program = by == "cgroup v2 BPF_CGROUP_DEVICE"
      assert.is_truthy(is_program or limited.folder_with(b, file, version), ("%s: %s: no such file"):format(name, by))
    end
  end
end

describe("a limit", function()
  local possible, here = {}, false -- those that this caller may have

  for name, row in pairs(options) do
    it("is told of with what enforces it: " .. name, function()
      local opts = { [name] = row[1] }
      local b = limited.started({ "sleep", "100" }, opts)
      possible[name], here = row[1], true
      look(b, opts)
      for other in pairs(b.limits) do
        assert.is_true(other == name or name == "memory" and other == "swap", other)
      end
      assert.equal("", limited.notes(b))
    end)
  end

  it("goes with all others", function()
    if not here then helper.skip "needs a cgroup of the caller's" end
    local b = limited.started({ "sleep", "100" }, possible)
    look(b, possible)
    assert.equal("exit", assert(b:exec { "true" }).reason)
  end)

  it("is noted where it may be left out and cannot be had, and only then", function()
    local given, degrade = {}, {}
    for name, row in pairs(options) do
      given[name], degrade[#degrade + 1] = row[1], name
    end
    given.degrade = degrade
    local r = assert(nsbox.run("busybox", { "true" }, given))
    assert.equal("exit", r.reason)
    local noted = {}
    for _, note in ipairs(r.notes) do noted[note.what] = note.why end
    for _, name in ipairs(degrade) do
      assert.is_true((noted[name] ~= nil) == (r.limits[name] == nil), name)
      assert.is_true(noted[name] == nil or noted[name]:find "^not enforced: " ~= nil, noted[name])
    end
  end)
end)

describe("a limit that the caller may not set", function()
  local function refusal()
    local r, err = nsbox.run("busybox", { "true" }, { memory = "64M" })
    if r then helper.skip "needs a caller to whom no cgroup belongs" end
    return err
  end

  it("is refused with its name, the cause and what to do", function()
    local err = refusal()
    assert.equal("unsupported", err.kind)
    local TEXT = "nsbox: run: option 'memory' cannot be enforced: the cgroup "
    if not v1 then return assert.truthy(tostring(err):find(TEXT, 1, true)) end
    assert.equal((TEXT .. "%s is not the caller's\n"
      .. "  hint: as root: make a cgroup in each hierarchy, chown it to the user, and put the caller into it; "
      .. 'or degrade = { "memory" }'):format(hierarchy.own "memory"), tostring(err))
  end)

  it("may be left out", function()
    local why = refusal().message:match "enforced: (.*)"
    local r = assert(nsbox.run("busybox", { "true" }, { memory = "64M", degrade = { "memory" } }))
    local noted = {}
    for _, note in ipairs(r.notes) do noted[note.what] = note.why end
    assert.same({ true, {}, "not enforced: " .. why }, { r.ok, r.limits, noted.memory })
    local _, err = nsbox.run("busybox", { "true" }, { memory = "64M", pids = 5, degrade = { "memory" } })
    assert.matches("option 'pids' cannot be enforced", tostring(err))
  end)
end)

describe("a limit whose controller is not there", function()
  it("may be left out, CPU time too", function()
    process.needs_root()
    script.succeeds [[
      assert(sys.unshare "newns")
      assert(sys.mount(nil, "/", nil, "rec,private"))
      local points = {}
      for line in io.lines "/proc/self/mountinfo" do
        local point, kind, options = line:match "^%S+ %S+ %S+ %S+ (%S+) .* %- (cgroup2?) %S+ (%S+)"
        if kind == "cgroup2" or kind and options:find "cpuacct" then points[#points + 1] = point end
      end
      for _, point in ipairs(points) do assert(sys.umount2(point, "detach")) end
      local r = assert(nsbox.run("busybox", { "true" }, { pids = 50, cpu_time = 5, degrade = { "pids", "cpu_time" } }))
      local noted = {}
      for _, note in ipairs(r.notes) do noted[note.what] = note.why end
      assert(r.ok and not r.limits.cpu_time and (r.limits.pids or noted.pids), tostring(r))
      assert(noted.cpu_time == "not enforced: no cgroup file system with the controller is mounted", noted.cpu_time)
    ]]
  end)
end)

describe("a hog", function()
  -- root: what takes root.
  local ways = {
    { "in the caller's cgroup namespace", { namespaces = { cgroup = false } } },
    { "among the caller's pids", { namespaces = { pid = false } } },
    { "in the caller's network", { network = "host" } },
    { "with no ids of its own", { userns = "host" }, root = true },
    { "with the caller's id", { userns = "single" } },
    { "as the caller", { userns = "keep-id" } },
    { "as another user", { user = 1000 }, ids = true },
    { "below an init", { init = true } },
    { "on a terminal", { tty = true } },
    { "with the host's files", {}, image = "host" },
    { "with a read-only root", { read_only = true } },
  }

  for _, way in ipairs(ways) do
    it(way[1] .. " is held", function()
      if way.root and not helper.root() then helper.skip "needs root" end
      if way.ids and not helper.has_ids() then helper.skip "needs subordinate ids" end
      local opts = { memory = "16M", pids = 20, cpus = 1 }
      for name, value in pairs(way[2]) do opts[name] = value end
      local r = limited.run(HUNGRY, opts, way.image)
      assert.same({ "oom", "KILL" }, { r.reason, r.signal })
      assert.is_true(r.usage.memory_peak <= 16 * MIB and r.usage.oom_kills > 0)
      assert.same({ 16 * MIB, 20, 1 }, { r.limits.memory.value, r.limits.pids.value, r.limits.cpus.value })
    end)
  end

  it("that is detached is held, and so is its CPU time", function()
    local b = limited.started(HUNGRY, { memory = "16M", detach = true })
    local r = assert(b:wait(helper.PATIENCE))
    assert.same({ "oom", 16 * MIB }, { r.reason, r.limits.memory.value })
    b = limited.started("while :; do :; done", { cpu_time = 0.2, detach = true })
    r = assert(b:wait(helper.PATIENCE))
    assert.same({ "cpu", 0.2 }, { r.reason, r.limits.cpu_time.value })
  end)

  it("that is detached has its notes", function()
    limited.run({ "true" }, { pids = 20 })
    local b = limited.started({ "sleep", "100" }, { pids = 20, cgroup = { ["pids.nothing"] = 1 },
      degrade = { "cgroup" }, detach = true })
    assert.same({ 20, nil, "cgroup" }, { b.limits.pids.value, b.limits.cgroup, limited.notes(b) })
    assert.equal("cgroup", limited.notes(assert(nsbox.box(b.id))))
  end)

  it("that is added is held, and only that is killed", function()
    local b = limited.started(false, { memory = "16M" })
    assert.equal("oom", assert(b:exec(HUNGRY)).reason)
    local p <close> = assert(b:spawn(HUNGRY))
    assert.equal("oom", assert(p:wait(helper.PATIENCE)).reason)
    assert.same({ "running", 2 }, { b.state, assert(b:stats()).oom_kills })
  end)
end)

describe("a function in a box", function()
  local function eat()
    local all = {}
    for i = 1, 1e6 do all[i] = ("x"):rep(1000) .. i end
    return #all
  end

  it("that takes too much memory is a failed call", function()
    limited.run({ "true" }, { memory = "64M" })
    local ok, err = nsbox.call("busybox", eat, { memory = "64M" })
    assert.is_nil(ok)
    assert.same({ "call", "oom" }, { err.kind, err.result.reason })
    assert.matches("the process ended before the function had returned: out of memory", err.message)
    assert.same({ true, 7 }, { nsbox.call("busybox", function() return 7 end, { memory = "64M" }) })
  end)

  it("that takes too much CPU time is one", function()
    limited.run({ "true" }, { cpu_time = 10 })
    local ok, err = nsbox.call("busybox", function() while true do end end, { cpu_time = 0.2 })
    assert.same({ nil, "call", "cpu" }, { ok, err.kind, err.result.reason })
  end)

  it("that is added is held, too", function()
    local b = limited.started(false, { memory = "64M" })
    local ok, err = b:call(eat)
    assert.same({ nil, "call", "oom" }, { ok, err.kind, err.result.reason })
    assert.equal("running", b.state)
  end)
end)

describe("a box with next to nothing", function()
  it("starts, is killed, or says that its memory is too small", function()
    for _, more in ipairs { {}, { init = true }, { userns = helper.root() and "host" or nil } } do
      for kib = 64, 256, 64 do
        more.memory = kib << 10
        local r, err = nsbox.run("busybox", { "true" }, more)
        if not r and err.kind == "unsupported" then helper.skip "needs a cgroup of the caller's" end
        if r then
          assert.is_true(r.ok or r.reason == "oom", tostring(r))
        else
          assert.equal("the box needed more memory than it may have: raise the option memory", err.hint, tostring(err))
          assert.is_true(err.kind == "setup" or err.kind == "exec", err.kind)
        end
      end
    end
  end)

  it("takes a single process", function()
    assert.matches("can't fork", limited.run("(true); true", { pids = 1 }).stderr)
    assert.is_true(limited.run({ "true" }, { pids = 1 }).ok)
  end)
end)
