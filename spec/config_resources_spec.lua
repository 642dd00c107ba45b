-- What a box as a whole may use, in the terms of OCI.
local assert = require "luassert"
local assert_misuse = require "spec.misuse"
local resources = require "nsbox.config.resources"
local sys = require "nsbox.sys"
local value = require "nsbox.cgroup.value"

local function of(o)
  local found, err = resources.of("run", o)
  assert.is_nil(err)
  return found
end

describe("resources", function()
  -- checked options, OCI's resources
  local rows = {
    { { memory = 100 }, { memory = { limit = 100, swap = 100 } } },
    { { memory = 100, swap = 5, memory_reservation = 7 }, { memory = { limit = 100, swap = 105, reservation = 7 } } },
    { { memory_reservation = 7 }, { memory = { reservation = 7 } } },
    { { cpus = 0.01 }, { cpu = { quota = 1000, period = 100000 } } },
    { { cpus = 1.234567 }, { cpu = { quota = 123457, period = 100000 } } },
    { { cpu_weight = 1, cpuset = "0-1" }, { cpu = { shares = 10, cpus = "0-1" } } },
    { { cpu_weight = 100 }, { cpu = { shares = 1024 } } },
    { { cpu_weight = 10000 }, { cpu = { shares = 102400 } } }, { { pids = 5 }, { pids = { limit = 5 } } },
    { { hugetlb = { ["2MB"] = 5, ["1GB"] = 0 } },
      { hugepageLimits = { { pageSize = "1GB", limit = 0 }, { pageSize = "2MB", limit = 5 } } } },
    { { cgroup = {} }, { unified = {} } }, { { cgroup = { ["a.b"] = "c" } }, { unified = { ["a.b"] = "c" } } },
    { { io = { weight = 10, devices = { ["8:16"] = { rbps = 1, riops = 2 },
        ["8:0"] = { rbps = 3, wbps = 4, wiops = 5 } } } },
      { blockIO = { weight = 10,
        throttleReadBpsDevice = { { major = 8, minor = 0, rate = 3 }, { major = 8, minor = 16, rate = 1 } },
        throttleWriteBpsDevice = { { major = 8, minor = 0, rate = 4 } },
        throttleReadIOPSDevice = { { major = 8, minor = 16, rate = 2 } },
        throttleWriteIOPSDevice = { { major = 8, minor = 0, rate = 5 } } } } },
  }
  for i, row in ipairs(rows) do
    it(("are OCI's (row %d)"):format(i), function()
      assert.same(row[2], of(row[1]))
    end)
  end

  it("are none where nothing is asked for", function()
    assert.is_nil(of({}))
    assert.is_nil(of({ io = { devices = {} }, hugetlb = {}, cpu_time = 5, cgroup_parent = "/x", degrade = {} }))
  end)

  it("have another share for each weight, which leads back to it", function()
    for weight = 1, 10000 do
      local shares = of({ cpu_weight = weight }).cpu.shares
      assert.equal(math.floor(weight * 10.24 + 0.5), shares)
      assert.equal(weight, value.weight(shares))
    end
  end)

  it("deny all devices but docker's and those of the rules, which come last", function()
    local list = of({ device_rules = { { allow = true, type = "c", major = 10, minor = 229, access = "rw" } } }).devices
    assert.same({ allow = false, access = "rwm" }, list[1])
    assert.same({ allow = true, type = "c", access = "m" }, list[2])
    assert.same({ allow = true, type = "c", major = 1, minor = 3, access = "rwm" }, list[4])
    assert.same({ allow = true, type = "c", major = 10, minor = 229, access = "rw" }, list[#list])
    assert.equal(13, #list)
    assert.equal(12, #of({ device_rules = {} }).devices)
  end)

  describe("of a block device's path", function()
    local stat = sys.stat
    local there = {}

    before_each(function()
      there = { ["/dev/a"] = { type = "block", rdev = 254 << 8 }, ["/dev/b"] = { type = "block", rdev = 0x10345 } }
      sys.stat = function(path)
        if there[path] then return there[path] end
        return nil, "stat " .. path .. ": No such file or directory", sys.ENOENT
      end
    end)
    after_each(function() sys.stat = stat end)

    local function throttle(devices)
      return resources.of("run", { io = { devices = devices } })
    end

    it("have its numbers", function()
      local found = assert(throttle { ["/dev/a"] = { rbps = 1 }, ["/dev/b"] = { rbps = 2 } })
      assert.same({ { major = 254, minor = 0, rate = 1 }, { major = 259, minor = 69, rate = 2 } },
        found.blockIO.throttleReadBpsDevice)
    end)

    it("are an error where there is none, or no whole one", function()
      there["/dev/null"] = { type = "char", rdev = 259 }
      there["/sys/dev/block/254:0/partition"] = { type = "file" }
      for path, problem in pairs { ["/dev/x"] = "/dev/x: No such file or directory (ENOENT)",
        ["/dev/null"] = "/dev/null: it is no block device", ["/dev/a"] = "/dev/a: it is a partition" } do
        local found, err, errno = throttle { [path] = { wiops = 1 } }
        assert.is_nil(found)
        assert.same({ "setup", "run", err.errno }, { err.kind, err.verb, errno })
        assert.is_truthy(tostring(err):find("nsbox: run: option 'io': " .. problem, 1, true), tostring(err))
      end
    end)

    it("are misuse where it is named twice", function()
      local ok, text = pcall(throttle, { ["/dev/a"] = { rbps = 1 }, ["254:0"] = { wbps = 1 } })
      assert.is_false(ok)
      assert.matches("option 'io' names one device twice: /dev/a and 254:0", text)
    end)
  end)
end)

describe("an update of resources", function()
  local M = 1 << 20
  local memory = { memory = { limit = 8 * M, swap = 10 * M, reservation = 2 * M }, unified = { ["pids.max"] = "5" } }

  -- options, the resources in force, those of the update
  local rows = {
    { {}, nil, {} }, { { pids = 5 }, nil, { pids = { limit = 5 } } },
    { { memory = "4M" }, nil, { memory = { limit = 4 * M, swap = 4 * M } } },
    { { memory = "4M" }, memory, { memory = { limit = 4 * M, swap = 6 * M } } },
    { { swap = "1M" }, memory, { memory = { limit = 8 * M, swap = 9 * M } } },
    { { memory = "4M", swap = 0 }, memory, { memory = { limit = 4 * M, swap = 4 * M } } },
    { { memory_reservation = "3M" }, memory, { memory = { reservation = 3 * M } } },
    { { cpus = 0.5 }, memory, { cpu = { quota = 50000, period = 100000 } } },
    { { cpu_weight = 1, cpuset = "0", io = { ["8:0"] = { rbps = 1 } } }, memory, { cpu = { shares = 10, cpus = "0" },
      blockIO = { throttleReadBpsDevice = { { major = 8, minor = 0, rate = 1 } } } } },
  }
  rows[#rows + 1] = { { memory = "4M" }, { memory = { limit = 8 * M, checkBeforeUpdate = true } },
    { memory = { limit = 4 * M, swap = 4 * M, checkBeforeUpdate = true } } }
  for i, row in ipairs(rows) do
    it(("is what it names, completed by what is in force (row %d)"):format(i), function()
      assert.same({ row[3] }, { resources.update_of(row[1], row[2]) })
    end)
  end

  -- options, part of the text
  local wrong = {
    { { memroy = 1 }, "nsbox.box:update: unknown option 'memroy'; did you mean 'memory'?" },
    { { hugetlb = {} }, "nsbox.box:update: option 'hugetlb' is fixed at the start of a box" },
    { { user = 1 }, "option 'user' is fixed at the start of a box: give it to nsbox.run or nsbox.start" },
    { { pids = 0 }, "option 'pids' must be an integer from 1" }, { 5, "options must be a table, got 5" },
    { { memory = "1M", memory_reservation = "2M" }, "option 'memory_reservation' must not be above memory" },
    { { memory = "1M", swap = math.maxinteger }, "option 'swap' is more with memory than can be counted" },
  }
  for _, row in ipairs(wrong) do
    it("raises: " .. row[2], function()
      assert_misuse(row[2], resources.update_of, row[1], memory)
    end)
  end

  -- options, the text, which names what is from before
  local clashes = {
    { { memory = "1M" }, "option 'memory_reservation' must not be above memory: memory_reservation is 2097152 from "
      .. "before\n  hint: give memory_reservation, too" },
    { { memory_reservation = "9M" }, "option 'memory_reservation' must not be above memory: memory is 8388608 from "
      .. "before\n  hint: give memory, too" },
    { { swap = math.maxinteger }, "option 'swap' is more with memory than can be counted: memory is 8388608 from "
      .. "before\n  hint: give memory, too" },
    { { pids = 5 }, "option 'cgroup' must not have pids.max, which the option pids sets: cgroup is from before" },
  }
  for _, row in ipairs(clashes) do
    it("is an error: " .. row[2], function()
      local found, err, errno = resources.update_of(row[1], memory)
      assert.same({ nil, "limit", "box:update" }, { found, err.kind, err.verb })
      assert.is_nil(errno)
      assert.equal("nsbox: box:update: " .. row[2], tostring(err))
    end)
  end

  it("is not what was so before", function()
    local odd = { memory = { limit = M, swap = M, reservation = 2 * M } } -- of a configuration
    assert.same({ pids = { limit = 5 } }, resources.update_of({ pids = 5 }, odd))
  end)

  it("raises: swap where no memory is in force", function()
    assert_misuse("option 'swap' needs memory", resources.update_of, { swap = "1M" }, {})
    assert_misuse("option 'swap' needs memory", resources.update_of, { swap = "1M" })
  end)

  it("is an error for a device that is none", function()
    local found, err = resources.update_of({ io = { ["/dev/null"] = { rbps = 1 } } })
    assert.is_nil(found)
    assert.same({ "setup", "box:update" }, { err.kind, err.verb })
  end)
end)

describe("resources after an update", function()
  -- before, the update, after
  local rows = {
    { nil, {}, {} }, { nil, { pids = { limit = 5 } }, { pids = { limit = 5 } } },
    { { pids = { limit = 5 }, unified = { ["a.b"] = "c" } }, { pids = { limit = 6 } },
      { pids = { limit = 6 }, unified = { ["a.b"] = "c" } } },
    { { memory = { limit = 1, swap = 1, reservation = 1 } }, { memory = { limit = 2, swap = 3 } },
      { memory = { limit = 2, swap = 3, reservation = 1 } } },
    { { blockIO = { weight = 10, throttleReadBpsDevice = { { major = 8, minor = 0, rate = 3 },
        { major = 8, minor = 16, rate = 4 } } } },
      { blockIO = { throttleReadBpsDevice = { { major = 8, minor = 0, rate = 5 } },
        throttleWriteBpsDevice = { { major = 8, minor = 0, rate = 6 } } } },
      { blockIO = { weight = 10, throttleReadBpsDevice = { { major = 8, minor = 0, rate = 5 },
        { major = 8, minor = 16, rate = 4 } }, throttleWriteBpsDevice = { { major = 8, minor = 0, rate = 6 } } } } },
  }
  for i, row in ipairs(rows) do
    it(("are the old ones and the new ones (row %d)"):format(i), function()
      assert.same(row[3], resources.merged(row[1], row[2]))
    end)
  end

  it("are a table of their own", function()
    local before = { memory = { limit = 1 } }
    resources.merged(before, { memory = { limit = 2 } })
    assert.same({ memory = { limit = 1 } }, before)
  end)
end)
