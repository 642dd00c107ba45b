local E = require "nsbox.error"
local assert_misuse = require "spec.misuse"
local options = require "nsbox.options"
local schema = require "nsbox.options.schema"
local types = require "nsbox.options.types"

local function check(opts, verb)
  local checked, err = options.check(verb or "run", opts)
  assert.is_nil(err)
  return checked
end

local function assert_unsupported(expected, opts, verb)
  local checked, err, errno = options.check(verb or "run", opts)
  assert.is_nil(checked)
  assert.is_nil(errno)
  assert.is_true(E.is(err))
  assert.equal("unsupported", err.kind)
  assert.matches("is not built yet", err.message, 1, true)
  assert.is_truthy(tostring(err):find(expected, 1, true), ("%q does not contain %q"):format(tostring(err), expected))
end

describe("nsbox.options", function()
  describe("the schema", function()
    it("has a row for every option of the interface", function()
      local names = [[
        entrypoint env workdir user groups umask hostname domainname name labels init tty stdin input stdout
        stderr max_output overflow fds timeout cpu_time stop_signal stop_timeout check changes detach degrade config
        on_created on_exit store platform progress namespaces network hosts dns userns uid_map gid_map disable_userns
        cap_add cap_drop cap_ambient no_new_privs rlimits sysctls oom_score_adj nice affinity personality layer
        read_only mounts tmpfs shm_size files mask unmask devices device_rules memory swap memory_reservation cpus
        cpu_weight cpuset pids io hugetlb cgroup cgroup_parent profile seccomp landlock apparmor selinux]]
      local expected, found = {}, {}
      for name in names:gmatch("%S+") do
        expected[name] = true
      end
      for _, row in ipairs(options.rows) do
        assert.is_nil(found[row.name])
        found[row.name] = true
      end
      assert.same(expected, found)
    end)

    it("says all about each row", function()
      local flags = {}
      for _, row in ipairs(options.rows) do
        for _, column in ipairs { "name", "type", "doc", "oci" } do
          assert.equal("string", type(row[column]), row.name .. "." .. column)
        end
        assert.is_nil(row.doc:find("\n"))
        assert.is_true(row.later ~= nil or types[row.type] ~= nil, row.name .. " has no checker")
        for _, flag in ipairs(row.cli or {}) do
          assert.is_nil(flags[flag], flag)
          flags[flag] = row
        end
      end
    end)

    it("keeps other tools' names apart from its own", function()
      local own, seen = {}, {}
      for _, row in ipairs(options.rows) do
        own[row.name] = true
      end
      local groups = { schema.foreign }
      for _, row in ipairs(options.rows) do
        groups[#groups + 1] = row.aliases
      end
      for _, group in ipairs(groups) do
        for name, answer in pairs(group) do
          assert.is_nil(own[name], name)
          assert.is_nil(seen[name], name)
          assert.equal("string", type(answer))
          seen[name] = true
        end
      end
    end)
  end)

  describe("defaults", function()
    it("are filled in, in their normalised form", function()
      local checked = check(nil)
      local expected = {
        tty = false, stdin = "null", stdout = "capture", stderr = "capture", max_output = 16777216,
        overflow = "truncate", stop_timeout = 2, check = false, network = "none", read_only = false,
        layer = "discard", disable_userns = false, shm_size = 67108864, userns = "auto",
      }
      for name, value in pairs(expected) do
        assert.equal(value, checked[name], name)
      end
      assert.same({}, checked.env)
      assert.same({ stdin = false, stdout = false, stderr = false }, checked.named)
      for _, name in ipairs { "entrypoint", "workdir", "user", "hostname", "timeout", "stop_signal", "memory" } do
        assert.is_nil(checked[name])
      end
    end)

    it("differ by verb", function()
      assert.equal("log", check({}, "start").stdout)
      assert.equal("log", check({}, "spawn").stderr)
      assert.equal("capture", check({}, "exec").stdout)
      assert.is_nil(check({}, "exec").namespaces)
      assert.is_nil(check({}, "exec").network)
    end)

    it("are new tables each time", function()
      local first, second = check({}), check({})
      for _, name in ipairs { "env", "namespaces", "mounts", "named" } do
        assert.not_equal(first[name], second[name])
      end
      first.namespaces.pid.new = "spoilt"
      assert.is_true(check({}).namespaces.pid.new)
      assert.is_true(check(nil).namespaces.pid.new)
    end)

    it("are the same table, to be read only, when no options are given", function()
      assert.equal(check(nil), check(nil))
      assert.same(check({}), check(nil))
    end)

    it("leave the user's table alone", function()
      local opts = { env = { A = 1 }, namespaces = { net = false } }
      check(opts)
      assert.same({ env = { A = 1 }, namespaces = { net = false } }, opts)
    end)

    it("may come from a table that opts inherits from", function()
      assert.equal(5, check(setmetatable({}, { __index = { timeout = 5 } })).timeout)
    end)
  end)

  describe("normalises", function()
    local file = io.tmpfile()
    local object = { fileno = function() return 9 end }
    local function chunks() end

    teardown(function() file:close() end)

    -- option, as given, as checked
    local rows = {
      { "entrypoint", { "sh", "-c" }, { "sh", "-c" } }, { "entrypoint", false, false },
      { "env", { A = "x", B = 1, C = 1.5, D = false, E = "" }, { A = "x", B = "1", C = "1.5", D = false, E = "" } },
      { "env", { "NSBOX_NOT_SET" }, {} }, { "env", { "PATH", A = "1" }, { PATH = os.getenv("PATH"), A = "1" } },
      { "workdir", "/srv/a b", "/srv/a b" },
      { "user", 0, { uid = 0 } }, { "user", "www:5", { name = "www", gid = 5 } },
      { "groups", { 5, "wheel" }, { { gid = 5 }, { group = "wheel" } } },
      { "hostname", ("h"):rep(64), ("h"):rep(64) }, { "domainname", "d", "d" },
      { "tty", true, {} }, { "tty", false, false }, { "tty", { rows = 24, cols = 80 }, { rows = 24, cols = 80 } },
      { "stdin", "null", "null" }, { "stdin", "inherit", "inherit" }, { "stdin", 0, 0 }, { "stdin", file, file },
      { "stdin", object, object }, { "input", "", "" }, { "input", chunks, chunks },
      { "stdout", "null", "null" }, { "stdout", 2, 2 }, { "stdout", file, file }, { "stderr", "stdout", "stdout" },
      { "max_output", "1K", 1024 }, { "max_output", 0, 0 }, { "overflow", "kill", "kill" },
      { "timeout", 0.5, 0.5 }, { "timeout", 5, 5 }, { "stop_timeout", 0, 0 },
      { "stop_signal", "SIGINT", "INT" }, { "stop_signal", 9, "KILL" }, { "stop_signal", "rtmin+1", "RTMIN+1" },
      { "check", true, true }, { "store", "rel/ative", "rel/ative" }, { "layer", "discard", "discard" },
      { "network", "host", "host" }, { "network", "/run/netns/a", "/run/netns/a" }, { "read_only", true, true },
    }
    for i, row in ipairs(rows) do
      it(("%s (row %d)"):format(row[1], i), function()
        local checked = check({ [row[1]] = row[2] })[row[1]]
        if type(row[3]) == "table" and row[3] ~= object then
          assert.same(row[3], checked)
        else
          assert.equal(row[3], checked)
        end
      end)
    end

    it("which streams the user named", function()
      assert.same({ stdin = true, stdout = false, stderr = false }, check({ input = "x" }).named)
      assert.same({ stdin = true, stdout = true, stderr = false },
        check({ stdin = "null", stdout = "capture", tty = true }).named)
    end)
  end)

  describe("namespaces", function()
    local object = { fileno = function() return 9 end }
    local file = io.tmpfile()

    teardown(function() file:close() end)

    local rows = {
      { "pid", true, { new = true } }, { "pid", false, { new = false } }, { "mount", false, { new = false } },
      { "mount", 12, { path = "/proc/12/ns/mnt" } }, { "net", 1, { path = "/proc/1/ns/net" } },
      { "ipc", "/proc/1/ns/ipc", { path = "/proc/1/ns/ipc" } }, { "time", 7, { path = "/proc/7/ns/time" } },
      { "time", true, { new = true } }, { "time", {}, { new = true } },
      { "time", { boottime = 86400, monotonic = -1.5 }, { new = true, boottime = 86400, monotonic = -1.5 } },
    }
    for i, row in ipairs(rows) do
      it(("%s becomes a spec (row %d)"):format(row[1], i), function()
        assert.same(row[3], check({ namespaces = { [row[1]] = row[2] } }).namespaces[row[1]])
      end)
    end

    it("may be open files", function()
      local specs = check({ namespaces = { uts = object, time = object, user = file } }).namespaces
      assert.equal(object, specs.uts.fd)
      assert.equal(object, specs.time.fd)
      assert.equal(file, specs.user.fd)
    end)

    it("are all new but time", function()
      local specs = check({ namespaces = { ipc = false } }).namespaces
      for _, kind in ipairs { "pid", "mount", "uts", "net", "user", "cgroup" } do
        assert.same({ new = true }, specs[kind])
      end
      assert.same({ new = false }, specs.ipc)
      assert.same({ new = false }, specs.time)
    end)

    it("and network say the same", function()
      local both = {
        { { network = "none" }, "none", { new = true } }, { { network = "host" }, "host", { new = false } },
        { { network = "/n/s" }, "/n/s", { path = "/n/s" } }, { {}, "none", { new = true } },
        { { namespaces = { net = false } }, "host", { new = false } },
        { { namespaces = { net = true } }, "none", { new = true } },
        { { namespaces = { net = 5 } }, "/proc/5/ns/net", { path = "/proc/5/ns/net" } },
        { { namespaces = { net = object } }, nil, { fd = object } },
      }
      for _, row in ipairs(both) do
        local checked = check(row[1])
        assert.equal(row[2], checked.network)
        assert.same(row[3], checked.namespaces.net)
      end
    end)
  end)

  describe("misuse", function()
    local closed = io.tmpfile()
    closed:close()

    -- options, part of the text
    local rows = {
      { { tiemout = 1 }, "unknown option 'tiemout'; did you mean 'timeout'?" },
      { { Memory = 1 }, "unknown option 'Memory'; did you mean 'memory'?" },
      { { enviroment = {} }, "unknown option 'enviroment': use env" },
      { { zzzzzz = 1 }, "unknown option 'zzzzzz'" }, { { ["a\n"] = 1 }, "unknown option 'a\\x0a'" },
      { { "sh" }, "options have names, got the key 1" },
      { { volumes = {} }, "unknown option 'volumes': use mounts = { \"SRC:DST[:ro]\" }" },
      { { environment = {} }, "use env" }, { { cwd = "/" }, "use workdir" }, { { mem_limit = 1 }, "use memory" },
      { { privileged = true }, "there is no such switch" }, { { ports = {} }, "nsbox maps no ports" },
      { { cmd = {} }, "argument of its own" }, { { image = "" }, "the first argument" },
      { { shell = true }, "/bin/sh -c" }, { { rm = true }, "a box is removed at its end" },
      { "text", "options must be a table, got 'text'" }, { 5, "options must be a table, got 5" },

      { { entrypoint = "sh" }, "option 'entrypoint' must be a list of strings, or false, got 'sh'" },
      { { entrypoint = {} }, "must not be an empty list" }, { { entrypoint = true }, "must be a list" },
      { { entrypoint = { "" } }, "names no program" }, { { entrypoint = { 1 } }, "[1] must be a string, got 1" },
      { { entrypoint = { "a", nil, "c" } }, "has a hole: [2] is nil" },
      { { entrypoint = { "a\0" } }, "NUL" }, { { entrypoint = { a = "b" } }, "must be a list, got the key 'a'" },

      { { env = "A=1" }, "option 'env' must be a map" }, { { env = { ["A=B"] = "1" } }, "a name with '=' in it" },
      { { env = { "A=1" } }, "write NAME = \"value\"" }, { { env = { [""] = "1" } }, "has an empty name" },
      { { env = { "" } }, "has an empty name" }, { { env = { ["A\0"] = "1" } }, "a name with a NUL byte" },
      { { env = { A = true } }, "A must be a string, a number or false, got true" },
      { { env = { A = {} } }, "got a table" }, { { env = { A = "x\0" } }, "A must not contain a NUL byte" },
      { { env = { [true] = "x" } }, "a name that is not a string: true" }, { { env = { 5 } }, "not a string: 5" },
      { { env = { "A", A = "1" } }, "gives A twice" }, { { env = { [2] = "A" } }, "has a hole: [1] is nil" },

      { { workdir = "tmp" }, "option 'workdir' must be an absolute path" }, { { workdir = "" }, "must not be empty" },
      { { workdir = "/a\0b" }, "NUL" }, { { workdir = 1 }, "must be a string" },
      { { workdir = "/" .. ("a"):rep(4095) }, "must not be longer than 4095" },

      { { user = -1 }, "option 'user' must be a user" }, { { user = "1:2:3" }, "got '1:2:3'" },
      { { groups = "wheel" }, "option 'groups' must be a list of groups" },
      { { groups = { -1 } }, "[1] must be a group" },

      { { hostname = "a\nb" }, "option 'hostname' must not contain a newline, got 'a\\x0ab'" },
      { { hostname = "" }, "must not be empty" }, { { hostname = "a\0" }, "NUL" }, { { hostname = 1 }, "a string" },
      { { hostname = ("h"):rep(65) }, "must not be longer than 64 bytes, got 65" },
      { { hostname = "a\tb" }, "control characters" }, { { domainname = "a\nb" }, "must not contain a newline" },
      { { name = "a\nb" }, "option 'name' must be letters, digits" },

      { { tty = 1 }, "option 'tty' must be a boolean" }, { { tty = { rows = 1 } }, "{ rows =, cols = }" },
      { { tty = { rows = 0, cols = 80 } }, "from 1 to 65535" },
      { { tty = { rows = 24, col = 80 } }, "did you mean cols" },
      { { tty = { rows = 24, cols = 65536 } }, "from 1 to 65535" }, { { tty = {} }, "{ rows =, cols = }" },

      { { stdin = "file.txt" }, "option 'stdin' must be \"null\", \"inherit\", \"pipe\", an open file" },
      { { stdin = "capture" }, "must be" }, { { stdin = closed }, "is a closed file" },
      { { stdin = -1 }, "descriptor -1" },
      { { stdin = {} }, "got a table" }, { { stdin = 1.5 }, "got 1.5" }, { { stdin = print }, "got a function" },
      { { input = 5 }, "must be a string or a function" }, { { stdout = "stdout" }, "option 'stdout' must be" },
      { { stdout = true }, "got true" }, { { stderr = "stdin" }, "\"stdout\", an open file" },

      { { max_output = "lots" }, "must be a size" }, { { max_output = -1 }, "must be a size" },
      { { overflow = "drop" }, "must be \"truncate\" or \"kill\", got 'drop'" },
      { { timeout = -1 }, "must not be negative, got -1" }, { { timeout = 0 }, "more than 0" },
      { { timeout = 0 / 0 }, "must be a number of seconds" },
      { { timeout = "5" }, "must be a number of seconds, got '5'" },
      { { timeout = math.huge }, "leave it out for no limit" }, { { stop_timeout = -0.5 }, "must not be negative" },
      { { cpu_time = -1 }, "must not be negative" },
      { { stop_signal = "NOPE" }, "must be a signal such as" }, { { stop_signal = 0 }, "must be a signal" },
      { { check = 1 }, "must be a boolean, got 1" }, { { read_only = "yes" }, "must be a boolean, got 'yes'" },
      { { store = "" }, "must not be empty" }, { { store = "a\0" }, "NUL" }, { { umask = 18 }, "Lua has no octal" },
      { { umask = "0999" }, "octal digits" }, { { memory = "much" }, "must be a size" },
      { { on_exit = 1 }, "a function" },

      { { network = "bridge" }, "must be \"none\", \"host\" or the path of a network namespace, got 'bridge'" },
      { { network = "hots" }, "did you mean \"host\"?" }, { { network = "/a\0" }, "NUL" },
      { { network = true }, "path" },
      { { namespaces = true }, "option 'namespaces' must be a map" },
      { { namespaces = { mnt = true } }, "calls mnt mount" },
      { { namespaces = { usr = true } }, "has no key 'usr'; did you mean" }, { { namespaces = { 1 } }, "has no key 1" },
      { { namespaces = { pid = 0 } }, "pid must be a pid, got 0" }, { { namespaces = { pid = 1.5 } }, "must be a pid" },
      { { namespaces = { pid = -4 } }, "must be a pid" }, { { namespaces = { net = "host" } }, "net = false shares" },
      { { namespaces = { net = "/a\0" } }, "NUL" }, { { namespaces = { net = {} } }, "true, false, a pid" },
      { { namespaces = { net = closed } }, "is a closed file" },
      { { namespaces = { time = { boot = 1 } } }, "has no key 'boot'" },
      { { namespaces = { time = { boottime = "1" } } }, "a number of seconds as boottime, got '1'" },
      { { namespaces = { time = { monotonic = 0 / 0 } } }, "a number of seconds as monotonic" },

      { { input = "x", stdin = "null" }, "option 'input' excludes stdin" },
      { { read_only = true, layer = "image" }, "option 'read_only' excludes layer" },
      { { network = "none", namespaces = { net = true } }, "option 'network' excludes namespaces.net" },
      { { tty = true, stderr = "capture" }, "option 'stderr' excludes tty" },
      { { init = true, namespaces = { pid = false } }, "option 'init' needs a pid namespace of the box's own" },
      { { init = true, namespaces = { pid = 1 } }, "option 'init' needs a pid namespace of the box's own" },
      { { hostname = "a", namespaces = { uts = false } }, "option 'hostname' needs a uts namespace" },
      { { hostname = "a", namespaces = { uts = 1 } }, "option 'hostname' needs a uts namespace" },
      { { domainname = "a", namespaces = { uts = false } }, "option 'domainname' needs a uts namespace" },
      { { memory = "64M", timeout = -1 }, "must not be negative" },
    }
    for i, row in ipairs(rows) do
      it(("raises: %s (row %d)"):format(row[2]:gsub("%c", "?"), i), function()
        assert_misuse("nsbox.run: ", options.check, "run", row[1])
        assert_misuse(row[2], options.check, "run", row[1])
      end)
    end

    it("names the verb, and options that exec does not take", function()
      assert_misuse("nsbox.exec: option 'hostname' belongs to the whole box", options.check, "exec", { hostname = "a" })
      assert_misuse("nsbox.spawn: option 'namespaces' belongs", options.check, "spawn", { namespaces = {} })
      assert.equal(3, check({ timeout = 3 }, "exec").timeout)
    end)

    it("allows what only looks like it", function()
      check { tty = true, stderr = "stdout" }
      check { read_only = false, layer = "discard" }
      check { hostname = "a", namespaces = { net = false } }
    end)
  end)

  describe("refuses as unsupported", function()
    local function line() end
    local rows = {
      { { layer = "image" }, "option 'layer' as 'image'" }, { { layer = "/var/x" }, "option 'layer'" },
      { { hosts = {} }, "nsbox: run: option 'hosts' is not built yet (it waits for networks)" },
      { { seccomp = "x" }, "option 'seccomp'" },
    }
    for _, row in ipairs(rows) do
      it(row[2], function()
        assert_unsupported(row[2], row[1])
      end)
    end

    it("every row that waits for something", function()
      local right = {
        boolean = true, size = "1M", mode = "0022", ["function"] = line, line = "x", path = "/x", integer = 1,
        number = 1.5,
      }
      for _, row in ipairs(options.rows) do
        if row.later then
          local value = right[row.type]
          assert_unsupported(("option '%s' is not built yet"):format(row.name), { [row.name] = value or {} })
        end
      end
    end)

    it("the first in the order of the schema", function()
      assert_unsupported("option 'hosts'", { shm_size = 1, hosts = {}, tmpfs = {} })
    end)
  end)
end)
