-- Whoever the caller is: with threads, signals, few descriptors. Each host program is a script of its own.
local helper = require "spec.helper"
local script = require "spec.script"
local sys = require "nsbox.sys"
helper.leakcheck { settle = true, outside = true }

local CHECK, succeeds = script.CHECK, script.succeeds

describe("a host program with threads", function()
  it("that take libc's locks all the time runs boxes", function()
    succeeds(CHECK .. [[
      local threads = require "threads"
      threads.start(6)
      for i = 1, 40 do check({ user = sys.geteuid() == 0 and i % 2 * 1000 or nil }, i) end
      assert(threads.stop() > 0)]])
  end)

  it("runs boxes in all of them at once, each in a Lua state of its own", function()
    succeeds([[
      local threads = require "threads"
      local answers = threads.states(6, [==[
        local nsbox = require "nsbox"
        for i = 1, 15 do
          local o = i % 3 == 1 and { namespaces = { pid = false } } or i % 3 == 2 and { tty = true } or {}
          o.user = nsbox.sys.geteuid() == 0 and i % 2 * 1000 or nil
          local r, err = nsbox.run("busybox", { "sh", "-c", "exit " .. i }, o)
          if not r then return tostring(err) end
          if r.code ~= i then return tostring(r) end
        end
        return "good"]==])
      for i, answer in ipairs(answers) do assert(answer == "good", answer) end
      assert(sys.prctl "get_dumpable" == 1)]])
  end)

  it("may end the thread that ran the first box", function()
    succeeds(CHECK .. [[
      local threads = require "threads"
      for _ = 1, 3 do
        local answers = threads.states(1, "return require('nsbox').run('busybox', { 'true' }).code")
        assert(answers[1] == "0", answers[1])
        check()
      end]])
  end)
end)

describe("a run in a coroutine", function()
  it("works, also in one within another, and below pcall", function()
    succeeds(CHECK .. [[
      local co = coroutine.wrap(function()
        check()
        coroutine.yield(1)
        coroutine.wrap(function() assert(pcall(check, {}, 4)) end)()
        return 2
      end)
      assert(co() == 1 and co() == 2)]])
  end)

  it("whose input function yields goes on when it is resumed, beside others", function()
    succeeds([[
      local list = {}
      for i = 1, 4 do
        list[i] = coroutine.wrap(function()
          local n = 0
          local r = assert(nsbox.run("busybox", { "cat" }, { input = function()
            n = n + 1
            coroutine.yield()
            return n <= 3 and i .. "\n" or nil
          end }))
          return r.stdout
        end)
      end
      local open = 4
      while open > 0 do
        for i = 1, 4 do
          local text = list[i] and list[i]()
          if text then
            assert(text == (i .. "\n"):rep(3), text)
            list[i], open = false, open - 1
          end
        end
      end]])
  end)

  it("that is given up, closed or collected, ends the box", function()
    succeeds([[
      local function below()
        local f = io.open(("/proc/%d/task/%d/children"):format(sys.getpid(), sys.getpid()))
        local _, n = f:read "a":gsub("%d+", "")
        f:close()
        return n
      end
      assert(nsbox.run("busybox", { "true" }))
      local before = below()
      for how = 1, 2 do
        local co = coroutine.create(function()
          nsbox.run("busybox", { "sh", "-c", "sleep 100; true" }, { input = coroutine.yield })
        end)
        assert(coroutine.resume(co))
        assert(below() == before + 1)
        if how == 1 then assert(coroutine.close(co)) end
        co = nil
        collectgarbage() collectgarbage()
        assert(below() == before, "left: " .. below() - before)
      end]])
  end)
end)

describe("a host program whose SIGCHLD", function()
  for _, way in ipairs { "ignore", "nocldwait", "steal" } do
    it("is set to " .. way .. " has exact results, or honest ones", function()
      succeeds([[
        local host = require "host"
        host.sigchld "]] .. way .. [["
        local sure = nsbox.probe().pidfd_info.ok
        local lost = 0
        for i = 1, 30 do
          local o = { namespaces = { pid = i % 2 == 0 and false or nil } }
          local r = assert(nsbox.run("busybox", { "sh", "-c", "exit " .. i }, o))
          if r.reason == "lost" then
            assert(not sure, "lost, though this kernel tells the status")
          else
            assert(r.reason == "exit" and r.code == i, tostring(r))
          end
        end
        local r = assert(nsbox.run("busybox", { "sh", "-c", "sleep 60" }, { timeout = 0.05 }))
        assert(r.reason == "timeout" or not sure, tostring(r))]])
    end)
  end

  it("has a handler is not disturbed: no box steals its children", function()
    succeeds(CHECK .. [[
      local host = require "host"
      local pid = assert(sys.clone(sys.SIGCHLD, function() sys.nanosleep(0.05) return 7 end))
      for i = 1, 10 do check({}, i) end
      local how, code = sys.waitid(pid)
      assert(how == "exit" and code == 7, how)]])
  end)

  it("comes often, with all other signals: nothing is cut short", function()
    succeeds(CHECK .. [[
      local host = require "host"
      host.handle(sys.SIGALRM)
      host.storm(700)
      for i = 1, 60 do
        check({ tty = false, namespaces = { pid = i % 3 == 0 and false or nil } }, i)
        local r = assert(nsbox.run("busybox", { "wc", "-c" }, { input = ("x"):rep(300000) }))
        assert(r.stdout == "300000\n", r.stdout)
      end
      host.storm(0)
      assert(host.handled() > 10)]])
  end)
end)

describe("a host program with closed descriptors", function()
  for subset = 1, 7 do
    local closed = {}
    for fd = 0, 2 do
      if subset >> fd & 1 == 1 then closed[#closed + 1] = fd end
    end
    it("runs boxes without " .. table.concat(closed, " "), function()
      local out = helper.tmpdir() .. "/out"
      local s <close> = script.start(CHECK:gsub("nsbox%.", "require'nsbox'.") .. [[
        local nsbox, sys = require "nsbox", require "nsbox.sys"
        local ok, err = pcall(function()
          local kinds = { {}, { tty = true }, { namespaces = { pid = false } },
            { stdin = "inherit", stderr = "inherit" },
            { input = "x" }, { user = sys.geteuid() == 0 and 1000 or nil } }
          check()
          local function open() return table.concat(sys.readdir "/proc/self/fd", " ") end
          check({ namespaces = { pid = false } })
          local before = open()
          for _, o in ipairs(kinds) do
            local r = assert(nsbox.run("busybox", { "sh", "-c", "echo out; ls -1 /proc/$$/fd; exit 5" }, o))
            assert(r.code == 5 and r.stdout:match "^out\r?\n0\r?\n1\r?\n2\r?\n1?0?\r?\n?$", tostring(r) .. r.stdout)
            assert(nsbox.run("busybox", { "/nonexistent" }, o) == nil)
          end
          assert(open() == before, open() .. " was " .. before)
        end)
        local f = io.open(arg[1], "w")
        f:write(ok and "done" or tostring(err))
        f:close()]], { marker = out, before = function()
          for _, fd in ipairs(closed) do sys.close(fd) end
        end })
      assert.same({ "exit", 0 }, { s:wait(30) })
      assert.equal("done", helper.read(out))
    end)
  end
end)

describe("a host program with few descriptors left", function()
  for name, opts in pairs { plain = "{}", ["with a terminal"] = "{ tty = true }",
    ["with shared pids"] = "{ namespaces = { pid = false } }", ["with input"] = "{ input = 'x' }" } do
    for _, warm in ipairs { true, false } do
      it(("has a result or a clear error, %s%s"):format(name, warm and "" or ", without a keeper yet"), function()
        succeeds(([[
          local opts, warm = %s, %s
          for _, fd in ipairs(sys.readdir "/proc/self/fd") do -- what the specs' program left open over exec
            if tonumber(fd) > 2 then sys.close(tonumber(fd)) end
          end
          for _, name in ipairs { "box", "image.busybox", "probe.trial" } do require("nsbox." .. name) end
          assert(nsbox.run("busybox", { "true" }, opts))
          local function state()
            local f = io.open(("/proc/%%d/task/%%d/children"):format(sys.getpid(), sys.getpid()))
            local children = f:read "a"
            f:close()
            return table.concat(sys.readdir "/proc/self/fd", " ") .. " children " .. children
          end
          local function attempt(k)
            assert(sys.setrlimit("nofile", k, 1000))
            local ok, r, err = pcall(nsbox.run, "busybox", { "sh", "-c", "exit 3" }, opts)
            assert(sys.setrlimit("nofile", 1000, 1000))
            assert(ok, "raised at " .. k .. ": " .. tostring(r))
            if not r then
              assert(getmetatable(err).__name == "nsbox.error", "no Error at " .. k .. ": " .. tostring(err))
              assert(err.errno, "no errno at " .. k .. ": " .. tostring(err))
            end
            assert(not r or r.code == 3, tostring(r))
            return r ~= nil
          end
          local results = {}
          for k = 3, 40 do
            if warm then
              local before = state()
              results[k] = attempt(k)
              collectgarbage() collectgarbage()
              assert(state() == before, k .. ": " .. state() .. " was " .. before)
            else -- a fork has none
              local pid = sys.clone(sys.SIGCHLD, function()
                results[k] = attempt(k)
                return results[k] and 1 or 2
              end)
              local how, code = sys.waitid(pid, 20)
              assert(how == "exit" and code > 0, ("%%d: %%s %%s"):format(k, how, code))
              results[k] = code == 1
            end
          end
          assert(not results[3] and results[40], "3: " .. tostring(results[3]) .. ", 40: " .. tostring(results[40]))]]
        ):format(opts, tostring(warm)))
      end)
    end
  end
end)

describe("the caller's state", function()
  it("is as it was, after success and failure", function()
    succeeds([[
      local host = require "host"
      local function read(path)
        local f = io.open(path)
        local text = f and f:read "a" or "-"
        if f then f:close() end
        return text
      end
      sys.chdir "/tmp"
      sys.umask "0027"
      host.block(sys.SIGUSR2)
      host.handle(sys.SIGUSR1)
      local function state()
        local parts = { "dumpable " .. sys.prctl "get_dumpable", "cwd " .. sys.getcwd() }
        local status = read "/proc/self/status"
        for _, key in ipairs { "Umask", "State", "Uid", "Gid", "Groups", "Threads", "SigBlk", "SigIgn", "SigCgt",
          "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Cpus_allowed_list" } do
          parts[#parts + 1] = key .. " " .. (status:match("\n" .. key .. ":%s*([^\n]*)") or "-")
        end
        for _, ns in ipairs { "cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "time_for_children",
          "user", "uts" } do
          parts[#parts + 1] = ns .. " " .. tostring(sys.readlink("/proc/self/ns/" .. ns))
        end
        for _, name in ipairs { "environ", "oom_score_adj", "limits", "cgroup", "personality", "timerslack_ns" } do
          parts[#parts + 1] = name .. " " .. read("/proc/self/" .. name)
        end
        return parts
      end
      local function same(what, before)
        for i, part in ipairs(state()) do assert(part == before[i], what .. ": " .. part .. " was " .. before[i]) end
      end
      local root = sys.geteuid() == 0
      local before = state()
      local calls = {
        first = { "busybox", { "true" } }, success = { "busybox", { "true" } },
        ["another user"] = { "busybox", { "true" }, { user = root and 1000 or nil } },
        ["another user, shared pids"] = { "busybox", { "true" },
          { user = root and 1000 or nil, namespaces = { pid = false } } },
        ["joined pids"] = { "busybox", { "true" }, { namespaces = { pid = "/proc/self/ns/pid" } } },
        terminal = { "busybox", { "true" }, { tty = true } },
        timeout = { "busybox", { "sleep", "10" }, { timeout = 0.02 } },
        ["missing program"] = { "busybox", { "/none" } },
        ["missing program of another user"] = { "busybox", { "/none" }, { user = root and 1000 or nil } },
        ["bad image"] = { "/etc/passwd", { "true" } }, ["empty image"] = { "/proc/self/fdinfo", { "true" } },
        ["bad workdir"] = { "busybox", { "true" }, { workdir = "/etc/passwd/x" } },
        ["bad namespace"] = { "busybox", { "true" }, { namespaces = { ipc = "/proc/self/ns/uts" } } },
      }
      for what, call in pairs(calls) do
        nsbox.run(call[1], call[2], call[3])
        same(what, before)
        assert(host.handled() == 0)
      end]])
  end)

  it("is as it was when it is not dumpable, or may gain no privileges", function()
    succeeds(CHECK .. [[
      assert(sys.prctl("set_no_new_privs", 1))
      check()
      assert(sys.prctl "get_no_new_privs" == 1)
      check { namespaces = { pid = false } }
      assert(sys.prctl("set_dumpable", 0))
      local r, err = nsbox.run("busybox", { "true" })
      assert(r or err.kind == "setup" and err.errno, tostring(err))
      assert(sys.prctl "get_dumpable" == 0)]])
  end)
end)
