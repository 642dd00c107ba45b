-- Each namespace of a box: its own, shared with the caller, or somebody else's, and what is refused.
local helper = require "spec.helper"
local lfs = require "lfs"
local nsbox = require "nsbox"
local sys = require "nsbox.sys"
local tree = require "nsbox.cgroup.tree"
helper.leakcheck { outside = true }

local box = require "spec.box"
setup(box.warm_shared)
local process = require "spec.process"
local says, fails = box.says, box.fails

local EPERM, EINVAL, ENOENT = 1, 22, 2

local proc_name = setmetatable({ mount = "mnt" }, { __index = function(_, kind) return kind end })

local function own(kind, pid)
  return lfs.symlinkattributes(("/proc/%s/ns/%s"):format(pid or "self", proc_name[kind]), "target")
end

local function seen(kind, opts, image)
  local r = assert(nsbox.run(image or "busybox", "readlink /proc/self/ns/" .. proc_name[kind], opts))
  assert.equal("", r.stderr)
  return (r.stdout:gsub("\n$", ""))
end

local function needs_root() if not helper.root() then helper.skip "needs root" end end

local function needs_user() if helper.root() then helper.skip "needs an unprivileged caller" end end

local kinds = { "uts", "ipc", "net", "cgroup", "pid", "time", "mount", "user" }

-- The notes of a box that shares the caller's pids. Nothing outlives one with a cgroup, as it has with an id of the
-- caller's, where the caller can make one. callers: whether it has such an id.
local function sharing(callers, ...)
  local found, can = tree.places_for(), false
  for _, some in ipairs { found.v1, found.named, { found.v2 } } do
    for _, place in pairs(some) do can = can or (place.folder or place.bare) ~= nil end
  end
  if callers and can then return { ... } end
  return { "namespaces.pid", ... }
end

describe("a namespace that is switched off", function()
  for _, kind in ipairs { "uts", "ipc", "net", "cgroup", "pid", "time" } do
    it("is the caller's, and no other is: " .. kind, function()
      local opts = { namespaces = { [kind] = false } }
      for _, each in ipairs(kinds) do
        local shared = each == kind or each == "time"
        assert.equal(shared, own(each) == seen(each, opts), each)
      end
    end)
  end

  it("is the caller's as root: user", function()
    needs_root()
    assert.equal(own "user", seen("user", { namespaces = { user = false } }))
    local status = says({ "cat", "/proc/self/status" }, { namespaces = { user = false } })
    assert.equal("00000000a80425fb", status:match "\nCapEff:%s*(%x+)")
  end)

  it("leaves the box under the keeper's eye: without a pid namespace it has the caller's numbers", function()
    local r = assert(nsbox.run("busybox", "echo $$", { namespaces = { pid = false } }))
    assert.is_true(tonumber(r.stdout) > 1)
    assert.same(sharing(not helper.root(), "/proc of the host"), box.notes(r))
    assert.same({}, box.notes(assert(nsbox.run("busybox", "echo $$"))))
  end)

  it("shows the host's devices with network = host", function()
    local opts = { network = "host" }
    assert.equal(own "net", seen("net", opts))
    assert.same(helper.names "/sys/class/net", box.lines(says("ls /sys/class/net", opts)))
  end)

  it("shows the host's name without a uts namespace, and cannot change it", function()
    local name = helper.read "/proc/sys/kernel/hostname"
    local r = assert(nsbox.run("busybox", "hostname; hostname changed", { namespaces = { uts = false } }))
    assert.equal(name, r.stdout)
    assert.matches("Operation not permitted", r.stderr)
    assert.equal(name, helper.read "/proc/sys/kernel/hostname")
  end)

  it("can be the mount namespace with the host as image: its files, its root, the caller's folder", function()
    local path = helper.tmpdir() .. "/file"
    local opts = { namespaces = { mount = false } }
    local r = assert(nsbox.run("host", "pwd; echo written >" .. helper.quote(path) .. "; echo $$", opts))
    assert.equal(lfs.currentdir() .. "\n1\n", r.stdout)
    assert.equal("written\n", helper.read(path))
    assert.equal(own "mount", seen("mount", opts, "host"))
  end)

  it("can be every one, as root: a process like any other, without the capabilities that a box lacks", function()
    needs_root()
    local opts = { namespaces = {} }
    for _, kind in ipairs(kinds) do opts.namespaces[kind] = false end
    for _, kind in ipairs(kinds) do assert.equal(own(kind), seen(kind, opts, "host")) end
    local r = assert(nsbox.run("host", { "cat", "/proc/self/status" }, opts))
    assert.equal("00000000a80425fb", r.stdout:match "\nCapBnd:%s*(%x+)")
  end)
end)

-- What a Result notes: which part of the box, and whether the reason names the host.
local function notes(opts, image)
  return box.notes(assert(nsbox.run(image or "busybox", { "true" }, opts)))
end

describe("a box that is shown the host's /proc or /sys says so:", function()
  local function is_shown(opts, path)
    return tostring(nsbox.explain("busybox", { "true" }, opts)):find("the host's " .. path .. ":", 1, true) ~= nil
  end

  it("in no box with namespaces of its own", function()
    assert.same({}, notes())
    assert.same({}, notes { namespaces = { uts = false, ipc = false, cgroup = false } })
  end)

  it("/proc, without a pid namespace of its own", function()
    local opts = { namespaces = { pid = false } }
    assert.is_true(is_shown(opts, "/proc"))
    assert.same(sharing(not helper.root(), "/proc of the host"), notes(opts))
  end)

  it("/sys, without a net namespace of its own", function()
    assert.is_true(is_shown({ network = "host" }, "/sys"))
    assert.same({ "/sys of the host" }, notes { network = "host" })
    assert.same({ "/sys of the host" }, notes { namespaces = { net = false } })
  end)

  it("both, in somebody else's namespaces", function()
    needs_root()
    local held <close> = process.holder("newpid,newnet", function() end)
    assert.same({ "namespaces.pid", "/proc of the host", "/sys of the host" },
      notes { namespaces = { pid = held.pid, net = held.pid } })
  end)

  it("neither, where the rights suffice for fresh ones", function()
    needs_root()
    local opts = { namespaces = { user = false, pid = false, net = false } }
    assert.is_false(is_shown(opts, "/proc"))
    assert.same(sharing(true), notes(opts))
  end)

  it("neither, on the host's own mounts: nothing is put there", function()
    assert.same({}, notes({ namespaces = { mount = false, net = false } }, "host"))
  end)
end)

describe("a time namespace", function()
  local function clocks(opts)
    local line = says({ "cat", "/proc/uptime" }, opts)
    return tonumber(line:match "^(%S+)")
  end

  it("is its own only when it is asked for", function()
    assert.equal(own "time", seen "time")
    assert.not_equal(own "time", seen("time", { namespaces = { time = true } }))
  end)

  local offsets = {
    { { boottime = 100000, monotonic = -5 }, "-5 0", "100000 0" },
    { { boottime = 1.5 }, "0 0", "1 500000000" },
    { { monotonic = -0.25 }, "-1 750000000", "0 0" },
    { { boottime = 7 * 86400 }, "0 0", "604800 0" },
    { true, "0 0", "0 0" },
  }
  for _, row in ipairs(offsets) do
    it(("is off by monotonic %s, boottime %s"):format(row[2], row[3]), function()
      local text = says({ "cat", "/proc/self/timens_offsets" }, { namespaces = { time = row[1] } })
      local found = {}
      for clock, secs, nanosecs in text:gmatch "(%a+)%s+(%-?%d+)%s+(%d+)" do found[clock] = secs .. " " .. nanosecs end
      assert.same({ monotonic = row[2], boottime = row[3] }, found)
    end)
  end

  it("shows in the uptime, and nowhere on the host", function()
    local before = clocks()
    local inside = clocks { namespaces = { time = { boottime = 1000000 } } }
    assert.is_true(inside >= before + 1000000 and inside < before + 1000060)
    assert.is_true(clocks() < before + 60)
  end)

  -- Before Linux 6.3 exec alone leaves the program on the host's clocks.
  it("is that of the program as of what it starts", function()
    local text = says("read up rest </proc/uptime; echo $up; cat /proc/uptime; true",
      { namespaces = { time = { boottime = 1000000 } } })
    local program, child = text:match "^(%S+)\n(%S+)"
    assert.is_true(tonumber(program) >= 1000000 and tonumber(child) >= tonumber(program), text)
  end)

  it("cannot begin before the host's zero: the step is named", function()
    local err = fails("setup", 34, "busybox", { "true" }, { namespaces = { time = { boottime = -1e9 } } })
    assert.same({ "write_file", "ERANGE" }, { err.call, err.name })
  end)
end)

describe("a namespace that is joined", function()
  local flags = { uts = "newuts", ipc = "newipc", net = "newnet", cgroup = "newcgroup" }

  -- The three ways to name it; a Lua file and an nsbox descriptor are both open files.
  local forms = {
    { "by pid", function(_, pid) return pid, function() end end },
    { "by path", function(kind, pid) return ("/proc/%d/ns/%s"):format(pid, proc_name[kind]), function() end end },
    { "by an open file", function(kind, pid)
      local file = assert(io.open(("/proc/%d/ns/%s"):format(pid, proc_name[kind])))
      return file, function() file:close() end
    end },
    { "by a descriptor", function(kind, pid)
      local fd = assert(sys.open(("/proc/%d/ns/%s"):format(pid, proc_name[kind]), "rdonly"))
      return fd, function() fd:close() end
    end },
  }
  for _, kind in ipairs { "uts", "ipc", "net", "cgroup" } do
    for _, form in ipairs(forms) do
      it(("is that of another process, and no other is: %s %s"):format(kind, form[1]), function()
        needs_root()
        local held <close> = process.holder(flags[kind], function() end)
        local given, close = form[2](kind, held.pid)
        local found = seen(kind, { namespaces = { [kind] = given } })
        close()
        assert.equal(own(kind, held.pid), found)
        assert.not_equal(own(kind), found)
      end)
    end
  end

  it("has what that process made there: its name, its devices", function()
    needs_root()
    local held <close> = process.holder("newuts,newnet", function()
      assert(sys.sethostname "holder")
      assert(os.execute "ip link set lo mtu 1234")
    end)
    local script = "hostname; ip -o link | grep -o '^.*mtu [0-9]*'"
    local opts = { namespaces = { uts = held.pid, net = held.pid } }
    assert.equal("holder\n1: lo: <LOOPBACK> mtu 1234\n", says(script, opts))
    opts = { hostname = "own", network = ("/proc/%d/ns/net"):format(held.pid) }
    assert.equal("own\n1: lo: <LOOPBACK> mtu 1234\n", says(script, opts))
  end)

  it("can be the pid namespace: the box is one process more in it", function()
    needs_root()
    local held <close> = process.holder("newpid", function() end)
    local opts = { namespaces = { pid = held.pid } }
    assert.equal(own("pid", held.pid), seen("pid", opts))
    local r = assert(nsbox.run("busybox", "echo $$", opts))
    assert.is_true(tonumber(r.stdout) > 1 and tonumber(r.stdout) < 20)
    assert.equal("namespaces.pid", r.notes[1].what)
  end)

  it("can be the mount namespace, with the host as image", function()
    needs_root()
    local at = helper.tmpdir()
    local held <close> = process.holder("newns", function()
      assert(sys.mount(nil, "/", nil, "rec,private"))
      assert(sys.mount("spec", at, "tmpfs", "noexec"))
      helper.write(at .. "/program", "#!/bin/sh\necho ran\n")
      assert(sys.chmod(at .. "/program", "0755"))
    end)
    local opts = { namespaces = { mount = held.pid } }
    local r = assert(nsbox.run("host", "ls " .. helper.quote(at), opts))
    assert.equal("program\n", r.stdout)
    assert.same({}, helper.names(at))
    -- and where that is mounted noexec, nothing runs
    local err = fails("exec", 13, "host", { at .. "/program" }, opts)
    assert.matches("Permission denied", tostring(err))
  end)

  it("can be the user namespace: its ids are the box's", function()
    needs_root()
    local held <close> = process.holder("newuser", function() end)
    assert(sys.uid_map(held.pid, { { 0, 0, 1 }, { 1, 100001, 999 } }))
    assert(sys.gid_map(held.pid, { { 0, 0, 1 }, { 1, 100001, 999 } }))
    local opts = { namespaces = { user = held.pid } }
    assert.equal(own("user", held.pid), seen("user", opts))
    assert.matches("\n%s*1%s+100001%s+999\n", says({ "cat", "/proc/self/uid_map" }, opts))
  end)

  it("can be a user namespace with a single id: the terminal's group is not needed", function()
    needs_root()
    local held <close> = process.holder("newuser", function() end)
    assert(sys.uid_map(held.pid, { { 0, 0, 1 } }))
    assert(sys.gid_map(held.pid, { { 0, 0, 1 } }))
    assert.equal("root\n", says({ "id", "-un" }, { namespaces = { user = held.pid } }))
  end)

  it("can be the time namespace: its clocks are the box's", function()
    needs_root()
    local pid = assert(sys.clone("newpid", function()
      assert(sys.unshare "newtime")
      assert(sys.write_file("cwd", "/proc/self/timens_offsets", "monotonic 77 0\n"))
      assert(sys.setns(assert(sys.open("/proc/self/ns/time_for_children", "rdonly")), "newtime"))
      sys.execve("/bin/sleep", { "sleep", "60" })
    end))
    helper.cleanup(function()
      sys.kill(pid, "KILL")
      sys.waitid(pid)
    end)
    local deadline = sys.clock() + helper.PATIENCE
    while own("time", pid) == own "time" and sys.clock() < deadline do sys.nanosleep(0.01) end
    assert.not_equal(own "time", own("time", pid))
    assert.equal(own("time", pid), seen("time", { namespaces = { time = pid } }))
  end)
end)

describe("a combination that cannot be is refused, and says why:", function()
  it("no mount namespace, and an image that is not the host", function()
    local err = fails("unsupported", nil, "busybox", { "true" }, { namespaces = { mount = false } })
    assert.matches("no other root than the caller's", err.message)
    assert.matches('use the image "host"', err.hint)
  end)

  it("without root, no user namespace", function()
    needs_user()
    local err = fails("unsupported", nil, "busybox", { "true" }, { namespaces = { user = false } })
    assert.matches("without root, a box needs a user namespace of its own", err.message)
  end)

  it("without root, somebody else's pid namespace", function()
    needs_user()
    local held <close> = process.holder("newuser,newpid", function() end)
    fails("unsupported", nil, "busybox", { "true" }, { namespaces = { pid = held.pid } })
  end)

  for _, kind in ipairs { "uts", "ipc", "net", "cgroup" } do
    it("without root, a namespace over which the box's user namespace has no right: " .. kind, function()
      needs_user()
      local held <close> = process.holder("newuser,new" .. kind, process.become_root)
      local err = fails("setup", EPERM, "busybox", { "true" }, { namespaces = { [kind] = held.pid } })
      assert.equal("setns", err.call)
      assert.matches("join the %a+ namespace", err.message)
    end)
  end

  local foreign = {
    { "no id yet", "user namespace %a+ no %a+" }, -- mount_setattr says so from Linux 6.3 on, before setresgid
    { "no root", "maps no %a+ to 0: a box needs its root", { { 1000, 0, 1 } } },
    { "no group of root's", "maps no group to 0", { { 0, 0, 1 } }, { { 1000, 0, 1 } } },
  }
  for _, row in ipairs(foreign) do
    it("a user namespace to join that has " .. row[1], function()
      needs_root()
      local held <close> = process.holder("newuser", function() end)
      if row[3] then
        assert(sys.uid_map(held.pid, row[3]))
        assert(sys.gid_map(held.pid, row[4] or row[3]))
      end
      local file = assert(io.open(("/proc/%d/ns/user"):format(held.pid)))
      for _, given in ipairs { held.pid, file } do
        local err = fails("unsupported", EINVAL, "busybox", { "true" }, { namespaces = { user = given } })
        assert.matches(row[2], err.message)
      end
      file:close()
    end)
  end

  local wrong = {
    { "a path that is not there", "/nonexistent/uts", ENOENT, "open" },
    { "a process that is not there", 4194304, ENOENT, "open" },
    { "a namespace of another kind", "/proc/self/ns/net", EINVAL, "setns" },
    { "a file that is no namespace", "/proc/self/status", EINVAL, "setns" },
  }
  for _, row in ipairs(wrong) do
    it(row[1], function()
      local err = fails("setup", row[3], "busybox", { "true" }, { namespaces = { uts = row[2] } })
      assert.equal(row[4], err.call)
    end)
  end
end)
