local assert = require "luassert"
local error_ = require "nsbox.error"
local idrows = require "nsbox.idrows"
local plan = require "nsbox.plan"
local stations = require "spec.stations"

local function config(given)
  local c, err = stations.config(given)
  return assert(c, tostring(err))
end

local function refused(kind, text, given)
  local c, err, errno = stations.config(given)
  assert.is_nil(c)
  assert.is_true(error_.is(err))
  assert.same({ kind = kind, verb = "run" }, { kind = err.kind, verb = err.verb })
  assert.is_nil(errno)
  assert.is_truthy(tostring(err):find(text, 1, true), tostring(err))
end

local function types(list)
  local set = {}
  for _, ns in ipairs(list) do
    set[ns.type] = ns.path or true
  end
  return set
end

local function mount(c, destination)
  for _, m in ipairs(c.mounts) do
    if m.destination == destination then
      return m
    end
  end
end

describe("nsbox.config", function()
  describe("the arguments", function()
    local function args(cmd, opts, defaults)
      local image = stations.folder()
      image.config = defaults or image.config
      return config({ cmd = cmd, opts = opts, image = image }).process.args
    end

    it("are the command's", function()
      assert.same({ "ls", "-l" }, args({ "ls", "-l" }))
    end)
    it("are the image's Cmd without a command", function()
      assert.same({ "sh" }, args(nil))
    end)
    it("are a shell's for a string, and leave the Entrypoint out", function()
      assert.same({ "/bin/sh", "-c", "a | b" }, args("a | b", nil, { Entrypoint = { "/init" } }))
    end)
    it("follow the image's Entrypoint", function()
      assert.same({ "/init", "x" }, args({ "x" }, nil, { Entrypoint = { "/init" }, Cmd = { "y" } }))
      assert.same({ "/init", "y" }, args(nil, nil, { Entrypoint = { "/init" }, Cmd = { "y" } }))
    end)
    it("follow the caller's entrypoint, which takes the image's Cmd away", function()
      assert.same({ "/mine" }, args(nil, { entrypoint = { "/mine" } }, { Entrypoint = { "/init" }, Cmd = { "y" } }))
      assert.same({ "x" }, args({ "x" }, { entrypoint = false }, { Entrypoint = { "/init" } }))
    end)
    it("must be there", function()
      local image = stations.folder()
      image.config = {}
      refused("image", "no command was given, and image 'image' has none", { image = image })
    end)
  end)

  describe("the environment", function()
    local path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    local function env(opts, image_env)
      local image = stations.folder()
      image.config.Env = image_env
      return config({ opts = opts, image = image }).process.env
    end

    it("is PATH and HOME", function()
      assert.same({ "HOME=/root", path }, env())
    end)
    it("has the home of nobody in particular for another user", function()
      assert.same({ "HOME=/", path }, env { user = 1000 })
    end)
    it("has the home that the user has in its passwd, unless image or caller say another", function()
      local someone = { uid = 5, gid = 6, home = "/srv", member = {}, groups = {} }
      local function home_of(opts, image_env)
        local image = stations.folder()
        image.config.Env = image_env
        return config({ opts = opts, image = image, resolved = someone }).process.env[1]
      end
      assert.equal("HOME=/srv", home_of())
      assert.equal("HOME=/i", home_of(nil, { "HOME=/i" }))
      assert.equal("HOME=/c", home_of({ env = { HOME = "/c" } }, { "HOME=/i" }))
    end)
    it("has TERM with a terminal", function()
      assert.same("TERM", env({ tty = true })[3]:match "^TERM")
    end)
    it("has the image's, over which the caller's goes", function()
      local found = env({ env = { A = 3 } }, { "A=1", "B=2", "PATH=/x", "bad" })
      assert.same({ "A=3", "B=2", "HOME=/root", "PATH=/x" }, found)
    end)
    it("loses what is false", function()
      assert.same({ path }, env({ env = { A = false, HOME = false } }, { "A=1" }))
    end)
  end)

  describe("the namespaces", function()
    it("are all new but time", function()
      assert.same({ user = true, mount = true, pid = true, network = true, ipc = true, uts = true, cgroup = true },
        types(config({}).linux.namespaces))
    end)
    it("leave a shared one out and name a joined one's path", function()
      local c = config { opts = { namespaces = { net = false, ipc = "/proc/7/ns/ipc" } } }
      assert.same({ user = true, mount = true, pid = true, ipc = "/proc/7/ns/ipc", uts = true, cgroup = true },
        types(c.linux.namespaces))
    end)
    it("turn offsets of clocks into seconds and nanoseconds, below zero too", function()
      local c = config { opts = { namespaces = { time = { boottime = 1.5, monotonic = -0.25 } } } }
      assert.same({ boottime = { secs = 1, nanosecs = 500000000 }, monotonic = { secs = -1, nanosecs = 750000000 } },
        c.linux.timeOffsets)
    end)
    it("give a host name only with uts of their own", function()
      assert.equal("0123456789ab", config({}).hostname)
      assert.equal("me", config({ opts = { hostname = "me" } }).hostname)
      assert.is_nil(config({ opts = { namespaces = { uts = false } } }).hostname)
    end)
  end)

  describe("the ids", function()
    local function rows(given)
      local linux, lists = config(given).linux, {}
      for i, mappings in ipairs { linux.uidMappings, linux.gidMappings } do
        lists[i] = idrows.of_oci(mappings)
      end
      assert.same(lists[1], lists[2])
      return lists[1]
    end
    local function marks(given)
      local nsbox = config(given).nsbox
      return { nsbox.become or false, nsbox.shift or false, nsbox.setgroups or false }
    end
    local map = { uid_map = { { 0, 100005, 3 } }, gid_map = { { 0, 100005, 3 } } }
    it("are a range of its own for root, whose files are shown with its owners", function()
      assert.same({ { 0, 524288, 65536 } }, rows {})
      assert.same({ true, true, true }, marks {})
    end)
    it("are the caller's and its subordinate ones for others", function()
      local expected = { { 0, 1000, 1 }, { 1, 100000, 65536 } }
      assert.same(expected, rows { host = stations.user })
      assert.same(expected, rows { host = stations.user, opts = { namespaces = { pid = false } } })
      assert.same({ false, false, true }, marks { host = stations.user })
    end)
    it("are one without subordinate ones, and a note says why", function()
      assert.same({ { 0, 1000, 1 } }, rows { host = stations.plain })
      assert.same({ false, false, false }, marks { host = stations.plain })
      assert.same({ { what = "userns", why = "one id is mapped, the caller's own, and its groups stay: no ranges" } },
        plan.notes(config { host = stations.plain }))
      assert.same({}, plan.notes(config { host = stations.plain, opts = { userns = "single" } }))
    end)
    it("are one where that was asked for", function()
      assert.same({ { 0, 0, 1 } }, rows { opts = { userns = "single" } })
      assert.same({ { 0, 1000, 1 } }, rows { host = stations.user, opts = { userns = "single" } })
      assert.same({ false, false, true }, marks { opts = { userns = "single" } })
    end)
    it("keep the caller's number, as which the command runs then", function()
      local given = { host = stations.user, opts = { userns = "keep-id" } }
      assert.same({ { 1000, 1000, 1 }, { 0, 100000, 1000 }, { 1001, 101000, 64536 } }, rows(given))
      assert.same({ true, false, true }, marks(given))
      assert.same({ 1000, 1000 }, { config(given).process.user.uid, config(given).process.user.gid })
      given.opts.user = 0
      assert.equal(0, config(given).process.user.uid)
      assert.same({ { 0, 0, 4294967295 } }, rows { opts = { userns = "keep-id" } })
      given = { host = stations.plain, opts = { userns = "keep-id" } }
      assert.same({ { 1000, 1000, 1 } }, rows(given))
      assert.same({ false, false, false }, marks(given))
    end)
    it("are as they were written, if they are the caller's", function()
      assert.same(map.uid_map, rows { opts = map })
      assert.same({ true, true, true }, marks { opts = map })
      assert.same(map.uid_map, rows { host = stations.user, opts = map })
      assert.same({ true, false, true }, marks { host = stations.user, opts = map })
    end)
    it("are the caller's without a user namespace", function()
      assert.is_nil(config({ opts = { namespaces = { user = false } } }).linux.uidMappings)
    end)
  end)

  describe("the privileges", function()
    it("are docker's fourteen capabilities, none inheritable or ambient, and no new ones", function()
      local p = config({}).process
      assert.equal(14, #p.capabilities.bounding)
      assert.same({ p.capabilities.bounding, p.capabilities.bounding, {}, {} }, { p.capabilities.permitted,
        p.capabilities.effective, p.capabilities.inheritable, p.capabilities.ambient })
      assert.is_true(p.noNewPrivileges)
    end)
    it("are bounds alone for another user than root", function()
      local caps = config({ opts = { user = "5:6" } }).process.capabilities
      assert.same({ 14, {}, {} }, { #caps.bounding, caps.permitted, caps.effective })
    end)
    it("hide and protect docker's paths", function()
      local linux = config({}).linux
      for _, path in ipairs { "/proc/kcore", "/proc/keys", "/sys/firmware", "/proc/timer_list" } do
        assert.is_truthy(table.concat(linux.maskedPaths, " "):find(path, 1, true), path)
      end
      assert.same({ "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger" }, linux.readonlyPaths)
    end)
  end)

  describe("the mounts", function()
    it("are proc, dev, pts, shm and a sys that is read-only", function()
      local list = {}
      for i, m in ipairs(config({}).mounts) do
        list[i] = m.destination
      end
      assert.same({ "/proc", "/dev", "/dev/pts", "/dev/shm", "/sys" }, list)
      assert.is_truthy(table.concat(mount(config({}), "/sys").options, " "):find "%f[%w]ro%f[%W]")
    end)
    it("give terminals the group 5 only where such an id is mapped", function()
      local function has_gid(given)
        return table.concat(mount(config(given), "/dev/pts").options, " "):find("gid=5", 1, true) ~= nil
      end
      assert.is_true(has_gid {})
      assert.is_true(has_gid { host = stations.user })
      assert.is_false(has_gid { host = stations.plain })
      assert.is_false(has_gid { opts = { userns = "single" } })
      assert.is_true(has_gid {}) -- no box changes what the next one gets
    end)
    it("are fresh where the host keeps sockets and secrets", function()
      local c = config { image = stations.host_image(), cmd = { "true" } }
      for _, path in ipairs { "/tmp", "/var/tmp", "/run" } do
        assert.equal("tmpfs", mount(c, path).type)
      end
    end)
    it("are none without a mount namespace", function()
      local c = config { image = stations.host_image(), cmd = { "true" }, opts = { namespaces = { mount = false } } }
      assert.same({}, c.mounts)
    end)
  end)

  describe("the rest", function()
    it("is the image's, unless the caller says more", function()
      local image = stations.folder()
      image.config = { Cmd = { "sh" }, WorkingDir = "/w", StopSignal = "INT" }
      local c = config { image = image }
      assert.same({ "/w", "INT" }, { c.process.cwd, c.nsbox.stop_signal })
      c = config { image = image, opts = { workdir = "/v", stop_signal = "QUIT" } }
      assert.same({ "/v", "QUIT" }, { c.process.cwd, c.nsbox.stop_signal })
      assert.same({ "/", "TERM" }, { config({}).process.cwd, config({}).nsbox.stop_signal })
    end)
    it("is root 0:0 with the mask 022 and a root that can be written", function()
      local c = config {}
      assert.same({ uid = 0, gid = 0, umask = 18, additionalGids = { 0 } }, c.process.user)
      assert.same({ path = "/image", readonly = false }, c.root)
      assert.is_true(config({ opts = { read_only = true } }).root.readonly)
    end)
    it("has the user's groups, each once, the primary one among them", function()
      local someone = { uid = 5, gid = 6, home = "/", member = { 9, 7 }, groups = { 8, 6, 7 } }
      assert.same({ uid = 5, gid = 6, umask = 18, additionalGids = { 6, 7, 8, 9 } },
        config({ resolved = someone }).process.user)
    end)
    it("has none of a file's groups where one id is mapped", function()
      local root = { uid = 0, gid = 0, home = "/r", member = { 0, 10 }, groups = { 0 } }
      local c = config { host = stations.plain, resolved = root }
      assert.same({ 0, 0, { 0 }, "/r" }, { c.process.user.uid, c.process.user.gid, c.process.user.additionalGids,
        c.nsbox.home })
    end)
    it("has a terminal of the size that was asked for", function()
      local p = config({ opts = { tty = { rows = 10, cols = 20 } } }).process
      assert.same({ true, { height = 10, width = 20 } }, { p.terminal, p.consoleSize })
      assert.is_false(config({}).process.terminal)
    end)
  end)

  describe("the limits", function()
    it("are none unless asked for", function()
      local c = config({})
      assert.is_nil(c.linux.resources)
      assert.same({}, { c.nsbox.cpu_time, c.nsbox.degrade, c.nsbox.cgroup_parent })
    end)
    it("are OCI's resources, and what OCI has no word for", function()
      local c = config({ opts = { memory = "1M", cpu_time = 5, degrade = { "memory" }, cgroup_parent = "/a" } })
      assert.same({ memory = { limit = 1 << 20, swap = 1 << 20 } }, c.linux.resources)
      assert.same({ 5, { memory = true }, "/a" }, { c.nsbox.cpu_time, c.nsbox.degrade, c.nsbox.cgroup_parent })
    end)
    it("of a device that is none are an error", function()
      local c, err = stations.config({ opts = { io = { ["/dev/null"] = { rbps = 1 } } } })
      assert.is_nil(c)
      assert.matches("^nsbox: run: option 'io': /dev/null: it is no block device$", tostring(err))
    end)
  end)

  describe("what this caller cannot have", function()
    local rows = {
      { "a folder as root without a mount namespace", "no other root than the caller's",
        { opts = { namespaces = { mount = false } } } },
      { "no user namespace, without root", "a box needs a user namespace of its own",
        { host = stations.user, opts = { namespaces = { user = false } } } },
      { "another's user namespace, without root", "a box needs a user namespace of its own",
        { host = stations.user, opts = { namespaces = { user = "/proc/1/ns/user" } } } },
      { "another's pid namespace, without root", "cannot be joined",
        { host = stations.user, opts = { namespaces = { pid = "/proc/1/ns/pid" } } } },
      { "a user that is not mapped", "user 1000 does not exist in the box, whose ids are 0",
        { host = stations.plain, opts = { user = 1000 } } },
      { "a group that is not mapped", "group 70000 does not exist in the box, whose ids are 0-65535",
        { opts = { user = "0:70000" } } },
      { "a map of ids that are not the caller's",
        "uid_map: row 2: id 165536 is not the caller's, who has 1000, 100000-165535", { host = stations.user,
          opts = { uid_map = { { 0, 1000, 1 }, { 1, 165530, 10 } }, gid_map = { { 0, 1000, 1 } } } } },
      { "a map without a root", "gid_map: no row has 0 inside",
        { opts = { uid_map = { { 0, 1000, 1 } }, gid_map = { { 1, 1000, 1 } } } } },
      { "more groups than are mapped", "group 6 does not exist",
        { host = stations.plain, opts = { groups = { 0, 6 } } } },
    }
    for _, row in ipairs(rows) do
      it("is refused: " .. row[1], function()
        refused("unsupported", row[2], row[3])
      end)
    end
  end)
end)
