-- Folders that belong to a process, and their removal when it is gone.
local assert = require "luassert"
local box = require "spec.box"
local helper = require "spec.helper"
local lfs = require "lfs"
local owner = require "nsbox.owner"
local process = require "spec.process"
local sys = require("nsbox").sys

helper.leakcheck { cold = true }

local function mode(path)
  local stat = sys.lstat(path)
  return stat and stat.type .. " " .. stat.mode
end

-- A folder as an owner of this number would have left it; `lock` false: it died before it locked.
local function left(base, number, lock)
  local path = ("%s/owner-%d-1"):format(base, number)
  assert(lfs.mkdir(path))
  if lock ~= false then
    helper.write(path .. "/lock", "")
  end
  helper.write(path .. "/file", "x")
  return path
end

-- Another process that runs a script with `owner` and `base` at hand and then waits to be ended.
local function other(base, script)
  local path = helper.tmpdir() .. "/other.lua"
  helper.write(path, ('local owner, base = require "nsbox.owner", %q\n%s'):format(base, script))
  local r, w = sys.pipe2()
  local hold_r, hold_w = sys.pipe2()
  local pid = assert(sys.clone("", function()
    sys.dup3(w, 1)
    sys.dup3(hold_r, 0)
    hold_w:close()
    return sys.execve("/usr/bin/env", { "env", "LUA_PATH=" .. package.path, "LUA_CPATH=" .. package.cpath,
      helper.lua, path }, { "PATH=" .. os.getenv "PATH" })
  end))
  w:close()
  hold_r:close()
  local said = sys.read(r, 4096)
  r:close()
  return setmetatable({ pid = pid, said = said:match "[^\n]*" }, { __close = function()
    hold_w:close()
    sys.waitid(pid)
  end })
end

describe("nsbox.owner", function()
  local base

  -- A base that goes away with the test.
  local function fresh()
    base = helper.tmpdir() .. "/base"
    return base
  end

  local function claim()
    local path = assert(owner.folder(base))
    helper.cleanup(function() owner.forget(base) end)
    return path
  end

  it("makes a folder for this process alone, and locks it", function()
    fresh()
    local path = claim()
    assert.equal(("%s/owner-%d-1"):format(base, helper.pid), path)
    assert.same({ "dir 0700", "dir 0700", "file 0600" }, { mode(base), mode(path), mode(path .. "/lock") })
    local again <close> = sys.open(path .. "/lock", "rdwr")
    local ok, _, errno = sys.flock(again, "ex,nb")
    assert.same({ nil, sys.EAGAIN }, { ok, errno })
  end)

  it("makes it once", function()
    fresh()
    assert.equal(claim(), owner.folder(base))
  end)

  it("makes folders on the way", function()
    fresh()
    base = base .. "/a/b"
    assert.equal("dir 0700", mode(claim()))
  end)

  it("is another one in a fork, which leaves ours alone", function()
    fresh()
    local ours = claim()
    process.assert_child({ "true" }, "", function(say)
      local path = assert(owner.folder(base))
      say(path ~= ours and path:find("owner-" .. sys.getpid(), 1, true) ~= nil)
      owner.forget(base)
    end)
    assert.equal("dir 0700", mode(ours))
    local again <close> = sys.open(ours .. "/lock", "rdwr")
    assert.is_nil((sys.flock(again, "ex,nb")))
  end)

  -- Calls `during` between the opening of a lock and its locking, once.
  local function between(during)
    local real = sys.flock
    helper.cleanup(function() sys.flock = real end)
    sys.flock = function(...)
      sys.flock = real
      during()
      return real(...)
    end
  end

  it("is made anew when a sweep of others takes the new one for a dead one's", function()
    fresh()
    between(function() assert.equal(1, owner.sweep(base)) end)
    local path = claim()
    assert.same({ "dir 0700", "file 0600" }, { mode(path), mode(path .. "/lock") })
    assert.equal(0, owner.sweep(base))
  end)

  it("is made anew when another process has the new one's lock", function()
    fresh()
    local taken
    between(function()
      taken = assert(sys.open(("%s/owner-%d-1/lock"):format(base, helper.pid), "rdwr"))
      assert(sys.flock(taken, "ex,nb"))
    end)
    assert.equal(("%s/owner-%d-2"):format(base, helper.pid), claim())
    taken:close()
    assert.equal(1, owner.sweep(base))
  end)

  it("is not swept by who has the lock of one that was there before, under its name", function()
    fresh()
    assert(sys.mkdir(base, "0700"))
    left(base, helper.pid)
    local path
    between(function()
      assert.equal(1, owner.sweep(base))
      path = claim()
    end)
    owner.sweep(base)
    assert.equal("dir 0700", mode(path))
  end)

  it("goes with the Lua state that made it", function()
    fresh()
    local theirs <close> = other(base, "print(owner.folder(base)) io.stdout:flush() io.read()")
    assert.equal("dir 0700", mode(theirs.said))
    getmetatable(theirs).__close(theirs)
    assert.is_nil(mode(theirs.said))
  end)

  it("refuses a base that belongs to somebody else, is a file or a link", function()
    fresh()
    helper.write(base, "")
    local path, message, errno = owner.folder(base)
    assert.same({ nil, sys.ENOTDIR }, { path, errno })
    assert.is_truthy(message:find(base, 1, true))
    os.remove(base)
    assert(lfs.mkdir(base .. "2"))
    assert(sys.symlink(base .. "2", base))
    path, message, errno = owner.folder(base)
    assert.same({ nil, base .. ": not a folder", sys.ENOTDIR }, { path, message, errno })
  end)

  it("refuses a base of another user", function()
    fresh()
    process.needs_root()
    assert(lfs.mkdir(base))
    assert(sys.chown(base, 1, 1))
    local path, message, errno = owner.folder(base)
    assert.same({ nil, base .. ": belongs to another user", sys.EPERM }, { path, message, errno })
  end)

  it("refuses a base that others may write to", function()
    fresh()
    assert(lfs.mkdir(base))
    assert(sys.chmod(base, "0770"))
    local path, message, errno = owner.folder(base)
    assert.same({ nil, base .. ": others may write to it (chmod go-w)", sys.EPERM }, { path, message, errno })
  end)

  it("gives a folder up, and makes another", function()
    fresh()
    helper.write(claim() .. "/file", "x")
    owner.forget(base)
    assert.same({}, helper.names(base))
    owner.forget(base)
    assert.equal("dir 0700", mode(claim()))
  end)

  describe("sweeps", function()

    it("away what a dead owner left, and counts it", function()
      assert(sys.mkdir(fresh(), "0700"))
      local paths = { left(base, 4194303), left(base, 4194302) }
      assert.equal(2, owner.sweep(base))
      assert.same({}, { mode(paths[1]), mode(paths[2]) })
    end)

    it("what was left when it makes a folder of its own", function()
      assert(sys.mkdir(fresh(), "0700"))
      local path = left(base, 4194303)
      claim()
      assert.is_nil(mode(path))
    end)

    it("nothing of a live owner", function()
      assert(sys.mkdir(fresh(), "0700"))
      local theirs <close> = other(base, "print(owner.folder(base)) io.stdout:flush() io.read()")
      assert.equal(0, owner.sweep(base))
      assert.equal("dir 0700", mode(theirs.said))
    end)

    it("what an owner left that was killed", function()
      assert(sys.mkdir(fresh(), "0700"))
      local theirs <close> = other(base, "print(owner.folder(base)) io.stdout:flush() io.read()")
      helper.write(theirs.said .. "/file", "x")
      sys.kill(theirs.pid, sys.SIGKILL)
      sys.waitid(theirs.pid)
      assert.equal("dir 0700", mode(theirs.said))
      assert.equal(1, owner.sweep(base))
      assert.is_nil(mode(theirs.said))
    end)

    it("not what is not an owner's folder", function()
      assert(sys.mkdir(fresh(), "0700"))
      helper.write(base .. "/owner-4194303-1", "a file")
      assert(lfs.mkdir(base .. "/busybox"))
      assert(lfs.mkdir(base .. "/owner-4194303-1x"))
      assert(sys.symlink("/", base .. "/owner-4194303-2"))
      assert.equal(0, owner.sweep(base))
      assert.same({ "busybox", "owner-4194303-1", "owner-4194303-1x", "owner-4194303-2" }, helper.names(base))
    end)

    it("not what was made a moment ago and has no lock yet, but what is old", function()
      assert(sys.mkdir(fresh(), "0700"))
      local path = left(base, 4194303, false)
      assert.equal(0, owner.sweep(base))
      assert(os.execute("touch -d '2 minutes ago' " .. path))
      assert.equal(1, owner.sweep(base))
      assert.is_nil(mode(path))
    end)

    it("never through a link, of whatever kind", function()
      assert(sys.mkdir(fresh(), "0700"))
      local kept = helper.tmpdir()
      helper.write(kept .. "/kept", "x")
      local path = left(base, 4194303)
      assert(sys.symlink(kept, path .. "/folder"))
      assert(sys.symlink(kept .. "/kept", path .. "/file-link"))
      assert(sys.symlink("/nowhere", path .. "/nowhere"))
      assert.equal(1, owner.sweep(base))
      assert.is_nil(mode(path))
      assert.equal("x", helper.read(kept .. "/kept"))
    end)

    it("nothing of another user", function()
      assert(sys.mkdir(fresh(), "0700"))
      process.needs_root()
      local path = left(base, 4194303)
      assert(sys.chown(path, 1, 1))
      assert.equal(0, owner.sweep(base))
      assert.is_truthy(mode(path))
    end)

    it("trees deeper than any path is long, and folders without end", function()
      assert(sys.mkdir(fresh(), "0700"))
      local path = left(base, 4194303)
      assert(os.execute("cd " .. path .. " && i=0 && while [ $i -lt 60 ]; do d=$(printf '%0100d' $i) && mkdir $d && "
        .. "cd -P ./$d && echo x >file && ln -s / link && i=$((i + 1)) || exit 1; done"))
      assert.equal(1, owner.sweep(base))
      assert.is_nil(mode(path))
    end)

    it("what nobody may read, or write into", function()
      assert(sys.mkdir(fresh(), "0700"))
      local path = left(base, 4194303)
      assert(lfs.mkdir(path .. "/a"))
      assert(lfs.mkdir(path .. "/a/b"))
      helper.write(path .. "/a/b/c", "x")
      assert(sys.chmod(path .. "/a/b", "0000"))
      assert(sys.chmod(path .. "/a", "0500"))
      assert.equal(1, owner.sweep(base))
      assert.is_nil(mode(path))
    end)
  end)

  it("finds the runtime folder where the user has one", function()
    local function runtime(env)
      return (box.script(env .. "; LUA </dev/null", 'io.write(require("nsbox.owner").runtime())'))
    end
    local own = helper.root() and "/run/nsbox"
    assert.equal(own or "/x/nsbox", runtime "export XDG_RUNTIME_DIR=/x")
    assert.equal(own or "/tmp/nsbox-" .. helper.uid, runtime "unset XDG_RUNTIME_DIR")
    assert.equal(own or "/tmp/nsbox-" .. helper.uid, runtime "export XDG_RUNTIME_DIR=relative")
  end)
end)
