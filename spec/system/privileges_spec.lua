-- What a box may do, and how much: capabilities, limits, priority, CPUs, kernel parameters, as the kernel shows them.
local box = require "spec.box"
local caps = require "nsbox.options.caps"
local helper = require "spec.helper"
local nsbox = require "nsbox"
local script = require "spec.script"
local sys = require "nsbox.sys"
helper.leakcheck { outside = true }
setup(box.warm_shared)

local says = box.says

local DEFAULT = "00000000a80425fb" -- docker's 14
local NONE = ("0"):rep(16)
local STATUS = "grep -E '^(Cap|NoNew)' /proc/self/status"
local own = (helper.read "/proc/self/oom_score_adj" or "0"):match "%-?%d+"

-- name -> value of each line of /proc/PID/status
local function fields(text)
  local found = {}
  for name, v in text:gmatch "(%w+):%s*(%S+)" do found[name] = v end
  return found
end

local function sets(text)
  local s = fields(text)
  return { s.CapBnd, s.CapPrm, s.CapEff, s.CapInh, s.CapAmb }
end

local function mask(list)
  return ("%016x"):format(caps.set_of(list))
end

-- The last one of this kernel.
local function all()
  local n = 0
  while sys.prctl("capbset_read", n, 0, 0, 0) do n = n + 1 end
  return ("%016x"):format((1 << n) - 1)
end

describe("the capabilities of a box", function()
  local some = mask { "CAP_KILL", "CAP_SYS_PTRACE" }
  local ptrace = ("%016x"):format(tonumber(DEFAULT, 16) | caps.set_of { "CAP_SYS_PTRACE" })
  local kill = mask { "CAP_KILL" }

  -- options, bounding, permitted and effective
  local rows = {
    { {}, DEFAULT },
    { { cap_add = { "sys_ptrace" } }, ptrace },
    { { cap_drop = "all" }, NONE },
    { { cap_drop = "all", cap_add = { "CAP_KILL", "SYS_PTRACE" } }, some },
    { { cap_add = "all" }, all() },
  }
  for i, row in ipairs(rows) do
    it(("are exactly those of its options (row %d)"):format(i), function()
      for _, init in ipairs { false, true } do
        row[1].init = init
        assert.same({ row[2], row[2], row[2], NONE, NONE }, sets(says(STATUS, row[1])))
      end
    end)
  end

  it("that are ambient stay with a user, through every exec", function()
    if not helper.root() then helper.skip "needs root: one id is mapped without" end
    for _, init in ipairs { false, true } do
      local opts = { user = "5:6", cap_ambient = { "kill" }, init = init }
      assert.same({ DEFAULT, kill, kill, kill, kill }, sets(says("sh -c \"" .. STATUS .. "\"", opts)))
    end
    assert.same({ DEFAULT, NONE, NONE, NONE, NONE }, sets(says(STATUS, { user = "5:6" })))
  end)

  it("that are ambient are root's, too", function()
    assert.same({ DEFAULT, DEFAULT, DEFAULT, kill, kill }, sets(says(STATUS, { cap_ambient = { "kill" } })))
  end)

  it("and securebits are as the kernel's default", function()
    local ok, bits, keep = nsbox.call("busybox", function()
      return sys.prctl("get_securebits", 0, 0, 0, 0), sys.prctl("get_keepcaps", 0, 0, 0, 0)
    end, { cap_ambient = { "kill" }, user = helper.root() and 5 or nil })
    assert.same({ true, 0, 0 }, { ok, bits, keep })
  end)

  it("are in the box's own user namespace, or the caller's where that is shared", function()
    if not helper.root() then helper.skip "needs root: without, a box has a user namespace of its own" end
    local missing = {}
    for n = 0, #caps.names - 1 do
      if sys.prctl("capbset_read", n, 0, 0, 0) == 0 then missing[#missing + 1] = caps.names[n + 1] end
    end
    local shared = { user = false }
    assert.equal((helper.read "/proc/self/status"):match "CapBnd:%s*(%x+)",
      sets(says(STATUS, { cap_add = "all", namespaces = shared }))[1])
    if not missing[1] then return end
    local err = box.fails("unsupported", nil, "busybox", { "true" }, { cap_add = { missing[1] }, namespaces = shared })
    assert.matches("the caller itself has not " .. missing[1], err.message, 1, true)
  end)

  it("with which it may trace what joins it, into the caller's memory, make that a copy", function()
    if not helper.root() then helper.skip "needs root: without, a box has a user namespace of its own" end
    local launch = require "nsbox.launch"
    local run, copies = launch.run, {}
    for _, opts in ipairs { { userns = "host", cap_add = { "sys_ptrace" } }, { cap_add = { "sys_ptrace" } },
      { userns = "host" } } do
      local b <close> = assert(nsbox.start("busybox", false, opts))
      launch.run = function(start)
        copies[#copies + 1] = start.copy == true
        return run(start)
      end
      local r, err = b:exec { "true" }
      launch.run = run
      assert(r and r.ok, tostring(err))
    end
    assert.same({ true, false, false }, copies)
  end)

  it("that root itself has not, of the default ones, end the start of a box that shares its user namespace", function()
    if not helper.root() then helper.skip "needs root: without, a box has a user namespace of its own" end
    script.succeeds([[
      local nsbox = require "nsbox"
      local opts = { namespaces = { user = false } }
      local r, err = nsbox.run("busybox", { "true" }, opts)
      assert(r == nil and err.kind == "unsupported" and err.message:find("has not all the capabilities", 1, true),
        tostring(err))
      opts.cap_drop = { "mknod" }
      assert(assert(nsbox.run("busybox", { "true" }, opts)).ok)]],
      { wrapper = { "/usr/bin/setpriv", "--bounding-set=-mknod" } })
  end)

  it("of an added process are the main one's, or its own", function()
    local b <close> = assert(nsbox.start("busybox", "sleep 60", { cap_drop = { "kill" } }))
    local less = ("%016x"):format(tonumber(DEFAULT, 16) & ~caps.set_of { "CAP_KILL" })
    assert.same({ less, less, less, NONE, NONE }, sets(b:exec(STATUS).stdout))
    assert.same({ kill, kill, kill, NONE, NONE },
      sets(b:exec(STATUS, { cap_drop = "all", cap_add = { "kill" } }).stdout))
  end)
end)

describe("no_new_privs", function()
  it("is on, unless it was said otherwise", function()
    for given, expected in pairs { [true] = "1", [false] = "0" } do
      assert.equal(expected, fields(says(STATUS, { no_new_privs = given })).NoNewPrivs)
    end
    assert.equal("1", fields(says(STATUS)).NoNewPrivs)
  end)

  it("of an added process is the main one's, or its own", function()
    local b <close> = assert(nsbox.start("busybox", "sleep 60", { no_new_privs = false }))
    assert.equal("0", fields(b:exec(STATUS).stdout).NoNewPrivs)
    assert.equal("1", fields(b:exec(STATUS, { no_new_privs = true }).stdout).NoNewPrivs)
  end)

  it("that the caller has itself cannot be taken back, which is said", function()
    local out, ok = box.script("LUA", [[
      local nsbox = require "nsbox"
      assert(nsbox.sys.prctl("set_no_new_privs", 1, 0, 0, 0))
      local r, err = nsbox.run("busybox", { "true" }, { no_new_privs = false })
      io.write(r and "ran" or err.kind .. ": " .. err.message)]])
    assert.same({ true, "unsupported: the caller itself has no_new_privs, which nobody can take back" }, { ok, out })
  end)
end)

describe("the limits of a box", function()
  it("are as given, soft and hard", function()
    local seen = says("ulimit -n; ulimit -Hn; ulimit -c; ulimit -Hc; ulimit -f", { rlimits = { nofile = { 64, 128 },
      core = { 0, 512 }, fsize = "1M" } })
    assert.equal("64\n128\n0\n1\n2048\n", seen)
  end)

  it("are every one that the kernel knows", function()
    local given = { cpu = 100, fsize = 1 << 30, data = 1 << 30, stack = 1 << 20, core = 0, rss = 1 << 30,
      memlock = 4096, as = 1 << 32, locks = 100, sigpending = 100, msgqueue = 1000, nice = 0, rtprio = 0, rttime = 1000,
      nofile = 50,
      nproc = 500 }
    local text = says({ "cat", "/proc/self/limits" }, { rlimits = given })
    local limits = require "nsbox.options.limits"
    for name, n in pairs(given) do
      assert.equal(tostring(n), limits.hard_in(text, name), name)
    end
  end)

  it("hold with an init and for functions", function()
    assert.equal("64\n", says("ulimit -n", { rlimits = { nofile = 64 }, init = true }))
    local ok, text = nsbox.call("busybox", function() return io.open("/proc/self/limits"):read "a" end,
      { rlimits = { nofile = 64 } })
    assert.is_true(ok, tostring(text))
    assert.matches("Max open files +64 +64 ", text)
  end)

  it("above the caller's need a right that it may not have: the error has the numbers", function()
    local hard = helper.read("/proc/self/limits"):match "\nMax open files +%S+ +(%d+)"
    local more = tonumber(hard) + 1
    local r, err = nsbox.run("busybox", "ulimit -Hn", { rlimits = { nofile = { 64, more } } })
    if r then
      assert.equal(more .. "\n", r.stdout)
      return
    end
    assert.same({ "unsupported", "EPERM" }, { err.kind, err.name }, tostring(err))
    assert.matches(("hard limit of nofile cannot be raised to %d"):format(more), err.message, 1, true)
    assert.matches("own hard limit is " .. hard, err.hint, 1, true)
  end)

  it("are the caller's where nothing is said, which stay what they were", function()
    local before = helper.read "/proc/self/limits"
    says("true", { rlimits = { nofile = 64, nproc = 64, as = "4G", core = 0 } })
    assert.equal(before, helper.read "/proc/self/limits")
    assert.equal(before:match "\nMax open files +(%d+)", says("ulimit -n"):match "%d+")
  end)

  it("of an added process are the main one's, and its own", function()
    local b <close> = assert(nsbox.start("busybox", "sleep 60", { rlimits = { nofile = 64, core = 0 } }))
    assert.equal("64\n0\n", b:exec("ulimit -n; ulimit -c").stdout)
    assert.equal("32\n0\n", b:exec("ulimit -n; ulimit -c", { rlimits = { nofile = 32 } }).stdout)
  end)
end)

describe("the OOM score of a box", function()
  local SCORE = "cat /proc/self/oom_score_adj"

  it("is as given, and the caller's stays", function()
    for _, init in ipairs { false, true } do
      assert.equal("500\n", says(SCORE, { oom_score_adj = 500, init = init }))
    end
    assert.equal(own, helper.read("/proc/self/oom_score_adj"):match "%-?%d+")
    assert.equal(own .. "\n", says(SCORE))
  end)

  it("below the caller's needs a right that it may not have", function()
    local r, err = nsbox.run("busybox", SCORE, { oom_score_adj = -1000 })
    if r then
      assert.equal("-1000\n", r.stdout)
    else
      assert.same({ "unsupported", "EACCES" }, { err.kind, err.name }, tostring(err))
      assert.matches("needs CAP_SYS_RESOURCE", err.message, 1, true)
    end
  end)

  it("of an added process is the main one's, or its own", function()
    local b <close> = assert(nsbox.start("busybox", "sleep 60", { oom_score_adj = 500 }))
    assert.equal("500\n", assert(b:exec(SCORE)).stdout)
    assert.equal("600\n", assert(b:exec(SCORE, { oom_score_adj = 600 })).stdout)
    assert.equal(own, helper.read("/proc/self/oom_score_adj"):match "%-?%d+")
  end)
end)

describe("of a box", function()
  local function nice_of(text) return tonumber(text:match "%) %a (.*)":match(("%S+ "):rep(15) .. "(%S+)")) end

  it("nice is as given, and the caller's stays", function()
    local before = nice_of(helper.read "/proc/self/stat")
    assert.equal(before + 3, nice_of(says({ "cat", "/proc/self/stat" }, { nice = before + 3 })))
    assert.equal(before, nice_of(helper.read "/proc/self/stat"))
    local b <close> = assert(nsbox.start("busybox", "sleep 60", { nice = before + 3 }))
    assert.equal(before + 3, nice_of(b:exec({ "cat", "/proc/self/stat" }).stdout))
    assert.equal(before + 5, nice_of(b:exec({ "cat", "/proc/self/stat" }, { nice = before + 5 }).stdout))
  end)

  it("nice below the caller's needs a right that it may not have", function()
    local r, err = nsbox.run("busybox", { "cat", "/proc/self/stat" }, { nice = -5 })
    if r then
      assert.equal(-5, nice_of(r.stdout))
    else
      assert.same({ "unsupported", "EACCES" }, { err.kind, err.name }, tostring(err))
      assert.matches("CAP_SYS_NICE", err.message, 1, true)
    end
  end)

  it("the CPUs are as given, and all of them must be there", function()
    local cpu = helper.read("/proc/self/status"):match "Cpus_allowed_list:%s*(%d+)"
    local list = { "grep", "Cpus_allowed_list", "/proc/self/status" }
    assert.equal(cpu, says(list, { affinity = cpu }):match ":%s*(%S+)")
    for _, beyond in ipairs { "8000", cpu .. ",8000" } do
      local r, err = nsbox.run("busybox", list, { affinity = beyond })
      assert.is_nil(r)
      assert.same({ "unsupported", "affinity: the caller may not run on all of the CPUs " .. beyond },
        { err.kind, err.message })
    end
  end)

  it("the umask is as given", function()
    assert.equal("0077\n", says("umask", { umask = "0077" }))
    local b <close> = assert(nsbox.start("busybox", "sleep 60", { umask = "0027" }))
    assert.equal("0027\n0070\n", b:exec("umask").stdout .. b:exec("umask", { umask = "0070" }).stdout)
  end)

  it("the personality is as given", function()
    assert.equal("00040000\n", says({ "cat", "/proc/self/personality" }, { personality = { "no_aslr" } }))
    local maps = { "grep", "stack", "/proc/self/maps" }
    assert.equal(says(maps, { personality = { "no_aslr" } }), says(maps, { personality = { "no_aslr" } }))
    assert.not_equal(says "uname -m", says("uname -m", { personality = { "linux32" } }))
  end)
end)

describe("kernel parameters", function()
  it("of the box's own namespaces are as given, and the host's stay", function()
    local before = helper.read "/proc/sys/net/ipv4/ip_default_ttl"
    local ttl = tonumber(before) + 1
    assert.equal(ttl .. "\n", says({ "cat", "/proc/sys/net/ipv4/ip_default_ttl" },
      { sysctls = { ["net.ipv4.ip_default_ttl"] = ttl } }))
    assert.equal(before, helper.read "/proc/sys/net/ipv4/ip_default_ttl")
  end)

  it("are set too where the box is shown the host's proc", function()
    assert.equal("77\n", says({ "cat", "/proc/sys/net/ipv4/ip_default_ttl" },
      { sysctls = { ["net/ipv4/ip_default_ttl"] = 77 }, namespaces = { pid = false } }))
  end)

  it("of ipc are as given, or the kernel's refusal is told", function()
    local before = helper.read "/proc/sys/kernel/shmmax"
    local list = { "cat", "/proc/sys/kernel/shmmax" }
    local r, err = nsbox.run("busybox", list, { sysctls = { ["kernel.shmmax"] = 65536 } })
    assert.equal(before, helper.read "/proc/sys/kernel/shmmax")
    if r then
      assert.equal("65536\n", r.stdout)
    else
      assert.same({ "unsupported", "this kernel lets no box set kernel.shmmax" }, { err.kind, err.message })
    end
  end)

  it("that the kernel does not have, or values it does not take, end the start", function()
    local err = box.fails("unsupported", sys.ENOENT, "busybox", { "true" }, { sysctls = { ["net.ipv4.none"] = 1 } })
    assert.matches("net.ipv4.none", err.message, 1, true)
    err = box.fails("setup", sys.EINVAL, "busybox", { "true" }, { sysctls = { ["net.ipv4.ip_default_ttl"] = "much" } })
    assert.matches("sys/net/ipv4/ip_default_ttl", tostring(err), 1, true)
  end)
end)

describe("disable_userns", function()
  local TRY = "unshare -U true 2>&1"

  it("lets the box make no user namespace", function()
    assert.equal("0\n", says(TRY .. "; echo $?"))
    local seen = says(TRY .. "; echo $?", { disable_userns = true })
    assert.matches("No space left on device\n1\n$", seen)
  end)

  it("cannot be taken back by the box's root, whatever it may do", function()
    local file = "sys/user/max_user_namespaces"
    local attempt = ("(echo 9 >/proc/%s) 2>/dev/null; mkdir /q && mount -t proc q /q && (echo 9 >/q/%s) 2>/dev/null; "
      .. "cat /q/%s; unshare -U true 2>/dev/null; echo $?"):format(file, file, file)
    assert.equal("0\n1\n", says(attempt, { disable_userns = true, cap_add = "all" }))
    local b <close> = assert(nsbox.start("busybox", "sleep 60", { disable_userns = true, cap_add = "all" }))
    assert.matches("No space left", b:exec(TRY, { cap_add = "all" }).stdout, 1, true)
    local ok, text = pcall(b.exec, b, TRY, { cap_add = { "sys_resource" } })
    assert.is_false(ok)
    assert.matches("must not name CAP_SYS_RESOURCE with disable_userns", text, 1, true)
  end)
end)
