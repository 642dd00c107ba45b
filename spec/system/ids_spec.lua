-- Whose ids a box has: as root, as a user with subordinate ids, and as one without.
local assert = require "luassert"
local box = require "spec.box"
local helper = require "spec.helper"
local lfs = require "lfs"
local nsbox = require "nsbox"
local process = require "spec.process"
local script = require "spec.script"
local sys = nsbox.sys

helper.leakcheck { outside = true }

local euid, egid = sys.geteuid(), sys.getegid()
local PLAIN = not helper.has_ids()

local function needs_ids()
  if PLAIN then helper.skip "needs more ids than the caller's own" end
end

-- The rows of a map, as lists of numbers.
local function rows_of(text)
  local rows = {}
  for inside, outside, count in text:gmatch "(%d+) +(%d+) +(%d+)" do
    rows[#rows + 1] = { tonumber(inside), tonumber(outside), tonumber(count) }
  end
  return rows
end

-- As the host sees them: a box sees those of its maker's user namespace.
local function maps_of(b)
  local function of(kind)
    return rows_of(helper.read(("/proc/%d/%s_map"):format(b.pid, kind)))
  end
  return of "uid", of "gid"
end

local function start(opts)
  return assert(nsbox.start("busybox", false, opts))
end

local function ids_in(b, opts)
  return (assert(b:exec("id -u; id -g; grep ^Groups: /proc/self/status", opts)).stdout:gsub("%s+", " "))
end

describe("the ids of a box", function()
  it("are by default a range of its own as root, the caller's and its subordinate ones for a user, else one", function()
    local b <close> = start()
    local uids, gids = maps_of(b)
    if helper.root() then
      assert.same({ 0, uids[1][2], 65536 }, uids[1])
      assert.is_true(uids[1][2] >= 524288 and uids[1][2] % 65536 == 0)
      assert.same(uids, gids)
    else
      assert.same({ { 0, euid, 1 }, { 0, egid, 1 } }, { uids[1], gids[1] })
      assert.same(PLAIN and { 1, 1 } or { 2, 2 }, { #uids, #gids })
    end
    assert.equal(PLAIN, b.notes[1] ~= nil and b.notes[1].what == "userns")
    assert.matches(PLAIN and "^0 0 " or "^0 0 Groups: 0 $", ids_in(b))
  end)

  it("can be one alone, the caller's own for its files", function()
    local b <close> = start { userns = "single" }
    assert.same({ { 0, euid, 1 } }, (maps_of(b)))
    assert.same({}, b.notes)
    local err = select(2, b:exec({ "true" }, { user = 5 }))
    assert.equal("unsupported", err.kind)
    assert.matches("user 5 does not exist in the box, whose ids are 0", err.message)
  end)

  it("can keep the caller's number, as which the command runs then", function()
    local b <close> = start { userns = "keep-id" }
    assert.matches(("^%d %d "):format(euid, egid), ids_in(b))
    local uids = maps_of(b)
    assert.same(helper.root() and { 0, 0, 4294967295 } or { euid, euid, 1 }, uids[1])
    if not PLAIN then
      assert.matches("^0 0 ", ids_in(b, { user = 0 }))
      assert.matches("^7 8 ", ids_in(b, { user = "7:8" }))
    end
    if not helper.root() then
      assert.equal(euid .. "\n", assert(b:exec("touch /tmp/x && stat -c %u /tmp/x")).stdout)
    end
  end)

  it("are the host's without a user namespace, which takes root", function()
    local r, err = nsbox.run("busybox", "cat /proc/self/uid_map", { userns = "host" })
    if helper.root() then
      assert.same({ { 0, 0, 4294967295 } }, rows_of(r.stdout))
    else
      assert.equal("unsupported", err.kind)
    end
  end)

  it("are as they are written, if they are the caller's", function()
    local uid, gid = { { 0, euid, 1 } }, { { 0, egid, 1 } }
    if helper.root() then
      uid, gid = { { 0, 1000000, 10 }, { 50, 2000000, 1 } }, { { 0, 3000000, 10 } }
    end
    local b <close> = start { uid_map = uid, gid_map = gid }
    assert.same({ uid, gid }, { maps_of(b) })
    assert.matches("^0 0 ", ids_in(b))
    local err = select(2, nsbox.run("busybox", { "true" }, { uid_map = { { 0, 4000000000, 1 } }, gid_map = gid }))
    assert.equal(not helper.root(), err ~= nil)
    if err then assert.matches("uid_map: row 1: id 4000000000 is not the caller's", err.message) end
  end)

  it("are all there: each file that is made has its owner, and the image's are root's", function()
    needs_ids()
    local b <close> = start()
    local made = assert(b:exec("mkdir -m 777 /j; touch /j/a; chown 70:80 /j/a; stat -c %u:%g /j/a /bin/busybox /"))
    assert.equal("70:80\n0:0\n0:0\n", made.stdout .. made.stderr)
    assert.equal("33:44\n", assert(b:exec("touch /j/b; stat -c %u:%g /j/b", { user = "33:44" })).stdout)
    assert.same({ true, 33 }, { b:call(sys.getuid, { user = 33 }) })
  end)

  it("are new ones for each box of root's, and given back at its end", function()
    process.needs_root()
    local one <close> = start()
    local two <close> = start()
    local first, second = maps_of(one)[1][2], maps_of(two)[1][2]
    assert.are_not.equal(first, second)
    two:close()
    local three <close> = start()
    assert.equal(second, maps_of(three)[1][2])
    script.succeeds(([[
      local b = assert(nsbox.start("busybox", false))
      local first = tonumber(io.open("/proc/" .. b.pid .. "/uid_map"):read "a":match "%%d+%%s+(%%d+)")
      assert(first ~= %d and first ~= %d, first)]]):format(first, second))
  end)

  it("of root's own mounts are as they are, for its files cannot be shown with others", function()
    process.needs_root()
    local r = assert(nsbox.run("host", "cat /proc/self/uid_map", { namespaces = { mount = false } }))
    assert.same({ { 0, 0, 4294967295 } }, rows_of(r.stdout))
  end)

  it("are shown by explain, which takes none", function()
    local e = assert(nsbox.explain("busybox", { "true" }))
    local b <close> = start()
    local uids = maps_of(b)
    local row = e.config.linux.uidMappings[1]
    assert.same({ 0, uids[1][3] }, { row.containerID, row.size })
    assert.is_true(helper.root() or row.hostID == euid)
  end)
end)

describe("root of a box", function()
  it("has no owner's rights over ids that are not the box's", function()
    needs_ids()
    local image = box.image { secret = { "secret\n", "0600" } }
    if helper.root() then
      assert(sys.chown(image .. "/secret", 70000, 70000)) -- beyond what the box has
    end
    local b <close> = assert(nsbox.start(helper.root() and image or "host", false, { workdir = "/" }))
    local path = helper.root() and "/secret" or "/etc/shadow"
    local r = assert(b:exec({ "/bin/sh", "-c", ("cat %s; chown 0 %s; chmod 777 %s"):format(path, path, path) }, {
      env = { PATH = "/bin:/usr/bin" } }))
    assert.equal("", r.stdout)
    assert.is_false(r.ok)
    r = assert(b:exec("touch /tmp/x 2>/dev/null || touch /x; chown 4000000 /tmp/x /x"))
    assert.matches("Invalid argument", r.stderr)
  end)

  it("signals nobody outside, though it sees the host's processes", function()
    local victim <close> = process.holder(sys.SIGCHLD, function() end)
    local command = ("kill -0 1; kill -0 %d"):format(helper.root() and victim.pid or 1) -- a user's is its own in there
    local r = assert(nsbox.run("busybox", command, { namespaces = { pid = false } }))
    assert.matches("can't kill pid 1: Operation not permitted\n.*can't kill pid %d+: Operation not permitted", r.stderr)
  end)

  it("cannot set groups where it has one id", function()
    if not PLAIN then helper.skip "needs a user without subordinate ids" end
    assert.equal("deny\n", box.says "cat /proc/self/setgroups")
  end)

  it("is nobody in the files of the host", function()
    process.needs_root()
    local r = assert(nsbox.run("host", "stat -c %u:%g /proc/1 /dev/null", { namespaces = { pid = false } }))
    assert.equal("65534:65534\n65534:65534\n", r.stdout)
  end)
end)

describe("the caller's groups", function()
  -- In a copy of this program that has them, as a user: store is that user's.
  local function without_groups(uid, gid)
    local store = helper.tmpdir()
    assert(sys.chown(store, uid, gid))
    process.assert_child({ "4 24" }, sys.SIGCHLD, function(say)
      assert(sys.setgroups { 4, 24 })
      assert(sys.setresgid(gid, gid, gid))
      assert(sys.setresuid(uid, uid, uid))
      assert(sys.prctl("set_dumpable", 1, 0, 0, 0))
      say(box.status("self", "Groups"):match "^(.-)%s*$")
      for _, opts in ipairs { {}, { userns = "keep-id" }, { userns = "single" } } do
        opts.store = store
        local b <close> = assert(nsbox.start("busybox", false, opts))
        for _, r in ipairs { assert(b:exec "grep ^Groups: /proc/self/status"),
          assert(nsbox.run("busybox", "grep ^Groups: /proc/self/status", opts)) } do
          local groups = r.stdout:match "Groups:%s*(.-)%s*$"
          if groups ~= (opts.userns == "keep-id" and tostring(gid) or "0") then say(opts.userns, groups) end
        end
      end
    end)
  end

  it("are not in a box of root's", function()
    process.needs_root()
    without_groups(0, 0)
  end)

  it("are not in a box of a user's who has subordinate ids", function()
    process.needs_root()
    local uid, gid
    for line in helper.read("/etc/passwd"):gmatch "[^\n]+" do
      if line:find "^nsbox%-test:" then uid, gid = line:match ":(%d+):(%d+):" end
    end
    if not uid then helper.skip "needs the user nsbox-test" end
    without_groups(tonumber(uid), tonumber(gid))
  end)
end)

describe("what a box has written to a folder with its own ids", function()
  local ON_DISK = [[
    local probe = require "nsbox.probe"
    local host, store = probe.host, %q
    probe.host = function()
      local found = host()
      found.tmpfs_xattr = { ok = false }
      return found
    end
    local writes = "mkdir -m 700 /j /j/k; touch /j/k/a; chown -R 70:80 /j; echo made; "
    local function start(more)
      return assert(nsbox.start("busybox", writes .. more, { store = store, stdout = "log" }))
    end
  ]]

  local function left(store)
    local names = {}
    for _, name in ipairs(helper.names(store)) do
      if name:find "^owner" then
        for _, part in ipairs(helper.names(store .. "/" .. name)) do
          if part ~= "lock" then names[#names + 1] = part end
        end
      end
    end
    return names
  end

  it("goes with the box, and after its caller's death with the next", function()
    needs_ids()
    local store = helper.tmpdir()
    local text = "local nsbox = require 'nsbox'\n" .. ON_DISK:format(store)
    script.succeeds(ON_DISK:format(store) .. [[
      local b = start "sleep 100"
      assert(b:expect("made", 30))
      b:close()]])
    assert.same({}, left(store))
    local s <close> = script.start(text .. "local b = start 'sleep 100' b:expect('made', 30) print 'up' b:wait()")
    assert.equal("up", s:line())
    assert.equal(1, #left(store))
    s:signal "KILL"
    s:wait()
    script.succeeds(ON_DISK:format(store) .. "start('true'):close()")
    assert.same({}, left(store))
  end)
end)

describe("a caller that changes its group", function()
  it("has boxes with the group that it has now", function()
    process.needs_root()
    local uid, store = 60001, helper.tmpdir()
    assert(sys.chown(store, uid, 0))
    process.assert_child({ "0 60005 1", "0 60006 1" }, sys.SIGCHLD, function(say)
      assert(sys.setgroups {})
      for _, gid in ipairs { 60005, 60006 } do
        assert(sys.setresuid(0, 0, 0))
        assert(sys.setresgid(gid, gid, 0))
        assert(sys.setresuid(uid, uid, 0))
        assert(sys.prctl("set_dumpable", 1, 0, 0, 0))
        local b <close> = assert(nsbox.start("busybox", false, { store = store }))
        say(table.unpack(select(2, maps_of(b))[1]))
      end
    end)
  end)
end)

describe("an image whose file system has no idmapped mounts", function()
  it("is unsupported for root, with what to do instead", function()
    process.needs_root()
    local dir = helper.tmpdir()
    for _, name in ipairs { "/upper", "/work", "/at" } do assert(lfs.mkdir(dir .. name)) end
    script.succeeds(([[
      local dir = %q
      local data = "lowerdir=" .. dir .. "/image,upperdir=" .. dir .. "/upper,workdir=" .. dir .. "/work"
      assert(sys.mount(nil, "/", nil, "rec,private"))
      assert(sys.mount("overlay", dir .. "/at", "overlay", 0, data))
      local r, err = nsbox.run(dir .. "/at", { "/bin/sh", "-c", "echo hi" })
      assert(not r and err.kind == "unsupported", tostring(err or r))
      assert(err.message:find("idmapped", 1, true) and err.hint:find('userns = "host"', 1, true), tostring(err))
      r = assert(nsbox.run(dir .. "/at", { "/bin/sh", "-c", "echo hi" }, { userns = "host" }))
      assert(r.stdout == "hi\n", tostring(r))]]):format(dir), { wrapper = { "/usr/bin/unshare", "-m", "/bin/sh", "-c",
        ("cp -a %s %s/image; exec \"$@\""):format(box.image(), dir), "sh" } })
  end)
end)
