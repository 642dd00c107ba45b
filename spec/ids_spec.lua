-- The ids of boxes as data: rows of maps, subordinate ids, the map a caller can have, ranges of root's.
local assert = require "luassert"
local core = require "nsbox.core"
local helper = require "spec.helper"
local idmap = require "nsbox.idmap"
local idrange = require "nsbox.idrange"
local idrows = require "nsbox.idrows"
local assert_misuse = require "spec.misuse"
local options = require "nsbox.options"
local owner = require "nsbox.owner"
local process = require "spec.process"
local subid = require "nsbox.subid"
local sys = require "nsbox.sys"

helper.leakcheck()

-- Until the test ends, these are the system's files.
local function files(uids, gids)
  local dir, old = helper.tmpdir(), { subid.UIDS, subid.GIDS }
  subid.UIDS, subid.GIDS = dir .. "/subuid", dir .. "/subgid"
  helper.cleanup(function() subid.UIDS, subid.GIDS = table.unpack(old) end)
  helper.write(subid.UIDS, uids)
  helper.write(subid.GIDS, gids or uids)
end

describe("rows of an id map", function()
  local wrong = {
    { {}, "rows {inside, outside, count} expected" },
    { { { 0, 1000, 0 } }, "row 1: count: an integer from 1" },
    { { { 0, 1000, 1 }, { -1, 2000, 1 } }, "row 2: inside: an integer from 0" },
    { { { 0, 1000, 1 }, { 1, 2000, "5" } }, "row 2: count" },
    { { { 0, 1000, 1 }, { 1, 2000 } }, "row 2: {inside, outside, count} expected" },
    { { { 0, 1000, 1 }, { 1, 4294967000, 1000 } }, "row 2: reaches beyond the last id" },
    { { { 0, 0, 4294967296 } }, "row 1: count" },
    { { { 0, 1000, 5 }, { 9, 3000, 1 }, { 4, 2000, 1 } }, "rows 1 and 3 overlap inside" },
    { { { 0, 1000, 5 }, { 5, 1004, 1 } }, "rows 1 and 2 overlap outside" },
  }

  it("that the kernel would refuse are misuse of the option, with the row that is wrong", function()
    for _, row in ipairs(wrong) do
      assert_misuse("option 'uid_map' is no id map: " .. row[2], options.check, "run",
        { uid_map = row[1], gid_map = { { 0, 0, 1 } } })
    end
    local many = {}
    for i = 1, 341 do many[i] = { i, i, 1 } end
    assert.same({ nil, "at most 340 rows, not 341" }, { idrows.check(many) })
  end)

  it("are said whole, and once", function()
    local rows = { { 0, 1, 1 } }
    for text, opts in pairs {
      ["option 'uid_map' needs gid_map"] = { uid_map = rows }, ["option 'gid_map' needs uid_map"] = { gid_map = rows },
      ["option 'uid_map' excludes userns"] = { uid_map = rows, gid_map = rows, userns = "auto" },
      ["option 'uid_map' needs a user namespace"] = { uid_map = rows, gid_map = rows, namespaces = { user = false } },
      ["option 'userns' excludes namespaces.user"] = { userns = "auto", namespaces = { user = true } },
      ["option 'userns' must be"] = { userns = "keepid" },
      ["option 'disable_userns' needs a user namespace"] = { userns = "host", disable_userns = true },
    } do
      assert_misuse(text, options.check, "run", opts)
    end
    assert.same({ new = false }, options.check("run", { userns = "host" }).namespaces.user)
    assert.equal("host", options.check("run", { namespaces = { user = false } }).userns)
  end)

  it("name the ids of a namespace around them, in parts if need be", function()
    local around = { { 0, 1000, 1 }, { 1, 100000, 10 }, { 11, 200000, 10 } }
    assert.same({ { 0, 0, 1 }, { 1, 1, 5 } }, idrows.below(around, { { 0, 1000, 1 }, { 1, 100000, 5 } }))
    assert.same({ { 7, 10, 1 } }, idrows.below(around, { { 7, 100009, 1 } }))
    assert.same({ nil, 100010, 1 }, { idrows.below(around, { { 7, 100009, 2 } }) })
    local joined = { { 0, 1000, 1 }, { 1, 1001, 1 } }
    assert.same({ { 0, 0, 1 }, { 1, 1, 1 } }, idrows.below(joined, { { 0, 1000, 2 } }))
    assert.same({ nil, 999, 2 }, { idrows.below(around, { { 0, 1000, 1 }, { 1, 999, 1 } }) })
  end)
end)

describe("subordinate ids", function()
  it("are those of a user by name or number; lines that are none are left out", function()
    files("a:100:10\nb:200:10\n7:300:5\n# a:1:1\na:x:1\na:500:0\na:4294967290:10\na:600\na:400:2:3\nlonga:1:1\n\n"
      .. "a:700:1")
    local found = {}
    for i, range in ipairs(subid.of(subid.UIDS, "a", 7)) do found[i] = range.first .. ":" .. range.count end
    assert.same({ "100:10", "300:5", "400:2", "700:1" }, found)
    files "a: 100:10\na:0x80000:010\na:+5:1\na:08:1\na:1 :1\na:-5:1" -- as newuidmap reads them
    found = {}
    for i, range in ipairs(subid.read(subid.UIDS)) do found[i] = range.first .. ":" .. range.count end
    assert.same({ "100:10", "524288:8", "5:1" }, found)
    assert.same({}, subid.of(helper.tmpdir() .. "/missing", "a", 7))
  end)
end)

describe("the map of a caller", function()
  it("is one id with a reason where there are no ranges", function()
    files ""
    local maps = idmap.of_caller { euid = sys.geteuid(), egid = sys.getegid() }
    assert.same({ { 0, sys.geteuid(), 1 } }, maps.uid)
    assert.is_false(maps.setgroups)
    assert.is_string(maps.why_single)
  end)

  it("is what newuidmap maps, and what that refuses is not", function()
    if helper.run ~= "user" then helper.skip "needs the user with subordinate ids" end
    local name = subid.user_name(sys.geteuid())
    local maps = idmap.of_caller { euid = sys.geteuid(), egid = sys.getegid() }
    assert.equal(2, #maps.uid, tostring(maps.why_single))
    files(name .. ":5:10\n")
    maps = idmap.of_caller { euid = sys.geteuid(), egid = sys.getegid() }
    assert.same({ 1, 5, 10 }, maps.uid[2])
    local pid = assert(sys.clone("newuser", function() sys.nanosleep(helper.PATIENCE) end))
    local ok, why = idmap.write(pid, maps)
    sys.kill(pid, "KILL")
    sys.waitid(pid)
    assert.is_nil(ok)
    assert.matches("newuidmap: uid range %[1%-11%) %-> %[5%-15%) not allowed", why)
  end)
end)

describe("ranges of root's", function()
  local function load_anew()
    local kept = package.loaded["nsbox.idrange"]
    package.loaded["nsbox.idrange"] = nil
    local fresh = require "nsbox.idrange"
    package.loaded["nsbox.idrange"] = kept
    return fresh
  end

  -- As by another process: its own file, its own locks. The folder is a new one for each test; what other specs have
  -- left running is not looked at, unless in_use says so.
  local function processes(n, in_use)
    local runtime, dir, readdir = owner.runtime, helper.tmpdir(), sys.readdir
    owner.runtime = function() return dir end
    sys.readdir = function(path) -- luacheck: ignore
      return (in_use or path ~= "/proc") and readdir(path) or {}
    end
    helper.cleanup(function()
      owner.runtime, sys.readdir = runtime, readdir -- luacheck: ignore
    end)
    local list = {}
    for i = 1, n do list[i] = load_anew() end
    return table.unpack(list)
  end

  local function first_of(range)
    return range.uid[1][2]
  end

  it("begin at 524288, are nobody else's, and are not given twice", function()
    files("x:524288:65536\n", "y:655000:65536\n")
    local one, other = processes(2)
    local seen = {}
    for i, of in ipairs { one, other, one, other } do seen[i] = first_of(of.take()) end
    assert.same({ 720896, 786432, 851968, 917504 }, seen)
    assert.equal(720896, first_of(one.first()))
  end)

  it("are the user nsbox's where it has some", function()
    files("nsbox:100000:131072\nnsbox:300000:65535\nx:524288:65536\n", "nsbox:165536:65536\n")
    local one, other = processes(2)
    assert.equal(165536, first_of(one.take()))
    assert.same({ nil, "every range of 65536 ids is taken", sys.EUSERS }, { other.take() })
  end)

  it("are none where the user nsbox's are too short, which is said", function()
    files "nsbox:100000:65535\n"
    local message = select(2, processes(1).take())
    assert.equal("the ranges of the user nsbox hold no 65536 ids that are whole", message)
  end)

  it("follow the files", function()
    files ""
    local one = processes(1)
    one.give_back(one.take())
    helper.write(subid.UIDS, "alice:524288:70000\n")
    assert.equal(655360, first_of(one.take()))
  end)

  it("are not taken while a process has such an id", function()
    process.needs_root()
    local first = 4000000000 // 65536 * 65536 -- nobody else's here
    files(("nsbox:%d:131072\n"):format(first))
    local one = processes(1, true)
    local pid = assert(sys.clone(sys.SIGCHLD, function()
      assert(sys.setresuid(first + 7, first + 7, first + 7))
      sys.nanosleep(helper.PATIENCE)
    end))
    while sys.stat("/proc/" .. pid).uid == 0 do sys.nanosleep(0.001) end
    local range = one.take()
    sys.kill(pid, "KILL")
    sys.waitid(pid)
    assert.equal(first + 65536, first_of(range))
  end)

  it("that are given back are the next ones", function()
    files ""
    local one, other = processes(2)
    local first, second = one.take(), one.take()
    one.give_back(first)
    one.give_back(second) -- one is kept for the next box, the rest is everybody's
    assert.equal(589824, first_of(other.take()))
    assert.equal(524288, first_of(one.take()))
    assert.equal(655360, first_of(one.take()))
    one.give_back(second) -- not its own any more
    assert.equal(720896, first_of(one.take()))
  end)

  it("of boxes that share pids are one, which stays", function()
    files ""
    local one, other = processes(2)
    local range = one.take(true)
    assert.equal(524288, first_of(range))
    one.give_back(range)
    assert.same({ 524288, 589824 }, { first_of(one.take(true)), first_of(one.take()) })
    assert.equal(655360, first_of(other.take(true)))
  end)

  it("of a process that is gone are free", function()
    files ""
    local one = processes(1)
    local pid = assert(sys.clone(sys.SIGCHLD, function()
      assert(first_of(load_anew().take()) == 524288)
      assert(first_of(load_anew().take()) == 589824)
    end))
    assert.same({ "exit", 0 }, { sys.waitid(pid) })
    assert.equal(524288, first_of(one.take()))
  end)

  it("are its own for a fork, which knows of its maker's", function()
    files ""
    local one = processes(1)
    local range = one.take()
    local pid = assert(sys.clone(sys.SIGCHLD, function()
      one.give_back(range) -- nothing
      assert(first_of(one.take()) == 589824)
    end))
    assert.same({ "exit", 0 }, { sys.waitid(pid) })
    assert.equal(589824, first_of(one.take()))
  end)

  it("cannot be had where the folder is not the caller's", function()
    local one = processes(1)
    owner.runtime = function() return "/proc/nsbox" end
    local range, message, errno = one.take()
    assert.is_nil(range)
    assert.is_string(message)
    assert.is_string(core.errno_name(errno))
    assert.is_table(idrange.first())
  end)
end)
