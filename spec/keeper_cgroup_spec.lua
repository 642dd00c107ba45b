-- What the keeper does to cgroups: removes those of a program that has died, ends what has used its CPU time.
local assert = require "luassert"
local helper = require "spec.helper"
local hierarchy = require "spec.hierarchy"
local keeper = require "nsbox.keeper"
local lfs = require "lfs"
local script = require "spec.script"
local start = require "spec.start"
local sys = require "nsbox.sys"

helper.leakcheck { outside = true, settle = true }

-- For a script: a duty for the cgroup arg[1], and processes that outlive the script: put(folder, count, command).
local OWNER = [[
  local nsbox = require "nsbox"
  local keeper, sys = require "nsbox.keeper", nsbox.sys
  local fd = assert(sys.open(arg[1], "rdonly,directory"))
  assert(sys.flock(fd, "ex"))
  local function put(folder, count, command)
    local child = assert(sys.clone(sys.SIGCHLD, function()
      assert(sys.write_file("cwd", folder .. "/cgroup.procs", "0"))
      sys.close_range(3, 0xffffffff, 0)
      local text = ("i=0; while [ $i -lt %d ]; do %s & i=$((i+1)); done"):format(count, command)
      sys.execve("/bin/busybox", { "sh", "-c", text }, {})
    end))
    sys.waitid(child)
  end
  assert(keeper.remove_later(fd, arg[1]:match "[^/]*$"))
]]

local function gone(path)
  start.eventually(path .. " is removed", function() return not lfs.attributes(path, "mode") end)
end

-- Whether somebody has a lock on it.
local function locked(path)
  local fd <close> = assert(sys.open(path, "rdonly,directory"))
  return sys.flock(fd, "ex,nb") == nil
end

for _, name in ipairs { "", "pids", "freezer" } do
  local what = name == "" and "of v2" or "of v1's " .. name

  -- Runs the script until it says that all is made, and kills it.
  local function owner_dies(path, text, before)
    text = OWNER .. text .. "\nprint 'made' io.stdout:flush() sys.nanosleep(100)"
    local s <close> = script.start(text, { marker = path, before = before })
    assert.equal("made", s:line())
    assert.is_true(locked(path))
    s:signal "kill"
    assert.same({ "signal", 9 }, { s:wait() })
  end

  describe("a cgroup " .. what .. " whose owner was killed", function()
    it("is removed when it is empty", function()
      local path = hierarchy.make(name)
      owner_dies(path, "")
      gone(path)
    end)

    it("is removed with its processes and those of the cgroups in it", function()
      local path = hierarchy.make(name)
      for _, below in ipairs { "/a", "/a/b", "/c", "/c/d" } do assert(lfs.mkdir(path .. below)) end
      owner_dies(path, [[
        put(arg[1], 1, "sleep 1000")
        put(arg[1] .. "/a/b", 2, "sleep 1000")
        put(arg[1] .. "/c", 1, "while :; do sleep 1000; done") ]])
      gone(path)
    end)

    it("is removed with cgroups in it as deep as a box likes, by few descriptors", function()
      local path = hierarchy.make(name)
      local state = name == "freezer" and '"FROZEN"' or "nil"
      owner_dies(path, ('require "spec.deep"(arg[1], 300, 100, "sleep 1000", %s)'):format(state),
        function() assert(sys.setrlimit("nofile", 64, 64)) end)
      gone(path)
    end)

    it("is nothing to wait for when it is gone already", function()
      local path, other = hierarchy.make(name), hierarchy.make(name)
      owner_dies(path, ([[
        local second = assert(sys.open(%q, "rdonly,directory"))
        assert(keeper.remove_later(second, %q))
        assert(sys.rmdir(%q)) ]]):format(other, other:match "[^/]*$", other))
      gone(path)
    end)

    it("stays when the duty was dropped", function()
      local path, other = hierarchy.make(name), hierarchy.make(name)
      owner_dies(path, ([[
        local second = assert(sys.open(%q, "rdonly,directory"))
        keeper.drop(assert(keeper.remove_later(second, %q))) ]]):format(other, other:match "[^/]*$"))
      gone(path)
      assert.equal("directory", lfs.attributes(other, "mode"))
    end)

    if name == "pids" then
      it("is removed with 500 processes, by few descriptors", function()
        local path = hierarchy.make(name)
        owner_dies(path, [[ put(arg[1], 500, "sleep 1000") ]],
          function() assert(sys.setrlimit("nofile", 18, 18)) end)
        gone(path)
      end)
    elseif name == "freezer" then
      it("is removed with processes that are frozen, in it and below", function()
        local path = hierarchy.make(name)
        assert(lfs.mkdir(path .. "/a"))
        owner_dies(path, [[
          put(arg[1], 2, "sleep 1000")
          put(arg[1] .. "/a", 2, "sleep 1000")
          for _, at in ipairs { "/a", "" } do
            assert(sys.write_file("cwd", arg[1] .. at .. "/freezer.state", "FROZEN"))
          end ]])
        gone(path)
      end)

      -- Eight rounds are tens of milliseconds, by their pauses.
      it("is not frozen in the first rounds: nobody may be left to let it go", function()
        local path = hierarchy.make(name)
        local s <close> = script.start(OWNER .. [[ put(arg[1], 50, "sleep 1000")
          print 'made' io.stdout:flush() sys.nanosleep(100)]], { marker = path })
        assert.equal("made", s:line())
        local function freezing() return helper.read(path .. "/freezer.self_freezing") end
        assert.equal("0\n", freezing())
        local deadline, state = sys.clock() + 0.02
        s:signal "kill"
        repeat
          state = freezing()
          if sys.clock() > deadline then break end -- it may have been read too late, too
          assert.not_equal("1\n", state)
        until not state
        s:wait()
        gone(path)
      end)
    end
  end)
end

for _, name in ipairs { "", "cpuacct" } do
  describe("a limit of CPU time on a cgroup of " .. (name == "" and "v2" or "v1"), function()
    -- A process that works in the folder.
    local function spin(folder)
      return assert(sys.clone(sys.SIGCHLD, function()
        assert(sys.write_file("cwd", folder .. "/cgroup.procs", "0"))
        sys.execve("/bin/busybox", { "sh", "-c", "while :; do :; done" }, {})
      end))
    end

    it("kills what is in it and below it when it is reached", function()
      local path = hierarchy.make(name)
      assert(lfs.mkdir(path .. "/a"))
      local fd <close> = assert(sys.open(path, "path"))
      local duty = assert(keeper.cpu_later(fd, 0.05, 2))
      for _, pid in ipairs { spin(path), spin(path .. "/a") } do
        assert.same({ "signal", 9 }, { sys.waitid(pid, helper.PATIENCE) })
      end
      assert.is_true(keeper.acted(duty))
      keeper.drop(duty)
    end)

    it("reaches cgroups as deep as a box likes, and what forks all the time", function()
      local path = hierarchy.make(name)
      script.succeeds([[
        local keeper, deep = require "nsbox.keeper", require "spec.deep"
        assert(sys.setrlimit("nofile", 64, 64))
        local pids = deep(arg[1], 300, 100, "while :; do (:); done")
        local fd <close> = assert(sys.open(arg[1], "path"))
        assert(keeper.cpu_later(fd, 0.01, 2))
        for _, pid in ipairs(pids) do
          local how, signo = sys.waitid(pid, 60)
          assert(how == "signal" and signo == 9, how)
        end ]], { marker = path })
    end)

    it("does nothing before, nor to a cgroup that is gone", function()
      local path, other = hierarchy.make(name), hierarchy.make(name)
      local fd <close> = assert(sys.open(path, "path"))
      local second <close> = assert(sys.open(other, "path"))
      assert(lfs.rmdir(other))
      local duty, nothing = assert(keeper.cpu_later(fd, 1000, 1)), assert(keeper.cpu_later(second, 0, 1))
      local pid = spin(path)
      assert.same({ nil, "timeout" }, { sys.waitid(pid, 0.1) })
      assert.is_false(keeper.acted(duty))
      assert.is_false(keeper.acted(nothing))
      sys.kill(pid, "kill")
      sys.waitid(pid)
      keeper.drop(duty)
      keeper.drop(nothing)
    end)
  end)
end
