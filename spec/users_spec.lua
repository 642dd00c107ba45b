-- Who a user is: what is asked for, and the passwd and group of a root, which may be anything.
local assert = require "luassert"
local assert_misuse = require "spec.misuse"
local error_ = require "nsbox.error"
local helper = require "spec.helper"
local option = require "nsbox.options.user"
local options = require "nsbox.options"
local sys = require "nsbox.sys"
local users = require "nsbox.users"
helper.leakcheck { cold = true }

local passwd = table.concat({
  "# a comment:x:0:0", "+:x:0:0::/:", "-root:x:0:0::/:", "", ":", "::::::", "short:x:5", "nogid:x:5:",
  "alice:x:1000:100:Alice:/home/alice:/bin/sh", "alice:x:4242:0::/root:/bin/sh", "toor:x:1000:0::/root:/bin/sh",
  "big:x:4294967295:1:::", "huge:x:99999999999999999999:1:::", "neg:x:-1:1:::", "hex:x:0x10:1:::",
  "spaced:x: 7:1:::", "zeros:x:007:1:::", "badgid:x:8:0x:::", "word:x:root:root:::", "nul\0:x:9:9:::",
  "gone:x:9:9\0:::", "last:x:4294967294:4294967294::/last:/bin/sh", "homeless:x:1002:1002:::", "bare:x:1003:1003",
  "crlf:x:1004:1004::/c:/bin/sh\r", "root:x:0:0:root:/root/home:/bin/sh", "1001:x:0:0::/root:",
  "many:x:1005:1005::/m:/bin/sh", "tail:x:1006:6::/t:/bin/sh",
}, "\n") -- and no newline at the end

local group = table.concat({
  "root:x:0:", "wheel:x:10:root,alice", "#c:x:11:alice", "+x:x:12:alice", "users:x:100:alice",
  "audio:x:29:bob,alice,carol", "near:x:30:alicex,xalice,ali", "bad:x:0x1f:alice", "minus:x:-1:alice",
  "over:x:4294967295:alice", "zeros:x:00:alice", "nul\0:x:13:alice", "audio:x:0:", "again:x:29:alice",
  "last:x:4294967294:", "short:x:14", "none:x", "7:x:0:", "crlf:x:15:alice\r", "end:x:16:tail",
}, "\n")

-- A root with these files: a descriptor of it, and its path.
local function root_of(files)
  local path = helper.tmpdir()
  assert(sys.mkdir(path .. "/etc", "0755"))
  for name, text in pairs(files or { passwd = passwd, group = group }) do
    helper.write(path .. "/etc/" .. name, text)
  end
  local fd = assert(sys.open(path, "path,directory"))
  helper.cleanup(function() fd:close() end)
  return fd, path
end

local function resolve(root, user, groups, easy)
  local source = { verb = "run", whose = "the image's", root = root, problem = not root and "no root" or nil }
  return users.resolve(source, assert(option.user(user)), groups and assert(option.groups(groups)) or {}, easy)
end

-- uid, gid, additional groups, HOME
local function ids(root, ...)
  local r = assert(resolve(root, ...))
  return ("%d:%d:%s %s"):format(r.uid, r.gid, table.concat(users.additional(r), ","), r.home)
end

local function refused(text, root, ...)
  local r, err, errno = resolve(root, ...)
  assert.is_nil(r)
  assert.is_true(error_.is(err))
  assert.same({ "image", "run", err.errno }, { err.kind, err.verb, errno })
  assert.is_truthy(tostring(err):find(text, 1, true), tostring(err))
  return err
end

describe("the option user", function()
  local MUST = [[option 'user' must be a user or "user:group", each a name or a number from 0 to 4294967294, got]]

  -- The literal 0 alone is 0, and what looks like a number is that number or misuse.
  local odd = {
    "", " ", " 1", "1 ", "-1", "-0", "+0", "+1", "00", "01", "000", "0x0", "0x10", "0X1", "0b1", "0o7", "1e3", "1E0",
    "1.0", "0.0", ".0", "1_000", "1,000", "4294967295", "4294967296", "4294967297", "8589934592",
    "9223372036854775807", "18446744073709551616", "99999999999999999999999", "0" .. ("0"):rep(40), "1:", ":1", ":",
    "::", "1::", "1:2:3", "a:b:c", "root:", ":root", "root::0", "root:-1", "root: 0", "root:00", "root:0x0",
    "root:4294967295", "0:4294967296", "\n", "0\n", "\n0", "root\n", "ro\tot", "root\0", "0\0", "\0", "\x7f", "1\r",
    "root user", "root,wheel", "#0", "#root", "~", "*", "0/0", "-root", "+root", "(0)", "1a", "7zip",
    "0nan", ("a"):rep(257),
  }
  for _, text in ipairs(odd) do
    it(("%q is misuse"):format(text:sub(1, 40)), function()
      assert_misuse(MUST, options.check, "run", { user = text })
    end)
  end

  for _, v in ipairs { -1, 4294967295, 4294967296, 2 ^ 53, 1.5, 0 / 0, 1 / 0, math.mininteger, true, false, {} } do
    it(tostring(v):gsub(": .*", "") .. " is misuse", function()
      assert_misuse("option 'user' must be a user", options.check, "run", { user = v })
    end)
  end

  local good = {
    { 0, { uid = 0 } }, { "0", { uid = 0 } }, { -0.0, { uid = 0 } }, { 1000.0, { uid = 1000 } }, { "1",
    { uid = 1 } }, { "2147483648", { uid = 2147483648 } }, { "4294967294", { uid = 4294967294 } }, { "0:0",
    { uid = 0, gid = 0 } }, { "1:4294967294", { uid = 1, gid = 4294967294 } }, { "root", { name = "root" } }, { "a",
    { name = "a" } }, { "www-data:www_data", { name = "www-data", group = "www_data" } }, { "name:5",
    { name = "name", gid = 5 } }, { "5:staff", { uid = 5, group = "staff" } }, { "_apt", { name = "_apt" } },
    { "a.b", { name = "a.b" } }, { "me@host", { name = "me@host" } }, { "host\\me$", { name = "host\\me$" } },
    { "j\xc3\xb6rg", { name = "j\xc3\xb6rg" } }, { "\xef\xbc\x90", { name = "\xef\xbc\x90" } }, { "nan",
    { name = "nan" } }, { "inf", { name = "inf" } }, { "x1e3", { name = "x1e3" } }, { ("a"):rep(256),
    { name = ("a"):rep(256) } },
  }
  for _, row in ipairs(good) do
    it(("%s is read"):format(tostring(row[1]):sub(1, 40)), function()
      assert.same(row[2], options.check("run", { user = row[1] }).user)
      assert.same(row[2], options.check("exec", { user = row[1] }).user)
    end)
  end
end)

describe("the option groups", function()
  it("is a list of names and numbers", function()
    local given = { 0, "5", "wheel", 4294967294 }
    assert.same({ { gid = 0 }, { gid = 5 }, { group = "wheel" }, { gid = 4294967294 } },
      options.check("run", { groups = given }).groups)
    assert.same({}, options.check("exec", { groups = {} }).groups)
    assert.is_nil(options.check("run", {}).groups)
  end)

  local rows = {
    { "wheel", "must be a list of groups, got 'wheel'" }, { 5, "must be a list" }, { { 1, nil, 3 }, "has a hole" },
    { { x = 1 }, "must be a list" }, { { -1 }, "[1] must be a group's name or a number from 0 to 4294967294, got -1" },
    { { "a", "0x1" }, "[2] must be a group's name" }, { { "" }, "[1] must be" }, { { "a:b" }, "[1] must be" },
    { { 4294967295 }, "[1] must be" }, { { {} }, "[1] must be" }, { { " 5" }, "[1] must be" },
    { { "00" }, "[1] must be" },
  }
  for _, row in ipairs(rows) do
    it("is misuse: " .. row[2], function()
      assert_misuse("option 'groups' " .. row[2], options.check, "run", { groups = row[1] })
    end)
  end

  it("has no more than can be read back", function()
    local most = {}
    for i = 1, 1000 do most[i] = i end
    assert.equal(1000, #options.check("run", { groups = most }).groups)
    most[1001] = 1
    assert_misuse("must have at most 1000 groups, got 1001", options.check, "run", { groups = most })
  end)
end)

describe("a user", function()
  local rows = {
    -- a name: the first proper line, and the groups that list it
    { "alice", "1000:100:10,29,100 /home/alice" }, { "root", "0:0:0,10 /root/home" },
    { "last", "4294967294:4294967294:4294967294 /last" }, { "homeless", "1002:1002:1002 /" },
    { "bare", "1003:1003:1003 /" },
    { "crlf", "1004:1004:1004 /c" }, { "tail", "1006:6:6,16 /t" },
    -- a number: that id, whoever is called so; with the line of that number, if there is one
    { 0, "0:0:0,10 /root/home" }, { "1000", "1000:100:10,29,100 /home/alice" }, { "1001", "1001:0:0 /" },
    { 7, "7:0:0 /" }, { 8, "8:0:0 /" }, { 9, "9:0:0 /" }, { 5, "5:0:0 /" }, { 16, "16:0:0 /" },
    { "4294967293", "4294967293:0:0 /" },
    { "2147483648", "2147483648:0:0 /" },
    -- with a group that one alone
    { "alice:audio", "1000:29:29 /home/alice" }, { "alice:7", "1000:7:7 /home/alice" },
    { "alice:0", "1000:0:0 /home/alice" },
    { "1000:wheel", "1000:10:10 /home/alice" }, { "1000:0", "1000:0:0 /home/alice" }, { "0:5", "0:5:5 /root/home" },
    { "77:last", "77:4294967294:4294967294 /" }, { "77:short", "77:14:14 /" },
    -- groups are added, and each counts once
    { "alice", "1000:100:0,10,14,29,30,100 /home/alice", { 0, "near", 30, "short", "users" } },
    { "alice:audio", "1000:29:3,29 /home/alice", { 29, 3, "audio" } }, { "9", "9:0:0,7 /", { "7" } },
  }
  for _, row in ipairs(rows) do
    it(("%s%s is %s"):format(row[1], row[3] and " with " .. table.concat(row[3], ",") or "", row[2]), function()
      assert.equal(row[2], ids(root_of(), row[1], row[3]))
    end)
  end

  -- no line of theirs is one, and none of them is anybody
  for _, name in ipairs { "short", "nogid", "big", "huge", "neg", "hex", "spaced", "zeros", "badgid", "word", "nul",
    "gone", "nan",
    "x1e3", "\xef\xbc\x90", "Alice", "ROOT", "alicex", "x" } do
    it(("%s has no proper line, and is refused"):format(name), function()
      local err = refused(("user '%s' is not in the image's /etc/passwd"):format(name), root_of(), name)
      assert.is_nil(err.errno)
    end)
  end
  for _, name in ipairs { "bad", "minus", "over", "zeros", "nul", "none", "nobody" } do
    it(("the group %s has no proper line, and is refused"):format(name), function()
      refused(("group '%s' is not in the image's /etc/group"):format(name), root_of(), "1:" .. name)
      refused(("group '%s' is not in the image's /etc/group"):format(name), root_of(), 1, { name })
    end)
  end

  it("that is mistyped has the nearest name as hint", function()
    assert.equal("did you mean 'homeless'?", refused("'homeles'", root_of(), "homeles").hint)
    assert.equal("did you mean 'wheel'?", refused("'weel'", root_of(), "0:weel").hint)
    assert.is_nil(refused("'quite-another'", root_of(), "quite-another").hint)
  end)

  it("in more groups than can be read back is refused", function()
    local lines = {}
    for i = 1, 1001 do lines[i] = ("g%d:x:%d:me"):format(i, i) end
    local root = root_of { passwd = "me:x:5:1:::\n", group = table.concat(lines, "\n", 1, 1000) }
    assert.equal(1000, #users.additional(assert(resolve(root, "me"))))
    refused("more groups than the 1000", root_of { passwd = "me:x:5:1:::\n", group = table.concat(lines, "\n") }, "me")
    refused("more groups than the 1000", root, "me", { 2000 })
  end)

  it("is a number alone where there are no files", function()
    for _, root in ipairs { root_of {}, (select(2, pcall(sys.open, helper.tmpdir(), "path,directory"))) } do
      assert.equal("0:0:0 /root", ids(root, 0))
      assert.equal("5:0:0,6 /", ids(root, 5, { 6 }))
      assert.equal("5:6:6 /", ids(root, "5:6"))
      refused("user 'root' is not in", root, "root")
      refused("group 'root' is not in", root, "5:root")
      if root.close then root:close() end
    end
  end)

  it("is a number alone where the root cannot be seen", function()
    assert.equal("5:0:0 /", ids(nil, 5))
    assert.equal("0:6:6,7 /root", ids(nil, "0:6", { 7 }))
    refused("'root' cannot be looked up: no root", nil, "root")
    refused("'staff' cannot be looked up: no root", nil, "5:staff")
    refused("'staff' cannot be looked up: no root", nil, 5, { "staff" })
  end)
end)

-- ---- files that attack ----

local SECONDS = 60 -- hangs are caught, slow machines are not

-- What is in the place of a file; answers the problem that is told.
local attacks = {
  { "a FIFO", "is no regular file but a fifo", function(path)
    assert(sys.mknod(path, "ififo,0644", 0))
  end },
  { "a folder", "is no regular file but a dir", function(path)
    assert(sys.mkdir(path, "0755"))
  end },
  { "a socket", "is no regular file but a socket", function(path)
    assert(sys.mknod(path, "ifsock,0644", 0))
  end },
  { "4 GiB of nothing", "is too large: 4294967296 bytes", function(path)
    local file = assert(io.open(path, "wb"))
    assert(file:seek("set", (4 << 30) - 1))
    assert(file:write "\0")
    file:close()
  end },
  { "more than is read", "is too large", function(path)
    helper.write(path, ("a:x:1:1:::\n"):rep(100000))
  end },
  { "a line without an end", "has a line of more than 65536 bytes", function(path)
    helper.write(path, "a:x:1:" .. ("b,"):rep(40000))
  end },
  { "NUL bytes", "has a line of more than 65536 bytes", function(path)
    helper.write(path, ("\0"):rep(1 << 20))
  end },
  { "a link to itself", "cannot be opened: Too many levels of symbolic links", function(path)
    assert(sys.symlink(path:match "[^/]*$", path))
  end },
  { "a file in a file", "cannot be opened: Not a directory", function(path)
    helper.write(path:gsub("/etc/.*", "/x"), "")
    assert(sys.symlink("/x/passwd", path))
  end },
}

-- Their targets are looked for inside the root.
local outside = { "/etc/passwd", "../../../../../../../../etc/passwd", "/proc/self/root/etc/passwd",
  "/proc/1/root/etc/passwd",
  "/dev/zero", "/dev/null", "/no/such/file" }

describe("a passwd or group that is", function()
  for _, attack in ipairs(attacks) do
    it(attack[1] .. " is told, where it is needed", function()
      for _, name in ipairs { "passwd", "group" } do
        local root, path = root_of { [name == "passwd" and "group" or "passwd"] = name == "passwd" and group or passwd }
        attack[3](path .. "/etc/" .. name)
        local before = sys.clock()
        local problem = ("the image's /etc/%s %s"):format(name, attack[2])
        local err = refused(problem, root, "alice")
        assert.equal('numbers need no file: user = "1000:1000"', err.hint)
        refused(problem, root, 1000)
        refused(problem, root, name == "group" and "9:wheel" or "alice:9")
        if name == "group" then refused(problem, root, 0, { "wheel" }, true) end
        assert.equal("9:8:7,8 /", ids(root, "9:8", { 7 }))
        assert.equal("0:0:0 ", ids(root, 0, nil, true):match "^.* ")
        assert.is_true(sys.clock() - before < SECONDS)
      end
    end)
  end

  for _, target in ipairs(outside) do
    it(("a link to %s is not there: it is looked for inside"):format(target), function()
      local root, path = root_of {}
      for _, name in ipairs { "passwd", "group" } do assert(sys.symlink(target, path .. "/etc/" .. name)) end
      local r, err = resolve(root, "root")
      assert.is_nil(r)
      local text = tostring(err)
      assert.is_truthy(text:find "is not in the image's /etc/passwd" or text:find "levels of", text)
    end)
  end

  it("a link inside is followed, as the box's programs do", function()
    local root, path = root_of {}
    assert(sys.mkdir(path .. "/usr", "0755"))
    helper.write(path .. "/usr/passwd", "me:x:5:6::/me:\n")
    assert(sys.symlink("/usr/passwd", path .. "/etc/passwd"))
    assert(sys.symlink("../../../../usr/passwd", path .. "/etc/group"))
    assert.equal("5:6:6 /me", ids(root, "me"))
  end)

  it("below an etc that is a link out is not the host's", function()
    local path = helper.tmpdir()
    assert(sys.symlink("/../../../../../../etc", path .. "/etc"))
    local root <close> = assert(sys.open(path, "path,directory"))
    refused("cannot be opened: Too many levels", root, "root")
  end)

  it("of no size is not even opened: files of the kernel's have none", function()
    local root, path = root_of { group = group }
    helper.write(path .. "/etc/empty", "")
    assert(sys.symlink("empty", path .. "/etc/passwd"))
    local opened, open = 0, sys.open
    sys.open = function(...) -- luacheck: ignore
      opened = opened + 1
      return open(...)
    end
    local ok, why = pcall(ids, root, "5")
    sys.open = open -- luacheck: ignore
    assert.same({ true, "5:0:0 /", 0 }, { ok, why, opened })
  end)

  it("a device is not even opened", function()
    if not helper.root() then helper.skip "needs root: it makes a device" end
    for flag, kind in pairs { ifchr = "char", ifblk = "block" } do
      local root, path = root_of { group = group }
      assert(sys.mknod(path .. "/etc/passwd", flag .. ",0666", 60 << 8)) -- has no driver: to open it is ENXIO
      refused("is no regular file but a " .. kind, root, "root")
    end
  end)

  it("shut is told", function()
    if helper.root() then helper.skip "needs a user who may not read everything" end
    local root, path = root_of()
    assert(sys.chmod(path .. "/etc/passwd", "0000"))
    refused("the image's /etc/passwd cannot be opened: Permission denied", root, "alice")
    assert.equal("9:8:8 /", ids(root, "9:8"))
  end)

  it("full to the brim is read, and little is kept of it", function()
    local root = root_of { passwd = ("a:x:1:1:::\n"):rep((1 << 20) // 11), group = ("a:x:1:b\n"):rep((1 << 20) // 8) }
    collectgarbage()
    local before, peak = collectgarbage "count", 0
    local clock = sys.clock()
    debug.sethook(function()
      if collectgarbage "count" - before > 8 * 1024 then collectgarbage() end -- in a large suite garbage may pile up
      peak = math.max(peak, collectgarbage "count")
    end, "", 1000)
    local ok, err = pcall(function()
      refused("user 'zz' is not in", root, "zz")
      refused("group 'zz' is not in", root, "a:zz")
      assert.equal("1:1:1 /", ids(root, "a"))
    end)
    debug.sethook()
    assert(ok, err)
    assert.is_true(sys.clock() - clock < SECONDS)
    assert.is_true(peak - before < 8 * 1024, ("%.0f KiB"):format(peak - before))
  end)
end)
