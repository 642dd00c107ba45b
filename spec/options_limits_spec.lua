-- Limits as options: what is accepted, in which form it comes back, and what is misuse.
local assert = require "luassert"
local assert_misuse = require "spec.misuse"
local choice = require "nsbox.cgroup.choice"
local options = require "nsbox.options"
local schema = require "nsbox.options.schema"
local types = require "nsbox.options.types"

local checkers = {}
for _, row in ipairs(schema.rows) do
  checkers[row.name] = types[row.type]
end

local function rule(kind, major, minor, access)
  return { allow = true, type = kind, major = major, minor = minor, access = access }
end

describe("limits", function()
  -- option, as given, as checked
  local rows = {
    { "memory", "64M", 64 << 20 }, { "memory", 65536, 65536 }, { "memory", "1.5G", 3 << 29 }, { "swap", 0, 0 },
    { "swap", "1K", 1024 }, { "memory_reservation", "1M", 1 << 20 }, { "cpus", 0.5, 0.5 }, { "cpus", 0.01, 0.01 },
    { "cpus", 1000000, 1000000 }, { "cpu_weight", 1, 1 }, { "cpu_weight", 1e4, 10000 }, { "cpuset", "0-1", "0-1" },
    { "cpuset", "0,2-3", "0,2-3" }, { "pids", 1, 1 }, { "pids", 4194304.0, 4194304 }, { "cpu_time", 0.5, 0.5 },
    { "io", {}, { devices = {} } },
    { "io", { weight = 10, ["/dev/vda"] = { rbps = "1M", wbps = 1, riops = 5, wiops = 4294967295 },
      ["8:0"] = { riops = 1 } }, { weight = 10, devices = { ["8:0"] = { riops = 1 },
        ["/dev/vda"] = { rbps = 1 << 20, wbps = 1, riops = 5, wiops = 4294967295 } } } },
    { "hugetlb", { ["2M"] = "64M", ["1GB"] = 0, ["64k"] = 65536 },
      { ["2MB"] = 64 << 20, ["1GB"] = 0, ["64KB"] = 65536 } },
    { "hugetlb", { ["2048KB"] = "2M", ["1024M"] = "1G" }, { ["2MB"] = 2 << 20, ["1GB"] = 1 << 30 } },
    { "device_rules", {}, {} },
    { "device_rules", { "c 10:229 rwm", "a *:* rwm", "b 8:* r", "c *:3 mw" }, { rule("c", 10, 229, "rwm"),
      rule("a", nil, nil, "rwm"), rule("b", 8, nil, "r"), rule("c", nil, 3, "wm") } },
    { "cgroup", {}, {} },
    { "cgroup", { ["memory.high"] = "64M", ["memory.oom.group"] = 1, ["hugetlb.2MB.max"] = 0.0 },
      { ["memory.high"] = "64M", ["memory.oom.group"] = "1", ["hugetlb.2MB.max"] = "0" } },
    { "cgroup", { ["io.max"] = "8:0 rbps=1", ["cgroup.max.depth"] = 3 },
      { ["io.max"] = "8:0 rbps=1", ["cgroup.max.depth"] = "3" } },
    { "cgroup_parent", "/", "/" }, { "cgroup_parent", "/mine/te sts..", "/mine/te sts.." },
    { "degrade", {}, {} }, { "degrade", { "memory", "cpu_time" }, { memory = true, cpu_time = true } },
  }
  for i, row in ipairs(rows) do
    it(("of %s are normalised (row %d)"):format(row[1], i), function()
      assert.same({ row[3] }, { checkers[row[1]](row[2]) })
    end)
  end

  it("that may stay unenforced are those of a box as a whole", function()
    for name in ("memory swap memory_reservation cpus cpu_weight cpuset pids io hugetlb device_rules cgroup "
      .. "cpu_time"):gmatch "%S+" do
      assert.same({ [name] = true }, checkers.degrade { name })
    end
  end)
end)

describe("misuse of limits", function()
  local nan = 0 / 0
  -- options, part of the text
  local rows = {
    { { memory = 64 }, "option 'memory' must be at least 64K, with less no program starts, got 64" },
    { { memory = "63K" }, "at least 64K" }, { { memory = 0 }, "leave it out for no limit" },
    { { memory = -1 }, "must be a size" }, { { memory = "0K" }, "a size of more than 0 bytes, got '0K'" },
    { { swap = -1 }, "option 'swap' must be a size" }, { { memory_reservation = 0 }, "more than 0 bytes" },
    { { memory_reservation = 1 }, "'memory_reservation' must be at least 64K, with less no program starts, got 1" },
    { { cpus = 0 }, "option 'cpus' must be a number of CPUs from 0.01 to 1000000, got 0" },
    { { cpus = 0.0099 }, "from 0.01" }, { { cpus = nan }, "must be a number of CPUs" }, { { cpus = "1" }, "number" },
    { { cpus = 1 / 0 }, "to 1000000" }, { { cpus = 1000001 }, "to 1000000" }, { { cpus = -1 }, "from 0.01" },
    { { cpu_weight = 0 }, "an integer from 1 to 10000, got 0" }, { { cpu_weight = 10001 }, "from 1 to 10000" },
    { { cpu_weight = 1.5 }, "integer" }, { { cpuset = "" }, "a list of CPUs" }, { { cpuset = "1-0" }, "a list" },
    { { cpuset = 0 }, "a list of CPUs such as \"0-1,3\", got 0" }, { { cpuset = "8192" }, "beyond 8191" },
    { { pids = 0 }, "an integer from 1 to 4194304, got 0" }, { { pids = "5" }, "integer" },
    { { pids = 4194305 }, "from 1 to 4194304" }, { { pids = -1 }, "from 1" },
    { { cpu_time = 0 }, "more than 0 seconds" }, { { cpu_time = nan }, "a number of seconds" },

    { { io = 5 }, "option 'io' must be a map such as" },
    { { io = { weight = 9 } }, "weight must be an integer from 10" },
    { { io = { weight = 1001 } }, "to 1000" },
    { { io = { wieght = 10 } }, "has no key 'wieght'; did you mean weight?" },
    { { io = { ["dev/sda"] = {} } }, "has no key 'dev/sda'" }, { { io = { { rbps = 1 } } }, "has no key 1" },
    { { io = { ["8:1048576"] = { rbps = 1 } } }, "has no key '8:1048576'" },
    { { io = { ["4096:0"] = { rbps = 1 } } }, "has no key" }, { { io = { ["/a\0"] = { rbps = 1 } } }, "has no key" },
    { { io = { ["8:0"] = "1M" } }, "8:0 must be a row such as { rbps = \"1M\" }, got '1M'" },
    { { io = { ["8:0"] = {} } }, "8:0 has no limit (rbps wbps riops wiops)" },
    { { io = { ["8:0"] = { rbsp = 1 } } }, "8:0 has no key 'rbsp'; did you mean rbps?" },
    { { io = { ["8:0"] = { rbps = 0 } } }, "8:0 rbps must be more than 0 bytes" },
    { { io = { ["8:0"] = { riops = "1K" } } }, "8:0 riops must be an integer from 1 to 4294967295" },
    { { io = { ["8:0"] = { wiops = 4294967296 } } }, "wiops must be" },

    { { hugetlb = "2M" }, "must be a map" }, { { hugetlb = { ["3M"] = 0 } }, "a page size that is none: '3M'" },
    { { hugetlb = { [2097152] = 0 } }, "a page size that is none" }, { { hugetlb = { ["0M"] = 0 } }, "that is none" },
    { { hugetlb = { ["2T"] = 0 } }, "none" }, { { hugetlb = { ["2M"] = "x" } }, "2M must be a size" },
    { { hugetlb = { ["2M"] = "3M" } }, "2M must be a multiple of the page size, got '3M'" },
    { { hugetlb = { ["2M"] = 0, ["2MB"] = 0 } }, "gives 2MB twice" },
    { { hugetlb = { ["99999999999999999999M"] = 0 } }, "none" },

    { { device_rules = "c 1:3 r" }, "must be a list of rules" },
    { { device_rules = { "c 1:3" } }, "[1] must be a rule" },
    { { device_rules = { "d 1:3 r" } }, "[1] must be a rule such as \"c 10:229 rwm\", got 'd 1:3 r'" },
    { { device_rules = { "c 1:3 x" } }, "must be a rule" }, { { device_rules = { "c 1*:3 r" } }, "must be a rule" },
    { { device_rules = { "c 4096:3 r" } }, "must be a rule" }, { { device_rules = { 5 } }, "got 5" },
    { { device_rules = { "c 1:3 r", nil, "c 1:3 r" } }, "has a hole" },
    { { device_rules = { "a *:* r" } }, "must be \"a *:* rwm\"" },
    { { device_rules = { "a 1:3 rwm" } }, "must be \"a" },

    { { cgroup = "memory.high" }, "must be a map" }, { { cgroup = { memory = 1 } }, "no cgroup file's: 'memory'" },
    { { cgroup = { ["memory/high"] = 1 } }, "no cgroup file's" }, { { cgroup = { "a" } }, "no cgroup file's: 1" },
    { { cgroup = { ["memory..high"] = 1 } }, "no cgroup file's" }, { { cgroup = { ["../a.b"] = 1 } }, "no cgroup" },
    { { cgroup = { ["memory.high"] = "" } }, "memory.high must be an integer or one line of text, got ''" },
    { { cgroup = { ["memory.high"] = "1\n2" } }, "one line" }, { { cgroup = { ["memory.high"] = 1.5 } }, "an integer" },
    { { cgroup = { ["memory.high"] = true } }, "got true" },
    { { cgroup = { ["cgroup.procs"] = 0 } }, "must not have cgroup.procs: it says who is in the group" },
    { { cgroup = { ["cgroup.threads"] = 0 } }, "must not have" }, { { cgroup = { ["cgroup.kill"] = 1 } }, "box:kill" },
    { { cgroup = { ["cgroup.freeze"] = 1 } }, "box:pause" },
    { { cgroup = { ["freezer.state"] = "FROZEN" } }, "must not have freezer.state: box:kill and box:pause write it" },
    { { cgroup = { ["freezer.self_freezing"] = 1 } }, "must not have freezer.self_freezing" },
    { { cgroup = { ["cgroup.type"] = "threaded" } }, "hold" },
    { { cgroup = { ["devices.allow"] = "a" } }, "must not have devices.allow: the option device_rules writes it" },
    { { cgroup = { ["devices.deny"] = "a" } }, "must not have devices.deny: the option device_rules" },
    { { cgroup = { ["cgroup.subtree_control"] = "+cpu" } }, "cannot hand controllers on" },

    { { cgroup_parent = "mine" }, "must be an absolute path inside the cgroup hierarchy such as \"/mine/tests\"" },
    { { cgroup_parent = "/a/../b" }, "without empty parts, '.' and '..'" }, { { cgroup_parent = "/a//b" }, "empty" },
    { { cgroup_parent = "/a/" }, "empty parts" }, { { cgroup_parent = "/./a" }, "'.'" },
    { { cgroup_parent = "/a\0" }, "an absolute path" }, { { cgroup_parent = 5 }, "got 5" },

    { { degrade = "memory" }, "must be a list of limits" }, { { degrade = { memory = true } }, "must be a list" },
    { { degrade = { "memroy" } }, "[1] names no limit: 'memroy'; did you mean 'memory'?" },
    { { degrade = { "pids", "mounts" } }, "[2] names no limit: 'mounts' (the limits: cpu_time device_rules memory" },
    { { degrade = { 5 } }, "[1] names no limit: 5" }, { { degrade = { "cgroup_parent" } }, "names no limit" },

    { { swap = "1M" }, "option 'swap' needs memory: it is what may be swapped beyond that" },
    { { memory = "1M", swap = math.maxinteger }, "option 'swap' is more with memory than can be counted" },
    { { memory = "1M", memory_reservation = "2M" }, "option 'memory_reservation' must not be above memory" },
    { { memory = "1M", cgroup = { ["memory.max"] = 1 } }, "must not have memory.max, which the option memory sets" },
    { { memory = "1M", cgroup = { ["memory.swap.max"] = 1 } }, "which the option memory sets: use swap" },
    { { pids = 5, cgroup = { ["pids.max"] = 1 } }, "option 'cgroup' must not have pids.max" },
    { { hugetlb = { ["2M"] = 0 }, cgroup = { ["hugetlb.2MB.max"] = 1 } }, "which the option hugetlb sets" },
    { { memory = "1M", cgroup = { ["memory.memsw.limit_in_bytes"] = 1 } }, "which the option memory sets: use swap" },
    { { hugetlb = { ["2M"] = 0 }, cgroup = { ["hugetlb.2MB.limit_in_bytes"] = 1 } }, "which the option hugetlb sets" },
    { { cpu_weight = 5, cgroup = { ["cpu.weight.nice"] = 1 } }, "which the option cpu_weight sets" },
    { { cpu_weight = 5, cgroup = { ["cpu.idle"] = 1 } }, "which the option cpu_weight sets" },
    { { io = {}, cgroup = { ["io.weight"] = 1 } }, "which the option io sets" },

    { { memory_limit = 1 }, "use memory" }, { { memory_swap = 1 }, "use swap: what may be swapped beyond memory" },
    { { cpu_count = 1 }, "use cpus" }, { { ulimit_cpu = 1 }, "use cpu_time (the whole box)" },
    { { cpu_shares = 1 }, "use cpu_weight" }, { { device_read_bps = {} }, "rbps" },
    { { oom_kill_disable = true }, "cannot be disabled" }, { { resources = {} }, "an option of its own" },
  }
  for i, row in ipairs(rows) do
    it(("raises: %s (row %d)"):format(row[2], i), function()
      assert_misuse(row[2], options.check, "run", row[1])
    end)
  end

  it("is a raw key that an option sets, of either version", function()
    local opts = { memory = "1M", memory_reservation = "1M", cpus = 1, cpu_weight = 5, cpuset = "0", pids = 5, io = {} }
    local seen = {}
    for _, version in ipairs { choice.v1, choice.v2 } do
      for _, row in ipairs(version.rows) do
        local option = row.option == "swap" and "memory" or row.option
        if opts[option] ~= nil then
          assert_misuse(("must not have %s, which the option %s sets"):format(row.file, option), options.check, "run",
            { [option] = opts[option], cgroup = { [row.file] = 1 } })
          seen[option] = true
        end
      end
    end
    for option in pairs(opts) do assert.is_true(seen[option], option) end
  end)

  it("is none where it goes together", function()
    for _, opts in ipairs { { hugetlb = { ["2M"] = 0 }, cgroup = { ["hugetlb.1GB.max"] = 0 } },
      { pids = 5, cgroup = { ["cpuset.cpus"] = "0", ["memory.limit_in_bytes"] = 1 } },
      { memory = "1M", swap = 0, memory_reservation = "1M" }, { memory_reservation = "1M" },
      { memory = "1M", cgroup = { ["memory.high"] = "1M", ["pids.max"] = 5 } }, { degrade = { "io" } } } do
      assert(options.check("run", opts))
    end
  end)

  it("is a limit of one process of a box", function()
    assert_misuse("option 'memory' belongs to the whole box", options.check, "exec", { memory = "64M" })
  end)
end)
