-- Changes of a running box's limits, in made-up cgroups: what is written, what is told, and what is undone.
local assert = require "luassert"
local busted = require "busted"
local choice = require "nsbox.cgroup.choice"
local core = require "nsbox.core"
local file = require "nsbox.cgroup.file"
local helper = require "spec.helper"
local limit = require "nsbox.cgroup.limit"
local proc = require "nsbox.probe.file"
local sys = require "nsbox.sys"

local before_each, after_each = busted.before_each, busted.after_each

local EBUSY, ENOENT, EINVAL = sys.EBUSY, sys.ENOENT, sys.EINVAL

local files, refused, log, real -- path -> text; path -> text -> errno; what was written; file's own functions

local function by_device(old, text)
  local lines, device = {}, text:match "^%S+"
  for line in old:gmatch "[^\n]+" do
    lines[#lines + 1] = line:match "^%S+" ~= device and line or nil
  end
  lines[#lines + 1] = not text:find " 0$" and text or nil
  return table.concat(lines, "\n")
end

local function lines(text)
  local list = {}
  for line in text:gmatch "[^\n]+" do list[#list + 1] = line end
  table.sort(list, function(a, b) return a > b end)
  return list
end

local fake = {}

function fake.read(folder, name)
  local text = files[folder .. "/" .. name]
  if not text then
    return nil, "open: No such file or directory", ENOENT
  end
  return text
end

function fake.write(folder, name, text)
  local path = folder .. "/" .. name
  local errno = not files[path] and ENOENT or refused[path] and refused[path](text)
  if errno then
    return nil, "write: no", errno
  end
  log[#log + 1] = name .. "=" .. text
  if name:find "^io%..*weight$" then -- as the kernel says it
    files[path] = by_device(files[path], text:find "^%d+$" and "default " .. text or text)
    return true
  end
  files[path] = name:find("throttle", 1, true) and by_device(files[path], text)
    or name == "io.max" and by_device(files[path], text) or text
  return true
end

function fake.exists(folder, name)
  return files[folder .. "/" .. name] ~= nil
end

-- The CPUs of a made-up machine.
local function machine(cpus)
  local line = proc.line
  helper.cleanup(function() proc.line = line end)
  proc.line = function(path) return path == "/sys/devices/system/cpu/online" and cpus or line(path) end
end

before_each(function()
  log, refused, real = {}, {}, {}
  for name, fn in pairs(fake) do
    real[name], file[name] = file[name], fn
  end
end)

after_each(function()
  for name, fn in pairs(real) do
    file[name] = fn
  end
end)

local function v1(more)
  files = { ["/m/memory.limit_in_bytes"] = "8192", ["/m/memory.memsw.limit_in_bytes"] = "8192", ["/p/pids.max"] = "max",
    ["/b/blkio.throttle.read_bps_device"] = "8:16 7", ["/b/blkio.throttle.write_bps_device"] = "" }
  for path, text in pairs(more or {}) do files[path] = text end
  return { at = { memory = "/m", pids = "/p", blkio = "/b" }, counts = true, limits = {}, told = {} }
end

local function v2(controllers, more)
  files = { ["/c/cgroup.controllers"] = controllers, ["/c/memory.max"] = "8192", ["/c/memory.swap.max"] = "0",
    ["/c/pids.max"] = "max", ["/c/cpu.max"] = "max 100000", ["/c/io.max"] = "", ["/c/cpuset.cpus"] = "",
    ["/c/cpuset.cpus.effective"] = "0-1" }
  for path, text in pairs(more or {}) do files[path] = text end
  return { at = { v2 = "/c" }, counts = true, limits = {}, told = {} }
end

local function memory(bytes, swap)
  return { memory = { limit = bytes, swap = bytes + (swap or 0) } }
end

describe("an update of limits", function()
  it("writes memory and swap in the order that is possible, and tells what they are then", function()
    local group = v1()
    refused["/m/memory.limit_in_bytes"] = function(text) -- never beyond the other; memcg
      return tonumber(text) > tonumber(files["/m/memory.memsw.limit_in_bytes"]) and EINVAL
    end
    assert.is_true(limit.update(group, memory(16384, 4096)))
    assert.same({ "memory.memsw.limit_in_bytes=20480", "memory.limit_in_bytes=16384" }, log)
    assert.same({ memory = { value = 16384, by = "cgroup v1 memory.limit_in_bytes" },
      swap = { value = 4096, by = "cgroup v1 memory.memsw.limit_in_bytes" } }, group.limits)
  end)

  it("undoes all when one is refused", function()
    local group = v1()
    group.limits.pids = { value = 7, by = "x" }
    refused["/m/memory.limit_in_bytes"] = function(text) return text == "4096" and EBUSY end
    local wanted = { memory = { limit = 4096 }, pids = { limit = 5 }, blockIO = {
      throttleReadBpsDevice = { { major = 8, minor = 0, rate = 3 }, { major = 8, minor = 16, rate = 3 } } } }
    local was = {}
    for path, text in pairs(files) do was[path] = text end
    local ok, problem = limit.update(group, wanted)
    assert.is_nil(ok)
    assert.same({ kind = "limit", errno = EBUSY, name = "EBUSY",
      message = "option 'memory': write '4096' to memory.limit_in_bytes: no",
      hint = "the box uses more than that, and the kernel could not take it away" }, problem)
    assert.is_true(#log >= 6)
    assert.same(was, files)
    assert.same({ pids = { value = 7, by = "x" } }, group.limits)
  end)

  it("is refused in cgroup v2 below what is used, where that is to be looked at", function()
    local group, wanted = v2("memory", { ["/c/memory.current"] = "5000" }), memory(4096)
    wanted.memory.checkBeforeUpdate = true
    local ok, problem = limit.update(group, wanted)
    assert.same({ nil, "limit", EBUSY, "option 'memory': the box uses 5000 bytes, more than that" },
      { ok, problem.kind, problem.errno, problem.message })
    assert.same({}, log)
    for _, limit_ in ipairs { memory(8192), memory(4096), { memory = { limit = -1, checkBeforeUpdate = true } } } do
      assert.is_true(limit.update(group, limit_))
    end
    assert.equal(math.huge, group.limits.memory.value)
  end)

  it("says what could not be undone, and undoes the rest", function()
    local group = v2("cpu cpuset pids")
    refused["/c/cpu.max"] = function(text) return text == "50000 100000" and EINVAL end
    refused["/c/pids.max"] = function(text) return text == "max" and EBUSY end
    local ok, problem = limit.update(group, { cpu = { quota = 50000, period = 100000, cpus = "0-1" },
      pids = { limit = 5 } })
    assert.same({ nil, "limit", EINVAL,
      "option 'cpus': write '50000 100000' to cpu.max: no, and could not be undone: write 'max' to pids.max: no" },
      { ok, problem.kind, problem.errno, problem.message })
    assert.same({ "5", "\n" }, { files["/c/pids.max"], files["/c/cpuset.cpus"] })
    assert.same({ pids = { value = 5, by = "cgroup v2 pids.max" } }, group.limits)
  end)

  it("undoes in cgroup v2, too", function()
    local group = v2("cpu cpuset io memory pids", { ["/c/io.max"] = "8:16 rbps=1 wbps=max riops=max wiops=max" })
    refused["/c/pids.max"] = function(text) return text == "5" and EINVAL end
    local ok, problem = limit.update(group, { cpu = { quota = 50000, period = 100000, cpus = "0-1" },
      pids = { limit = 5 }, blockIO = { throttleReadBpsDevice = { { major = 8, minor = 0, rate = 3 },
        { major = 8, minor = 16, rate = 3 } } } })
    assert.same({ nil, "limit", "option 'pids': write '5' to pids.max: no" }, { ok, problem.kind, problem.message })
    assert.same({ "cpu.max=50000 100000", "cpuset.cpus=0-1", "io.max=8:0 rbps=3", "io.max=8:16 rbps=3",
      "io.max=8:16 rbps=1 wbps=max riops=max wiops=max", "io.max=8:0 rbps=max wbps=max riops=max wiops=max",
      "cpuset.cpus=\n", "cpu.max=max 100000" }, log)
  end)

  it("believes only what it reads back", function()
    local group = v2 "pids"
    local write = file.write
    file.write = function(folder, name, text) return write(folder, name, text == "5" and "6" or text) end
    local ok, problem = limit.update(group, { pids = { limit = 5 } })
    assert.same({ nil, "limit", "option 'pids': /c/pids.max: read back: it is 6, not 5" },
      { ok, problem.kind, problem.message })
    assert.equal("max", files["/c/pids.max"])
  end)

  it("tells of each file of an option", function()
    local group = v1 { ["/b/blkio.bfq.weight"] = "100" }
    assert.is_true(limit.update(group, { blockIO = { weight = 50,
      throttleWriteBpsDevice = { { major = 8, minor = 0, rate = 3 } } } }))
    assert.is_true(limit.update(group, { blockIO = { weight = 60 } }))
    assert.same({ io = { value = "60; 8:0 3",
      by = "cgroup v1 blkio.bfq.weight, cgroup v1 blkio.throttle.write_bps_device" } }, group.limits)
  end)

  it("has the weight of io on the file's line for all devices", function()
    local group = v2("io pids", { ["/c/io.bfq.weight"] = "default 100\n8:0 300" })
    assert.is_true(limit.update(group, { blockIO = { weight = 50 } }))
    assert.same({ io = { value = 50, by = "cgroup v2 io.bfq.weight" } }, group.limits)
    files["/c/pids.max"] = nil
    assert.is_nil((limit.update(group, { blockIO = { weight = 60 }, pids = { limit = 5 } })))
    assert.same({ "default 50", "8:0 300" }, lines(files["/c/io.bfq.weight"]))
  end)

  it("takes the file that the kernel has", function()
    local group = v2("io", { ["/c/io.weight"] = "default 100" })
    assert.is_true(limit.update(group, { blockIO = { weight = 1000 } }))
    assert.same({ "io.weight=default 10000" }, log)
    for weight = 10, 1000 do
      assert.is_true(limit.update(group, { blockIO = { weight = weight } }))
      assert.same({ value = weight, by = "cgroup v2 io.weight" }, group.limits.io)
    end
  end)

  it("is refused by its name where the kernel has no file for it", function()
    local ok, problem = limit.update(v1(), { blockIO = { weight = 50 } })
    assert.same({ nil, "unsupported", "option 'io': the kernel has no blkio.bfq.weight" },
      { ok, problem.kind, problem.message })
  end)

  it("is refused where the box is not in the controller, and then nothing is written", function()
    local NO_CONTROLLER = "option '%s' cannot be changed: the box has no cgroup of its controller"
    local rows = {
      { v1(), { cpu = { cpus = "0" }, pids = { limit = 5 } }, "cpuset", NO_CONTROLLER:format "cpuset" },
      { v2 "pids", { memory = { limit = 4096, swap = 4096 }, pids = { limit = 5 } }, "memory",
        NO_CONTROLLER:format "memory" },
      { { at = {}, limits = {}, told = {} }, { pids = { limit = 5 } }, "pids",
        "option 'pids' cannot be changed: the box has no cgroup" },
    }
    for _, row in ipairs(rows) do
      local ok, problem = limit.update(row[1], row[2])
      assert.is_nil(ok)
      assert.same({ kind = "unsupported", message = row[4], hint = "start it with " .. row[3] }, problem)
    end
    assert.same({}, log)
  end)

  it("is made where the box is: v1 before v2", function()
    local group = v1 { ["/c/cgroup.controllers"] = "memory hugetlb", ["/c/memory.max"] = "max" }
    group.at.v2 = "/c"
    assert.is_true(limit.update(group, { memory = { limit = 4096 } }))
    assert.same({ "memory.limit_in_bytes=4096" }, log)
  end)
end)

describe("a limit of a box that is to be started", function()
  -- The first write that these resources want, applied.
  local function apply(group, version, resources, degrade)
    group.resources, group.degrade, group.notes = resources, degrade, {}
    return limit.apply(group, choice.writes_of(version, resources)[1])
  end
  local weight = { blockIO = { weight = 50 } }

  it("for which the kernel has no file is told by its errno", function()
    assert.same({ nil, "the kernel has no blkio.bfq.weight", ENOENT }, { apply(v1(), choice.v1, weight, {}) })
    assert.same({ nil, "the kernel has no io.weight", ENOENT }, { apply(v2 "io", choice.v2, weight, { cpus = true }) })
  end)

  it("is a disk's weight, of the file that the kernel has", function()
    local disk = { blockIO = { weightDevice = { { major = 8, minor = 0, weight = 1000 } } } }
    local group = v2("io", { ["/c/io.weight"] = "default 100" })
    assert.is_true(apply(group, choice.v2, disk, {}))
    assert.same({ "io.weight=8:0 10000" }, log)
    group = v2("io", { ["/c/io.bfq.weight"] = "default 100" })
    assert.is_true(apply(group, choice.v2, disk, {}))
    assert.equal("io.bfq.weight=8:0 1000", log[2])
  end)

  it("is told of as a raw key, also where it is a part of an option", function()
    local group = v1 { ["/u/cpu.cfs_period_us"] = "100000" }
    group.at.cpu = "/u"
    local write = assert(choice.choose({ unified = { ["cpu.cfs_period_us"] = "50000" } }, nil,
      { v1 = { cpu = { folder = "/u" } } }, {})).writes[1]
    assert.is_true(limit.apply(group, write))
    assert.same({ cgroup = { value = "cpu.cfs_period_us = 50000", by = "cgroup v1 cpu.cfs_period_us" } }, group.limits)
  end)

  it("names the CPUs that there are where the kernel refuses one", function()
    machine "0-1"
    local group = v1 { ["/s/cpuset.cpus"] = "" }
    group.at.cpuset = "/s"
    refused["/s/cpuset.cpus"] = function() return sys.ERANGE end
    local WHY = "write '0-7' to cpuset.cpus: no: this machine has the CPUs 0-1"
    assert.same({ nil, WHY, sys.ERANGE }, { apply(group, choice.v1, { cpu = { cpus = "0-7" } }, {}) })
    local ok, problem = limit.update(group, { cpu = { cpus = "0-7" } })
    assert.same({ nil, "option 'cpuset': " .. WHY }, { ok, problem.message })
  end)

  it("names the device that the kernel refuses", function()
    local group = v1()
    refused["/b/blkio.throttle.read_bps_device"] = function() return sys.ENODEV end
    assert.same({ nil, "write '9:5 7' to blkio.throttle.read_bps_device: no", sys.ENODEV }, { apply(group, choice.v1,
      { blockIO = { throttleReadBpsDevice = { { major = 9, minor = 5, rate = 7 } } } }, {}) })
  end)

  it("is named where its file cannot be read", function()
    local group, read = v1 { ["/m/memory.force_empty"] = "" }, file.read
    file.read = function(folder, name)
      if name == "memory.force_empty" then return nil, "read: no", EINVAL end
      return read(folder, name)
    end
    local places = { v1 = { memory = { folder = "/m" } } }
    local chosen = assert(choice.choose({ unified = { ["memory.force_empty"] = "0" } }, nil, places, {}))
    assert.same({ nil, "read memory.force_empty: no", EINVAL }, { limit.apply(group, chosen.writes[1]) })
  end)

  it("says of a raw key which version of cgroups the controller is on", function()
    local WHY = "the kernel has no %s: the controller %s is on cgroup %s here, and %s names its files otherwise"
    local places = { v1 = { memory = { folder = "/m" }, blkio = { folder = "/b" } } }
    local function raw(group, key)
      group.degrade, group.notes = {}, {}
      return limit.apply(group, assert(choice.choose({ unified = { [key] = "5" } }, nil, places, {})).writes[1])
    end
    for _, row in ipairs { { "memory.high", "memory", "v1", "v2" }, { "io.max", "blkio", "v1", "v2" } } do
      assert.same({ nil, WHY:format(table.unpack(row)), ENOENT }, { raw(v1(), row[1]) })
    end
    places = { v1 = {}, v2 = { folder = "/c", controllers = { memory = true, io = true } } }
    for _, row in ipairs { { "memory.limit_in_bytes", "memory", "v2", "v1" },
      { "blkio.bfq.weight", "io", "v2", "v1" } } do
      assert.same({ nil, WHY:format(table.unpack(row)), ENOENT }, { raw(v2 "memory io", row[1]) })
    end
    assert.same({ nil, "the kernel has no cgroup.nothing", ENOENT }, { raw(v2 "memory io", "cgroup.nothing") })
  end)

  it("may be left out, which is noted once", function()
    local group = v1()
    assert.is_true(apply(group, choice.v1, weight, { io = true }))
    assert.is_true(limit.apply(group, choice.writes_of(choice.v1, weight)[1])) -- a start that is begun anew
    assert.same({ { what = "io", why = "not enforced: the kernel has no blkio.bfq.weight" } }, group.notes)
    assert.same({}, group.limits)
  end)

  it("is a device program that is attached once, also by a start that is begun anew", function()
    local attached, kept = 0, {}
    local function replace(of, name, fn)
      kept[#kept + 1] = { of, name, of[name] }
      of[name] = fn
    end
    helper.cleanup(function()
      for _, row in ipairs(kept) do row[1][row[2]] = row[3] end
    end)
    local handle = setmetatable({}, { __close = function() end })
    replace(sys, "open", function() return handle end)
    replace(core, "bpf_device", function() return handle end)
    replace(core, "bpf_attach", function()
      attached = attached + 1
      return true
    end)
    replace(core, "bpf_attached", function() return attached end)
    local group, rules = v2 "", { devices = { { allow = false } } }
    for _ = 1, 2 do assert.is_true(apply(group, choice.v2, rules, {})) end
    assert.equal(1, attached)
    assert.same({ device_rules = { value = "1 rules", by = "cgroup v2 BPF_CGROUP_DEVICE" } }, group.limits)
  end)

  it("is a list of CPUs that the box has then: v2 takes those that are not there", function()
    local group = v2 "cpuset"
    machine "0-3"
    assert.same({ nil, "/c/cpuset.cpus.effective: read back: it is 0-1, not 7: this machine has the CPUs 0-3",
      sys.EPROTO }, { apply(group, choice.v2, { cpu = { cpus = "7" } }, {}) })
    files["/c/cpuset.cpus.effective"] = "7"
    assert.is_true(apply(group, choice.v2, { cpu = { cpus = "7" } }, {}))
    assert.equal("7", group.limits.cpuset.value)
  end)
end)
