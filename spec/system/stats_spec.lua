-- What a box uses, told while it runs; its limits, changed while it runs.
local assert = require "luassert"
local assert_misuse = require "spec.misuse"
local box = require "spec.box"
local helper = require "spec.helper"
local limited = require "spec.limited"
local nsbox = require "nsbox"
local process = require "nsbox.process"
helper.leakcheck { settle = true, detached = true, outside = true }

local WORK = "i=0; while [ $i -lt 4000 ]; do i=$((i+1)); done; "
local HUNGRY = { "dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1" }

local function started(cmd, opts)
  local b, err = nsbox.start("busybox", cmd, opts)
  if not b and err.kind == "unsupported" then helper.skip "needs cgroups of the caller's" end
  assert(b, tostring(err))
  helper.cleanup(function()
    if b.detached and b.state ~= "closed" then b:destroy() end
    b:close()
  end)
  return b
end

local function up(opts, cmd)
  local b = started((cmd or "") .. "echo up; while read x; do :; done; sleep 100", opts)
  assert(b:expect("up", helper.PATIENCE))
  return b
end

local function refuses(kind, text, ok, err, errno)
  assert.is_nil(ok)
  assert.same({ kind, "update", errno }, { err.kind, err.verb, err.errno }, tostring(err))
  assert.equal(text, tostring(err))
end

-- What a file of its cgroup says.
local function says(b, names)
  local at = process.task_of(b).config.nsbox.cgroup.at
  for _, folder in pairs(at) do
    for _, name in ipairs(names) do
      local text = helper.read(folder .. "/" .. name)
      if text then return (text:gsub("\n$", "")) end
    end
  end
end

local PIDS, MEMORY = { "pids.max" }, { "memory.limit_in_bytes", "memory.max" }

local function values(limits)
  local found = {}
  for option, limit in pairs(limits) do found[option] = limit.value end
  return found
end

setup(function()
  helper.warm_detached()
  box.warm_cgroup()
end)

local ways = { { "a box", false }, { "a detached box", true } }

for _, way in ipairs(ways) do
  local what, detach = table.unpack(way)

  describe("stats of " .. what, function()
    it("tell what its cgroup counts", function()
      local b = up({ memory = "64M", pids = 100, detach = detach }, WORK)
      local first = assert(b:stats())
      assert.is_true(first.wall > first.setup and first.setup > 0)
      assert.is_true(first.user + first.sys > 0)
      assert.is_true(first.memory > 0 and first.memory_peak >= first.memory)
      assert.same({ 0, 1 }, { first.oom_kills, first.pids })
      local p <close> = assert(b:spawn("sleep 100"))
      box.eventually("it is counted", function() return b:stats().pids == 2 end)
      assert.equal("running", p.state)
      b:stop(0)
      local r = assert(b:wait())
      local last = assert(b:stats())
      assert.same(r.usage, last)
      assert.is_true(last.wall > first.wall and last.user + last.sys >= first.user + first.sys)
      assert.equal(first.setup, last.setup)
      if detach then assert(b:destroy()) else b:close() end
      local ok, err = b:stats()
      assert.same({ nil, "closed" }, { ok, err.kind })
    end)

    it("tell the CPU time of its processes where it has no cgroup", function()
      local b = up({ detach = detach }, "sh -c '" .. WORK:rep(4) .. "'; ")
      local usage = assert(b:stats())
      assert.is_true(usage.user + usage.sys > 0)
      for _, name in ipairs { "memory", "memory_peak", "pids", "oom_kills", "io_read", "max_rss" } do
        assert.is_nil(usage[name], name)
      end
      assert.same({}, b.limits)
    end)
  end)

  describe("update of " .. what, function()
    it("is in force at once, and in the Result", function()
      local b = up { memory = "64M", pids = 100, detach = detach }
      assert.same({ memory = 64 << 20, swap = b.limits.swap and 0, pids = 100 }, values(b.limits))
      local before = assert(b:exec { "true" })
      assert.is_true(b:update { memory = "128M", pids = 3 })
      assert.same({ memory = 128 << 20, swap = b.limits.swap and 0, pids = 3 }, values(b.limits))
      assert.same({ "3", tostring(128 << 20) }, { says(b, PIDS), says(b, MEMORY) })
      local r = assert(b:exec "sleep 100 & sleep 100 & sleep 100 & sleep 100 & wait")
      assert.truthy(r.stderr:find("can't fork", 1, true), r.stderr)
      assert.same({ 64 << 20, 128 << 20 }, { before.limits.memory.value, r.limits.memory.value })
      assert.is_true(b:update { swap = "1M" })
      assert.same({ 128 << 20, tostring(128 << 20) }, { b.limits.memory.value, says(b, MEMORY) })
      assert.is_true(b:update { memory = "96M" })
      assert.same({ 96 << 20, 3 }, { b.limits.memory.value, b.limits.pids.value })
      b:stop(0)
      r = assert(b:wait())
      assert.same(b.limits, r.limits)
      assert.same({ 96 << 20, 3 }, { r.limits.memory.value, r.limits.pids.value })
      refuses("closed", ("nsbox: update: box %s has ended: %s"):format(b.id, tostring(r):match "^.*: (.*)$"),
        b:update { pids = 5 })
    end)

    it("is all or nothing", function()
      local b = up { memory = "64M", pids = 100, detach = detach }
      local was = b.limits
      if was.memory.by:find("v1", 1, true) then -- v2 takes both: a cpuset that another box has had, and to kill
        if not limited.folders(b).cpuset then -- a box with the caller's ids is in all
          refuses("unsupported", "nsbox: update: option 'cpuset' cannot be changed: "
            .. "the box has no cgroup of its controller\n  hint: start it with cpuset",
            b:update { pids = 5, cpuset = "0" })
          assert.same({ "100", was }, { says(b, PIDS), b.limits })
        end
        refuses("limit", "nsbox: update: option 'memory': write '65536' to memory.limit_in_bytes: "
          .. "Device or resource busy (EBUSY)\n  hint: the box uses more than that, "
          .. "and the kernel could not take it away",
          b:update { memory = "64K", pids = 5 })
        assert.same({ "100", tostring(64 << 20), was }, { says(b, PIDS), says(b, MEMORY), b.limits })
      end
    end)

    it("is refused where it has no cgroup", function()
      local b = up { detach = detach }
      refuses("unsupported", "nsbox: update: option 'memory' cannot be changed: the box has no cgroup\n"
        .. "  hint: start it with memory", b:update { memory = "64M" })
      assert.is_true(b:update {})
      assert_misuse("nsbox.box:update: option 'hostname' is fixed at the start of a box",
        b.update, b, { hostname = "x" })
      assert_misuse("nsbox.box:update: option 'swap' needs memory", b.update, b, { swap = "1M" })
    end)
  end)
end

describe("a box that is paused", function()
  it("has other limits and tells what it uses", function()
    local b = up { memory = "64M", pids = 100 }
    assert(b:pause())
    assert.is_true(b:update { pids = 50 })
    assert.same({ "50", 50 }, { says(b, PIDS), b.limits.pids.value })
    assert.equal(1, assert(b:stats()).pids)
    assert(b:resume())
  end)
end)

describe("a detached box", function()
  it("has its limits changed by any process, for all who see it", function()
    local b = up { memory = "64M", pids = 100, detach = true }
    local other <close> = assert(nsbox.box(b.id))
    assert.is_true(other:update { pids = 50 })
    assert.is_true(b:update { memory = "96M" })
    assert.is_true(other:update { swap = "1M" }) -- memory stays what it is by now
    assert.same({ 50, 96 << 20 }, { b.limits.pids.value, other.limits.memory.value })
    b:stop(0)
    local r = assert(other:wait())
    assert.same({ 50, 96 << 20 }, { r.limits.pids.value, r.limits.memory.value })
    assert.is_true(r.usage.memory_peak > 0)
    local later <close> = assert(nsbox.box(b.id))
    assert.same({ r.limits, r.usage }, { later:wait().limits, later:stats() })
  end)

  it("tells what may stay unenforced", function()
    local b = up { memory = "64M", pids = 100, degrade = { "memory", "pids" }, detach = true }
    local other <close> = assert(nsbox.box(b.id))
    assert.same(b.notes, other.notes)
  end)
end)

describe("a process that was added to a box", function()
  it("tells its own CPU time, and the limits of the box", function()
    local b = up({ memory = "64M", pids = 100 }, WORK)
    local r = assert(b:exec(WORK))
    assert.same(b.limits, r.limits)
    assert.is_true(r.usage.user + r.usage.sys > 0 and r.usage.wall > r.usage.setup)
    assert.is_nil(r.usage.memory)
  end)

  for _, way in ipairs(ways) do
    it("tells that it was killed for want of memory, in " .. way[1], function()
      local b = up { memory = "16M", detach = way[2] }
      local r = assert(b:exec(HUNGRY))
      assert.same({ "oom", "KILL" }, { r.reason, r.signal })
      r = assert(b:exec { "sh", "-c", "kill -KILL $$" })
      assert.same({ "signal", "KILL" }, { r.reason, r.signal })
      local p <close> = assert(b:spawn "sleep 100")
      assert(b:exec(HUNGRY))
      assert(p:kill())
      assert.equal("killed", assert(p:wait()).reason)
      assert.equal("exit", assert(b:exec { "true" }).reason)
      assert.equal("running", b.state)
      assert.equal(2, assert(b:stats()).oom_kills)
    end)
  end
end)
