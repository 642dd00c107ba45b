-- Capabilities, limits and attributes as options: what is accepted, in which form it comes back, and what is misuse.
local E = require "nsbox.error"
local assert = require "luassert"
local assert_misuse = require "spec.misuse"
local capabilities = require "nsbox.config.capabilities"
local caps = require "nsbox.options.caps"
local options = require "nsbox.options"
local plan = require "nsbox.plan"
local stations = require "spec.stations"

local function check(opts, verb)
  local checked, err = options.check(verb or "run", opts)
  assert.is_nil(err)
  return checked
end

local function sets(opts, uid)
  local settled = assert(capabilities.settle("run", check(opts)))
  return capabilities.lists({ uid = uid or 0 }, settled)
end

describe("capabilities", function()
  it("are docker's 14 where nothing is said, none for a user", function()
    local root, user = sets {}, sets({}, 7)
    assert.equal(14, #root.bounding)
    assert.same({ root.bounding, root.bounding, {}, {} },
      { root.permitted, root.effective, root.inheritable, root.ambient })
    assert.same({ root.bounding, {}, {} }, { user.bounding, user.permitted, user.effective })
  end)

  it("have names with and without CAP_, in any case", function()
    for _, name in ipairs { "CAP_SYS_PTRACE", "SYS_PTRACE", "sys_ptrace", "cap_sys_Ptrace" } do
      assert.same({ "CAP_SYS_PTRACE" }, sets({ cap_drop = "all", cap_add = { name } }).bounding)
    end
  end)

  it("are numbered as the kernel does", function()
    assert.same({ 0, 21, 40 }, { caps.number "CAP_CHOWN", caps.number "CAP_SYS_ADMIN",
      caps.number "CAP_CHECKPOINT_RESTORE" })
  end)

  it("are dropped first, and added then", function()
    assert.same({}, sets({ cap_drop = "all" }).bounding)
    assert.same({ "CAP_KILL" }, sets({ cap_drop = { "ALL" }, cap_add = { "kill" } }).bounding)
    assert.equal(13, #sets({ cap_drop = { "kill" } }).bounding)
    assert.equal(14, #sets({ cap_drop = { "kill" }, cap_add = { "kill" } }).bounding)
    assert.equal(15, #sets({ cap_add = { "sys_ptrace", "kill" } }).bounding)
    local most = sets({ cap_add = "all" }).bounding
    assert.is_true(#most > 35)
    assert.equal(#most - 1, #sets({ cap_add = { "all" }, cap_drop = { "sys_admin" } }).bounding)
  end)

  it("are the same list for the same set, by which a plan is found again", function()
    assert.equal(sets({ cap_add = { "sys_ptrace" } }).bounding, sets({ cap_add = { "CAP_SYS_PTRACE" } }).permitted)
    assert.equal(sets({}).bounding, sets({ cap_drop = {} }).bounding)
  end)

  it("that are ambient are in all five sets of a user", function()
    local user = sets({ cap_ambient = { "kill" } }, 7)
    for _, name in ipairs { "permitted", "effective", "inheritable", "ambient" } do
      assert.same({ "CAP_KILL" }, user[name], name)
    end
    assert.same(user.bounding, sets({ cap_ambient = "all" }, 7).ambient)
  end)

  it("of an added process begin with the main process's", function()
    local first = sets({ cap_drop = "all", cap_add = { "kill", "chown" }, cap_ambient = { "kill" } }, 7)
    local function added(opts)
      return capabilities.lists({ uid = 7 }, assert(capabilities.settle("exec", check(opts, "exec"), first)))
    end
    assert.same(first, added {})
    assert.same({ "CAP_CHOWN" }, added({ cap_drop = { "kill" } }).bounding)
    assert.same({}, added({ cap_drop = { "kill" } }).ambient)
    assert.same({}, added({ cap_ambient = {} }).permitted)
  end)

  it("without CAP_SYS_RESOURCE, where no user namespaces are allowed", function()
    local o = check { cap_add = "all", disable_userns = true }
    local list = capabilities.lists({ uid = 0 }, assert(capabilities.settle("run", o, nil, false, true))).bounding
    assert.is_nil((" " .. table.concat(list, " ") .. " "):find(" CAP_SYS_RESOURCE ", 1, true))
    assert.equal(#sets({ cap_add = "all" }).bounding - 1, #list)
    assert_misuse("must not name CAP_SYS_RESOURCE with disable_userns", capabilities.settle, "run",
      check { cap_add = { "sys_resource" } }, nil, false, true)
  end)

  it("of a user that the box itself has not are misuse", function()
    assert_misuse("option 'cap_ambient' names CAP_SYS_ADMIN, which the box has not", capabilities.settle, "run",
      check { cap_ambient = { "sys_admin", "kill" } })
  end)
end)

describe("limits", function()
  it("are pairs, in OCI's terms", function()
    local limits = check({ rlimits = { nofile = 64, NPROC = { 5, "inf" }, RLIMIT_core = "inf", as = "64M",
      fsize = { "1K", 4096 }, cpu = 0 } }).rlimits
    assert.same({
      nofile = { type = "RLIMIT_NOFILE", soft = 64, hard = 64 }, nproc = { type = "RLIMIT_NPROC", soft = 5, hard = -1 },
      core = { type = "RLIMIT_CORE", soft = -1, hard = -1 }, cpu = { type = "RLIMIT_CPU", soft = 0, hard = 0 },
      as = { type = "RLIMIT_AS", soft = 67108864, hard = 67108864 },
      fsize = { type = "RLIMIT_FSIZE", soft = 1024, hard = 4096 },
    }, limits)
  end)

  it("of a configuration are in one order, nproc last", function()
    local c = stations.config { opts = { rlimits = { nproc = 1, cpu = 2, nofile = 3 } } }
    local names = {}
    for i, limit in ipairs(c.process.rlimits) do names[i] = limit.type end
    assert.same({ "RLIMIT_CPU", "RLIMIT_NOFILE", "RLIMIT_NPROC" }, names)
    assert.is_nil(stations.config({}).process.rlimits)
  end)
end)

describe("attributes", function()
  -- option, as given, as checked
  local rows = {
    { "oom_score_adj", -1000, -1000 }, { "nice", 19.0, 19 }, { "affinity", "0-1,3", "0-1,3" },
    { "personality", { "no_aslr", "linux32" }, { no_aslr = true, linux32 = true } }, { "umask", "0077", 63 },
    { "sysctls", { ["net.ipv4.ip_forward"] = 1 }, { ["net.ipv4.ip_forward"] = "1" } },
    { "sysctls", { ["net/ipv4/conf/eth0.5/forwarding"] = "1" }, { ["net.ipv4.conf.eth0/5.forwarding"] = "1" } },
    { "sysctls", { ["kernel.sem"] = "1 2 3 4", ["fs.mqueue.msg_max"] = 5.0 },
      { ["kernel.sem"] = "1 2 3 4", ["fs.mqueue.msg_max"] = "5" } },
  }
  for i, row in ipairs(rows) do
    it(("%s are normalised (row %d)"):format(row[1], i), function()
      assert.same(row[3], check({ [row[1]] = row[2] })[row[1]])
    end)
  end

  it("are in the places that OCI has for them", function()
    local c = stations.config { opts = { oom_score_adj = 5, nice = 6, affinity = "1", umask = "0027",
      personality = { "no_aslr" }, sysctls = { ["net.ipv4.ip_forward"] = 1 }, no_new_privs = false } }
    assert.same({ 5, { policy = "SCHED_OTHER", nice = 6 }, 23, false },
      { c.process.oomScoreAdj, c.process.scheduler, c.process.user.umask, c.process.noNewPrivileges })
    assert.same({ "1", { domain = "LINUX", flags = { "ADDR_NO_RANDOMIZE" } }, { ["net.ipv4.ip_forward"] = "1" } },
      { c.nsbox.affinity, c.linux.personality, c.linux.sysctl })
  end)
end)

describe("misuse of privileges", function()
  -- options, part of the text
  local rows = {
    { { cap_add = { "sys_ptrac" } }, "[1] names no capability: 'sys_ptrac'; did you mean CAP_SYS_PTRACE?" },
    { { cap_add = "sys_ptrace" }, 'must be a list of capabilities, or "all"' },
    { { cap_drop = { 5 } }, "must be a capability such as" },
    { { cap_drop = { "kill", nil, "all" } }, "has a hole" }, { { cap_ambient = { a = 1 } }, "must be a list" },
    { { cap_add = "all", cap_drop = "all" }, 'must not be "all" with "all" in cap_drop' },
    { { rlimits = { nofiles = 1 } }, "has no limit 'nofiles'; did you mean nofile?" },
    { { rlimits = { nofile = { 5, 4 } } }, "nofile has a soft limit above the hard one" },
    { { rlimits = { nofile = { "inf", 4 } } }, "nofile has a soft limit above the hard one" },
    { { rlimits = { nofile = "64M" } }, "nofile must be a whole number" }, { { rlimits = { as = -1 } }, "a size" },
    { { rlimits = { nofile = { 5 } } }, "{ soft, hard }" }, { { rlimits = { NOFILE = 1, nofile = 1 } }, "gives" },
    { { rlimits = { nofile = 1.5 } }, "whole number" }, { { rlimits = { 5 } }, "has no limit 1" },
    { { rlimits = 5 }, "must be a map" },
    { { oom_score_adj = 1001 }, "from -1000 to 1000" }, { { oom_score_adj = "5" }, "an integer" },
    { { nice = 20 }, "from -20 to 19" }, { { nice = 0.5 }, "an integer" },
    { { affinity = "" }, "a list of CPUs" }, { { affinity = "1-0" }, "a list of CPUs" },
    { { affinity = "0,,1" }, "a list" }, { { affinity = "a" }, "a list" }, { { affinity = "0-8192" }, "beyond 8191" },
    { { affinity = 1 }, "a list of CPUs" }, { { affinity = "0-99999999999999999999" }, "beyond 8191" },
    { { personality = { "noaslr" } }, "did you mean \"no_aslr\"?" }, { { personality = "no_aslr" }, "a list" },
    { { sysctls = { ["vm.swappiness"] = 1 } }, "it is the whole machine's" },
    { { sysctls = { ["kernel.hostname"] = "a" } }, "use the option hostname" },
    { { sysctls = { ["kernel.semx"] = "a" } }, "whole machine's" },
    { { sysctls = { ["user.max_user_namespaces"] = 1 } }, "use disable_userns" },
    { { sysctls = { ["net/../kernel/core_pattern"] = 1 } }, "no kernel parameter" },
    { { sysctls = { ["net.ipv4//.ip_forward"] = 1 } }, "no kernel parameter" },
    { { sysctls = { ["net.//"] = 1 } }, "no kernel parameter" }, { { sysctls = { ["net. "] = 1 } }, "no kernel" },
    { { sysctls = { ["net.x"] = "a\nb" } }, "one line of text" }, { { sysctls = { ["net.x"] = "" } }, "one line" },
    { { sysctls = { ["net.x"] = 1 }, network = "host" }, "net.x, which needs a net namespace of the box's own" },
    { { sysctls = { ["net.x"] = 1 }, namespaces = { net = 1 } }, "needs a net namespace" },
    { { sysctls = { ["kernel.shmmax"] = 1 }, namespaces = { ipc = false } }, "needs a ipc namespace" },
    { { disable_userns = true, namespaces = { user = false } }, "needs a user namespace of the box's own" },
    { { no_new_privs = 1 }, "must be a boolean" },
  }
  for i, row in ipairs(rows) do
    it(("raises: %s (row %d)"):format(row[2], i), function()
      assert_misuse(row[2], options.check, "run", row[1])
    end)
  end

  it("is what belongs to the whole box, of a process that is added", function()
    for name, v in pairs { sysctls = {}, disable_userns = true, personality = {} } do
      assert_misuse("belongs to the whole box", options.check, "exec", { [name] = v })
    end
  end)
end)

describe("the plan of privileges", function()
  local function steps_of(opts, host)
    return plan.plan(assert(stations.config { opts = opts, host = host }), host or stations.root)
  end

  local function index(steps, ...)
    for i, step in ipairs(steps) do
      if table.concat({ step[1], tostring(step[2]), tostring(step[3]) }, " "):find(table.concat({ ... }, " "), 1, true)
      then return i end
    end
  end

  it("raises limits before any namespace is entered, and lowers them after all else", function()
    for _, host in ipairs { stations.root, stations.user } do
      local steps = steps_of({ rlimits = { nofile = 8 }, nice = -1, oom_score_adj = 5 }, host)
      local entered = index(steps, "setns")
      assert.is_true(index(steps, "raise_limit nofile") < entered)
      assert.is_true(index(steps, "setpriority") < entered)
      assert.is_true(index(steps, "write_file cwd /proc/self/oom_score_adj") < entered)
      assert.is_true(index(steps, "setrlimit nofile") > index(steps, "capset"))
      assert.is_true(index(steps, "check_rlimit nofile") > index(steps, "setrlimit nofile"))
    end
  end)

  it("writes the OOM score in a process of vfork's alone: else it would be the caller's", function()
    local steps = steps_of { oom_score_adj = 5 }
    local at = index(steps, "write_file cwd /proc/self/oom_score_adj")
    assert.same({ "clone", "vm,files,vfork,parent" }, { table.unpack(steps[at - 2], 1, 2) })
  end)

  it("sets kernel parameters before they become read-only", function()
    local steps = steps_of { sysctls = { ["net.ipv4.ip_forward"] = 1 }, disable_userns = true }
    local at = index(steps, "write_file @proc sys/net/ipv4/ip_forward")
    assert.is_true(at > index(steps, "move_mount @proc") and at < index(steps, "mount sys sys"))
    assert.is_true(index(steps, "write_file @proc sys/user/max_user_namespaces") > at)
    steps = steps_of { sysctls = { ["net.ipv4.ip_forward"] = 1 }, namespaces = { pid = false } }
    assert.is_truthy(index(steps, "write_file cwd /proc/sys/net/ipv4/ip_forward"))
  end)

  it("keeps ambient capabilities over the change of ids, and raises them after capset", function()
    local steps = steps_of { user = "5:6", cap_ambient = { "kill" } }
    local keep, set = index(steps, "prctl set_keepcaps 1"), index(steps, "setresuid 5")
    assert.is_true(keep < set and set < index(steps, "prctl set_keepcaps 0"))
    assert.is_true(index(steps, "capset kill kill") < index(steps, "prctl cap_ambient 2"))
    assert.is_nil(index(steps_of { user = "5:6" }, "prctl set_keepcaps"))
  end)

  it("reads no_new_privs back either way", function()
    for given, expected in pairs { [true] = 1, [false] = 0 } do
      local steps = steps_of { no_new_privs = given }
      assert.equal(expected, steps[index(steps, "prctl get_no_new_privs")].expect)
    end
  end)

  it("is another one for whatever changes", function()
    local seen = {}
    for i, opts in ipairs { {}, { cap_add = { "sys_ptrace" } }, { cap_drop = { "kill" } }, { cap_ambient = { "kill" } },
      { no_new_privs = false }, { rlimits = { nofile = 5 } }, { rlimits = { nofile = { 4, 5 } } },
      { rlimits = { nproc = 5 } }, { nice = 5 }, { oom_score_adj = 5 }, { affinity = "5" }, { umask = "0005" },
      { personality = { "no_aslr" } }, { personality = { "linux32" } }, { disable_userns = true },
      { sysctls = { ["net.x"] = 5 } }, { sysctls = { ["net.x"] = 6 } }, { sysctls = { ["net.y"] = 5 } } } do
      local steps = plan.steps_of(assert(stations.config { opts = opts }), stations.root)
      assert.is_nil(seen[steps], ("row %d has the plan of row %s"):format(i, seen[steps]))
      seen[steps] = i
      assert.equal(steps, plan.steps_of(assert(stations.config { opts = opts }), stations.root))
    end
  end)
end)

describe("an error of privileges", function()
  it("is an Error for what this kernel or caller has not", function()
    local o = check { cap_add = { "sys_admin" } }
    local sys = require "nsbox.sys"
    local prctl = sys.prctl
    finally(function() sys.prctl = prctl end)
    for _, case in ipairs { { nil, false, "this kernel has no CAP_SYS_ADMIN" },
      { 0, true, "the caller itself has not CAP_SYS_ADMIN" } } do
      sys.prctl = function() return case[1] end
      local settled, err = capabilities.settle("run", o, nil, case[2])
      assert.is_nil(settled)
      assert.is_true(E.is(err) and err.kind == "unsupported")
      assert.is_truthy(err.message:find(case[3], 1, true), err.message)
    end
  end)
end)
