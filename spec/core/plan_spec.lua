-- The core's reading of a plan: what a step may say, and what is refused before anything exists.
local helper = require "spec.helper"
local core = require "nsbox.core"
local sys = require "nsbox.sys"
helper.leakcheck { cold = true }

local HOP = { "clone", "vm,vfork,parent", index = 0 }
local EXEC = { "execve", { "/nonexistent" }, { "x" }, {} }

-- A plan that is never to start anything: the refusal comes as an error of Lua.
local function refused(pattern, steps, inputs, options)
  table.insert(steps, 1, HOP)
  for i = 2, #steps do
    if type(steps[i]) == "table" then steps[i].index = steps[i].index or i - 1 end
  end
  steps[#steps + 1] = EXEC
  local ok, message = pcall(core.launch, steps, inputs or {}, "vm,files", options or {})
  assert.is_false(ok, "the plan was accepted")
  assert.matches(pattern, message)
end

describe("a plan is refused before anything exists:", function()
  it("a slot used before it is set", function()
    refused("step 1 fchdir: root: slot used before it is set", { { "fchdir", "@root" } })
  end)

  it("a slot that is set later only", function()
    refused("slot used before it is set", {
      { "fchdir", "@dir" }, { "open", "/", "path", out = "dir" }, { "fchdir", "@dir" } })
  end)

  it("a slot a step would set and use at once", function()
    refused("slot used before it is set", { { "openat", "@dir", "x", "path", out = "dir" } })
  end)

  it("a slot set twice", function()
    refused("step 2 open: dir: slot set twice", {
      { "open", "/", "path", out = "dir" }, { "open", "/", "path", out = "dir" }, { "fchdir", "@dir" } })
  end)

  it("a slot that an input sets already, and the caller's own", function()
    local fd <close> = assert(sys.open("/", "path"))
    refused("set twice", { { "open", "/", "path", out = "dir" } }, { dir = fd })
    refused("set twice", { { "open", "/", "path", out = "owner" } })
    refused("set twice", {}, { owner = fd })
  end)

  it("a slot set and never used", function()
    refused("slot 'dir' is set and never used", { { "open", "/", "path", out = "dir" } })
  end)

  it("slots of barriers: given before set, taken twice, taken and never used", function()
    refused("step 1 barrier: dir: slot used before", { { "barrier", "b", give = { "dir" } } })
    refused("set twice", { { "barrier", "b", take = { "a", "a" } } })
    refused("slot 'a' is set and never used", { { "barrier", "b", take = { "a" } } })
    refused("too many descriptors", { { "barrier", "b", take = { "a", "b", "c", "d", "e" } } })
  end)

  it("an expected value in a slot that is not set", function()
    refused("step 1 getpid: pid: slot used before", { { "getpid", expect = "@pid" } })
  end)

  it("an unknown call, flag, errno or mode", function()
    refused("step 1 mout: mout: no such call", { { "mout", "proc", "/proc" } })
    refused("unknown flag 'nosiud'", { { "mount", "proc", "/proc", "proc", "nosiud" } })
    refused("step 1 chdir: ok: unknown flag", { { "chdir", "/x", ok = "ENOTHING" } })
    refused("a mode is octal digits", { { "mkdir", "/x", "0999" } })
    refused("a mode is a string", { { "mkdir", "/x", 755 } })
  end)

  it("too many arguments, or one of another type", function()
    refused("step 1 chdir: arguments: too many", { { "chdir", "/", "/" } })
    refused("step 1 chdir: path: a string expected", { { "chdir", 7 } })
    refused("step 1 fchdir: fd: a descriptor expected", { { "fchdir", "root" } })
    refused("step 1 setuid: uid: an integer expected", { { "setuid", "root" } })
    refused("too many errnos", { { "chdir", "/", ok = "ENOENT,EACCES,EPERM,EIO,EBUSY" } })
  end)

  it("NUL in a path, in an argument of the program, in its environment", function()
    refused("path: the string holds a NUL byte", { { "chdir", "/a\0b" } })
    for place = 2, 4 do
      local exec = { "execve", { "/x" }, { "x" }, {} }
      exec[place] = { "a\0b" }
      local ok, message = pcall(core.launch, { HOP, exec }, {}, "vm,files", {})
      assert.is_false(ok)
      assert.matches("item 1: the string holds a NUL byte", message)
    end
  end)

  it("an input that is closed, or no descriptor", function()
    local fd = assert(sys.open("/", "path"))
    fd:close()
    refused("step 0 inputs: dir: not an open descriptor", {}, { dir = fd })
    refused("dir: not an open descriptor", {}, { dir = "x" })
    refused("dir: not an open descriptor", {}, { dir = -1 })
  end)

  it("a step that is no table, or names nothing", function()
    refused("", { "chdir" })
    refused("", { {} })
    refused("", { { 7 } })
  end)

  it("names the step by its number in the whole plan", function()
    refused("step 41 chdir", { { "chdir", 7, index = 41 } })
  end)

  it("a hop whose pidfd would not be the caller's, for it comes after one with a table of its own", function()
    local why = "step 1 clone: flags: the process has a descriptor table of its own"
    refused(why, { { "clone", "vm,files,vfork,parent" } })
    local ok, message = pcall(core.launch, { { "clone", "vm,vfork,parent" }, EXEC }, {}, "vm", {})
    assert.is_false(ok)
    assert.matches(why, message)
  end)

  it("a hop into a cgroup that is in no slot", function()
    refused("step 1 clone: into: a slot expected", { { "clone", "vm,vfork,parent", into = "/sys/fs/cgroup" } })
    refused("step 1 clone: cgroup: slot used before it is set", { { "clone", "vm,vfork,parent", into = "@cgroup" } })
  end)

  it("what a process that shares the caller's descriptors may not do: fill a slot, close, wait, exec", function()
    local why = "the process shares the caller's descriptors"
    for _, step in ipairs {
      { "open", "/", "path", out = "dir" }, { "close_fds" }, { "dup3", 1, 0 }, { "barrier", "b" },
      EXEC } do
      local ok, message = pcall(core.launch, { step }, {}, "vm,files", {})
      assert.is_false(ok, step[1])
      assert.matches("step 1 " .. step[1] .. ": " .. step[1] .. ": " .. why, message)
      ok, message = pcall(core.launch, { { "clone", "vm,files,vfork,parent" }, step }, {}, "vm,files", {})
      assert.is_false(ok, step[1])
      assert.matches("step 2 .*" .. why, message)
    end
  end)

  it("a parameter of two types, or too many of them", function()
    refused("step 2 setuid: x: a parameter of two types",
      { { "chdir", { param = "x" } }, { "setuid", { param = "x" } } })
    local steps = {}
    for i = 1, 16 do steps[i] = { "chdir", { param = "p" .. i } } end
    refused("step 16 chdir: p16: too many parameters", steps)
  end)

  it("a parameter where a flag, a descriptor or a mode belongs", function()
    refused("flags expected", { { "umount2", "/x", { param = "x" } } })
    refused("a descriptor expected", { { "fchdir", { param = "x" } } })
    refused("a mode is a string", { { "mkdir", "/x", { param = "x" } } })
  end)

  it("more slots than there are", function()
    local steps = {}
    for i = 1, 1100 do
      steps[#steps + 1] = { "open", "/", "path", out = "s" .. i }
      steps[#steps + 1] = { "fchdir", "@s" .. i }
    end
    refused("too many slots", steps)
  end)

  it("more steps than fit into its memory", function()
    local steps = {}
    for i = 1, 200000 do steps[i] = { "chdir", "/" } end -- 2 x 16 MiB
    refused("do not fit", steps)
  end)

  it("arguments that do not fit into its memory", function()
    local list = {}
    for i = 1, 17 do list[i] = ("x"):rep(1 << 20) end
    refused("do not fit", { { "chdir", ("x"):rep(17 << 20) } })
    local ok, message = pcall(core.launch, { HOP, { "execve", { "/bin/true" }, list, {} } }, {}, "vm,files", {})
    assert.is_false(ok)
    assert.matches("do not fit", message)
  end)

  it("again and again, without a loss of memory", function()
    local function mapped() return tonumber(helper.read "/proc/self/status":match "VmSize:%s*(%d+)") end
    local function one()
      pcall(core.launch, { { "fchdir", "@none" } }, {}, "vm,files", {})
      collectgarbage()
    end
    for _ = 1, 10 do one() end
    local before = mapped()
    for _ = 1, 200 do one() end
    assert.is_true(mapped() - before < 4096, ("%d KiB more"):format(mapped() - before))
  end)
end)

describe("a program", function()
  local function program()
    return core.compile({ HOP, { "chdir", { param = "where" } },
      { "execve", { "/bin/busybox" }, { param = "argv" }, {} } }, { out = true }, "vm,files")
  end

  local function launched(made, out, params)
    local launch <close> = assert(core.launch(made, { out = out },
      { params = params, copy = os.getenv "NSBOX_CLONE" == "copy" }))
    local event, process, errno = launch:next(30)
    if event == "started" then
      local _ <close> = process
      return event, sys.waitid(process, 30)
    end
    return event, process, errno
  end

  it("serves many starts, each with its own values", function()
    local null <close> = assert(sys.open("/dev/null", "rdwr"))
    local made = program()
    for _, code in ipairs { 0, 3, 7 } do
      collectgarbage()
      assert.same({ "started", "exit", code },
        { launched(made, null, { where = "/", argv = { "sh", "-c", "exit " .. code } }) })
    end
    assert.same({ "failed", 2, sys.ENOENT }, { launched(made, null, { where = "/nonexistent", argv = { "true" } }) })
  end)

  it("is refused a value that is missing, or of another type, before anything exists", function()
    local null <close> = assert(sys.open("/dev/null", "rdwr"))
    local made = program()
    for _, row in ipairs {
      { "parameter 'where': a string expected", { argv = {} } },
      { "parameter 'where': the string holds a NUL byte", { where = "/\0", argv = {} } },
      { "parameter 'argv': a list expected", { where = "/" } },
      { "item 1: a string expected", { where = "/", argv = { 1 } } },
    } do
      local ok, message = pcall(launched, made, null, row[2])
      assert.is_false(ok)
      assert.matches(row[1], message)
    end
    local ok, message = pcall(launched, made, nil, { where = "/", argv = {} })
    assert.is_false(ok)
    assert.matches("inputs: out: not an open descriptor", message)
  end)
end)
