-- Shared by the specs that need no privilege: the first stations of a start, with hosts and images that are made up.
local assert = require "luassert"
local config = require "nsbox.config"
local ids = require "nsbox.config.ids"
local options = require "nsbox.options"
local users = require "nsbox.users"

local stations = {}

-- What its boxes may have: of root a range of their own, of a user its own id and its subordinate ones.
local function ids_of(id)
  local rows = id == 0 and { { 0, 524288, 65536 } } or { { 0, id, 1 }, { 1, 100000, 65536 } }
  return { uid = rows, gid = rows, setgroups = true }
end

-- Of root's machine v1 has the controllers, and v2 is beside it; of the user's, v2 has all and the user a cgroup in it.
local function cgroups_of(id)
  local places, controllers = { v1 = {} }, { "cpu", "cpuset", "io", "memory", "pids", "hugetlb" }
  places.v2 = { folder = id == 0 and "/sys/fs/cgroup/unified" or "/sys/fs/cgroup/user", controllers = {} }
  for _, name in ipairs(controllers) do places.v2.controllers[name] = id ~= 0 or name == "hugetlb" or nil end
  local of_v1 = { "blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "memory", "pids" }
  for _, name in ipairs(id == 0 and of_v1 or {}) do places.v1[name] = { folder = "/sys/fs/cgroup/" .. name } end
  return places
end

local function host(id)
  return { ids = ids_of(id), cgroups = cgroups_of(id), euid = id, egid = id, root = { ok = id == 0 },
    own_program = { ok = id ~= 0, value = "its owner" }, tmpfs_xattr = { ok = true }, exec_clocks = { ok = true },
    kernel = "6.18", arch = "x86_64" }
end

--- What a probe would say: as root and as a user, the same on every machine.
stations.root, stations.user = host(0), host(1000)

--- A user without subordinate ids.
stations.plain = host(1000)
stations.plain.ids = { uid = { { 0, 1000, 1 } }, gid = { { 0, 1000, 1 } }, setgroups = false, why_single = "no ranges" }

--- As root on Linux 6.1.
stations.old = host(0)
stations.old.exec_clocks = { ok = false }

--- An image like busybox: a folder with a default command.
function stations.folder()
  return { name = "image", root = "/image", config = { Cmd = { "sh" } } }
end

--- The image "host", of a machine with one mount below /srv and the script in /home/me.
function stations.host_image()
  return {
    name = "host", root = "/", config = { WorkingDir = "/home/me" },
    host = {
      { how = "link", path = "bin", target = "usr/bin" },
      { how = "overlay", path = "etc", source = "/etc", mode = "0755" },
      { how = "overlay", path = "home", source = "/home", mode = "0755" },
      { how = "dir", path = "srv", mode = "0755" },
      { how = "bind", kind = "dir", path = "srv/data", source = "/srv/data" },
      { how = "bind", kind = "file", path = "vmlinuz", source = "/vmlinuz" },
      { how = "overlay", path = "usr", source = "/usr", mode = "0755" },
    },
  }
end

--- Options as a user writes them -> the checked ones.
function stations.options(opts)
  local checked, err = options.check("run", opts)
  assert.is_nil(err)
  return checked
end

--- given: opts, cmd, host, image -> config | nil, err, errno; and the checked options.
function stations.config(given)
  local o = stations.options(given.opts)
  local image, host_ = given.image or stations.folder(), given.host or stations.root
  local wanted = o.user or ids.default_user(o, host_) or { uid = 0 }
  local user = given.resolved or assert(users.resolve({ verb = "run" }, wanted, o.groups or {}, true))
  local c, err, errno = config.config("run", o, image, given.cmd, host_, "0123456789ab", user)
  return c, err or o, errno
end

return stations
