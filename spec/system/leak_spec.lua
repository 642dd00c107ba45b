-- Many boxes one after the other: after the last all is as after the first.
local box = require "spec.box"
local helper = require "spec.helper"
local nsbox = require "nsbox"
local script = require "spec.script"
helper.leakcheck { outside = true }

local function fails(...)
  local r, err = nsbox.run(...)
  assert.is_nil(r)
  assert.equal("nsbox.error", getmetatable(err).__name)
end

-- One of each kind: the ways in which a box starts, and those in which it does not.
local image

local kinds = {
  function() assert.equal("out\n", box.says "echo out") end,
  function() assert(nsbox.run("busybox", { "true" }, { tty = true, stdout = "null" })) end,
  function() assert(nsbox.run("busybox", { "true" }, { namespaces = { pid = false } })) end,
  function() assert(nsbox.run("busybox", { "cat" }, { input = ("x"):rep(100000) })) end,
  function() assert(nsbox.run("host", { "true" })) end,
  function() assert.equal("timeout", assert(nsbox.run("busybox", { "sleep", "9" }, { timeout = 0.01 })).reason) end,
  function() fails("busybox", { "/none" }) end,
  function() fails("busybox", { "/etc/passwd" }) end,
  function() fails("/none", { "true" }) end,
  function() fails("/etc/passwd", { "true" }) end,
  function() fails("busybox", { "true" }, { workdir = "/etc/passwd/x" }) end,
  function() fails("busybox", { "true" }, { namespaces = { ipc = "/proc/self/ns/uts" } }) end,
  function() fails("busybox", { "true" }, { namespaces = { ipc = "/proc/self/none" } }) end,
  function() fails(image, { "true" }) end,
  function() assert.has_error(function() nsbox.run("busybox", { "true" }, { hostnam = "x" }) end) end,
  function()
    assert.has_error(function() nsbox.run("busybox", { "cat" }, { input = function() error "in the input" end }) end)
  end,
}

local function rounds(n)
  image = box.image { ["proc"] = "a file\n" }
  for _, kind in ipairs(kinds) do kind() end
  local before = helper.snapshot()
  for i = 1, n do kinds[(i - 1) % #kinds + 1]() end
  assert.same({}, helper.compare(before, helper.snapshot()))
end

local function plain(n)
  local before = helper.snapshot()
  for _ = 1, n do assert.is_true(assert(nsbox.run("busybox", { "true" })).ok) end
  assert.same({}, helper.compare(before, helper.snapshot()))
end

-- Without its caches malloc's count is exact. What is kept is kept after some rounds: from then on not a byte is added.
local EXACT = { GLIBC_TUNABLES = "glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0" }

-- From box number `from` to box number `to`, in a script, where nobody else takes memory. Resident pages tell less:
-- they come and go with what the collector has not got to yet.
local function memory(from, to)
  script.succeeds(([[
    local host, FROM, TO = require "host", %d, %d
    local calls = {
      { "busybox", { "echo", "out" } }, { "busybox", { "true" }, { tty = true, stdout = "null" } },
      { "busybox", { "true" }, { namespaces = { pid = false } } }, { "host", { "true" } },
      { "busybox", { "cat" }, { input = ("x"):rep(100000) } },
      { "busybox", { "/none" } }, { "/none", { "true" } }, { "busybox", { "true" }, { workdir = "/etc/passwd/x" } },
      { "busybox", { "true" }, { namespaces = { ipc = "/proc/self/ns/uts" } } } }
    local function read(path)
      local f <close> = io.open(path)
      return f and f:read "a" or ""
    end
    local function state()
      collectgarbage() collectgarbage()
      local fds = {}
      for pid in read(("/proc/%%d/task/%%d/children"):format(sys.getpid(), sys.getpid())):gmatch "%%d+" do
        fds[#fds + 1] = #(sys.readdir("/proc/" .. pid .. "/fd") or {})
      end
      local maps = select(2, read "/proc/self/maps":gsub("\n", ""))
      return { ["bytes of malloc"] = host.allocated(), ["bytes of Lua"] = collectgarbage "count" * 1024 // 1,
        ["mappings"] = maps, ["children"] = #fds, ["descriptors of the first keeper"] = fds[1],
        ["descriptors of the second"] = fds[2] }
    end
    local before = state() -- the first reading has to count an earlier one, too
    for i = 1, TO do
      local call = calls[i %% #calls + 1]
      nsbox.run(call[1], call[2], call[3])
      collectgarbage() -- after each: how many are dead in a weak table when it is full decides the size that it gets
      if i == FROM then before = state() end
    end
    local deadline, after = sys.clock() + 30, nil
    repeat -- a keeper may still be at the last one
      sys.nanosleep(0.01)
      after = nil
      after = state()
      local over = true
      for what, n in pairs(after) do over = over and (what:find "^bytes" or n <= before[what]) end
    until over or sys.clock() > deadline
    for what, n in pairs(after) do
      if n > before[what] + (what:find "^bytes" and TO - FROM or 0) then
        print(("%%d %%s more after %%d boxes"):format(n - before[what], what, TO - FROM))
      end
    end]]):format(from, to), { env = EXACT })
end

describe("nothing is left", function()
  it("after 100 boxes", function() plain(100) end)
  it("after 100 boxes and failures of all kinds", function() rounds(100) end)
  it("of the memory of 90 boxes and failures #timing", function() memory(150, 240) end)
  it("after 1,000 boxes #soak", function() plain(1000) end)
  it("after 1,000 boxes and failures of all kinds #soak", function() rounds(1000) end)
  it("of the memory of 810 boxes and failures #soak #timing", function() memory(180, 990) end)
end)
