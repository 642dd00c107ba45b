-- Identities: no program of an image gives its user more than it has, nothing that is installed could, no program is
-- found by PATH, and no forged or outdated record of a box makes nsbox touch another process.
local assert = require "luassert"
local box = require "spec.box"
local helper = require "spec.helper"
local lfs = require "lfs"
local nsbox = require "nsbox"
local owner = require "nsbox.owner"
local process = require "spec.process"
local script = require "spec.script"
local state = require "nsbox.detach.state"
local sys = require "nsbox.sys"

helper.leakcheck { detached = true, settle = true }

local function needs_root(what)
  if not helper.root() then helper.skip("needs root, " .. what) end
end

-- ---- what a program of the image can gain ----

local NONE = ("0"):rep(16)
local SETUID = 1 << 7 -- linux/capability.h; a default box's root has it

-- What `probe ids` says: field -> text.
local function fields(text)
  local found = {}
  for name, value in text:gmatch "(%w+):%s*([^\n]*)" do found[name] = value end
  return found
end

-- linux/capability.h: version 2, permitted, and effective from the start.
local FILE_CAPABILITY = ("<I4I4I4I4I4"):pack(0x02000001, SETUID, 0, 0, 0)

-- A file capability is root's to give: a user is that of a user namespace, which is also the one that it counts in.
local function give_capability(path)
  local function give()
    local fd <close> = assert(sys.open(path, "rdwr"))
    assert(sys.fsetxattr(fd, "security.capability", FILE_CAPABILITY))
  end
  if helper.root() then return give() end
  process.in_userns("newuser", {}, give)
end

-- An image with three programs that say who they are: one as it is, one set-user-ID and set-group-ID, one with a file
-- capability.
local function image()
  local root = box.image()
  box.program("probe", root)
  for _, name in ipairs { "suid", "caps" } do
    helper.write(root .. "/" .. name, helper.read(root .. "/probe"))
    assert(sys.chmod(root .. "/" .. name, name == "suid" and "6755" or "0755"))
  end
  give_capability(root .. "/caps")
  return root
end

-- What a program of the image says when user 1000 runs it outside of all boxes: an attack that works.
local function outside(root, name)
  local r, w = sys.pipe2()
  local _ <close> = process.closing(r, w)
  local pid = assert(sys.clone(sys.SIGCHLD, function()
    assert(sys.dup3(w, 1))
    assert(sys.chdir(root)) -- the folders above are root's alone
    assert(sys.setgroups {})
    assert(sys.setresgid(1000, 1000, 1000))
    assert(sys.setresuid(1000, 1000, 1000))
    return sys.execve("./" .. name, { name, "ids" }, {}) and 0 or 1
  end))
  w:close()
  local text = process.drain(r)
  sys.waitid(pid)
  return fields(text)
end

-- Skips where the attack does not even work outside, or where the caller has no second id to be in a box.
local function needs_attack(root)
  if not helper.root() then
    local r, err = nsbox.run(root, { "/probe", "ids" }, { user = 1000 })
    if not r then helper.skip("needs another id in the box: " .. err.message) end
    return
  end
  if outside(root, "suid").Uid ~= "1000 0 0" then
    helper.skip "needs a file system that is not mounted nosuid"
  end
  assert.equal("1000 0 0", outside(root, "suid").Gid)
  local seen = outside(root, "caps")
  assert.same({ "1000 1000 1000", ("%016x"):format(SETUID) }, { seen.Uid, seen.CapEff })
end

-- The ways by which a program gets into a box: each answers what it says.
local ways = {
  ["as its command"] = function(root, cmd, opts)
    return assert(nsbox.run(root, cmd, opts)).stdout
  end,
  ["below an init"] = function(root, cmd, opts)
    opts.init = true
    return assert(nsbox.run(root, cmd, opts)).stdout
  end,
  ["by exec"] = function(root, cmd, opts)
    local b <close> = assert(nsbox.start(root, { "/bin/busybox", "sleep", "1000" }, opts))
    return assert(b:exec(cmd)).stdout
  end,
  ["by exec, as another user than the box's"] = function(root, cmd, opts)
    local b <close> = assert(nsbox.start(root, { "/bin/busybox", "sleep", "1000" }))
    return assert(b:exec(cmd, opts)).stdout
  end,
  ["from a shell of the box"] = function(root, cmd, opts)
    return assert(nsbox.run(root, { "/bin/sh", "-c", table.concat(cmd, " ") }, opts)).stdout
  end,
}

describe("a program of an image, started", function()
  setup(helper.warm_detached)

  for name, way in pairs(ways) do
    it(name .. ", has neither inheritable nor ambient capabilities, and no new privileges (C1)", function()
      local seen = fields(way(image(), { "/probe", "ids" }, {}))
      assert.same({ NONE, NONE, "1" }, { seen.CapInh, seen.CapAmb, seen.NoNewPrivs })
    end)

    it(name .. ", gains nothing by a file capability (C1)", function()
      local root = image()
      needs_attack(root)
      local seen = fields(way(root, { "/caps", "ids" }, { user = 1000 }))
      assert.same({ "1000 1000 1000", NONE, NONE, NONE, NONE, "1" },
        { seen.Uid, seen.CapPrm, seen.CapEff, seen.CapInh, seen.CapAmb, seen.NoNewPrivs })
    end)

    it(name .. ", gains nothing by a set-user-ID or set-group-ID bit (C6)", function()
      local root = image()
      needs_attack(root)
      local seen = fields(way(root, { "/suid", "ids" }, { user = "1000:1000" }))
      assert.same({ "1000 1000 1000", "1000 1000 1000", NONE, NONE, "1" },
        { seen.Uid, seen.Gid, seen.CapPrm, seen.CapEff, seen.NoNewPrivs })
    end)
  end

  it("by a caller that has inheritable and ambient capabilities, has none of them (C1)", function()
    process.needs_userns()
    local root = image()
    local set = "+chown,+setuid,+net_raw"
    local out = box.script(("%s setpriv --inh-caps=%s --ambient-caps=%s sh <<'END'\nLUA </dev/null\nEND\n"):format(
      helper.root() and "" or "unshare -Ur", set, set), ([[
      local nsbox = require "nsbox"
      local file = io.open "/proc/self/status"
      print(file:read "a":match "CapAmb:%%s*(%%x+)")
      print(nsbox.run(%q, { "/probe", "ids" }).stdout)
      local b <close> = assert(nsbox.start(%q, { "/bin/busybox", "sleep", "1000" }))
      print(b:exec({ "/probe", "ids" }).stdout)]]):format(root, root))
    local own, first, second = out:match "^(%x+)\n(Uid.-)\n\n(Uid.-)\n\n$"
    assert.equal(("%016x"):format(1 | SETUID | 1 << 13), own, out) -- what would be inherited
    for _, text in ipairs { first, second } do
      local seen = fields(text)
      assert.same({ NONE, NONE }, { seen.CapInh, seen.CapAmb })
    end
  end)

  it("from a volume, gains nothing by a set-user-ID bit (C6)", function()
    local root = image()
    needs_attack(root)
    for _, privileges in ipairs { true, false } do -- nosuid holds without no_new_privs, too
      local seen = fields(assert(nsbox.run("busybox", { "/volume/suid", "ids" }, { user = "1000:1000",
        no_new_privs = privileges, mounts = { root .. ":/volume" } })).stdout)
      assert.same({ "1000 1000 1000", "1000 1000 1000", NONE }, { seen.Uid, seen.Gid, seen.CapEff })
    end
  end)

  it("from a FUSE file system, gains nothing by a set-user-ID bit (C6)", function()
    helper.skip "waits for images on FUSE file systems"
  end)

  it("on the host, from the store, cannot be run by others (C5)", function()
    helper.skip "waits for images that are kept: the store is root's alone, 0700"
  end)
end)

-- ---- what is installed, and what is run of the host ----

-- Every file below a folder.
local function walk(path, visit)
  for _, name in ipairs(helper.names(path)) do
    local at = path .. "/" .. name
    visit(at)
    if lfs.symlinkattributes(at, "mode") == "directory" then walk(at, visit) end
  end
end

describe("the library", function()
  it("installs nothing that is set-user-ID or set-group-ID, or has a file capability (C8)", function()
    if not os.execute "command -v make >/dev/null" then helper.skip "needs make" end
    local to = helper.tmpdir()
    local pipe = assert(io.popen(("make -s install LUA=%s BUILD=%s DESTDIR=%s 2>&1"):format(helper.quote(helper.lua),
      helper.quote(helper.build), helper.quote(to))))
    local said = pipe:read "a"
    assert(pipe:close(), said)
    local n = 0
    walk(to, function(path)
      n = n + 1
      assert.equal(0, tonumber(sys.lstat(path).mode, 8) & tonumber("6000", 8), path)
      if sys.lstat(path).type == "file" then
        local fd <close> = assert(sys.open(path, "rdonly"))
        local value, _, errno = sys.fgetxattr(fd, "security.capability")
        assert.is_nil(value, path)
        assert.is_true(errno == sys.ENODATA or errno == sys.EOPNOTSUPP, path)
      end
    end)
    assert.is_true(n > 50, said)
  end)

  it("has no call that looks for a program by PATH, or starts a shell (C8)", function()
    local core = helper.read(helper.build .. "/nsbox/core.so")
    assert.is_truthy(core:find("\0clone3\0", 1, true) or core:find("\0execve\0", 1, true)) -- names are to be found so
    for _, name in ipairs { "execlp", "execvp", "execvpe", "popen", "posix_spawn", "posix_spawnp", "system" } do
      assert.is_nil(core:find("\0" .. name .. "\0", 1, true), name)
    end
    local n = 0
    walk("lua", function(path)
      local text = path:match "%.lua$" and helper.read(path)
      n = n + (text and 1 or 0)
      for _, name in ipairs { "os%.execute", "io%.popen" } do
        assert.is_nil((text or ""):find(name .. "%s*[%(\"'%[]"), path)
      end
    end)
    assert.is_true(n > 50)
  end)

  it("runs no program of the caller's PATH, whatever it is asked for (C8)", function()
    local traps, log = helper.tmpdir(), helper.tmpdir() .. "/log"
    for name in ([[newuidmap newgidmap sh bash env mount umount ip nft iptables nsenter unshare tar gzip zstd xz cp rm
      lua lua5.4 busybox id getent true fusermount3 fuse-overlayfs slirp4netns pasta systemd-run modprobe stty]])
      :gmatch "%S+" do
      helper.write(traps .. "/" .. name, ("#!/bin/sh\necho %s >>%s\n"):format(name, log))
      assert(sys.chmod(traps .. "/" .. name, "0755"))
    end
    script.succeeds([[
      local check = function(value, err) return assert(value, tostring(err)) end
      check(os.execute "id") -- the trap works
      check(nsbox.run("busybox", "true"))
      check(nsbox.run("busybox", { "sh", "-c", "true" }, { tty = true, init = true }))
      check(nsbox.run("host", { "true" }, { env = { PATH = "/usr/bin:/bin" } }))
      assert(not nsbox.run("no-such-image"))
      assert(nsbox.call("busybox", function() return true end))
      local b = check(nsbox.start("busybox", { "sleep", "1000" }, { detach = true }))
      check(b:exec "true")
      assert(b:call(function() return true end))
      assert(#nsbox.boxes() > 0)
      check(b:destroy())
      assert(tostring(nsbox.explain("busybox", "true")) ~= "")
      assert(tostring(nsbox.probe()) ~= "")]], { env = { PATH = traps } })
    assert.equal("id\n", helper.read(log))
  end)
end)

-- ---- records of boxes that are not what they say ----

local RUNTIME = owner.runtime()

-- A process of ours that is no box, until the test ends.
local function victim()
  local pid = assert(sys.clone(sys.SIGCHLD, function() sys.nanosleep(1000) end))
  helper.cleanup(function()
    sys.kill(pid, "kill")
    sys.waitid(pid)
  end)
  return pid
end

-- A record of a box that was never made, in all points as one that was, but for the process that it names.
local function forge(pid)
  local b <close> = assert(nsbox.start("busybox", { "sleep", "1000" }, { detach = true }))
  local record = assert(state.load(b.id))
  assert(b:destroy())
  local fd <close> = assert(sys.pidfd_open(pid))
  record.id, record.pid, record.started, record.name = ("f"):rep(12), pid, assert(state.started_at(pid, fd)), nil
  local path = state.path_of(record.id)
  assert(sys.mkdir(path, "0700"))
  helper.cleanup(function() owner.remove_tree(path) end)
  helper.write(path .. "/lock", "")
  assert(state.write(path, record))
  return record.id, path
end

local function is_listed(id)
  local found = false
  for _, b in ipairs(nsbox.boxes()) do
    found = found or b.id == id
    b:close()
  end
  return found
end

describe("the record of a box", function()
  setup(helper.warm_detached)

  it("that is another user's, or lies where another may write, is not believed (C9)", function()
    needs_root "to give folders away"
    local pid = victim()
    local id, path = forge(pid)
    for _, folder in ipairs { path, RUNTIME .. "/boxes", RUNTIME } do
      for _, change in ipairs { { sys.chown, 1, 1 }, { sys.chmod, "0777" } } do
        assert(change[1](folder, change[2], change[3]))
        local found, err, errno = nsbox.box(id)
        local listed = is_listed(id)
        assert(sys.chown(folder, 0, 0))
        assert(sys.chmod(folder, "0700"))
        assert.same({ nil, "setup", sys.EPERM, false }, { found, err and err.kind, errno, listed }, folder)
      end
    end
    assert.is_nil((sys.waitid(pid, 0.05)))
    local b <close> = assert(nsbox.box(id)) -- it would have worked: so it is refused for who owns it
    assert.same({ true, "running", true }, { is_listed(id), b.state, b:kill() })
    assert.equal("signal", (sys.waitid(pid, helper.PATIENCE)))
  end)

  it("whose pid another process has got is of a box that is lost, and nothing reaches that process (C9)", function()
    process.needs_userns()
    local out = box.script(("unshare %s -mpf --mount-proc sh <<'END'\n%sLUA </dev/null\nEND\n"):format(
      helper.root() and "" or "-Ur", helper.root() and "mount -t tmpfs -o mode=0700 none /run/nsbox && " or ""), [[
      local nsbox = require "nsbox"
      local sys, state = nsbox.sys, require "nsbox.detach.state"
      local b = assert(nsbox.start("busybox", { "sleep", "1000" }, { detach = true }))
      local id, pid = b.id, b.pid
      if not require("nsbox.probe").at_least(6, 9) then
        sys.nanosleep(0.03) -- before, processes that have the same pid within 10 ms are not told apart
      end
      local worker = state.load(id).worker
      assert(sys.kill(worker, "kill"))
      assert(b:wait(30).reason == "lost")
      for _, ended in ipairs { worker, pid } do sys.waitid(ended, 30) end -- process 1, this one, has inherited them
      assert(not sys.kill(pid, 0))

      local victim
      for _ = 1, 100 do
        if not sys.write_file("cwd", "/proc/sys/kernel/ns_last_pid", tostring(pid - 1)) then break end
        victim = assert(sys.clone(sys.SIGCHLD, function() sys.nanosleep(1000) end))
        if victim == pid then break end
        sys.kill(victim, "kill")
        sys.waitid(victim)
      end
      if victim ~= pid then return print "no pid" end

      local function touch(handle)
        local ended = handle:wait(1)
        local r, err = handle:exec({ "true" }, { timeout = 1 })
        print(handle.state, ended and ended.reason, r, err and err.kind, handle:kill(), handle:stop(0).reason)
      end
      touch(b)
      touch(assert(nsbox.box(id)))
      local list = nsbox.boxes()
      print(#list)
      touch(list[1])
      print(nsbox.box(id):destroy())
      print(sys.waitid(victim, 0.1))
      sys.kill(victim, "kill")
      sys.waitid(victim)]])
    if out == "no pid\n" then helper.skip "needs a kernel with ns_last_pid (CONFIG_CHECKPOINT_RESTORE)" end
    local lost = "ended\tlost\tnil\tclosed\ttrue\tlost\n"
    assert.equal(lost .. lost .. "1\n" .. lost .. "true\nnil\ttimeout\tnil\n", out)
  end)
end)
