-- No path surprise: whatever lies in an image where nsbox mounts or makes something, it stays in the box.
local box = require "spec.box"
local helper = require "spec.helper"
local lfs = require "lfs"
local nsbox = require "nsbox"
local sys = require "nsbox.sys"
helper.leakcheck()

-- A folder of the host that an image points at: nothing may be made, changed or mounted in it.
local function canary()
  local dir = helper.tmpdir()
  assert(sys.chmod(dir, "0777"))
  for _, name in ipairs { "pts", "shm", "self", "sub" } do
    assert(lfs.mkdir(dir .. "/" .. name))
    assert(sys.chmod(dir .. "/" .. name, "0777"))
  end
  for name, text in pairs { secret = "of the host\n", null = "a file\n" } do
    helper.write(dir .. "/" .. name, text)
    assert(sys.chmod(dir .. "/" .. name, "0666"))
  end
  return dir
end

local up = ("../"):rep(12)

-- What stands in the image in place of a folder, by a name for the spec.
local traps = {
  ["an absolute link"] = function(at, outside) assert(sys.symlink(outside, at)) end,
  ["a relative link"] = function(at, outside) assert(sys.symlink(up .. outside:sub(2), at)) end,
  ["a link to the host's root by way of a process"] = function(at, outside)
    assert(sys.symlink("/proc/self/root" .. outside, at))
  end,
  ["a link to a process's working directory"] = function(at) assert(sys.symlink("/proc/self/cwd", at)) end,
  ["a link to a descriptor"] = function(at) assert(sys.symlink("/proc/self/fd/3", at)) end,
  ["a loop"] = function(at) assert(sys.symlink(at:match "[^/]*$", at)) end,
  ["a dangling link"] = function(at) assert(sys.symlink("/none/nowhere", at)) end,
  ["a link to nothing below the canary"] = function(at, outside) assert(sys.symlink(outside .. "/made", at)) end,
  ["a link up"] = function(at) assert(sys.symlink(up, at)) end,
  ["a FIFO"] = function(at) assert(sys.mknod(at, "ififo,0666", 0)) end,
  ["a file"] = function(at) helper.write(at, "text\n") end,
  ["a folder nobody may enter"] = function(at)
    assert(lfs.mkdir(at))
    assert(sys.chmod(at, "0000"))
  end,
}

local targets = {
  ["/proc"] = { "proc" }, ["/sys"] = { "sys" }, ["/dev"] = { "dev" }, ["/dev/pts"] = { "dev", "dev/pts" },
  ["/dev/shm"] = { "dev", "dev/shm" }, ["the working directory"] = { "job" },
  ["a folder above the working directory"] = { "job", opts = { workdir = "/job/deep/er" } },
}

local LOOK = [[
  test -e /secret && echo found the canary
  test -f /proc/self/status || echo no proc
  for f in null zero full random urandom tty; do test -c /dev/$f || echo no /dev/$f; done
  test -d /dev/shm && test -c /dev/pts/ptmx || echo dev is not whole
  grep -q ' /dev/shm ' /proc/mounts && echo shm in place
  for d in "" /proc /dev /sys /job; do test -e $d/secret && echo $d/secret; done
  pwd]]

-- Every name below a folder with all that is known of it; a box that is root of the host may go anywhere, so may we.
local function listing(folder)
  local pipe = assert(io.popen(("cd %s && exec find . -printf '%%P %%y %%m %%U %%G %%s %%T@ %%C@ %%l\\n' 2>/dev/null")
    :format(helper.quote(folder))))
  local lines = {}
  for line in pipe:lines() do lines[#lines + 1] = line end
  pipe:close()
  table.sort(lines)
  return table.concat(lines, "\n")
end

local function attempt(root, opts)
  return nsbox.run(root, { "sh", "-c", LOOK }, opts)
end

-- Refused with a reason, or a box like any other; and the host as before (its listing) in both cases.
local function harmless(root, outside, before, opts, what)
  local r, err = attempt(root, opts)
  assert.equal(before, listing(outside), what)
  if not r then
    assert.equal("setup", err.kind, tostring(err))
    assert.is_number(err.step)
    assert.is_number(err.errno)
    return err
  end
  assert.equal("", r.stderr)
  assert.not_matches("canary", r.stdout)
  assert.not_matches("secret", r.stdout)
  return r
end

for name, target in pairs(targets) do
  describe(name .. " of an image", function()
    for trap, lay in pairs(traps) do
      it("may be " .. trap, function()
        local root, outside = box.image(), canary()
        for i = 1, #target - 1 do assert(lfs.mkdir(root .. "/" .. target[i])) end
        lay(root .. "/" .. target[#target], outside)
        local image, before = listing(root), listing(outside)
        for _, more in ipairs { {}, { read_only = true }, { tty = true }, { namespaces = { net = false } } } do
          local opts = { workdir = "/job" }
          for k, v in pairs(target.opts or {}) do opts[k] = v end
          for k, v in pairs(more) do opts[k] = v end
          if opts.tty then opts.stdout = "null" end
          harmless(root, outside, before, opts, trap)
        end
        assert.equal(image, listing(root))
      end)
    end
  end)
end

describe("an image", function()
  it("with all its mount points led to one folder of the host leaves that alone", function()
    for trap, lay in pairs { abs = traps["an absolute link"], rel = traps["a relative link"] } do
      local root, outside = box.image(), canary()
      for _, at in ipairs { "proc", "dev", "sys", "job" } do lay(root .. "/" .. at, outside) end
      harmless(root, outside, listing(outside), { workdir = "/job" }, trap)
    end
  end)

  it("cannot have its masks and read-only paths led elsewhere", function()
    local root = box.image()
    assert(sys.symlink("/fake", root .. "/proc"))
    assert(lfs.mkdir(root .. "/fake"))
    local r = assert(nsbox.run(root, { "sh", "-c", "ls /fake/acpi; echo x >/proc/sys/kernel/domainname" }))
    assert.equal("", r.stdout)
    assert.matches("Read%-only file system", r.stderr)
    assert.is_false(r.ok)
  end)

  it("named by a link is the folder behind it", function()
    local root = box.image { ["id"] = "one\n" }
    local link = helper.tmpdir() .. "/link"
    assert(sys.symlink(root, link))
    assert.equal("one\n", assert(nsbox.run(link, { "sh", "-c", "busybox cat /id" })).stdout)
  end)

  it("that is swapped after it was held, and before the box looks, is refused", function()
    local core = require "nsbox.core"
    local one, two = box.image { id = "one\n" }, box.image { id = "two\n" }
    local launch = core.launch
    core.launch = function(...)
      core.launch = launch
      assert(sys.rename(one, two, "exchange"))
      return launch(...)
    end
    local r, err = nsbox.run(one, { "/bin/busybox", "cat", "/id" }, { userns = "single" })
    core.launch = launch
    assert.is_nil(r, tostring(r))
    assert.same({ "setup", "same_file", "ESTALE" }, { err.kind, err.call, err.name })
    assert.equal("two\n", assert(nsbox.run(one, { "/bin/busybox", "cat", "/id" })).stdout)
  end)

  it("that is swapped for another meanwhile is one of both, whole, or an error that says so", function()
    local one = box.image { id = "one\n", ["sub/id"] = "one\n" }
    local two = box.image { id = "two\n", ["sub/id"] = "two\n" }
    local stop_r, stop_w = sys.pipe2()
    local pid = assert(sys.clone(sys.SIGCHLD, function()
      stop_w:close()
      sys.nonblock(stop_r, true)
      repeat
        assert(sys.rename(one, two, "exchange"))
      until sys.read(stop_r, 1) == ""
    end))
    stop_r:close()
    local seen = {}
    for _ = 1, 60 do
      local r, err = nsbox.run(one, { "/bin/busybox", "cat", "/id", "/sub/id" })
      local what = r and r.stdout or err.name
      seen[what] = (seen[what] or 0) + 1
      local fine = what == "one\none\n" or what == "two\ntwo\n" or what == "ESTALE"
      assert.is_true(fine, tostring(err or r))
      if err then assert.matches("same_file", tostring(err)) end
    end
    stop_w:close()
    assert.same({ "exit", 0 }, { sys.waitid(pid, 30) })
    assert.is_true((seen["one\none\n"] or 0) + (seen["two\ntwo\n"] or 0) > 0)
  end)

  it("that is swapped for a link, a file or nothing is an error, and never the other thing", function()
    local outside = canary()
    for _, kind in ipairs { "link", "file", "nothing" } do
      local root = box.image()
      local parked = root .. "-parked"
      local stop_r, stop_w = sys.pipe2()
      local pid = assert(sys.clone(sys.SIGCHLD, function()
        stop_w:close()
        sys.nonblock(stop_r, true)
        repeat
          assert(sys.rename(root, parked))
          if kind == "link" then
            sys.symlink(outside, root)
          elseif kind == "file" then
            helper.write(root, "x")
          end
          sys.unlink(root)
          assert(sys.rename(parked, root))
        until sys.read(stop_r, 1) == ""
      end))
      stop_r:close()
      for _ = 1, 40 do
        local r = nsbox.run(root, { "/bin/busybox", "ls", "/" })
        assert.not_matches("secret", r and r.stdout or "")
      end
      stop_w:close()
      assert.same({ "exit", 0 }, { sys.waitid(pid, 30) })
    end
  end)
end)

describe("a running box", function()
  -- A mount goes when its folder is removed from within a mount namespace that does not have it.
  local UNMOUNT = [[mkdir /n && unshare -r -U -m sh -c '
    mount -t tmpfs n /n && cp /bin/busybox /n && mkdir /n/old && cd /dev && pivot_root /n /n/old &&
    /busybox umount -l /old && /busybox rmdir pts']]

  it("that has taken its devpts away leads no terminal to a descriptor of who enters it", function()
    local b <close> = assert(nsbox.start("busybox", { "sleep", "100" }))
    local master <close> = assert(sys.open("/dev/ptmx", "rdwr,noctty"))
    local r = assert(b:exec(UNMOUNT))
    assert.equal(0, r.code, r.stderr)
    for _, made in ipairs { "ln -s /proc/self/fd/9 ptmx", "ln -s /proc/1/fd/0 ptmx", "mkfifo ptmx", "echo >ptmx",
      "mkdir ptmx", "true" } do
      assert.is_true(assert(b:exec("rm -rf /dev/pts; mkdir /dev/pts; cd /dev/pts; " .. made)).ok)
      local added, err = b:exec({ "tty" }, { tty = true, stdout = "capture", fds = { [9] = master }, timeout = 10 })
      assert.is_nil(added, made .. ": " .. tostring(added and added.stdout))
      assert.equal("setup", err.kind)
    end
    assert.is_true(assert(b:exec("rm -rf /dev/pts; ln -s /proc/1/root /dev/pts")).ok)
    assert.equal("ELOOP", select(2, b:exec({ "tty" }, { tty = true, stdout = "capture" })).name)
  end)

  it("has no way to a caller's program that it may write to, whatever it runs", function()
    local own = require("nsbox.probe").host().own_program
    if own.ok then helper.skip(own.why) end
    local opts = { userns = helper.root() and "keep-id" or nil, timeout = 10 } -- root's shifted ids may not write to it
    local b <close> = assert(nsbox.start("host", { "sleep", "100" }, opts))
    local made = "ln -s /proc/self/exe /tmp/link; printf '#!/proc/self/exe\\n' >/tmp/script; chmod 755 /tmp/script"
    assert.is_true(assert(b:exec(made)).ok)
    for _, path in ipairs { "/proc/self/exe", "/proc/thread-self/exe", "/tmp/link", "/tmp/script" } do
      local r, err = b:exec({ path, "-e", "print 'of the host'" }, { timeout = 10 })
      assert(not r or r.stdout == "", path)
      assert(r or err.kind == "exec", tostring(err))
      r, err = nsbox.run("host", { "/proc/self/exe", "-e", "print 'of the host'" }, opts)
      assert(not r or r.stdout == "", path)
      assert(r or err.kind == "exec", tostring(err))
    end
  end)
end)
