-- Thousands of short commands, by run, by exec into one box, with and without an init, one at a time and many at once:
-- each has its exact result, and what is kept after the first is all that is kept after the last.
local box = require "spec.box"
local helper = require "spec.helper"
local script = require "spec.script"
helper.leakcheck { settle = true }

-- Without its caches malloc's count is exact; see leak_spec.lua.
local EXACT = { GLIBC_TUNABLES = "glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0" }

local SOAK = [[
  local nsbox, host = require "nsbox", require "host"
  local sys, IMAGE, FROM, TO, AT_ONCE = nsbox.sys, %q, %d, %d, %d
  local function sh(text) return { "/bin/sh", "-c", text } end
  local function exits(i) return sh("exit " .. i %% 256), "exit", i %% 256 end
  local function yes() return { "/bin/busybox", "true" }, "exit", 0 end
  local function no() return { "/bin/busybox", "false" }, "exit", 1 end
  local function kills() return sh "kill -9 $$", "signal", nil, "KILL" end
  local function aborts() return { "/probe", "abort" }, "signal", nil, "ABRT" end
  local function segv() return { "/probe", "segv" }, "signal", nil, "SEGV" end
  local limits = { timeout = 60 }
  local function run(cmd) return nsbox.run(IMAGE, cmd, limits) end
  local function with_init(cmd) return nsbox.run(IMAGE, cmd, { timeout = 60, init = true }) end
  local b <close> = assert(nsbox.start(IMAGE, { "/bin/busybox", "sleep", "100000" }))
  local i <close> = assert(nsbox.start(IMAGE, false))
  local function exec(cmd) return b:exec(cmd, limits) end
  local function spawn(cmd)
    local p <close> = assert(i:spawn(cmd, limits))
    return p:wait()
  end
  local all, of_pid1 = { yes, no, exits, kills, aborts, segv }, { yes, no, exits }
  local ways = { { run, of_pid1 }, { exec, all }, { with_init, all }, { spawn, all } }

  local function one(n)
    local way = ways[n %% #ways + 1]
    local cmd, reason, code, signal = way[2][n // #ways %% #way[2] + 1](n // #ways)
    local r, err = way[1](cmd)
    assert(r, tostring(err))
    if r.reason ~= reason or r.code ~= code or r.signal ~= signal or r.stdout ~= "" then
      error(("command %%d: %%s, not %%s %%s"):format(n, r, reason, code or signal))
    end
    return true
  end

  local function read(path)
    local f <close> = io.open(path)
    return f and f:read "a" or ""
  end
  local function state()
    collectgarbage() collectgarbage()
    local children, of_keepers = 0, 0
    for pid in read(("/proc/%%d/task/%%d/children"):format(sys.getpid(), sys.getpid())):gmatch "%%d+" do
      children, of_keepers = children + 1, of_keepers + #(sys.readdir("/proc/" .. pid .. "/fd") or {})
    end
    return { ["bytes of malloc"] = host.allocated(), ["bytes of Lua"] = collectgarbage "count" * 1024 // 1,
      ["mappings"] = select(2, read "/proc/self/maps":gsub("\n", "")), ["children"] = children,
      ["descriptors"] = #sys.readdir "/proc/self/fd", ["descriptors of children"] = of_keepers }
  end

  local function from_to(from, to)
    if AT_ONCE == 1 then
      for n = from, to do one(n) end
    else
      local list = {}
      for n = from, to do list[#list + 1] = n end
      assert(nsbox.gather(list, one, { limit = AT_ONCE }))
    end
  end
  from_to(1, FROM)
  local before = state()
  before = state() -- the first reading has to count an earlier one, too
  from_to(FROM + 1, TO)
  local keepers, deadline, after = "descriptors of children", sys.clock() + 30, state()
  while after[keepers] > before[keepers] and sys.clock() < deadline do -- a keeper may still be at the last one
    after = nil
    sys.nanosleep(0.05)
    after = state()
  end
  for what, n in pairs(after) do
    -- At once: the two buffers of each may wait for the collector.
    local slack = not what:find "^bytes" and 0 or AT_ONCE == 1 and TO - FROM or (TO - FROM) * 20 + AT_ONCE * 2 * 65536
    if n > before[what] + slack then
      print(("%%d %%s more after %%d commands"):format(n - before[what], what, TO - FROM))
    end
  end
  print "done"]]

local function soak(from, to, at_once)
  local root = box.image()
  box.program("probe", root)
  local s <close> = script.start(SOAK:format(root, from, to, at_once), { env = EXACT })
  local said = {}
  for line in function() return s:line(120 + (to - from) // 20) end do said[#said + 1] = line end
  assert.equal("done", table.concat(said, "\n"))
  assert.same({ "exit", 0 }, { s:wait() })
end

describe("short commands have exact results, and leave nothing,", function()
  it("in hundreds #timing", function() soak(240, 480, 1) end)
  it("in hundreds, twenty at once", function() soak(240, 480, 20) end)
  it("in ten thousands #soak #timing", function() soak(1000, 10000, 1) end)
  it("in ten thousands, fifty at once #soak", function() soak(1000, 10000, 50) end)
end)
