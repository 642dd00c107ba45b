-- Boxes whose image has users of its own: who their processes are, and which groups shut them out.
local assert = require "luassert"
local box = require "spec.box"
local helper = require "spec.helper"
local nsbox = require "nsbox"
local script = require "spec.script"
local start = require "spec.start"
local users = require "nsbox.users"
local sys = nsbox.sys
helper.leakcheck()

local passwd = "root:x:0:0::/root:/bin/sh\nme:x:1000:100::/home/me:/bin/sh\n1234:x:0:0::/root:/bin/sh\nhost:x:7:8::/:\n"
local group = "root:x:0:\nteam:x:20:you,me\nclub:x:30:me\nothers:x:40:you\nmore:x:50:\nadm:x:60:root\n"

local function image(files)
  return box.image(files or { ["etc/passwd"] = passwd, ["etc/group"] = group })
end

local function needs_root()
  if not helper.root() then helper.skip "needs root: one id is mapped without" end
end

local WHO = "busybox id -u; busybox id -g; busybox grep ^Groups: /proc/self/status; echo $HOME"

-- uid:gid:groups HOME
local function who(r, err)
  assert(r, tostring(err))
  assert.same({ "", true }, { r.stderr, r.ok })
  local uid, gid, groups, home = r.stdout:match "^(%d+)\n(%d+)\nGroups:%s*([^\n]*)\n([^\n]*)\n$"
  return ("%s:%s:%s %s"):format(uid, gid, groups:gsub(" $", ""):gsub(" ", ","), home)
end

local function run(root, opts)
  return who(nsbox.run(root, WHO, opts))
end

local function refused(text, r, err, errno)
  assert.is_nil(r, tostring(r))
  assert.same({ "image", err.errno }, { err.kind, errno })
  assert.is_truthy(tostring(err):find(text, 1, true), tostring(err))
end

describe("the user of a box", function()
  local rows = {
    { nil, nil, "0:0:0,60 /root" }, { "root", nil, "0:0:0,60 /root" }, { 0, nil, "0:0:0,60 /root" },
    { "0:0", nil, "0:0:0 /root" }, { "me", nil, "1000:100:20,30,100 /home/me" },
    { 1000, nil, "1000:100:20,30,100 /home/me" },
    { "1000", nil, "1000:100:20,30,100 /home/me" }, { "me:others", nil, "1000:40:40 /home/me" },
    { "me:77", nil, "1000:77:77 /home/me" }, { "1000:club", nil, "1000:30:30 /home/me" },
    { "1000:0", nil, "1000:0:0 /home/me" },
    { 1234, nil, "1234:0:0 /" }, { "1234:1234", nil, "1234:1234:1234 /" }, { "4294967294", nil, "4294967294:0:0 /" },
    { "2147483648:2147483649", nil, "2147483648:2147483649:2147483649 /" }, { "host", nil, "7:8:8 /" },
    { nil, { "more", 9, "9" }, "0:0:0,9,50,60 /root" },
    { "me", { 5, "team", "others" }, "1000:100:5,20,30,40,100 /home/me" },
    { "55:55", { 3, 2, 1, 55 }, "55:55:1,2,3,55 /" }, { 55, { 4294967294 }, "55:0:0,4294967294 /" },
  }
  for _, row in ipairs(rows) do
    local text = tostring(row[1]) .. (row[2] and " with " .. table.concat(row[2], ",") or "")
    it(("%s is %s"):format(text, row[3]), function()
      needs_root()
      local userns = helper.root() and "keep-id" or nil -- of ids beyond 65535 a box of root's has none else
      assert.equal(row[3], run(image(), { user = row[1], groups = row[2], userns = userns }))
    end)
  end

  it("is root without the caller's help, whatever the image says", function()
    local elsewhere = image { ["etc/passwd"] = "root:x:0:0::/elsewhere:\n", ["etc/group"] = group }
    assert.matches("^0:0:.* /elsewhere$", run(elsewhere))
    assert.matches("^0:0:.* /root$", run(image {}))
  end)

  it("has the HOME that it is given", function()
    assert.matches(" /x$", run(image(), { env = { HOME = "/x" } }))
  end)

  it("must be in the image's files, not the host's", function()
    local name = assert(helper.read "/etc/passwd"):match "\n([%a_]+):"
    refused(("user '%s' is not in the image's /etc/passwd"):format(name), nsbox.run(image {}, WHO, { user = name }))
    refused("group 'nogroup' is not in the image's", nsbox.run(image {}, WHO, { user = "0:nogroup" }))
    refused("group 'nogroup' is not in the image's", nsbox.run(image {}, WHO, { groups = { "nogroup" } }))
    refused("user 'me' is not in", nsbox.explain(image {}, { "true" }, { user = "me" }))
  end)

  it("of the image host is in the host's files", function()
    needs_root()
    local name, uid, gid = assert(helper.read "/etc/passwd"):match "\n([%a_]+):[^:]*:(%d+):(%d+)"
    local r = assert(nsbox.run("host", "echo $(id -u) $(id -g)", { user = name }))
    assert.equal(("%s %s\n"):format(uid, gid), r.stdout)
  end)

  it("is no name where a mount namespace is joined, whose files nobody has seen", function()
    needs_root()
    local target <close> = assert(nsbox.start("busybox", { "sleep", "60" }))
    local ns = { mount = ("/proc/%d/ns/mnt"):format(target.pid), user = ("/proc/%d/ns/user"):format(target.pid) }
    local err = box.fails("unsupported", nil, "host", { "true" }, { namespaces = ns, user = "nobody" })
    assert.matches("'nobody' cannot be looked up: the mount namespace that is joined", err.message)
  end)

  it("is seen in explain, with its groups", function()
    needs_root()
    local e = assert(nsbox.explain(image(), { "true" }, { user = "me", groups = { 9 } }))
    assert.same({ uid = 1000, gid = 100, umask = 18, additionalGids = { 9, 20, 30, 100 } }, e.config.process.user)
  end)

  it("may be in a thousand groups", function()
    needs_root()
    local lines = {}
    for i = 1, 999 do lines[i] = ("g%d:x:%d:me\n"):format(i, 5000 - i) end
    local root = image { ["etc/passwd"] = passwd, ["etc/group"] = table.concat(lines) }
    local r = assert(nsbox.run(root, "busybox id -G | busybox wc -w", { user = "me" }))
    assert.equal("1000\n", r.stdout)
  end)

  it("of an attacker's image keeps nobody waiting", function()
    local root = image {}
    assert(sys.mkdir(root .. "/etc", "0755"))
    for _, name in ipairs { "passwd", "group" } do assert(sys.mknod(root .. "/etc/" .. name, "ififo,0644")) end
    local before = sys.clock()
    refused("/etc/passwd is no regular file but a fifo", nsbox.run(root, WHO, { user = "me" }))
    assert(assert(nsbox.run(root, { "busybox", "true" }, { user = "0:0" })).ok) -- id itself would wait at the FIFO
    assert(assert(nsbox.run(root, { "busybox", "true" })).ok)
    assert.is_true(sys.clock() - before < helper.PATIENCE)
  end)
end)

describe("the User of an image", function()
  local function of(text, opts)
    local img = { name = "i", root = image(), config = { User = text } }
    opts = opts or {}
    opts.namespaces = { mount = { new = true } }
    local r, err, errno = users.of_image("run", opts, img)
    if not r then return nil, err, errno end
    return ("%d:%d:%s %s"):format(r.uid, r.gid, table.concat(users.additional(r), ","), r.home)
  end

  it("counts where the options name none", function()
    assert.equal("1000:100:20,30,100 /home/me", of "me")
    assert.equal("1000:30:30 /home/me", of "1000:club")
    assert.equal("0:0:0,60 /root", of "")
    assert.equal("7:8:8 /", of("me", { user = { name = "host" } }))
    assert.equal("1000:100:9,20,30,100 /home/me", of("me", { groups = { { gid = 9 } } }))
  end)

  it("must be right, as an option must", function()
    refused("user 'nobody' is not in the image's /etc/passwd", of "nobody")
    for _, text in ipairs { "-1", "0x0", "1:", ":1", "4294967295", " 0", "00", "a:b:c" } do
      refused("the User of image 'i' must be a user", of(text))
    end
  end)
end)

describe("a process that is added", function()
  setup(helper.warm_detached)

  local function exec(b, opts)
    return who(b:exec(WHO, opts))
  end

  it("has the main process's user and groups, and what is added to them", function()
    needs_root()
    local b <close> = assert(nsbox.start(image(), "busybox sleep 60", { user = "me", groups = { 9 } }))
    assert.equal("1000:100:9,20,30,100 /home/me", exec(b))
    assert.equal("1000:100:9,10,20,30,40,100 /home/me", exec(b, { groups = { 10, "others", 9 } }))
    assert.equal("1000:40:40 /home/me", exec(b, { user = "me:others" }))
    assert.equal("0:0:0,60 /root", exec(b, { user = "root" }))
    assert.equal("5:0:0 /", exec(b, { user = 5 }))
  end)

  it("keeps a HOME that was given", function()
    needs_root()
    local b <close> = assert(nsbox.start(image(), "busybox sleep 60", { env = { HOME = "/x" } }))
    assert.equal("1000:100:20,30,100 /x", exec(b, { user = "me" }))
  end)

  for _, init in ipairs { false, true } do
    it("is looked up in the box as it is now" .. (init and ", below init" or ""), function()
      local b <close> = assert(nsbox.start(image {},
        [[busybox mkdir /etc; echo new:x:0:0::/new: >/etc/passwd; echo g:x:0: >/etc/group; echo ok
          exec busybox sleep 60]], { init = init }))
      assert(b:expect("ok", helper.PATIENCE))
      assert.matches("^0:0:.* /new$", exec(b, { user = "new" }))
      assert.matches("^0:0:.* /new$", exec(b, { user = "new:g" }))
      refused("user 'me' is not in the box's /etc/passwd", b:exec(WHO, { user = "me" }))
      refused("group 'x' is not in the box's /etc/group", b:spawn(WHO, { groups = { "x" } }))
      assert.equal(0, select(2, b:call(function() return sys.getuid() end, { user = "new" })))
    end)
  end

  it("of a detached box is looked up in it", function()
    local b = assert(nsbox.start(image(), "busybox sleep 60", { detach = true }))
    helper.cleanup(function() assert(b:destroy()) end)
    assert.matches("^0:0:.* /root$", exec(b, { user = "root" }))
    if helper.root() then assert.equal("1000:100:20,30,100 /home/me", exec(b, { user = "me" })) end
    refused("user 'you' is not in the box's /etc/passwd", b:exec(WHO, { user = "you" }))
  end)

  it("is never looked up outside the box, however its files are changed", function()
    local b <close> = assert(nsbox.start(image {}, [[busybox mkdir /etc
      busybox ln -s ../../../../../../../../proc/self/root/etc/passwd /etc/passwd; echo ok; exec busybox sleep 60]]))
    assert(b:expect("ok", helper.PATIENCE))
    refused("/etc/passwd", b:exec(WHO, { user = "root" }))
    assert(assert(b:exec "busybox rm /etc/passwd; busybox ln -s ../proc/kmsg /etc/passwd").ok)
    refused("user 'bob' is not in the box's /etc/passwd", b:exec(WHO, { user = "bob" }))
    assert(assert(b:exec "busybox rm /etc/passwd; busybox mkfifo /etc/passwd").ok)
    refused("the box's /etc/passwd is no regular file but a fifo", b:exec(WHO, { user = "root" }))
    assert(assert(b:exec { "busybox", "true" }).ok)
  end)

  it("of a box that has ended is refused as any other", function()
    local b <close> = assert(nsbox.start(image(), "true"))
    assert(b:wait(helper.PATIENCE))
    local r, err = b:exec(WHO, { user = "me" })
    assert.same({ nil, "closed" }, { r, err.kind })
  end)
end)

describe("groups", function()
  it("of the caller never leak into a box", function()
    needs_root()
    script.succeeds([[
      local nsbox = require "nsbox"
      local WHO = "busybox grep ^Groups: /proc/self/status"
      local b <close> = assert(nsbox.start("busybox", "sleep 60", { user = 5 }))
      for _, r in ipairs { assert(nsbox.run("busybox", WHO)), assert(nsbox.run("busybox", WHO, { user = 5 })),
          assert(b:exec(WHO)), assert(nsbox.run("host", "grep ^Groups: /proc/self/status")) } do
        assert(r.stdout:find "^Groups:%s*%d" and not r.stdout:find "424", r.stdout)
      end]], { wrapper = { "/usr/bin/setpriv", "--groups=4242,4243" } })
  end)

  -- CVE-2022-2989 and its like: a mode that shuts a group out counts for all who are in it.
  it("shut their members out, by whatever way they are members", function()
    needs_root()
    local b <close> = assert(nsbox.start(image(), "echo secret >/f; busybox chown 0:20 /f; busybox chmod 0705 /f; "
      .. "echo ok; exec busybox sleep 60"))
    assert(b:expect("ok", helper.PATIENCE))
    local function read(opts) return assert(b:exec("busybox cat /f", opts)).stdout end
    assert.equal("", read { user = "me" })
    assert.equal("", read { user = 1000 })
    assert.equal("", read { user = "5:20" })
    assert.equal("", read { user = "5:team" })
    assert.equal("", read { user = 5, groups = { "team" } })
    assert.equal("secret\n", read { user = 5 })
    assert.equal("secret\n", read { user = "me:club" })
  end)

  it("hold the primary one, too: to change the group is no way out of it", function()
    needs_root()
    local ok, groups = nsbox.call(image(), function()
      assert(sys.setresgid(50, 50, 50)) -- as a set-group-ID program does
      return io.open("/proc/self/status"):read("a"):match "Groups:%s*([^\n]*)"
    end, { user = "0:20" })
    assert.same({ true, "20 " }, { ok, groups })
  end)

  it("are read back: all that were asked for, and no other", function()
    needs_root()
    local function step_of(set, asked)
      local m = start.mode "shared memory"
      return m.perform(start.guarded { { "close_fds" }, { "setgroups", set }, { "check_ids", 0, 0, asked },
        start.exec("busybox", "true") })
    end
    for _, asked in ipairs { { 5, 6 }, { 6, 5 } } do assert.equal("started", (step_of({ 6, 5 }, asked))) end
    for _, asked in ipairs { {}, { 5 }, { 5, 7 }, { 5, 6, 7 }, { 0, 1 } } do
      local event, _, errno = step_of({ 5, 6 }, asked)
      assert.same({ "failed", sys.EPROTO }, { event, errno })
    end
    assert.equal("failed", (step_of({ 5, 5 }, { 5, 6 })))
  end)
end)
