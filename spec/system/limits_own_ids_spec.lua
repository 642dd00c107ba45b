-- Boxes that have an id of the caller's, to which the files of their cgroups belong: they mount them, and write.
local assert = require "luassert"
local busted = require "busted"
local helper = require "spec.helper"
local in_time = require "spec.in_time"
local hierarchy = require "spec.hierarchy"
local limited = require "spec.limited"
local nsbox = require "nsbox"
local script = require "spec.script"
local tree = require "nsbox.cgroup.tree"

helper.leakcheck { settle = true, outside = true }
setup(function()
  helper.warm_outside()
  limited.warm()
end)

local RIGHT = { "SYS_ADMIN" } -- to mount; without it a user namespace of its own would do
local MIB = 1 << 20

-- MOUNTED is done in the root of each hierarchy that can be mounted.
local ROUND = [[
  mkdir -p /tmp/m
  for o in "cgroup2" "cgroup -o memory" "cgroup -o pids" "cgroup -o cpu" "cgroup -o cpuset" "cgroup -o freezer" \
    "cgroup -o none,name=systemd"; do
    mount -t $o none /tmp/m 2>/dev/null || continue
    cd /tmp/m; MOUNTED; cd /; umount /tmp/m
  done
]]

local function round(command)
  return (ROUND:gsub("MOUNTED", function() return command end))
end

local LIFT = round [[
  for f in memory.limit_in_bytes memory.memsw.limit_in_bytes memory.max pids.max cpu.cfs_quota_us cpu.max \
    cpuset.cpus; do
    [ -e $f ] || continue
    for v in -1 max "max 100000" 0-1; do echo $v > $f; done 2>/dev/null
  done]]

local LOOK = round [[echo "$o: $(ls -d */ 2>/dev/null) $(cat cgroup.procs | tr '\\n' ' ')"]]

local ways = { "single", "keep-id", helper.root() and "host" or "auto" }

local function options(way, more)
  local opts = { userns = way, cap_add = RIGHT, cap_ambient = not helper.root() and way == "keep-id" and RIGHT or nil }
  for name, v in pairs(more or {}) do opts[name] = v end
  return opts
end

local function says(b, name)
  local folder = limited.folder_with(b, name)
  return folder and helper.read(folder .. "/" .. name)
end

-- All that its limits are written to.
local function limits_of(b)
  local found = {}
  for _, name in ipairs { "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.max", "pids.max",
    "cpu.cfs_quota_us", "cpu.max", "cpuset.cpus" } do
    found[name] = says(b, name)
  end
  return found
end

for _, way in ipairs(ways) do
  describe(("a box whose ids are %s"):format(way), function()
    it("does not lift its limits, from within and by what is added", function()
      local cpu = limited.first_cpu()
      local opts = options(way, { memory = "64M", pids = 30, cpus = 0.5, cpuset = cpu })
      local b = limited.started(LIFT .. "echo done; exec sleep 1000", opts)
      local before = limits_of(b)
      assert(b:expect("done", helper.PATIENCE))
      assert(b:exec(LIFT, { cap_add = RIGHT, cap_ambient = opts.cap_ambient, check = true }))
      assert.same(before, limits_of(b))
      assert.equal("30\n", before["pids.max"])
      assert.equal(0, b:exec({ "true" }).code)
    end)

    it("is ended for its memory, in a cgroup that it has made", function()
      local HOG = round "[ -e memory.limit_in_bytes -o -e memory.max ] && mkdir -p own && echo 0 > own/cgroup.procs"
        .. "exec dd if=/dev/zero of=/dev/null bs=64M count=1"
      local r = limited.run(HOG, options(way, { memory = "16M" }))
      assert.same({ "oom", "KILL" }, { r.reason, r.signal })
      assert.is_true(r.usage.memory_peak <= 16 * MIB and r.usage.oom_kills > 0)
    end)

    it("sees no other cgroup than its own, with limits and without", function()
      local other = limited.started({ "sleep", "1000" }, { memory = "64M" })
      for _, more in ipairs { {}, { pids = 30 } } do
        local r = assert(nsbox.run("busybox", LOOK, options(way, more)))
        for name, seen in r.stdout:gmatch "(.-):([^\n]*)\n" do
          assert.is_nil(seen:find("[%a/]"), name .. ":" .. seen) -- a name; numbers of processes of others are 0
          assert.is_nil((" " .. seen):find(" 0 ", 1, true), name .. ":" .. seen)
        end
        assert.matches("cgroup", r.stdout)
      end
      assert.equal("running", other.state)
    end)

    it("does not hold who is added to it", function()
      if not hierarchy.own "freezer" and helper.read "/proc/mounts":find "cgroup2 %S*nsdelegate" then
        helper.skip "nsdelegate, an option of the mount, keeps a box from it"
      end
      local FREEZE = round "echo FROZEN > freezer.state; echo 1 > cgroup.freeze"
      local b = limited.started("echo ready; read x; " .. FREEZE, options(way, { pids = 30, stdin = "pipe" }))
      assert(b:expect("ready", helper.PATIENCE))
      assert(b.stdin:write "go\n")
      local froze
      local deadline = busted.monotime() + helper.PATIENCE
      repeat
        froze = false
        for _, folder in pairs(limited.folders(b)) do
          local text = (helper.read(folder .. "/box/freezer.state") or "")
            .. (helper.read(folder .. "/box/cgroup.events") or "")
          froze = froze or text:find "FROZEN" or text:find "frozen 1"
        end
      until froze or busted.monotime() > deadline
      assert.truthy(froze, "it could not freeze itself")
      local r = assert(b:exec({ "echo", "here" }, { timeout = helper.PATIENCE }))
      assert.equal("here\n", r.stdout)
      assert(b:kill "KILL")
      assert.equal("KILL", b:wait(helper.PATIENCE).signal)
    end)

    it("holds nobody for ever who is added to it", function()
      limited.run({ "true" }, { pids = 30 })
      local b = limited.started({ "sleep", "1000" }, options(way))
      assert(b:exec({ "true" }))
      local at = limited.folders(b)
      local file, text = at.v2 and at.v2 .. "/added/cgroup.freeze", "1"
      if at.freezer then file, text = at.freezer .. "/added/freezer.state", "FROZEN" end
      helper.write(file, text)
      local r, err = b:exec({ "true" }, { timeout = 0.1 })
      assert.same({ nil, "timeout", "ETIMEDOUT" }, { r, err.kind, err.name })
      assert.matches("has not come to its exec in 2 s", err.message)
      assert.equal("killed", b:stop(0).reason)
    end)

    it("keeps its limit when a change is refused for what it has made below", function()
      if not hierarchy.own "cpuset" then helper.skip "needs the controller cpuset of cgroup v1" end
      local NARROW = "mkdir -p /tmp/m; mount -t cgroup -o cpuset none /tmp/m; cd /tmp/m; mkdir x; "
        .. "cat cpuset.cpus >x/cpuset.cpus; cat cpuset.mems >x/cpuset.mems; echo ready; read go; "
        .. "echo 0-1 >x/cpuset.cpus; echo 0-1 >cpuset.cpus; grep Cpus_allowed_list /proc/self/status; read go"
      local b = limited.started(NARROW, options(way, { cpuset = "0", stdin = "pipe" }))
      assert(b:expect("ready", helper.PATIENCE))
      assert(b:exec({ "true" }))
      local done, err = b:update { cpuset = "1" }
      assert.same({ nil, "limit", "EBUSY" }, { done, err.kind, err.name })
      assert.same({ "0\n", "0\n", "0" }, { says(b, "cpuset.cpus"),
        helper.read(limited.folders(b).cpuset .. "/added/cpuset.cpus"), b.limits.cpuset.value })
      assert(b.stdin:write "go\n")
      assert.equal("0", b:expect("Cpus_allowed_list:%s*(%S+)", helper.PATIENCE))
    end)

    for verb, act in pairs {
      ["its timeout"] = function(b) return b:wait(helper.PATIENCE) end,
      stop = function(b) return b:stop(0.1) end,
      kill = function(b) return b:kill() and b:wait(helper.PATIENCE) end,
      close = function(b)
        local pid = b.pid
        b:close()
        return not helper.read(("/proc/%d/stat"):format(pid)) and {}
      end,
    } do
      it("ends although it has frozen itself by v1: " .. verb, function()
        if not hierarchy.own "freezer" then helper.skip "needs the freezer of cgroup v1" end
        local FREEZE = "mkdir -p /tmp/m; mount -t cgroup -o freezer none /tmp/m; echo ready; "
          .. "echo FROZEN >/tmp/m/freezer.state"
        in_time(1, true, function(seconds)
          local b = limited.started(FREEZE, options(way, { timeout = verb == "its timeout" and seconds or nil }))
          local ready = b:expect("ready", helper.PATIENCE) ~= nil
          busted.sleep(0.05)
          assert.truthy(act(b))
          return ready
        end)
      end)
    end

    it("gets no limit that it could change", function()
      local disk = limited.disk()
      if not hierarchy.own "blkio" then helper.skip "needs the controller blkio of cgroup v1" end
      local b = limited.started({ "sleep", "1000" }, options(way, { pids = 30 }))
      local done, err = b:update { io = { [disk] = { rbps = "1M" } }, pids = 20 }
      assert.same({ nil, "unsupported", 30 }, { done, err.kind, b.limits.pids.value })
    end)

    it("has limits that can be changed", function()
      local cpu = limited.first_cpu()
      local b = limited.started({ "sleep", "1000" }, options(way, { cpuset = cpu, memory = "32M" }))
      local all = helper.read "/sys/devices/system/cpu/online":gsub("\n", "")
      for _, list in ipairs { all, cpu, all } do
        assert(b:update { cpuset = list, memory = "48M" })
        assert.equal(list, (says(b, "cpuset.cpus"):gsub("\n", "")))
        assert.equal(list .. "\n", b:exec("grep Cpus_allowed_list /proc/self/status | cut -f 2").stdout)
      end
    end)
  end)
end

describe("a cgroup", function()
  -- A hierarchy in which the one above can be frozen.
  local kind = hierarchy.own "freezer" and "freezer" or ""

  it("that is frozen starts no box below it", function()
    local path, parent = hierarchy.make(kind)
    script.succeeds([[
      local folder, parent, v1 = os.getenv "FOLDER", os.getenv "ABOVE", os.getenv "KIND" == "freezer"
      local function freeze(on)
        local f <close> = assert(io.open(folder .. (v1 and "/freezer.state" or "/cgroup.freeze"), "w"))
        assert(f:write(v1 and (on and "FROZEN" or "THAWED") or (on and "1" or "0")))
      end
      local opts = { cgroup = {}, cgroup_parent = parent, timeout = 20 }
      freeze(true)
      local r, err = nsbox.run("busybox", { "true" }, opts)
      freeze(false)
      assert(not r and err.kind == "limit" and err.name == "EBUSY", tostring(err))
      assert(err.message:find "a cgroup above %S+ is frozen", err.message)
      assert(assert(nsbox.run("busybox", { "true" }, opts)).ok)
    ]], { env = { FOLDER = path, ABOVE = parent, KIND = kind } })
  end)

  it("that is gone, with the caller's below it, is not held by a descriptor", function()
    local path, parent = hierarchy.make(kind)
    local _, other = hierarchy.make(kind)
    script.succeeds([[
      local lfs = require "lfs"
      local folder = os.getenv "FOLDER"
      assert(nsbox.run("busybox", { "true" }, { cgroup = {}, cgroup_parent = os.getenv "ABOVE" }))
      for name in lfs.dir(folder) do
        if name:find "^nsbox%-" then assert(lfs.rmdir(folder .. "/" .. name)) end
      end
      assert(lfs.rmdir(folder))
      assert(nsbox.run("busybox", { "true" }, { cgroup = {}, cgroup_parent = os.getenv "OTHER" }))
      for name in lfs.dir "/proc/self/fd" do
        local target = lfs.symlinkattributes("/proc/self/fd/" .. name, "target") or ""
        assert(not target:find("(deleted)", 1, true) or not target:find(folder, 1, true), target)
      end
    ]], { env = { FOLDER = path, ABOVE = parent, OTHER = other } })
  end)

  -- cpu,cpuacct on many machines; here two names of one folder
  it("may be that of two controllers of v1", function()
    local places_for = tree.places_for
    helper.cleanup(function() tree.places_for = places_for end)
    function tree.places_for(...)
      local found = places_for(...)
      if not (found.v1.cpu and found.v1.cpu.folder) then helper.skip "needs the controller cpu of cgroup v1" end
      found.v1.cpuacct = found.v1.cpu
      return found
    end
    local r = limited.run({ "true" }, { cpus = 0.5, pids = 20 })
    assert.same({ "exit", 0.5 }, { r.reason, r.limits.cpus.value })
    assert.equal("exit", limited.run({ "true" }, { pids = 20, userns = "single" }).reason)
  end)
end)
