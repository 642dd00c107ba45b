-- A host program that forks, ends its Lua state while a box runs, or collects garbage all the time.
local box = require "spec.box"
local helper = require "spec.helper"
local script = require "spec.script"
local sys = require "nsbox.sys"
helper.leakcheck { settle = true, outside = true }

local CHECK, succeeds = script.CHECK, script.succeeds

describe("a fork of the host program", function()
  it("has a keeper of its own, and does no harm to the boxes of the first", function()
    succeeds(CHECK .. [[
      local host = require "host"
      check()
      local fed, child = 0, nil
      local r = assert(nsbox.run("busybox", { "sh", "-c", "read a; sleep 0.2; read b; echo out; exit 6" },
        { input = function()
          fed = fed + 1
          if fed == 1 then return "a\n" end
          if fed == 2 then
            child = assert(host.fork())
            if child == 0 then
              local ok, err = pcall(function()
                for i = 1, 5 do check({}, i) end
                check({ namespaces = { pid = false } }, 3)
              end)
              if not ok then print(err) end
              os.exit(ok and 9 or 1, true)
            end
            local how, code = sys.waitid(child)
            assert(how == "exit" and code == 9, tostring(code))
            return "b\n"
          end
        end }))
      assert(r.code == 6 and r.stdout == "out\n", tostring(r))
      for i = 1, 3 do check({}, i) end]])
  end)

  it("that shares its start's memory ends no start of the first", function()
    succeeds(([[
      local core, host = require "nsbox.core", require "host"
      local guard = { "prctl", "set_pdeathsig", "kill" }
      for _, copy in ipairs { false, true } do
        local launch = assert(core.launch({ guard, { "clone", "vm,vfork,parent" }, guard, { "close_fds" },
          { "barrier", "b" }, { "execve", { "/bin/busybox" }, { "true" }, {} } }, {}, "vm,files", { copy = copy }))
        assert(launch:next(30) == "barrier")
        local child = host.fork()
        if child == 0 then
          launch:abort()
          local r = nsbox.run("busybox", { "true" })
          os.exit(r and r.code == 0 and 9 or 1, true)
        end
        local how, code = sys.waitid(child, 30)
        assert(how == "exit" and code == 9, tostring(code))
        assert(launch:go())
        local event, process, errno = launch:next(30)
        assert(event == "started", event .. tostring(process) .. tostring(errno))
        assert(select(2, sys.waitid(process, 30)) == 0)
      end]]))
  end)

  it("may outlive it, with boxes of its own", function()
    succeeds(CHECK .. [[
      local host = require "host"
      check()
      local r, w = sys.pipe2()
      if host.fork() == 0 then
        if host.fork() == 0 then
          sys.nanosleep(0.1)
          local ok = pcall(check, {}, 2)
          sys.write(w, ok and "good" or "bad")
          os.exit(0, true)
        end
        os.exit(0, false)
      end
      w:close()
      assert(sys.read(r) == "good")]])
  end)
end)

describe("the end of the Lua state", function()
  for _, how in ipairs { "os.exit(7, true)", "os.exit(7, false)", "error 'x'" } do
    it("while a box runs ends it: " .. how, function()
      for _, opts in ipairs { "{}", "{ tty = true }", "{ namespaces = { pid = false } }" } do
        local marker = box.marker()
        local s <close> = script.start(([[
          local nsbox, fed, opts = require "nsbox", false, %s
          opts.input = function()
            if fed then %s end
            fed = true
            return "x\n"
          end
          nsbox.run("busybox", { "sh", "-c", "trap '' TERM HUP INT; sleep 100; true", arg[1] }, opts)]]
          ):format(opts, how), { marker = marker, before = function()
            sys.dup3(assert(sys.open("/dev/null", "rdwr")), 2)
          end })
        local ended, code = s:wait()
        assert.same({ "exit", how == "error 'x'" and 1 or 7 }, { ended, code }, opts)
        local deadline = sys.clock() + helper.PATIENCE
        while #box.pids(marker) > 0 do assert.is_true(sys.clock() < deadline, opts) end
      end
    end)
  end

  it("is no matter for boxes that have ended", function()
    for _, how in ipairs { "os.exit(0, true)", "os.exit(0, false)", "" } do
      local s <close> = script.start([[assert(require("nsbox").run("busybox", { "true" })) ]] .. how)
      assert.same({ "exit", 0 }, { s:wait() })
    end
  end)
end)

describe("the collector", function()
  it("may run at any time, in either mode", function()
    succeeds(CHECK .. [[
      for _, mode in ipairs { "generational", "incremental" } do
        collectgarbage(mode)
        debug.sethook(function() collectgarbage("step", 0) end, "", 100)
        for i = 1, 5 do check({ tty = false }, i) end
        assert(nsbox.run("busybox", { "/none" }) == nil)
        debug.sethook(function() collectgarbage() end, "", 2000)
        check({}, 3)
        check({ namespaces = { pid = false } }, 3)
        debug.sethook()
      end]])
  end)

  it("may take a handle that nobody holds at any moment of somebody else's wait", function()
    succeeds [[
      local b <close> = assert(nsbox.start("busybox", { "sleep", "1000" }))
      local has_luv, uv = pcall(require, "luv")
      local ways = { nsbox.sleep }
      ways[2] = has_luv and function(s)
        nsbox.use "luv"
        coroutine.wrap(nsbox.sleep)(s)
        uv.run()
        nsbox.use(nil)
      end or nil
      for _, wait in ipairs(ways) do
        for i = 1, 60 do
          do local _ = assert(b:spawn({ "sleep", "1000" }, { stdout = "pipe" })) end
          debug.sethook(function() collectgarbage() end, "", 3 * i)
          wait(0.002)
          debug.sethook()
        end
      end]]
  end)

  it("may be stopped", function()
    succeeds(CHECK .. [[
      collectgarbage "stop"
      for i = 1, 20 do check({}, i) end
      collectgarbage "restart"]])
  end)
end)
