-- The core alone: hand-made plans through core.launch, in shared memory and as copies.
local core = require "nsbox.core"
local lfs = require "lfs"
local sys = require "nsbox.sys"
local helper = require "spec.helper"
local assert_child = require("spec.process").assert_child
local start = require "spec.start"
helper.leakcheck { cold = true, settle = true }

local BUSYBOX, GUARD, HOP, WAY = start.BUSYBOX, start.GUARD, start.HOP, start.WAY
local guarded, exec, copy_of = start.guarded, start.exec, start.copy_of

for _, mode in ipairs { "shared memory", "copies" } do
  local m = start.mode(mode)
  local open, follow, perform, output = m.open, m.follow, m.perform, m.output

  describe("a start in " .. mode, function()
    it("becomes the program, whose status it hands on", function()
      assert.same({ "started", "exit", 0 }, { perform(guarded { exec "true" }) })
      assert.same({ "started", "exit", 7 }, { perform(guarded { exec("sh", "-c", "exit 7") }) })
      assert.same({ "started", "signal", 9 }, { perform(guarded { exec("sh", "-c", "kill -9 $$") }) })
    end)

    it("becomes a program given by descriptor", function()
      local program <close> = assert(sys.open(BUSYBOX, "path"))
      local event, how, code = perform(guarded { { "execve", "@program", { "false" }, {} } }, { program = program })
      assert.same({ "started", "exit", 1 }, { event, how, code })
    end)

    it("reports the step that failed, wherever it is, and its errno", function()
      local good = { { "chdir", "/" }, WAY, { "getpid" }, HOP, { "umask", "0022" }, { "chdir", "/" } }
      for at = 1, #good + 1 do
        local steps = copy_of(good)
        table.insert(steps, at, { "chdir", "/nonexistent" })
        steps[#steps + 1] = exec "true"
        assert.same({ "failed", at, sys.ENOENT }, { perform(steps) })
      end
    end)

    it("reports it by the number it has in the whole plan", function()
      assert.same({ "failed", 77, sys.ENOENT }, { perform(guarded { { "chdir", "/nonexistent", index = 77 } }) })
    end)

    it("fails for a plan that ends without a program", function()
      local event, _, errno = perform(guarded { { "chdir", "/" } })
      assert.same({ "failed", 0 }, { event, errno })
      event, _, errno = perform {}
      assert.same({ "failed", 0 }, { event, errno })
    end)

    it("goes on after an errno that is tolerated, and skips what used the slot", function()
      local plan = guarded {
        { "open", "/nonexistent", "path", out = "dir", ok = "EACCES,ENOENT" },
        { "fchdir", "@dir" }, { "openat", "@dir", "x", "path", out = "file" }, { "fchdir", "@file" }, exec "true" }
      assert.same({ "started", "exit", 0 }, { perform(plan) })
      plan[4].ok = "EACCES,EPERM"
      assert.same({ "failed", 4, sys.ENOENT }, { perform(plan) })
    end)

    it("reads back: another answer than expected is EPROTO", function()
      assert.same({ "started", "exit", 0 }, { perform(guarded { { "getuid", expect = helper.uid }, exec "true" }) })
      assert.same({ "failed", 4, sys.EPROTO }, { perform(guarded { { "getuid", expect = helper.uid + 1 } }) })
      assert.same({ "failed", 4, sys.EPROTO }, { perform(guarded { { "getpid", expect = "@owner" } }) })
      assert.same({ "failed", 1, sys.EPROTO }, { perform { { "getppid", expect = 1 } } })
    end)

    it("knows the caller as the parent of all its processes", function()
      local parent = { "getppid", expect = "@owner" }
      assert.same({ "started", "exit", 0 }, { perform { parent, WAY, parent, HOP, parent, exec "true" } })
    end)

    it("keeps slots over hops, and answers numbers into them", function()
      local seen
      local root <close> = assert(sys.open("/", "path"))
      perform({ WAY, { "fchdir", "@root" }, HOP, { "openat", "@root", "proc", "path", out = "dir" },
        { "barrier", "b", give = { "dir" } }, exec "true" }, { root = root }, function(_, fd)
        seen = lfs.symlinkattributes("/proc/self/fd/" .. fd:fileno(), "target")
        fd:close()
      end)
      assert.equal("/proc", seen)
    end)

    it("hops four times, and no fifth", function()
      assert.same({ "started", "exit", 0 }, { perform { WAY, WAY, WAY, HOP, exec "true" } })
      assert.same({ "failed", 5, sys.E2BIG }, { perform { WAY, WAY, WAY, WAY, HOP, exec "true" } })
    end)

    it("tries programs as execvp does", function()
      local dir = helper.tmpdir()
      helper.write(dir .. "/text", "no program\n")
      helper.write(dir .. "/noexec", "no x bit\n")
      assert(os.execute("chmod 755 " .. dir .. "/text"))
      local missing, below_file, noexec, text = dir .. "/none", dir .. "/text/x", dir .. "/noexec", dir .. "/text"
      local function try(...)
        local event, a, b = perform(guarded { { "execve", { ... }, { "true" }, {} } })
        return event == "failed" and core.errno_name(b) or ("%s %s %s"):format(event, a, b)
      end
      assert.equal("started exit 0", try(missing, below_file, noexec, BUSYBOX))
      assert.equal("ENOENT", try(missing, below_file))
      assert.equal("ENOENT", try())
      assert.equal("EACCES", try(noexec, missing))
      assert.equal("EACCES", try(missing, noexec, below_file))
      assert.equal("ENOEXEC", try(text, BUSYBOX))
      assert(lfs.link(dir .. "/loop", dir .. "/loop", true))
      assert.equal("ELOOP", try(dir .. "/loop", BUSYBOX))
    end)

    it("hands the box's root up when the program was the reason", function()
      local list = guarded { { "open", "/proc", "path", out = "root" },
        { "execve", { "/nonexistent" }, { "x" }, {}, give = { "root" } } }
      local launch <close> = assert(open(list))
      local event, step, errno, root = follow(launch)
      local _ <close> = root
      assert.same({ "failed", 5, sys.ENOENT }, { event, step, errno })
      assert.equal("/proc", lfs.symlinkattributes("/proc/self/fd/" .. root:fileno(), "target"))
    end)

    it("leaves the program 0, 1, 2 and what close_fds spares, default signals, none blocked", function()
      local many = {}
      for i = 1, 20 do many[i] = assert(sys.open("/dev/null", "rdonly")) end
      local stdio = { { "dup3", "@out", 0 }, { "dup3", "@out", 2 } }
      local fds = output { stdio[1], stdio[2], exec("ls", "/proc/self/fd") }
      local signals = output { stdio[1], stdio[2], exec("grep", "^Sig[BIC]", "/proc/self/status") }
      for i = 1, 20 do many[i]:close() end
      assert.equal("0\n1\n2\n3\n", fds) -- 3 is the listing's own
      assert.matches("^SigBlk:\t0+\nSigIgn:\t0+\nSigCgt:\t0+\n$", signals)
    end)

    it("gives descriptors each other's numbers", function()
      local dir, inputs, numbers, steps = helper.tmpdir(), {}, {}, {}
      for i = 1, 40 do
        helper.write(dir .. "/file", i .. "\n")
        inputs["in" .. i] = assert(sys.open(dir .. "/file", "rdonly"))
        numbers[i] = inputs["in" .. i]:fileno()
        assert(sys.unlink(dir .. "/file"))
      end
      local words = { "cat" }
      for i, n in ipairs(numbers) do -- each gets the next one's, the last the first's
        table.move({ { "vacate", n }, { "dup3", "@in" .. i % #numbers + 1, n } }, 1, 2, #steps + 1, steps)
        words[i + 1] = "/proc/self/fd/" .. n
      end
      for n = 100, 110 do -- nothing is there
        steps[#steps + 1] = { "vacate", n }
      end
      steps[#steps + 1] = exec(table.unpack(words))
      local text = output(steps, inputs)
      for _, fd in pairs(inputs) do fd:close() end
      local expected = {}
      for i = 1, #numbers do expected[i] = i % #numbers + 1 end
      assert.equal(table.concat(expected, "\n") .. "\n", text)
    end)

    it("moves the channel, too, and goes on to speak through it", function()
      local list = { { "close_fds" } }
      local fd <close> = assert(sys.open("/proc", "path"))
      for n = 3, 60 do -- it lies somewhere there
        table.move({ { "vacate", n }, { "dup3", "@root", n } }, 1, 2, #list + 1, list)
      end
      list[#list + 1] = { "barrier", "here", give = { "root" } }
      list[#list + 1] = { "execve", { "/nonexistent" }, { "x" }, {}, give = { "root" } }
      local launch <close> = assert(open(guarded(list), { root = fd }))
      local event, _, given = launch:next(30)
      assert.equal("barrier", event)
      given:close()
      assert(launch:go())
      local _, errno, root
      event, _, errno, root = follow(launch)
      local _ <close> = root
      assert.same({ "failed", sys.ENOENT }, { event, errno })
      assert.equal("/proc", lfs.symlinkattributes("/proc/self/fd/" .. root:fileno(), "target"))
    end)

    it("refuses to vacate what is no number of a program's own, and in the caller's table", function()
      for _, n in ipairs { 2, -1, 65536 } do
        assert.error_matches(function() open(guarded { { "vacate", n }, exec "true" }) end, "3 to 65535 expected")
      end
      assert.error_matches(function() open { { "vacate", 5 }, HOP, exec "true" } end, "hop first")
    end)

    it("fails with E2BIG for arguments beyond the kernel's limits", function()
      local many = { "true" }
      for i = 1, 60 do many[i + 1] = ("x"):rep(100000) end -- 6 MB, each below 128 KiB
      assert.same({ "failed", 4, sys.E2BIG }, { perform(guarded { { "execve", { BUSYBOX }, many, {} } }) })
      assert.same({ "failed", 4, sys.E2BIG },
        { perform(guarded { { "execve", { BUSYBOX }, { "true", ("x"):rep(140000) }, {} } }) })
      assert.same({ "started", "exit", 0 }, { perform(guarded { exec "true" }) })
    end)

    it("comes back as a copy of the program, where it is one", function()
      local none <close> = assert(sys.open("/dev/null", "path"))
      local r, w = sys.pipe2()
      local reading <close> = r
      local writing <close> = w
      local list = guarded { { "close_fds" }, { "return", "@result", "@none" } }
      local launch, result = open(list, { result = writing, none = none })
      if result then
        sys.write(result, ("%s %s"):format(core.self(), launch:pidfd()))
        sys._exit(5)
      end
      local _ <close> = launch
      local event, process, errno = follow(launch)
      if not m.copying then
        assert.same({ "failed", 5, sys.EINVAL }, { event, process, errno })
        return
      end
      local _ <close> = process
      assert.equal("started", event)
      assert.same({ "exit", 5 }, { sys.waitid(process, 30) })
      local self, pidfd = sys.read(reading):match "^(%d+) (%w+)$"
      assert.equal("nil", pidfd)
      assert.is_true(tonumber(self) ~= core.self())
    end)

    it("runs beside others", function()
      local all = {}
      for i = 1, 8 do
        all[i] = assert(open(guarded { { "barrier", "b" }, exec("sh", "-c", "exit " .. i) }))
        assert.equal("barrier", (all[i]:next(30)))
      end
      for i = 8, 1, -1 do
        assert(all[i]:go())
        local event, process = all[i]:next(30)
        assert.equal("started", event)
        assert.same({ "exit", i }, { sys.waitid(process, 30) })
        process:close()
      end
      for i = 1, 8 do all[i]:abort() end
    end)
  end)
end

describe("a start in shared memory", function()
  local function dumpable() return sys.prctl "get_dumpable" end

  -- Changing its ids makes the child, and with it the caller's memory, not dumpable.
  local function changed(number)
    return core.launch({ GUARD, { "clone", "vm,vfork,parent" }, { "prctl", "set_dumpable", 0 }, { "barrier", "b" },
      { "chdir", "/nonexistent", index = number } }, {}, "vm,files", {})
  end

  it("gives the caller its dumpable flag back after failure, abort and success", function()
    assert.equal(1, dumpable())
    for _, ending in ipairs { "fail", "abort" } do
      local launch <close> = assert(changed(9))
      assert.equal("barrier", (launch:next(30)))
      assert.equal(0, dumpable())
      if ending == "fail" then
        assert(launch:go())
        assert.same({ "failed", 9, sys.ENOENT }, { launch:next(30) })
      else
        launch:abort()
      end
      assert.equal(1, dumpable())
    end
  end)

  it("gives it back when the last of several ends, whichever that is", function()
    for _, order in ipairs { { 1, 2 }, { 2, 1 } } do
      local both = {}
      for i = 1, 2 do
        both[i] = assert(changed(i))
        assert.equal("barrier", (both[i]:next(30)))
      end
      both[order[1]]:abort()
      assert.equal(0, dumpable())
      both[order[2]]:abort()
      assert.equal(1, dumpable())
    end
  end)

  -- The memory of the next start is kept; a fork of the caller has it mapped too.
  it("never has memory that another process starts with, also after the end of an inherited start", function()
    local function mappings()
      local set = {}
      for inode in helper.read "/proc/self/maps":gmatch " %S+ (%d+) +/dev/zero %(deleted%)" do set[inode] = true end
      return set
    end
    local function waiting()
      local launch = assert(core.launch(guarded { { "barrier", "b" }, exec "true" }, {}, "vm,files", {}))
      assert.equal("barrier", (launch:next(30)))
      return launch
    end
    local inherited <close>, kept = waiting(), waiting()
    kept:abort()
    local ours = mappings()
    assert.is_truthy(next(ours))
    assert_child({ "0" }, "", function(say)
      inherited:abort()
      local _ <close>, shared = waiting(), 0
      for inode in pairs(mappings()) do
        if ours[inode] then shared = shared + 1 end
      end
      say(shared)
      return 0
    end)
  end)

  it("leaves a caller that is not dumpable as it is", function()
    assert(sys.prctl("set_dumpable", 0))
    local launch = assert(changed(9))
    assert.equal("barrier", (launch:next(30)))
    launch:abort()
    local was = dumpable()
    assert(sys.prctl("set_dumpable", 1))
    assert.equal(0, was)
  end)

  -- A clone that fails late has written the number of a pidfd that never came to be.
  it("takes no descriptor of the caller's for the pidfd of a process that could not be made", function()
    if not helper.root() then helper.skip "needs root" end
    local folder = "/sys/fs/cgroup/pids/nsbox-spec-" .. helper.pid
    if not lfs.mkdir(folder) then helper.skip "needs the pids controller of cgroup v1" end
    helper.cleanup(function() lfs.rmdir(folder) end)
    helper.write(folder .. "/pids.max", "1")
    local fifo = helper.tmpdir() .. "/fifo"
    assert(sys.mknod(fifo, "ififo,0600", 0))
    local launch <close> = assert(core.launch({ GUARD, { "write_file", "cwd", folder .. "/tasks", "0" },
      { "write_file", "cwd", fifo, "x" }, HOP, { "execve", { BUSYBOX }, { "true" }, {} } }, {}, "vm,files", {}))
    assert.equal("x", helper.read(fifo)) -- until then the step waits
    sys.nanosleep(0.1)
    local mine = {}
    for i = 1, 4 do mine[i] = assert(io.open "/dev/null") end
    assert.same({ "failed", 4, sys.EAGAIN }, { launch:next(30) })
    for i = 1, 4 do
      assert.equal("", mine[i]:read "a")
      assert.is_true((mine[i]:close()))
    end
  end)
end)
