-- What the probe says, on this host and on hosts that lack something: those are made in namespaces of their own.
local assert = require "luassert"
local caller = require "nsbox.probe.caller"
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
    local best, deadline = math.huge, sys.clock() + helper.PATIENCE
    repeat
      local began = sys.clock()
      local _ = tostring(nsbox.probe())
      best = math.min(best, sys.clock() - began)
    until best < 0.5 or sys.clock() > deadline
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
      .. "run it outside that container, or give the container more: docker run --security-opt systempaths=unconfined"
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
      "/usr/bin/newuidmap is not there apt-get install uidmap",
      "false: the host has none: no image \"busybox\"; apt-get install busybox-static",
      "false: root has none, and needs none; nil",
    }, function(say)
      for _, path in ipairs { "/usr/bin", "/bin", "/etc" } do
        sys.mount("none", path, "tmpfs")
      end
      say(row_of "newuidmap")
      say(caller.no_newuidmap())
      say(row_of "busybox")
      say(row_of "subids")
    end)
  end)

  it("where the caller has no_new_privs says that newuidmap is of no use", function()
    local why = "no_new_privs is set for the caller: newuidmap gains nothing for it"
    process.in_userns("newuser", { ("false: %s; start the caller without it"):format(why),
      why .. " start the caller without it" }, function(say)
      assert(sys.prctl("set_no_new_privs", 1, 0, 0, 0))
      say(row_of "no_new_privs")
      say(caller.no_newuidmap())
    end)
  end)

  it("whose newuidmap lies on a nosuid mount says which", function()
    process.in_userns("newuser,newns", { "false: /usr/bin/newuidmap gains nothing: /usr/bin is mounted nosuid; "
      .. "mount -o remount,bind,suid /usr/bin" }, function(say)
      if not sys.stat "/usr/bin/newuidmap" then assert(sys.mount("none", "/usr/bin", "tmpfs")) end
      for _, name in ipairs { "newuidmap", "newgidmap" } do
        local path = "/usr/bin/" .. name
        if not sys.stat(path) then helper.write(path, "") end
      end
      assert(sys.mount("/usr/bin", "/usr/bin", nil, "bind"))
      assert(sys.mount("none", "/usr/bin", nil, "remount,bind,nosuid"))
      say(row_of "newuidmap")
    end)
  end)

  it("whose newuidmap has no rights says how it gets them, and takes either way", function()
    process.in_userns("newuser,newns", {
      "false: /usr/bin/newuidmap is neither set-user-ID nor has it cap_setuid; chmod u+s /usr/bin/newuidmap",
      "false: /usr/bin/newgidmap is neither set-user-ID nor has it cap_setgid; chmod u+s /usr/bin/newgidmap",
      "true setuid",
      "false: /usr/bin/newuidmap is neither set-user-ID nor has it cap_setuid; chmod u+s /usr/bin/newuidmap",
      "false: /usr/bin/newgidmap is neither set-user-ID nor has it cap_setgid; chmod u+s /usr/bin/newgidmap",
      "true file capabilities",
    }, function(say)
      local uids, gids = "/usr/bin/newuidmap", "/usr/bin/newgidmap"
      -- capabilities(7), linux/capability.h: version 2, and whether the effective set gets them
      local function capabilities(path, permitted, effective)
        local fd <close> = assert(sys.open(path, "rdwr"))
        local value = ("<I4I4I4I4I4"):pack(0x02000000 | effective, permitted, 0, 0, 0)
        assert(sys.fsetxattr(fd, "security.capability", value))
      end
      assert(sys.mount("none", "/usr/bin", "tmpfs"))
      helper.write(uids, "")
      helper.write(gids, "")
      say(row_of "newuidmap")
      assert(sys.chmod(uids, "4755"))
      say(row_of "newuidmap")
      assert(sys.chmod(gids, "4755"))
      say(nsbox.probe().newuidmap.ok, nsbox.probe().newuidmap.value)
      assert(sys.chmod(uids, "0755"))
      assert(sys.chmod(gids, "0755"))
      capabilities(uids, 1 << 7, 0)
      say(row_of "newuidmap")
      capabilities(uids, 1 << 7, 1)
      capabilities(gids, 1 << 7, 1)
      say(row_of "newuidmap")
      capabilities(gids, 1 << 6 | 1 << 7, 1)
      say(nsbox.probe().newuidmap.ok, nsbox.probe().newuidmap.value)
    end)
  end)

  it("in whose namespace newuidmap belongs to nobody says so", function()
    if not sys.stat "/usr/bin/newuidmap" then helper.skip "needs newuidmap" end
    process.assert_child({ "false: /usr/bin/newuidmap gains nothing: its owner has no number in the caller's user "
      .. "namespace; start the caller outside that namespace" }, "newuser", function(say)
      say(row_of "newuidmap")
    end)
  end)

  it("whose lists have no range for the caller says which, and how it gets one there", function()
    local gid = sys.getegid()
    process.assert_child({
      "false: no ranges for 1000 in /etc/subuid and /etc/subgid; "
        .. "echo 1000:100000:65536 | tee -a /etc/subuid /etc/subgid",
      "false: no ranges for ann in /etc/subuid and /etc/subgid; "
        .. "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ann",
      "false: no ranges for ann in /etc/subgid; usermod --add-subgids 300000-365535 ann",
      "true uids 200000:100000, gids 1:2 5:6",
    }, "newuser,newns", function(say)
      assert(sys.setgroups_deny "self")
      assert(sys.uid_map("self", { { 1000, helper.uid, 1 } }))
      assert(sys.gid_map("self", { { 1000, gid, 1 } }))
      assert(sys.mount("none", "/etc", "tmpfs"))
      say(row_of "subids")
      helper.write("/etc/passwd", "bob:x:1001:1001::/:\nann:x:1000:1000::/:\n")
      say(row_of "subids")
      helper.write("/etc/subuid", "ann:200000:100000\nbob:1:1\n")
      helper.write("/etc/subgid", "ann:1:0\nbob:1:1\n")
      say(row_of "subids")
      helper.write("/etc/subgid", "ann:1:2\n1000:5:6\n")
      say(nsbox.probe().subids.ok, nsbox.probe().subids.value)
    end)
  end)

  it("gives the one reason for which newuidmap is of no use, or none", function()
    local found = nsbox.probe()
    local why, fix = caller.no_newuidmap()
    for _, name in ipairs { "no_new_privs", "newuidmap", "subids" } do
      if not found[name].ok then
        assert.same({ found[name].why, found[name].fix }, { why, fix })
        return
      end
    end
    assert.is_nil(why)
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
  local user = { root = false, max_user_namespaces = 100, program = "/usr/bin/lua" }
  local function facts(more)
    return setmetatable(more, { __index = user })
  end
  local profile = "echo 'abi <abi/4.0>, profile nsbox /usr/bin/lua flags=(unconfined) { userns, }' | "
    .. "tee /etc/apparmor.d/nsbox | apparmor_parser -r (for that program; for all: "
    .. "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0)"
  local container = "run it outside that container, or give the container more: docker run --security-opt "
  local rows = {
    { "AppArmor's setting", { call = "write_file", name = "EPERM" }, facts { apparmor = 1 },
      "AppArmor takes the rights", profile },
    { "AppArmor's setting, which shows at the first use of a right", { call = "fsopen", name = "EACCES" },
      facts { apparmor = 1 }, "AppArmor takes the rights", profile },
    { "AppArmor's setting, where it denies the namespace", { call = "clone", name = "EACCES" },
      facts { apparmor = 1 }, "AppArmor forbids user namespaces to programs without a profile", profile },
    { "another security module", { call = "clone", name = "EACCES" }, user, "a security module (SELinux, AppArmor)" },
    { "a profile of AppArmor's", { call = "move_mount", name = "EACCES" }, facts { profile = "docker-default" },
      "the caller's AppArmor profile docker-default forbids it", container .. "apparmor=unconfined" },
    { "Debian's old setting", { call = "clone", name = "EPERM" }, facts { unprivileged_userns_clone = 0 },
      "kernel.unprivileged_userns_clone is 0", "sysctl -w kernel.unprivileged_userns_clone=1" },
    { "a limit of zero", { call = "clone", name = "ENOSPC" }, facts { zero_limit = "user.max_net_namespaces" },
      "user.max_net_namespaces is 0", "sysctl -w user.max_net_namespaces=10000" },
    { "ids without a number", { call = "clone", name = "EPERM" }, facts { unmapped = true },
      "has no number in its user namespace", "unshare --user --map-current-user COMMAND" },
    { "a filter that hides the call", { call = "clone", name = "ENOSYS" }, facts { seccomp = 2 },
      "hides clone3, as docker's default does", container .. "seccomp=unconfined" },
    { "a filter that forbids mounts", { call = "fsopen", name = "EPERM" }, facts { seccomp = 2 },
      "forbids fsopen", container .. "seccomp=unconfined" },
    { "a chroot that shows", { call = "clone", name = "EPERM" }, facts { chrooted = true },
      "the caller is in a chroot,", "start it outside the chroot" },
    { "a hidden /proc", { call = "fsmount", name = "EPERM" }, user, "parts of the caller's own /proc are hidden",
      container .. "systempaths=unconfined" },
    { "a caller that is not dumpable", { call = "write_file", name = "EACCES" }, user, "is not dumpable",
      "prctl(PR_SET_DUMPABLE, 1)" },
    { "a limit that is reached", { call = "clone", name = "ENOSPC" }, user, "a limit of namespaces is reached",
      "raise the one of user.max_*_namespaces that is too low (user.max_user_namespaces is 100)" },
    { "a filter of system calls", { call = "clone", name = "EPERM" }, facts { seccomp = 2 },
      "a system call filter of the caller", container .. "seccomp=unconfined (a systemd unit: RestrictNamespaces=no)" },
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
    local why, fix = reason.of({ call = "fsopen", name = "EPERM", message = "no" }, { root = true, apparmor = 1 })
    assert.same({ "fsopen: no" }, { why, fix })
  end)
end)
