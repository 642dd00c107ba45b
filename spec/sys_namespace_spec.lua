-- nsbox.sys: namespaces, id maps and mounts, each in a child with namespaces of its own. The same as root and without.
local helper = require "spec.helper"
local assert_misuse = require "spec.misuse"
local process = require "spec.process"
local sys = require "nsbox.sys"
helper.leakcheck { cold = true }

local in_userns = process.in_userns

describe("sys.unshare", function()
  it("gives a uts namespace of one's own", function()
    process.needs_kernel()
    local outside = sys.gethostname()
    in_userns("newuser", { "inner true", "example.org" }, function(say)
      assert(sys.unshare "newuts")
      assert(sys.sethostname "inner")
      assert(sys.setdomainname "example.org")
      say(sys.gethostname(), outside ~= "inner")
      say((helper.read("/proc/sys/kernel/domainname"):gsub("\n", "")))
    end)
    assert.equal(outside, sys.gethostname())
  end)

  it("takes flags of more than one kind, and says when it may not", function()
    process.needs_userns()
    process.assert_child({ "unshare: Operation not permitted" }, "newuser", function(say)
      process.become_root()
      assert(sys.capset(nil, nil, nil))
      say((select(2, sys.unshare("newuts,newipc"))))
    end)
  end)
end)

describe("sys.setns", function()
  local function joins(how)
    process.needs_userns()
    local held <close> = process.holder("newuser,newuts", function()
      process.become_root()
      assert(sys.sethostname "held")
    end)
    process.assert_child({ "held" }, sys.SIGCHLD, function(say)
      how(held.pid)
      say(sys.gethostname())
    end)
    assert.not_equal("held", sys.gethostname())
  end

  it("joins by path", function()
    joins(function(pid)
      for _, name in ipairs { "user", "uts" } do
        assert(sys.setns(("/proc/%d/ns/%s"):format(pid, name), "new" .. name))
      end
    end)
  end)

  it("joins by path, whatever the kind", function()
    joins(function(pid)
      assert(sys.setns(("/proc/%d/ns/user"):format(pid)))
      assert(sys.setns(("/proc/%d/ns/uts"):format(pid)))
    end)
  end)

  it("joins by process id, several at once", function()
    process.needs_kernel()
    joins(function(pid) assert(sys.setns(pid, "newuser,newuts")) end)
  end)

  it("joins by pidfd", function()
    process.needs_kernel()
    joins(function(pid)
      local fd <close> = assert(sys.pidfd_open(pid))
      assert(sys.setns(fd, sys.CLONE_NEWUSER | sys.CLONE_NEWUTS))
    end)
  end)

  it("joins by descriptor, and by file of the io library", function()
    joins(function(pid)
      local fd <close> = assert(sys.open(("/proc/%d/ns/user"):format(pid), "rdonly"))
      assert(sys.setns(fd))
      local file <close> = assert(io.open(("/proc/%d/ns/uts"):format(pid)))
      assert(sys.setns(file, "newuts"))
    end)
  end)

  it("joins by an object that lends its pidfd", function()
    process.needs_kernel()
    joins(function(pid)
      local fd <close> = assert(sys.pidfd_open(pid))
      assert(sys.setns({ pidfd = function() return fd end }, "newuser,newuts"))
    end)
  end)

  it("answers errors that name what was asked for", function()
    process.needs_kernel()
    assert.same({ nil, "setns /proc/self/ns/nope: No such file or directory", sys.ENOENT },
      { sys.setns "/proc/self/ns/nope" })
    assert.same({ nil, "setns /proc/self/ns/uts: Invalid argument", sys.EINVAL },
      { sys.setns("/proc/self/ns/uts", "newnet") })
    assert.same({ nil, "setns 99999999: No such process", sys.ESRCH }, { sys.setns(99999999, "newnet") })
  end)

  it("refuses misuse at the caller's line", function()
    assert_misuse("the namespaces must be named", sys.setns, 1)
    assert_misuse("unknown flag 'uts' of CLONE_*", sys.setns, "/proc/self/ns/uts", "uts")
    assert_misuse("not nil", sys.setns)
    assert_misuse("not boolean", sys.setns, true)
    assert_misuse("a process id expected, not -1", sys.setns, -1, "newnet")
    assert_misuse("a descriptor expected", sys.setns, {}, "newnet")
  end)
end)

describe("sys.uid_map and sys.gid_map", function()
  it("make the caller root inside", function()
    local map = ("0 %d 1"):format(sys.geteuid())
    in_userns("newuser", { "0 0 0 0", map, "deny" }, function(say)
      say(sys.getuid(), sys.geteuid(), sys.getgid(), sys.getegid())
      say((helper.read("/proc/self/uid_map"):gsub("%s+", " "):match "^ (.*) $"))
      say((helper.read("/proc/self/setgroups"):gsub("\n", "")))
    end)
  end)

  it("are written by the parent, too", function()
    process.needs_userns()
    local held <close> = process.holder("newuser", function() end)
    assert(sys.setgroups_deny(held.pid))
    assert(sys.uid_map(held.pid, { { 5, sys.geteuid(), 1 } }))
    assert(sys.gid_map(held.pid, { { 6, sys.getegid(), 1 } }))
    assert.matches("^%s*5%s+%d+%s+1\n$", helper.read(("/proc/%d/uid_map"):format(held.pid)))
    assert.same({ nil, ("uid_map %d: Operation not permitted"):format(held.pid), sys.EPERM },
      { sys.uid_map(held.pid, { { 5, sys.geteuid(), 1 } }) }) -- once only
  end)

  it("take many rows as root", function()
    process.needs_root()
    local held <close> = process.holder("newuser", function() end)
    local rows, lines = {}, {}
    for i = 1, 100 do
      rows[i] = { i * 3, i * 2, 1 + i % 2 }
      lines[i] = ("%d %d %d"):format(i * 3, i * 2, 1 + i % 2)
    end
    assert(sys.uid_map(held.pid, rows))
    local seen = {}
    for a, b, c in helper.read(("/proc/%d/uid_map"):format(held.pid)):gmatch "(%d+)%s+(%d+)%s+(%d+)\n" do
      seen[#seen + 1] = a .. " " .. b .. " " .. c
    end
    assert.same(lines, seen)
  end)

  it("answer errors that name call and process", function()
    assert.same({ nil, "uid_map 99999999: No such file or directory", sys.ENOENT },
      { sys.uid_map(99999999, { { 0, 0, 1 } }) })
    assert.same({ nil, "setgroups_deny 99999999: No such file or directory", sys.ENOENT },
      { sys.setgroups_deny(99999999) })
    assert.equal("gid_map 1: ", select(2, sys.gid_map(1, { { 0, 0, 1 } })):match "^gid_map 1: ")
  end)

  local too_many = {}
  for i = 1, 341 do too_many[i] = { i, i, 1 } end
  local misused = {
    { "no rows", {}, "rows {inside, outside, count} expected" },
    { "a number", 5, "rows {inside, outside, count} expected" },
    { "one row that is not in a list", { 0, 1000, 1 }, "row 1: {inside, outside, count} expected" },
    { "a row of two", { { 0, 1000 } }, "row 1: {inside, outside, count} expected" },
    { "strings", { { "0", 1000, 1 } }, "row 1: inside: an integer" },
    { "floats", { { 0, 1000.5, 1 } }, "row 1: outside: an integer" },
    { "negative ids", { { 0, -1, 1 } }, "row 1: outside: an integer" },
    { "a count of 0", { { 0, 0, 0 } }, "row 1: count: an integer from 1" },
    { "ids beyond the last", { { 0, 4294967290, 6 } }, "row 1: reaches beyond the last id, 4294967294" },
    { "inner ranges that overlap", { { 4, 10, 1 }, { 0, 20, 5 } }, "rows 1 and 2 overlap inside" },
    { "outer ranges that overlap", { { 0, 10, 5 }, { 9, 50, 2 }, { 20, 14, 3 } }, "rows 1 and 3 overlap outside" },
    { "too many rows", too_many, "at most 340 rows, not 341" },
  }
  for _, row in ipairs(misused) do
    it("refuse " .. row[1], function()
      assert_misuse("uid_map: " .. row[3], sys.uid_map, "self", row[2])
      assert_misuse("gid_map: " .. row[3], sys.gid_map, "self", row[2])
    end)
  end

  it("refuse what is no process", function()
    assert_misuse("a process id or \"self\" expected, not me", sys.uid_map, "me", { { 0, 0, 1 } })
    assert_misuse("a process id expected, not 0", sys.uid_map, 0, { { 0, 0, 1 } })
    assert_misuse("a process id or \"self\" expected, not nil", sys.setgroups_deny)
  end)

  it("take the identity map's full range", function()
    process.needs_root()
    local held <close> = process.holder("newuser", function() end)
    assert(sys.uid_map(held.pid, { { 0, 0, 4294967295 } }))
  end)
end)

describe("mounts of one's own", function()
  local function inside(expected, fn)
    process.needs_kernel()
    local dir = helper.tmpdir()
    in_userns("newuser,newns", expected, function(say)
      assert(sys.mount("none", "/", nil, "rec,private"))
      fn(say, dir)
    end)
    assert.same({}, sys.readdir(dir)) -- nothing of it outside
  end

  it("mount, remount read-only, umount2", function()
    inside({ "file", "Read-only file system", "" }, function(say, dir)
      assert(sys.mount("none", dir, "tmpfs", "nosuid,nodev", "size=1m,mode=0700"))
      local fd = assert(sys.open(dir .. "/file", "wronly,creat", "0600"))
      fd:close()
      say(table.concat(sys.readdir(dir), " "))
      assert(sys.mount("none", dir, nil, "remount,bind,rdonly"))
      say((select(2, sys.mkdir(dir .. "/x", "0755")):gsub("^.*: ", "")))
      assert(sys.umount2(dir, "detach"))
      say(table.concat(sys.readdir(dir), " "))
    end)
  end)

  it("pivot_root leaves nothing of the old root", function()
    inside({ "/", "inner,old", "", "nil" }, function(say, dir)
      assert(sys.mount("none", dir, "tmpfs"))
      assert(sys.mkdir(dir .. "/old", "0700"))
      assert(sys.mkdir(dir .. "/inner", "0700"))
      assert(sys.pivot_root(dir, dir .. "/old"))
      assert(sys.chdir "/")
      say(sys.getcwd())
      say(table.concat(sys.readdir "/", ","))
      assert(sys.umount2("/old", "detach"))
      say(table.concat(sys.readdir "/old", ","))
      say((sys.stat "/proc"))
    end)
  end)

  it("fsopen, fsconfig, fsmount, move_mount", function()
    inside({ "dir 0751", "file" }, function(say, dir)
      local fs <close> = assert(sys.fsopen "tmpfs")
      assert(sys.fsconfig(fs, "set_string", "mode", "0751"))
      assert(sys.fsconfig(fs, "cmd_create"))
      local mount <close> = assert(sys.fsmount(fs, nil, "nosuid,nodev"))
      assert(sys.move_mount(mount, "", "cwd", dir, "f_empty_path"))
      local stat = sys.stat(dir)
      say(stat.type, stat.mode)
      assert(sys.openat(mount, "file", "wronly,creat", "0600")):close()
      say(table.concat(sys.readdir(dir), " "))
    end)
  end)

  it("open_tree, mount_setattr, move_mount", function()
    inside({ "Read-only file system", "below" }, function(say, dir)
      assert(sys.mount("none", dir, "tmpfs"))
      for _, name in ipairs { "from", "from/below", "to" } do assert(sys.mkdir(dir .. "/" .. name, "0755")) end
      local tree <close> = assert(sys.open_tree("cwd", dir .. "/from", "clone,recursive"))
      assert(sys.mount_setattr(tree, "", "empty_path,recursive", "rdonly,nosuid"))
      assert(sys.move_mount(tree, "", "cwd", dir .. "/to", "f_empty_path"))
      say((select(2, sys.mkdir(dir .. "/to/x", "0755")):gsub("^.*: ", "")))
      assert(sys.mkdir(dir .. "/from/x", "0755"))
      assert(sys.rmdir(dir .. "/from/x"))
      say(table.concat(sys.readdir(dir .. "/to"), " "))
    end)
  end)

  it("chroot changes what / is", function()
    inside({ "sub" }, function(say, dir)
      assert(sys.mount("none", dir, "tmpfs"))
      assert(sys.mkdir(dir .. "/sub", "0700"))
      assert(sys.chroot(dir))
      assert(sys.chdir "/")
      say(table.concat(sys.readdir "/", " "))
    end)
  end)

  it("are refused without the right, with the path in the message", function()
    process.needs_userns()
    process.assert_child({ "mount /: Operation not permitted", "pivot_root /tmp: Operation not permitted" }, "newuser",
      function(say)
        process.become_root() -- of a user namespace that does not own the mounts
        say((select(2, sys.mount("none", "/", "tmpfs"))))
        say((select(2, sys.pivot_root("/tmp", "/tmp"))))
      end)
  end)
end)
