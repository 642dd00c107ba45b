-- Shared by the specs that need no privilege: the first stations of a start, with hosts and images that are made up.
local assert = require "luassert"
local config = require "nsbox.config"
local options = require "nsbox.options"
local users = require "nsbox.users"

local stations = {}

local function host(id)
  return { euid = id, egid = id, root = { ok = id == 0 }, own_program = { ok = id ~= 0 },
    tmpfs_xattr = { ok = true }, exec_clocks = { ok = true },
    kernel = "6.18", arch = "x86_64" }
end

--- What a probe would say: as root and as a user, the same on every machine.
stations.root, stations.user = host(0), host(1000)

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
  local user = given.resolved or assert(users.resolve({ verb = "run" }, o.user or { uid = 0 }, o.groups or {}, true))
  local c, err, errno = config.config("run", o, image, given.cmd, host_, "0123456789ab", user)
  return c, err or o, errno
end

return stations
