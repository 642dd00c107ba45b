-- Plans as data: golden texts, and what must hold for every one of them. No privilege, nothing is started.
local assert = require "luassert"
local core = require "nsbox.core"
local explain = require "nsbox.explain"
local helper = require "spec.helper"
local plan = require "nsbox.plan"
local plans = require "spec.plans"
local stations = require "spec.stations"

local function explained(given)
  local c, o = stations.config(given)
  assert(c, tostring(o))
  return explain.show(o, c, given.host or stations.root)
end

-- ---- golden plans ----

local terminal, each = plans.terminal, plans.each

-- One file of spec/golden each: what explain shows.
local golden = {
  folder_as_root = {},
  folder_as_user = { host = stations.user },
  folder_without_ranges = { host = stations.plain },
  host_as_user_who_keeps_the_id = { host = stations.user, image = stations.host_image(), cmd = { "true" },
    opts = { userns = "keep-id" } },
  ids_of_the_host = { opts = { userns = "host" } },
  read_only_with_a_terminal = { opts = terminal },
  init_with_a_terminal = { opts = { init = true, tty = { rows = 24, cols = 80 }, env = { TERM = "xterm" } } },
  idle_as_user = { host = stations.user, cmd = false },
  host = { image = stations.host_image(), cmd = { "true" } },
  more_descriptors = { opts = { fds = { [3] = 0, [20] = 1 } } },
  net_shared_as_user = { host = stations.user, opts = { network = "host" } },
  ipc_joined = { opts = { namespaces = { ipc = "/proc/1/ns/ipc" } } },
}

local function first_difference(expected, found)
  local lines = {}
  for line in (expected .. "\n"):gmatch "([^\n]*)\n" do
    lines[#lines + 1] = line
  end
  local n = 0
  for line in (found .. "\n"):gmatch "([^\n]*)\n" do
    n = n + 1
    if line ~= lines[n] then
      return ("line %d\n  was: %s\n  is:  %s"):format(n, lines[n] or "(no more)", line)
    end
  end
  return ("line %d is missing: %s"):format(n + 1, lines[n + 1])
end

describe("the golden plan", function()
  for name, given in pairs(golden) do
    it(name .. " is what it was", function()
      local path, text = ("spec/golden/%s.txt"):format(name), tostring(explained(given))
      if os.getenv "NSBOX_GOLDEN" == "write" then
        helper.write(path, text)
      end
      local expected = helper.read(path)
      assert.is_truthy(expected, path .. " is missing: NSBOX_GOLDEN=write busted spec/plan_spec.lua makes it")
      if text ~= expected then
        error(("the plan has changed; if that was meant: NSBOX_GOLDEN=write busted spec/plan_spec.lua\n%s: %s"):format(
          path, first_difference(expected, text)), 0)
      end
    end)
  end
end)

-- ---- what holds for all ----

-- Beyond the table of calls: the loop's own steps, and what the caller's side adds in Lua.
local control = { clone = true, barrier = true, vacate = true, execve = true }
local of_parent = { namespaces = true }

local function index(steps, call, first, from)
  for i = from or 1, #steps do
    if steps[i][1] == call and (first == nil or steps[i][2] == first) then
      return i
    end
  end
end

local function last(steps, call)
  for i = #steps, 1, -1 do
    if steps[i][1] == call then
      return i
    end
  end
end

local function before(steps, ...)
  local at = 0
  for _, what in ipairs { ... } do
    local i = index(steps, what[1], what[2], at + 1)
    assert.is_truthy(i, ("%s %s is missing, or comes too early"):format(what[1], what[2] or ""))
    at = i
  end
end

local function slots_of(step)
  local list = {}
  for i = 2, #step do
    list[#list + 1] = type(step[i]) == "string" and step[i]:match "^@(.*)$" or nil
  end
  list[#list + 1] = type(step.expect) == "string" and step.expect:match "^@(.*)$" or nil
  return table.move(step.give or {}, 1, #(step.give or {}), #list + 1, list)
end

describe("every plan", function()
  it("gives each step a reason and a side", function()
    each(function(steps)
      for i, step in ipairs(steps) do
        assert.is_true(type(step.why) == "string" and #step.why > 2, "step " .. i .. " has no reason")
        assert.is_true(step.side == "parent" or step.side == "child", "step " .. i .. " has no side")
      end
    end)
  end)

  it("knows no call but the table's", function()
    local calls = core.calls()
    each(function(steps)
      for _, step in ipairs(steps) do
        local known = calls[step[1]] or control[step[1]] or step.side == "parent" and of_parent[step[1]]
        assert.is_truthy(known, "no such call: " .. step[1])
      end
    end)
  end)

  it("sets a slot once, before it is used, and none for nothing", function()
    each(function(steps)
      local set = { stdin = true, stdout = true, stderr = true, keeper = true, owner = true }
      set.program, set.status = true, true -- of a box with an init
      set.fd_3, set.fd_20 = true, true
      local unused = {}
      for i, step in ipairs(steps) do
        for _, name in ipairs(slots_of(step)) do
          assert.is_truthy(set[name], ("step %d uses %s before it is set"):format(i, name))
          unused[name] = nil
        end
        for _, name in ipairs(type(step.out) == "table" and step.out or { step.out }) do
          assert.is_nil(set[name], ("step %d sets %s again"):format(i, name))
          set[name], unused[name] = true, step.side == "child" or nil
        end
      end
      assert.is_nil(next(unused))
    end)
  end)

  it("begins each process with its guard: it dies with the caller", function()
    each(function(steps)
      for i, step in ipairs(steps) do
        if step[1] == "clone" then
          assert.same({ "prctl", "set_pdeathsig", "kill" }, { table.unpack(steps[i + 1], 1, 3) })
        end
      end
    end)
  end)

  it("closes the caller's descriptors before the box's process opens one, and keeps its own from the caller", function()
    each(function(steps)
      local hop, close = last(steps, "clone"), index(steps, "close_fds")
      assert.is_true(hop < close)
      for i = hop + 1, close do
        assert.is_nil(steps[i].out)
      end
      for i = 1, hop do
        assert.is_true(not steps[i].out or steps[i].side == "parent", "a slot is filled in the caller's own table")
      end
    end)
  end)

  it("changes the root before ids, ids before capabilities, and all of it before exec", function()
    each(function(steps, c)
      if c.linux.namespaces[1] and index(steps, "pivot_root") then
        before(steps, { "pivot_root" }, { "umount2" }, { "same_file", "@top" }, { "setresgid" })
      end
      before(steps, { "prctl", "cap_ambient" }, { "cap_bound" }, { "setresgid" }, { "setresuid" }, { "capset" },
        { "prctl", "set_no_new_privs" }, { "check_caps" }, { "check_ids" }, { "prctl", "get_no_new_privs" },
        { "execve" })
    end)
  end)

  it("ends with exec: after the read-back nothing else happens", function()
    each(function(steps)
      assert.equal(#steps, index(steps, "execve"))
      assert.same({ "prctl", "get_no_new_privs" }, { table.unpack(steps[#steps - 1], 1, 2) })
      assert.equal(1, steps[#steps - 1].expect)
      for i = index(steps, "check_caps"), #steps - 1 do
        assert.is_truthy(steps[i][1]:find "^check_" or steps[i].expect, "not a read-back: " .. steps[i][1])
      end
    end)
  end)

  it("lowers the caller's groups wherever it may", function()
    each(function(steps, _, host)
      assert.equal(host.ids.setgroups, index(steps, "setgroups") ~= nil)
    end)
  end)

  it("holds the guard again after the last change of ids, or is held by the keeper", function()
    each(function(steps, c)
      local nested = false
      for _, ns in ipairs(c.linux.namespaces) do
        nested = nested or ns.type == "pid" and not ns.path
      end
      local i = index(steps, "prctl", "set_pdeathsig", last(steps, "setresuid"))
      assert.equal(nested and 0 or "kill", steps[i][3])
    end)
  end)

  it("tolerates no failure, but of what the kernel does not have, or the host does not show", function()
    each(function(steps)
      for i, step in ipairs(steps) do
        local shown = step[1] == "open_tree" and step.ok == "EACCES,ENOENT" -- without it the next step is skipped
        local hidden = step.ok == "ENOENT" and (step[1] == "mount" or step[1] == "mount_setattr")
        -- a mount of the host's that cannot have other owners: its files show as nobody's
        local of_nobody = step[5] == "idmap" and steps[i - 1][4] == "clone,recursive"
        assert.is_true(not step.ok or shown or hidden or of_nobody,
          ("step %d %s tolerates %s"):format(i, step[1], step.ok or ""))
      end
    end)
  end)

  it("hides and protects what the configuration names, with any proc", function()
    each(function(steps, c)
      if not index(steps, "pivot_root") then
        return
      end
      local n = 0
      for _, step in ipairs(steps) do
        n = n + (step.ok == "ENOENT" and step[1] == "mount" and 1 or 0)
      end
      assert.equal(#c.linux.maskedPaths + #c.linux.readonlyPaths, n)
    end)
  end)

  it("keeps mounts from reaching the host before it makes the first", function()
    each(function(steps)
      if index(steps, "pivot_root") then
        local private = index(steps, "mount_setattr", "cwd")
        assert.equal("private", steps[private][7])
        assert.is_true(private < (index(steps, "move_mount") or index(steps, "mount")))
        for _, step in ipairs(steps) do
          if step[1] == "mount_setattr" and step.side == "parent" then -- of a tree that the caller has made
            assert.equal("private", step[7])
          end
        end
      end
    end)
  end)
end)

describe("a plan", function()
  local function steps_of(given)
    return explained(given).plan
  end

  it("gives the program its numbers right after close_fds, and each is made free first", function()
    local steps = steps_of { opts = { fds = { [3] = 0, [20] = 0 } } }
    local at = index(steps, "close_fds")
    local calls = {}
    for i = 4, 7 do
      calls[#calls + 1] = table.concat({ table.unpack(steps[at + i]) }, " ")
    end
    assert.same({ "vacate 3", "dup3 @fd_3 3", "vacate 20", "dup3 @fd_20 20" }, calls)
  end)

  it("makes time offsets before exec, in a time namespace", function()
    local steps = steps_of { opts = { namespaces = { time = { boottime = 1.5 } } } }
    local at = index(steps, "unshare", "newtime")
    assert.same({ "write_file", "cwd", "/proc/self/timens_offsets", "boottime 1 500000000\n" },
      { table.unpack(steps[at + 1], 1, 4) })
    assert.is_nil(index(steps, "open", "/proc/self/ns/time_for_children"))
  end)

  it("enters its time namespace where exec does not: before Linux 6.3", function()
    local old = setmetatable({ kernel = "6.1", exec_clocks = { ok = false } }, { __index = stations.root })
    local steps = steps_of { host = old, opts = { namespaces = { time = { boottime = 1.5 } } } }
    local at = index(steps, "setns", "@clocks")
    assert.equal("newtime", steps[at][3])
    assert.is_true(at > index(steps, "write_file", "cwd"))
  end)

  it("enters others' namespaces before it makes its own", function()
    local steps = steps_of { opts = { namespaces = { ipc = 1, net = 1 } } }
    assert.is_true(last(steps, "setns") < last(steps, "clone"))
    assert.is_nil(index(steps, "unshare", "newnet"))
  end)

  it("has its user namespace from the keeper, mapped, and with it the network namespace that it shall own", function()
    for _, host in ipairs { stations.root, stations.user } do
      local steps = steps_of { host = host }
      local step = steps[index(steps, "namespaces")]
      assert.same({ "parent", "newuser,newnet" }, { step.side, step[2] })
      assert.same(host.ids.uid, step[3])
      assert.is_nil(index(steps, "unshare", "newnet"))
      steps = steps_of { host = host, opts = { network = "host" } }
      assert.equal("newuser", steps[index(steps, "namespaces")][2])
    end
    local steps = steps_of { opts = { namespaces = { user = false } } }
    assert.is_nil(index(steps, "namespaces"))
    before(steps, { "unshare", "newnet" }, { "if_up", "lo" })
  end)

  it("shows the host's proc and sys read-only where it may have no fresh ones", function()
    local steps = steps_of { opts = { namespaces = { pid = false, net = false } } }
    for _, path in ipairs { "/proc", "/sys" } do
      local at = index(steps, "open_tree")
      while steps[at][3] ~= path do
        at = index(steps, "open_tree", nil, at + 1)
      end
      assert.equal("rdonly,nosuid,nodev,noexec", steps[at + 1][5])
      assert.equal("empty_path,recursive", steps[at + 1][4])
    end
  end)

  it("makes the root read-only after the last mount point", function()
    local steps = steps_of { opts = { read_only = true } }
    local at
    for i, step in ipairs(steps) do
      if step[1] == "mount_setattr" and step[2] == "@root" then
        at = i
      end
    end
    assert.equal("rdonly", steps[at][5])
    assert.is_true(last(steps, "mkpath") < at and at < index(steps, "pivot_root"))
  end)

  it("puts writes into a folder where a tmpfs cannot take them", function()
    local c = stations.config {}
    c.nsbox.layer_path = "/store/layer"
    local steps = plan.plan(c, stations.root)
    assert.equal("/store/layer", steps[index(steps, "open_tree")][3])
  end)

  it("with an init ends in that, which is told the program, and does all but the terminal's session before", function()
    local given = { cmd = { "x", "--" }, opts = { init = true, tty = true, env = { PATH = "/a::/b" } } }
    local steps = steps_of(given)
    assert.same({ "execve", "@program", { "nsbox-init", "@status", "tty", "/a/x", "./x", "/b/x", "--", "x", "--" } },
      { table.unpack(steps[#steps], 1, 3) })
    assert.is_nil(index(steps, "ioctl_sctty"))
    before(steps, { "setsid" }, { "ioctl_nclex", "@status" }, { "dup3", "@terminal" }, { "setresuid" },
      { "check_caps" })
  end)

  it("without an init ends in the same program, which becomes the command with its terminal, where an id of the box "
    .. "may write to the caller's program", function()
    local opts = { tty = true, userns = "keep-id", env = { PATH = "/a::/b" } }
    local steps = steps_of { cmd = { "x", "--" }, opts = opts }
    assert.same({ "execve", "@program", { "nsbox-exec", "@status", "/a/x", "./x", "/b/x", "--", "x", "--" } },
      { table.unpack(steps[#steps], 1, 3) })
    before(steps, { "setsid" }, { "ioctl_nclex", "@status" }, { "ioctl_sctty" }, { "check_caps" })
  end)

  it("of an idle box ends in an init that has nothing to start, and knows the signal that ends it", function()
    local steps = steps_of { cmd = false, opts = { stop_signal = "USR1", entrypoint = { "/ignored" } } }
    assert.same({ "execve", "@program", { "nsbox-init", "@status", "10" } }, { table.unpack(steps[#steps], 1, 3) })
  end)

  it("looks for a name in the box's PATH, and for no path", function()
    local env = { PATH = "/a::/b" }
    local steps = steps_of { cmd = { "x" }, opts = { env = env } }
    assert.same({ "execve", { "/a/x", "./x", "/b/x" }, { "x" } }, { table.unpack(steps[#steps], 1, 3) })
    steps = steps_of { cmd = { "./x" }, opts = { env = env, userns = "keep-id" } }
    assert.same({ "nsbox-exec", "@status", "./x", "--", "./x" }, steps[#steps][3])
  end)
end)
