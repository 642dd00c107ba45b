-- nsbox.sys: files, folders, pipes, time and what the process is told about itself.
local helper = require "spec.helper"
local assert_misuse = require "spec.misuse"
local process = require "spec.process"
local sys = require "nsbox.sys"
local lfs = require "lfs"
helper.leakcheck { cold = true }

local function words(text)
  local list = {}
  for word in (text or ""):gmatch "%S+" do list[#list + 1] = tonumber(word) or word end
  return list
end

describe("sys.poll", function()
  it("answers how many are ready, and which for what", function()
    local r, w = sys.pipe2()
    local _ <close> = process.closing(r, w)
    local rows = { { fd = r, events = "in" }, { fd = w:fileno(), events = "in,out" }, { fd = r } }
    assert.equal(1, sys.poll(rows, 0))
    assert.same({ nil, "out", nil }, { rows[1].revents, rows[2].revents, rows[3].revents })
    assert(sys.write(w, "x"))
    w:close()
    rows = { { fd = r }, { fd = r, events = "out" } }
    assert.equal(2, sys.poll(rows))
    assert.same({ "in,hup", "hup" }, { rows[1].revents, rows[2].revents })
  end)

  it("ends when the time is up, never before", function()
    local r, w = sys.pipe2()
    local _ <close> = process.closing(r, w)
    local row, from = { fd = r, revents = "old" }, sys.clock()
    assert.equal(0, sys.poll({ row }, 0.0305))
    assert.is_true(sys.clock() - from >= 0.0305)
    assert.is_nil(row.revents)
    assert.equal(0, sys.poll({}, 0))
  end)

  it("refuses rows it cannot read", function()
    local fd = assert(sys.open("/dev/null", "rdonly"))
    fd:close()
    assert_misuse("row 2: unknown event 'inn'", sys.poll, { { fd = 0 }, { fd = 0, events = "inn" } }, 0)
    assert_misuse("row 1: fd: no open descriptor", sys.poll, { { fd = fd } }, 0)
    assert_misuse("row 1: fd: missing", sys.poll, { {} }, 0)
    assert_misuse("row 1: {fd=, events=} expected", sys.poll, { 0 }, 0)
    assert_misuse("not less than 0", sys.poll, {}, -1)
    assert_misuse("not less than 0", sys.poll, {}, 0 / 0)
  end)
end)

describe("sys.nanosleep and sys.clock", function()
  it("count in seconds and parts of them", function()
    local from = sys.clock()
    assert.is_true(sys.nanosleep(0.0123))
    local took = sys.clock() - from
    assert.is_true(took >= 0.0123 and took < helper.PATIENCE)
    assert.equal("float", math.type(from))
    assert_misuse("not less than 0", sys.nanosleep, -0.1)
  end)
end)

describe("sys.write_nosig", function()
  it("answers EPIPE for a reader that is gone, and the signal is seen by nobody", function()
    process.assert_child({ "32 write: Broken pipe", "32", "alive" }, sys.SIGCHLD, function(say)
      local r, w = sys.pipe2()
      r:close()
      local _, message, errno = sys.write_nosig(w, "x")
      say(errno, message)
      say(select(3, sys.write_nosig(w, "x")))
      local status = helper.read "/proc/self/status"
      for field in status:gmatch "S[ih][gd]Pnd:%s*(%x+)" do
        if tonumber(field, 16) ~= 0 then say("pending ", field) end
      end
      say "alive"
    end)
  end)

  it("writes the string from a place on, as far as there is room", function()
    local r, w = sys.pipe2 "nonblock"
    local _ <close> = process.closing(r, w)
    assert.equal(3, sys.write_nosig(w, "abcde", 3))
    assert.equal("cde", sys.read(r))
    local long = ("x"):rep(1 << 20)
    local wrote = sys.write_nosig(w, long)
    assert.is_true(wrote > 0 and wrote < #long)
    assert.equal(sys.EAGAIN, select(3, sys.write_nosig(w, long, wrote + 1)))
    assert_misuse("beyond the string", sys.write_nosig, w, "abc", 5)
    assert_misuse("beyond the string", sys.write_nosig, w, "abc", 0)
  end)
end)

describe("sys.stat", function()
  it("tells what lfs tells", function()
    local dir = helper.tmpdir()
    helper.write(dir .. "/file", "12345")
    assert(sys.symlink("file", dir .. "/link"))
    assert(sys.mknod(dir .. "/fifo", "ififo,0600"))
    assert(sys.chmod(dir .. "/file", "4751"))
    local kinds = { file = "file", [""] = "dir", fifo = "fifo" }
    for name, kind in pairs(kinds) do
      local path = dir .. "/" .. name
      local seen, truth = assert(sys.stat(path)), lfs.attributes(path)
      assert.equal(kind, seen.type)
      assert.same({ truth.uid, truth.gid, truth.size, truth.ino, truth.dev, truth.nlink, truth.modification },
        { seen.uid, seen.gid, seen.size, seen.ino, seen.dev, seen.nlink, math.floor(seen.mtime) })
    end
    assert.equal("4751", sys.stat(dir .. "/link").mode)
    assert.equal("link", sys.lstat(dir .. "/link").type)
    assert.equal("0666", sys.stat("/dev/null").mode)
    assert.same({ "char", 0x103 }, { sys.stat("/dev/null").type, sys.stat("/dev/null").rdev })
    local fd <close> = assert(sys.open(dir .. "/file", "rdonly"))
    assert.same(sys.stat(dir .. "/file"), sys.fstat(fd))
  end)

  it("names the call and the path in an error", function()
    local nope = helper.tmpdir() .. "/nope"
    for _, call in ipairs { "stat", "lstat", "readlink", "readdir" } do
      assert.same({ nil, call .. " " .. nope .. ": No such file or directory", sys.ENOENT }, { sys[call](nope) })
      assert_misuse("NUL", sys[call], "/no\0pe")
    end
    assert.equal(sys.EBADF, select(3, sys.fstat(4711)))
  end)
end)

describe("sys.fgetxattr", function()
  it("gives what fsetxattr gave", function()
    local path = helper.tmpdir() .. "/file"
    helper.write(path, "")
    local fd <close> = assert(sys.open(path, "rdwr"))
    local ok, why = sys.fsetxattr(fd, "user.nsbox", "a\0b")
    if not ok then helper.skip("needs a file system with user xattrs: " .. why) end
    assert.equal("a\0b", sys.fgetxattr(fd, "user.nsbox"))
    assert.same({ nil, "fgetxattr: No data available", sys.ENODATA }, { sys.fgetxattr(fd, "user.other") })
    assert.equal(sys.EBADF, select(3, sys.fgetxattr(4711, "user.nsbox")))
  end)
end)

describe("sys.readdir", function()
  it("lists the names, sorted, by path and by descriptor, again and again", function()
    local dir = helper.tmpdir()
    for _, name in ipairs { "b", "a", ".hidden", "c\nd" } do helper.write(dir .. "/" .. name, "") end
    local expected = { ".hidden", "a", "b", "c\nd" }
    assert.same(expected, sys.readdir(dir))
    for _, flags in ipairs { "rdonly,directory", "path" } do
      local fd <close> = assert(sys.open(dir, flags))
      assert.same(expected, sys.readdir(fd))
      assert.same(expected, sys.readdir(fd))
    end
    assert.same({ nil, ("readdir %s/a: Not a directory"):format(dir), sys.ENOTDIR }, { sys.readdir(dir .. "/a") })
  end)
end)

describe("sys.readlink and sys.getcwd", function()
  it("answer paths", function()
    local dir = helper.tmpdir()
    local long = ("x/"):rep(2000) .. "end"
    assert(sys.symlink(long, dir .. "/link"))
    assert.equal(long, sys.readlink(dir .. "/link"))
    assert.equal(sys.EINVAL, select(3, sys.readlink(dir)))
    assert.equal(lfs.currentdir(), sys.getcwd())
    process.assert_child({ dir }, sys.SIGCHLD, function(say)
      assert(sys.chdir(dir))
      say(sys.getcwd())
    end)
  end)
end)

describe("sys.mknod", function()
  it("makes a device as root", function()
    process.needs_root()
    local path = helper.tmpdir() .. "/null"
    for i, mode in ipairs { "ifchr,0600", sys.S_IFCHR | tonumber("600", 8) } do
      assert(sys.mknod(path .. i, mode, 0x103))
      local seen = sys.stat(path .. i)
      assert.same({ "char", "0600", 0x103 }, { seen.type, seen.mode, seen.rdev })
    end
  end)

  it("is refused to others", function()
    if sys.geteuid() == 0 then helper.skip "needs an unprivileged user" end
    local path = helper.tmpdir() .. "/null"
    assert.same({ nil, ("mknod %s: Operation not permitted"):format(path), sys.EPERM },
      { sys.mknod(path, "ifchr,0600", 0x103) })
  end)
end)

describe("what the process is told", function()
  it("agrees with /proc", function()
    local status = helper.read "/proc/self/status"
    assert.equal(tonumber(status:match "\nPid:%s*(%d+)"), sys.getpid())
    assert.equal(tonumber(status:match "\nPPid:%s*(%d+)"), sys.getppid())
    assert.equal(tonumber(status:match "\nUid:%s*%d+%s+(%d+)"), sys.geteuid())
    assert.equal(tonumber(status:match "\nGid:%s*%d+%s+(%d+)"), sys.getegid())
    local groups = assert(sys.getgroups())
    table.sort(groups)
    local expected = words(status:match "\nGroups:([^\n]*)")
    table.sort(expected)
    assert.same(expected, groups)
    assert.equal(words(helper.read "/proc/sys/kernel/hostname")[1], sys.gethostname())
  end)
end)

describe("errors and successes", function()
  it("leave no descriptor open", function()
    local dir = helper.tmpdir()
    local function count() return #helper.names "/proc/self/fd" end
    local function all()
      for _, name in ipairs { "pipe2", "socketpair" } do
        local a, b = sys[name]()
        sys.close(a)
        b:close()
      end
      sys.open(dir, "wronly")
      sys.readdir(dir)
      sys.readdir(dir .. "/nope")
      sys.setns("/proc/self/ns/uts", "newnet") -- EINVAL: of another kind
      sys.setns(sys.getpid(), "newuser") -- EINVAL: our own
      sys.waitid(sys.getpid(), 0)
      sys.uid_map(1, { { 0, 0, 1 } })
      pcall(sys.open, dir, "rdonly", 755)
      pcall(sys.readdir, "a\0b")
      process.child(sys.SIGCHLD, function() return 1 end)
      collectgarbage()
    end
    all()
    local before = count()
    for _ = 1, 50 do all() end
    assert.equal(before, count())
  end)
end)
