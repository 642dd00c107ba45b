-- A program that cannot be run: an Error of kind "exec" that says why, in the box's own terms.
local helper = require "spec.helper"
local nsbox = require "nsbox"
local process = require "spec.process"
local sys = require "nsbox.sys"
helper.leakcheck()

local box = require "spec.box"
local fails = box.fails

local ENOENT, E2BIG, ENOEXEC, EACCES, ENOTDIR, ELOOP = 2, 7, 8, 13, 20, 40

local machine = nsbox.probe().arch
local numbers = { x86_64 = 62, aarch64 = 183, riscv64 = 243 }
local other = machine == "aarch64" and "x86_64" or "aarch64"

--- An ELF program of 64 bits that asks for a loader; elf(5).
local function elf(number, loader)
  loader = loader .. "\0"
  local header = "\127ELF\2\1\1" .. ("\0"):rep(9)
    .. string.pack("<I2I2I4I8I8I8I4I2I2I2I2I2I2", 2, number, 1, 0x400000, 64, 0, 0, 64, 56, 1, 64, 0, 0)
  local interp = string.pack("<I4I4I8I8I8I8I8I8", 3, 4, 120, 0x400078, 0x400078, #loader, #loader, 1)
  return header .. interp .. loader
end

local function program(text) return { text, "0755" } end

local files = {
  ["opt/script"] = program "#!/no/such/interpreter -x\necho hi\n",
  ["opt/dos"] = program "#!/bin/sh\r\necho hi\r\n",
  ["opt/evil"] = program "#!/\27[2J\n",
  ["opt/locked"] = program "#!/opt/data\n",
  ["opt/data"] = "no program\n",
  ["opt/text"] = program "neither of the two\n",
  ["opt/empty"] = program "",
  ["opt/stub"] = program "\127ELF",
  ["opt/plain"] = "#!/bin/sh\necho hi\n",
  ["opt/needs_loader"] = program(elf(numbers[machine] or 62, "/lib64/no-such-loader.so.2")),
  ["opt/foreign"] = program(elf(numbers[other], "/lib/ld.so")),
  ["opt/fine"] = program "#!/bin/sh\necho fine\n",
}

-- What is wrong, the command, errno, its name, and what the error says.
local rows = {
  { "its interpreter is not in the box", { "/opt/script" }, ENOENT, "ENOENT",
    "/opt/script: its interpreter /no/such/interpreter is not in the box" },
  { "its interpreter line ends as on Windows", { "/opt/dos" }, ENOENT, "ENOENT",
    "/opt/dos: its first line ends in a carriage return, as on Windows, and /bin/sh\\x0d is not in the box" },
  { "its interpreter may not be run", { "/opt/locked" }, EACCES, "EACCES",
    "/opt/locked: its interpreter /opt/data cannot be run, it has no x bit" },
  { "its interpreter's name would drive a terminal", { "/opt/evil" }, ENOENT, "ENOENT",
    "its interpreter /\\x1b[2J is not in the box" },
  { "its loader is not in the box", { "/opt/needs_loader" }, ENOENT, "ENOENT",
    "/opt/needs_loader: its loader /lib64/no-such-loader.so.2 is not in the box" },
  { "it is for another machine", { "/opt/foreign" }, ENOEXEC, "ENOEXEC",
    ("it is a program for %s, and this machine is %s"):format(other, machine) },
  { "it has no x bit", { "/opt/plain" }, EACCES, "EACCES", "/opt/plain: it has no x bit" },
  { "it is a folder", { "/opt" }, EACCES, "EACCES", "/opt: it is a folder" },
  { "it is neither script nor program", { "/opt/text" }, ENOEXEC, "ENOEXEC", "neither a script with #! nor a program" },
  { "it is empty", { "/opt/empty" }, ENOEXEC, "ENOEXEC", "neither a script with #! nor a program" },
  { "it is a stub of a program", { "/opt/stub" }, ENOEXEC, "ENOEXEC", "/opt/stub: " },
  { "it is not there", { "/opt/none" }, ENOENT, "ENOENT", "/opt/none: No such file or directory" },
  { "no folder of PATH has it", { "none" }, ENOENT, "ENOENT", "no folder of PATH in the box has it" },
  { "a file is on the way to it", { "/opt/data/x" }, ENOTDIR, "ENOTDIR", "Not a directory" },
  { "its links go in a circle", { "/opt/circle" }, ELOOP, "ELOOP", "Too many levels of symbolic links" },
  { "it is a link to nothing", { "/opt/dangling" }, ENOENT, "ENOENT", "No such file" },
  { "it lies on a file system without programs", { "/proc/version" }, EACCES, "EACCES", "/proc/version: " },
}

describe("a program that cannot be run is explained:", function()
  local root

  local function image()
    root = box.image(files)
    assert(sys.symlink("circle", root .. "/opt/circle"))
    assert(sys.symlink("/no/target", root .. "/opt/dangling"))
    return root
  end

  for _, row in ipairs(rows) do
    local what, cmd, errno, name, text = table.unpack(row)
    it(what, function()
      local err = fails("exec", errno, image(), cmd)
      assert.same({ name, cmd[1], "run", "integer" }, { err.name, err.path, err.verb, math.type(err.step) })
      assert.is_truthy(tostring(err):find(text, 1, true), tostring(err))
      assert.is_nil(tostring(err):find "[\r\27]")
    end)
  end

  it("found from the working directory", function()
    local r = assert(nsbox.run(image(), { "./fine" }, { workdir = "/opt" }))
    assert.equal("fine\n", r.stdout)
    local err = fails("exec", EACCES, root, { "./plain" }, { workdir = "/opt" })
    assert.matches("it has no x bit", tostring(err))
  end)

  it("found in PATH, where one that may not be run does not hide the next", function()
    local path = { env = { PATH = "/opt/first:/none:/opt" } }
    image()
    assert(os.execute(("cd %s/opt && mkdir first && echo x >first/fine"):format(helper.quote(root))))
    assert.equal("fine\n", assert(nsbox.run(root, { "fine" }, path)).stdout)
    assert.equal("EACCES", fails("exec", EACCES, root, { "plain" }, path).name)
  end)

  it("for another user than its owner", function()
    if not helper.has_ids() then helper.skip "needs more ids than one" end
    image()
    assert(os.execute("chmod 0700 " .. helper.quote(root .. "/opt/fine")))
    local err = fails("exec", EACCES, root, { "/opt/fine" }, { user = 1000 })
    assert.matches("its mode or owner", tostring(err))
  end)

  it("through a link that leads out of the box only in the host's eyes", function()
    image()
    assert(os.execute(("ln -s /bin/ls %s/opt/out"):format(helper.quote(root)))) -- the host has it, the box does not
    fails("exec", ENOENT, root, { "/opt/out" })
  end)

  it("its arguments are more than the kernel takes here", function()
    local out, ok = box.script("ulimit -s 1024; LUA", [[
      local words = { "true" }
      for i = 1, 10 do words[#words + 1] = ("x"):rep(100000) end
      local r, err, errno = require "nsbox".run("busybox", words)
      print(r, err.kind, errno, err.name, err.hint)]])
    assert.is_true(ok)
    assert.matches("^nil\texec\t" .. E2BIG .. "\tE2BIG\targuments and environment together are beyond", out)
  end)

  -- Without a mount namespace of its own, the box's root is the caller's; in a joined one, that of others.
  describe("the box is on the host's own root:", function()
    local function on_host(cmd, errno, text, opts)
      opts = opts or {}
      opts.namespaces = { mount = false }
      local err = fails("exec", errno, "host", cmd, opts)
      assert.is_truthy(tostring(err):find(text, 1, true), tostring(err))
    end

    local own = {
      { "it is not there", "none", ENOENT, "No such file or directory" },
      { "its interpreter is missing", "script", ENOENT, "its interpreter /no/such/interpreter is not in the box" },
      { "its loader is missing", "needs_loader", ENOENT, "its loader /lib64/no-such-loader.so.2 is not in the box" },
      { "it is for another machine", "foreign", ENOEXEC, "it is a program for " .. other },
      { "it has no x bit", "plain", EACCES, "it has no x bit" },
      { "it is neither script nor program", "text", ENOEXEC, "it is neither a script with #! nor a program" },
    }
    for _, row in ipairs(own) do
      it(row[1], function()
        image()
        on_host({ root .. "/opt/" .. row[2] }, row[3], ("/opt/%s: %s"):format(row[2], row[4]))
        on_host({ "./" .. row[2] }, row[3], ("./%s: %s"):format(row[2], row[4]), { workdir = root .. "/opt" })
      end)
    end

    it("it lies on a mount without programs", function()
      on_host({ "/proc/version" }, EACCES, "/proc/version: it has no x bit")
    end)

    it("no folder of PATH has it", function()
      on_host({ "no-such-program" }, ENOENT, "no folder of PATH in the box has it")
    end)

    it("it is a device", function()
      on_host({ "/dev/null" }, EACCES, "/dev/null: it is a char, not a program")
    end)

    it("in a mount namespace that is joined", function()
      if not helper.root() then helper.skip "needs root: without, the namespace's user namespace would be needed" end
      local at = helper.tmpdir()
      local held <close> = process.holder("newns", function()
        assert(sys.mount(nil, "/", nil, "rec,private"))
        assert(sys.mount("spec", at, "tmpfs", "noexec"))
        helper.write(at .. "/fine", "#!/bin/sh\n")
        assert(sys.chmod(at .. "/fine", "0755"))
      end)
      local opts = { namespaces = { mount = held.pid } }
      local err = fails("exec", EACCES, "host", { at .. "/fine" }, opts)
      assert.is_truthy(tostring(err):find(at .. "/fine: its mode or owner, or a noexec mount, forbids it", 1, true))
      fails("exec", ENOENT, "host", { at .. "/none" }, opts)
    end)
  end)

  it("nothing of the image was changed, and nothing ran", function()
    image()
    local before = box.manifest(root)
    fails("exec", ENOENT, root, { "/opt/script" })
    fails("exec", ENOENT, root, { "/opt/script" }, { tty = true, workdir = "/made" })
    assert.equal(before, box.manifest(root))
  end)
end)
