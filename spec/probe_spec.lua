-- What the probe says, on this host and on hosts that lack something: those are made in namespaces of their own.
local assert = require "luassert"
local helper = require "spec.helper"
local nsbox = require "nsbox"
local probe = require "nsbox.probe"
local process = require "spec.process"
local reason = require "nsbox.probe.reason"
local sys = nsbox.sys

helper.leakcheck { cold = true } -- a trial leaves nothing, not even a keeper

local features = { "root", "own_program", "userns", "overlay", "tmpfs_xattr", "proc", "net", "time", "keeper", "pidfd",
  "pidfd_info",
  "mount_api", "idmap", "exec_clocks", "seccomp", "landlock", "cgroup", "apparmor", "unprivileged_userns_clone",
  "max_user_namespaces", "no_new_privs", "subids", "newuidmap", "threads", "busybox" }

describe("nsbox.probe", function()
  it("has a row for each feature: ok, and a reason where it is not", function()
    local found = nsbox.probe()
    for _, name in ipairs(features) do
      local row = found[name]
      assert.equal("boolean", type(row and row.ok), name)
      for key, value in pairs(row) do
        assert.is_truthy(({ ok = true, value = true, why = true, fix = true, where = true })[key], key)
        assert.is_true(key == "ok" or key == "value" or key == "where" or type(value) == "string", name .. "." .. key)
      end
      assert.is_true(row.ok or row.why ~= nil, name .. " is not ok and has no reason")
      assert.is_true(not row.ok or row.fix == nil, name .. " is ok and has a fix")
    end
    assert.same(features, probe.names)
  end)

  it("says who asked, and of what kernel", function()
    local found = nsbox.probe()
    assert.same({ helper.uid, sys.getegid() }, { found.euid, found.egid })
    assert.equal(found.kernel .. "\n", helper.read "/proc/sys/kernel/osrelease")
    assert.equal("string", type(found.arch))
  end)

  it("knows nothing of what there is not", function()
    assert.is_nil(nsbox.probe().no_such_feature)
  end)

  it("lists all of it", function()
    local seen = {}
    for name in pairs(nsbox.probe()) do
      seen[name] = true
    end
    for _, name in ipairs(features) do
      assert.is_true(seen[name], name)
    end
    assert.is_true(seen.kernel and seen.euid and seen.egid and seen.arch)
  end)

  it("is a text in columns: name, yes or no, value or reason and fix", function()
    local text = tostring(nsbox.probe())
    local n, column = 0, nil
    for line in text:gmatch "[^\n]+" do
      local name, at, answer = line:match "^([%l_]+) +()(%l+)"
      if name then
        n = n + 1
        assert.equal(features[n], name)
        assert.is_true(answer == "yes" or answer == "no", line)
        column = column or at
        assert.equal(column, at)
        assert.is_nil(line:find "%s$")
      end
    end
    assert.equal(#features, n)
  end)

  it("looks at a feature when it is asked for it, and once", function()
    local trial = require "nsbox.probe.trial"
    local real, n = trial.net, 0
    trial.net = function()
      n = n + 1
      return { ok = true }
    end
    finally(function() trial.net = real end)
    local found = nsbox.probe()
    assert.equal(0, n)
    assert.is_true(found.net.ok and found.net.ok)
    assert.equal(1, n)
  end)

  -- Measured: 6 ms; 130 ms in a virtual machine without help from the processor.
  it("takes a moment for all of it #timing", function()
    local best = math.huge
    for _ = 1, 5 do
      local began = sys.clock()
      local _ = tostring(nsbox.probe())
      best = math.min(best, sys.clock() - began)
    end
    assert.is_true(best < 0.5, best .. " s")
  end)

  it("gives host(), cheaply, what a plan needs", function()
    local host = probe.host()
    assert.same({ helper.uid, sys.getegid() }, { host.euid, host.egid })
    for _, name in ipairs { "tmpfs_xattr", "root", "exec_clocks" } do
      assert.equal("boolean", type(host[name].ok))
    end
  end)
end)

-- ---- hosts that lack something ----

local function row_of(name)
  local row = nsbox.probe()[name]
  return ("%s: %s; %s"):format(row.ok, row.why, row.fix)
end

describe("the probe on a host", function()
  before_each(process.needs_userns)

  it("that allows no user namespaces names the setting", function()
    local off = "false: user.max_user_namespaces is 0; sysctl -w user.max_user_namespaces=10000"
    process.in_userns("newuser", { off, off, "false: nobody may make user namespaces; "
      .. "sysctl -w user.max_user_namespaces=10000", "true: nil; nil" }, function(say)
      assert(sys.write_file("cwd", "/proc/sys/user/max_user_namespaces", "0"))
      say(row_of "userns")
      say(row_of "overlay")
      say(row_of "max_user_namespaces")
      say(row_of "mount_api")
    end)
  end)

  it("whose proc is masked says so, and that all else works", function()
    local masked = "false: parts of the caller's own /proc are hidden, so the kernel gives no fresh one; "
      .. "run on the host's /proc, not inside a container that masks it"
    process.in_userns("newuser,newns,newpid", { masked, "true: nil; nil", "true: nil; nil" }, function(say)
      assert(sys.mount("/dev/null", "/proc/interrupts", nil, "bind"))
      say(row_of "proc")
      say(row_of "userns")
      say(row_of "overlay")
    end)
  end)

  it("without /proc and /sys never raises", function()
    process.in_userns("newuser,newns", { tostring(#features), "false: no cgroup file system is mounted; "
      .. "mount -t cgroup2 cgroup2 /sys/fs/cgroup" }, function(say)
      assert(sys.mount("none", "/proc", "tmpfs"))
      assert(sys.mount("none", "/sys", "tmpfs"))
      local n = 0
      local found = nsbox.probe()
      for _, name in ipairs(features) do
        n = n + (type(found[name].ok) == "boolean" and 1 or 0)
      end
      local _ = tostring(found)
      say(n)
      say(row_of "cgroup")
    end)
  end)

  it("without users, ranges and programs says what to do", function()
    process.in_userns("newuser,newns", {
      "false: /usr/bin/newuidmap is not there; apt-get install uidmap",
      "false: the host has none: no image \"busybox\"; apt-get install busybox-static",
      "false: root has none, and needs none; nil",
    }, function(say)
      for _, path in ipairs { "/usr/bin", "/bin", "/etc" } do
        sys.mount("none", path, "tmpfs")
      end
      say(row_of "newuidmap")
      say(row_of "busybox")
      say(row_of "subids")
    end)
  end)

  it("where the caller has no_new_privs says that newuidmap is of no use", function()
    process.in_userns("newuser", { "false: set for the caller: newuidmap gains nothing for it; "
      .. "start the caller without it" }, function(say)
      assert(sys.prctl("set_no_new_privs", 1, 0, 0, 0))
      say(row_of "no_new_privs")
    end)
  end)

  it("whose busybox needs libraries says so", function()
    local dynamic = helper.read "/bin/cat" -- like every program of a distribution
    local path = helper.tmpdir() .. "/busybox"
    helper.write(path, dynamic)
    local programs = require("nsbox.image.busybox").programs
    local real = table.move(programs, 1, #programs, 1, {})
    programs[1], programs[2] = path, nil
    finally(function() table.move(real, 1, #real, 1, programs) end)
    assert.equal(("false: %s needs libraries; apt-get install busybox-static"):format(path), row_of "busybox")
    helper.write(path, "\127ELF and no more")
    assert.equal(("false: %s needs libraries; apt-get install busybox-static"):format(path), row_of "busybox")
  end)
end)

-- ---- reasons ----

describe("the reason of a failed trial", function()
  local user = { euid = 1000, max_user_namespaces = 100 }
  local function facts(more)
    return setmetatable(more, { __index = user })
  end
  local rows = {
    { "AppArmor's setting", { call = "write_file", name = "EPERM" }, facts { apparmor = 1 },
      "AppArmor takes the rights", "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0" },
    { "AppArmor's setting, which shows at the first use of a right", { call = "fsopen", name = "EACCES" },
      facts { apparmor = 1 }, "AppArmor takes the rights", "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0" },
    { "Debian's old setting", { call = "clone", name = "EPERM" }, facts { unprivileged_userns_clone = 0 },
      "kernel.unprivileged_userns_clone is 0", "sysctl -w kernel.unprivileged_userns_clone=1" },
    { "a limit of zero", { call = "clone", name = "ENOSPC" }, facts { max_user_namespaces = 0 },
      "user.max_user_namespaces is 0", "sysctl -w user.max_user_namespaces=10000" },
    { "a limit that is reached", { call = "clone", name = "ENOSPC" }, user, "a limit of namespaces is reached",
      "raise the one of user.max_*_namespaces that is too low (user.max_user_namespaces is 100)" },
    { "a filter of system calls", { call = "clone", name = "EPERM" }, facts { seccomp = 2 },
      "a system call filter of the caller", "run it outside that container, or give the container more: "
        .. "docker run --security-opt seccomp=unconfined" },
    { "a chroot", { call = "clone", name = "EPERM" }, user, "the caller is in a chroot" },
    { "a kernel without", { call = "clone", name = "EINVAL" }, user, "this kernel is built without such namespaces" },
    { "no overlay", { call = "fsopen", name = "ENODEV" }, user, "no overlay file system", "modprobe overlay" },
    { "programs in memory that are forbidden", { call = "memfd_create", name = "EACCES" }, user,
      "vm.memfd_noexec is 2", "sysctl -w vm.memfd_noexec=1" },
    { "an old tmpfs", { call = "fsetxattr", name = "EOPNOTSUPP" }, user, "user xattrs on tmpfs came with Linux 6.6" },
    { "anything else", { call = "mkdirat", name = "EROFS", message = "Read-only file system (a place)" }, user,
      "mkdirat: Read-only file system (a place)" },
    { "no launch at all", { message = "plan: too many slots" }, user, "set-up: plan: too many slots" },
  }
  for _, row in ipairs(rows) do
    it("is told of: " .. row[1], function()
      local why, fix = reason.of(row[2], row[3])
      assert.is_truthy(why:find(row[4], 1, true), why)
      assert.equal(row[5], fix)
    end)
  end

  it("is not AppArmor for root, whom it does not restrict", function()
    local why, fix = reason.of({ call = "fsopen", name = "EPERM", message = "no" }, { euid = 0, apparmor = 1 })
    assert.same({ "fsopen: no" }, { why, fix })
  end)
end)
