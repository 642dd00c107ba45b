-- Files and folders of the host's in a box.
local assert = require "luassert"
local box = require "spec.box"
local helper = require "spec.helper"
local lfs = require "lfs"
local nsbox = require "nsbox"
local process = require "spec.process"
local script = require "spec.script"
local sys = nsbox.sys

helper.leakcheck()

local ROOT = helper.root()

-- A folder of the host's for boxes: dir/file and dir/sub/deep, everybody's to read and to write.
local function folder()
  local dir = helper.tmpdir() .. "/data"
  for _, path in ipairs { dir, dir .. "/sub" } do
    assert(lfs.mkdir(path))
    assert(sys.chmod(path, "0777"))
  end
  helper.write(dir .. "/file", "of the host\n")
  helper.write(dir .. "/sub/deep", "deep\n")
  return dir
end

local function run(cmd, opts, image)
  return assert(nsbox.run(image or "busybox", { "/bin/sh", "-c", cmd }, opts))
end

local function owner_of(path)
  local stat = assert(sys.lstat(path))
  return stat.uid .. ":" .. stat.gid
end

local CALLER = sys.geteuid() .. ":" .. sys.getegid()

describe("a folder of the host's in a box", function()
  it("is the same folder: what is written there is there", function()
    local dir = folder()
    local r = run("cat /a/b/file /a/b/sub/deep; echo new >/a/b/made", { mounts = { dir .. ":/a/b" } })
    assert.same({ "of the host\ndeep\n", "" }, { r.stdout, r.stderr })
    assert.equal("new\n", helper.read(dir .. "/made"))
  end)

  it("is without set-user-ID, devices and, where it is said, writes and programs", function()
    local dir = folder()
    local look = "grep ' /a ' /proc/self/mountinfo | cut -d' ' -f6; echo x >/a/file; "
      .. "cp /bin/busybox /a/sub/x; /a/sub/x true"
    local r = run(look, { mounts = { dir .. ":/a:ro" } })
    assert.matches("^ro,nosuid,nodev", r.stdout)
    assert.matches("can't create /a/file: Read%-only file system", r.stderr)
    assert.equal("of the host\n", helper.read(dir .. "/file"))
    r = run(look, { mounts = { { source = dir, target = "/a", options = "noexec" } } })
    assert.matches("^rw,nosuid,nodev,noexec", r.stdout)
    assert.matches("/a/sub/x: Permission denied", r.stderr)
    r = run(look, { mounts = { dir .. ":/a:suid,dev" } })
    assert.is_nil(r.stdout:find("nosuid", 1, true))
  end)

  it("has no set-user-ID program that gains anything, unless its row says so", function()
    process.needs_root()
    local dir = folder()
    helper.write(dir .. "/id", helper.read "/usr/bin/id")
    assert(sys.chmod(dir .. "/id", "4755"))
    local opts = { userns = "host", user = "5:6", no_new_privs = false, workdir = "/" }
    for options, uid in pairs { nosuid = "5\n", suid = "0\n" } do
      opts.mounts = { dir .. ":/mnt:" .. options }
      assert.equal(uid, assert(nsbox.run("host", { "/mnt/id", "-u" }, opts)).stdout)
    end
    opts.mounts = { dir .. ":/mnt" }
    assert.equal("5\n", assert(nsbox.run("host", { "/mnt/id", "-u" }, opts)).stdout)
    opts.mounts, opts.no_new_privs = { dir .. ":/mnt:suid" }, nil
    assert.equal("5\n", assert(nsbox.run("host", { "/mnt/id", "-u" }, opts)).stdout)
  end)

  it("can be one file, on a file or on none; and on a device, which is none there", function()
    local dir = folder()
    local image = box.image { ["etc/known"] = "the image's\n" }
    local opts = { mounts = { dir .. "/file:/etc/known", dir .. "/file:/etc/new:ro" } }
    local r = run("busybox cat /etc/known /etc/new; echo x >/etc/new", opts, image)
    assert.equal("of the host\nof the host\n", r.stdout)
    assert.matches("Read%-only file system", r.stderr)
    assert.equal("the image's\n", helper.read(image .. "/etc/known"))
    assert.is_nil(lfs.attributes(image .. "/etc/new"))
    assert.matches("Permission denied", run("cat /x", { mounts = { "/dev/zero:/x" } }).stderr)
  end)

  it("takes all that is mounted below it, and its restrictions hold there too", function()
    process.needs_userns()
    local dir = folder()
    script.succeeds(([[
      local dir = %q
      assert(sys.mount(nil, "/", nil, "rec,private"))
      assert(sys.mount("none", dir .. "/sub", "tmpfs"))
      io.open(dir .. "/sub/inner", "w"):write("inner\n"):close()
      local r = assert(nsbox.run("busybox", "cat /a/sub/inner; echo x >/a/sub/inner", { mounts = { dir .. ":/a:ro" } }))
      assert(r.stdout == "inner\n" and r.stderr:find "Read%%-only", tostring(r))]]):format(dir),
      { wrapper = { "/usr/bin/unshare", ROOT and "-m" or "-Urm" } })
  end)

  it("is there in the order of the list, in the image host too, and in exec", function()
    local dir, other = folder(), folder()
    helper.write(other .. "/file", "of another\n")
    local opts = { mounts = { dir .. ":/mnt", other .. ":/mnt/sub" }, workdir = "/" }
    for _, image in ipairs { "busybox", "host" } do
      local r = run("cat /mnt/file /mnt/sub/file", opts, image)
      assert.equal("of the host\nof another\n", r.stdout, r.stderr)
    end
    opts.userns = "keep-id"
    local b <close> = assert(nsbox.start("busybox", false, opts))
    assert.equal("of another\n", assert(b:exec("cat /mnt/sub/file")).stdout)
  end)

  it("stays writable in a box whose root is not", function()
    local dir = folder()
    local r = run("echo x >/a/new; echo y >/new", { mounts = { dir .. ":/a" }, read_only = true })
    assert.matches("can't create /new: Read%-only file system", r.stderr)
    assert.equal("x\n", helper.read(dir .. "/new"))
  end)

  it("is found from the caller's folder, and whatever its name", function()
    local dir = folder()
    local odd = helper.tmpdir() .. "/a b,c:d\\e\nf"
    assert(lfs.mkdir(odd))
    helper.write(odd .. "/file", "odd\n")
    local cwd = lfs.currentdir()
    assert(lfs.chdir(dir))
    local r = run("cat /x/deep /y/file", { mounts = { "./sub:/x", { source = odd, target = "/y" } } })
    assert(lfs.chdir(cwd))
    assert.equal("deep\nodd\n", r.stdout, r.stderr)
  end)

  it("that is not there is an error with its name, or is left out and noted", function()
    local missing = helper.tmpdir() .. "/none"
    local err = box.fails("setup", sys.ENOENT, "busybox", { "true" }, { mounts = { missing .. ":/a" } })
    assert.equal(("mount %s on /a: No such file or directory"):format(missing), err.message)
    local r = run("ls /a", { mounts = { { source = missing, target = "/a", optional = true } } })
    assert.matches("No such file or directory", r.stderr)
    assert.same({ "/a" }, box.notes(r))
  end)

  it("is an error when it is named from a folder that was removed: no other of that name is taken", function()
    local gone = helper.tmpdir() .. "/gone"
    assert(lfs.mkdir(gone))
    script.succeeds(([[
      assert(sys.chdir(%q))
      assert(os.remove(%q))
      for _, optional in ipairs { false, true } do
        local row = { source = "tmp", target = "/a", optional = optional }
        local r, err = nsbox.run("busybox", "true", { mounts = { row } })
        assert(not r and err.kind == "setup" and err.errno == sys.ENOENT, tostring(err or r))
        assert(err.hint:find "working directory was removed", err.hint)
      end]]):format(gone, gone))
  end)

  it("that is swapped after it was held is refused, or is what was held", function()
    local core = require "nsbox.core"
    local one, two = folder(), folder()
    helper.write(two .. "/file", "of another\n")
    local launch = core.launch
    core.launch = function(...)
      core.launch = launch
      assert(sys.rename(one, two, "exchange"))
      return launch(...)
    end
    helper.cleanup(function() core.launch = launch end)
    local r, err = nsbox.run("busybox", "cat /a/file", { mounts = { one .. ":/a" } })
    if ROOT then
      assert.equal("of the host\n", r and r.stdout, tostring(err))
    else
      assert.is_nil(r, tostring(r))
      assert.same({ "setup", "same_file", "ESTALE" }, { err.kind, err.call, err.name })
      assert.matches(one .. " was replaced", err.hint, 1, true)
    end
  end)

  it("that does not fit its target, or has none to be made, is an error with its name and what to do", function()
    local dir = folder()
    for target, name in pairs { ["/file:/bin"] = "EINVAL", [":/bin/busybox"] = "ENOTDIR",
      ["/file:/bin/busybox/x"] = "ENOTDIR" } do
      local r, err = nsbox.run("busybox", { "true" }, { mounts = { dir .. target } })
      assert.same({ nil, name }, { r, err.name }, tostring(err))
      assert.is_truthy(tostring(err):find(dir, 1, true), tostring(err))
      assert.matches("a folder takes a folder as target", err.hint)
    end
    local r, err = nsbox.run("busybox", { "true" }, { mounts = { dir .. ":/a:ro", dir .. "/sub:/a/none" } })
    assert.same({ nil, "EROFS" }, { r, err.name }, tostring(err))
    assert.matches("make the target there first", err.hint)
    assert.is_nil(lfs.attributes(dir .. "/none"))
  end)

  it("is where the command starts, if it says so, and up to a hundred of them", function()
    local dir = folder()
    assert.equal("/a/sub\ndeep\n", run("pwd; ls", { mounts = { dir .. ":/a" }, workdir = "/a/sub" }).stdout)
    local many = {}
    for i = 1, 100 do many[i] = dir .. "/sub:/m/" .. i end
    for _, image in ipairs { "busybox", "host" } do
      assert.equal("100\ndeep\n", run("ls /m | wc -l; cat /m/100/deep", { mounts = many, workdir = "/" }, image).stdout)
    end
  end)

  it("is restricted for user namespaces that the box makes, too", function()
    process.needs_userns()
    local dir = folder()
    local r = run([[unshare -Urm sh -c 'for o in rw,nosuid,nodev ro,nodev,suid ro,nosuid,dev; do
      mount -o remount,bind,$o /a && echo $o; done; umount /a && echo away; touch /a/new && echo made; echo ran']],
      { mounts = { dir .. ":/a:ro" } })
    assert.equal("ran\n", r.stdout, r.stderr)
    assert.is_nil(lfs.attributes(dir .. "/new"))
  end)

  it("keeps to the box's root, wherever the image's links lead", function()
    local dir, outside = folder(), folder()
    local image = box.image()
    assert(sys.symlink(outside, image .. "/link"))
    assert(sys.symlink("../../../../../.." .. outside, image .. "/up"))
    local before = box.manifest(outside)
    for _, target in ipairs { "/link", "/link/sub", "/up/x", "/up" } do
      local r, err = nsbox.run(image, { "/bin/sh", "-c", ("busybox cat %s/file"):format(target) },
        { mounts = { dir .. ":" .. target } })
      assert(r and r.stdout == "of the host\n" or err and err.kind == "setup", tostring(err or r))
    end
    assert.equal(before, box.manifest(outside))
    assert.equal("bin\nlink\nup\n", table.concat(helper.names(image), "\n") .. "\n")
  end)

  it("does not follow the links of the box's proc, to which an image can lead", function()
    local dir = folder()
    local image = box.image()
    for name, to in pairs { root = "self/root", cwd = "self/cwd", one = "1/root", fd = "self/fd" } do
      assert(sys.symlink("/proc/" .. to, image .. "/" .. name))
    end
    for _, target in ipairs { "/root", "/root/x", "/cwd/x", "/one/x", "/fd/3/x" } do
      local r, err = nsbox.run(image, { "/bin/busybox", "true" }, { mounts = { dir .. ":" .. target } })
      assert.same({ nil, "mkpath", "ELOOP" }, { r, err and err.call, err and err.name }, tostring(err or r))
    end
  end)

  it("shows its mounts to nobody outside, and later ones of the host to nobody inside", function()
    process.needs_root()
    local dir = folder()
    script.succeeds(([[
      local dir = %q
      assert(sys.mount(dir, dir, nil, "bind"))
      assert(sys.mount(nil, dir, nil, "shared"))
      local b <close> = assert(nsbox.start("busybox", false, { mounts = { dir .. ":/a" }, userns = "host",
        cap_add = { "sys_admin" } }))
      assert(b:exec("mount -t tmpfs none /a/sub && touch /a/sub/inside"):check())
      assert(not sys.stat(dir .. "/sub/inside"))
      assert(sys.mount("none", dir .. "/sub", "tmpfs"))
      io.open(dir .. "/sub/outside", "w"):close()
      assert(b:exec("ls /a/sub").stdout == "inside\n", b:exec("ls /a/sub").stdout)]]):format(dir),
      { wrapper = { "/usr/bin/unshare", "-m", "--propagation", "shared" } })
  end)
end)

describe("what a box makes in a folder of the host's", function()
  it("is the caller's, by root of the box, without root; as root the range's, which is nobody", function()
    local dir = folder()
    run("echo x >/a/new", { mounts = { dir .. ":/a" } })
    if ROOT then
      local uid = assert(sys.lstat(dir .. "/new")).uid
      assert.is_true(uid >= 524288, uid)
    else
      assert.equal(CALLER, owner_of(dir .. "/new"))
    end
  end)

  it("is the caller's, by its own number, with keep-id", function()
    local dir = folder()
    local r = run("echo x >/a/new; stat -c %u:%g /a/new /a/file", { mounts = { dir .. ":/a" }, userns = "keep-id" })
    assert.equal(CALLER .. "\n" .. CALLER .. "\n", r.stdout)
    assert.equal(CALLER, owner_of(dir .. "/new"))
  end)

  it("is the caller's on an idmapped mount, where each number is itself", function()
    local dir = folder()
    local opts = { mounts = { { source = dir, target = "/a", idmap = true } } }
    if not ROOT then
      local err = box.fails("unsupported", nil, "busybox", { "true" }, opts)
      assert.matches("an idmapped mount takes the host's root", err.message)
      assert.matches('userns = "keep%-id"', err.hint)
      return
    end
    local r = run("stat -c %u:%g /a/file; echo x >/a/new; touch /a/other; chown 5:6 /a/other", opts)
    assert.equal("0:0\n", r.stdout, r.stderr)
    assert.same({ "0:0", "5:6" }, { owner_of(dir .. "/new"), owner_of(dir .. "/other") })
    local err = box.fails("unsupported", nil, "busybox", { "true" }, { mounts = opts.mounts, userns = "host" })
    assert.matches("takes a user namespace", err.message)
    err = box.fails("unsupported", sys.EINVAL, "busybox", { "true" }, { mounts = {
      { source = "/proc/self/fd", target = "/a", idmap = true } } })
    assert.matches("has no idmapped mounts", err.message)
  end)
end)
