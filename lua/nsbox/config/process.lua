-- config/process.lua: the process of a configuration: whose it is, its environment, and its rights.

local users = require "nsbox.users"

-- docker's default set (moby profiles, 14 capabilities).
local capabilities = {
  "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
  "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SYS_CHROOT", "CAP_MKNOD", "CAP_AUDIT_WRITE",
  "CAP_SETFCAP",
}

local default_path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

local function merged(map, env)
  for k, v in pairs(env or {}) do
    map[k] = v ~= false and tostring(v) or nil
  end
  local list = {}
  for k, v in pairs(map) do
    list[#list + 1] = k .. "=" .. v
  end
  table.sort(list)
  return list
end

local function environment(o, image, user)
  local map = { PATH = default_path, HOME = user.home }
  for _, e in ipairs(image.config.Env or {}) do
    local k, v = e:match "^([^=]+)=(.*)$"
    if k then
      map[k] = v
    end
  end
  if o.tty then
    map.TERM = os.getenv "TERM" or "xterm"
  end
  return merged(map, o.env)
end

local no_capabilities = {}

local function user_of(user, umask)
  return { uid = user.uid, gid = user.gid, umask = umask, additionalGids = users.additional(user) }
end

local function capabilities_of(user)
  local own = user.uid == 0 and capabilities or no_capabilities
  return { bounding = capabilities, permitted = own, effective = own, inheritable = {}, ambient = {} }
end

--- The main process. args: its arguments, as strings; user: as users.lua resolves it.
local function main(o, image, args, user)
  return {
    terminal = o.tty and true or false,
    consoleSize = o.tty and o.tty.rows and { height = o.tty.rows, width = o.tty.cols } or nil,
    user = user_of(user, 18),
    args = args,
    env = environment(o, image, user),
    cwd = o.workdir or image.config.WorkingDir or "/",
    capabilities = capabilities_of(user),
    noNewPrivileges = true,
  }
end

-- ---- a process that is added to a box ----

-- The main process's environment; HOME follows the user where it was the default.
local function joining_environment(box, o, user)
  local map = {}
  for _, e in ipairs(box.process.env) do
    local k, v = e:match "^([^=]+)=(.*)$"
    map[k] = v
  end
  if map.HOME == box.nsbox.home then
    map.HOME = user.home
  end
  if o.tty and not map.TERM then
    map.TERM = os.getenv "TERM" or "xterm"
  end
  return merged(map, o.env)
end

--- A process that is added to a box of a configuration: the main process's environment and working directory where
-- the options name none.
local function joining(box, o, args, user)
  local first = box.process
  return {
    terminal = o.tty and true or false,
    consoleSize = o.tty and o.tty.rows and { height = o.tty.rows, width = o.tty.cols } or nil,
    user = user_of(user, first.user.umask),
    args = args,
    env = joining_environment(box, o, user),
    cwd = o.workdir or first.cwd,
    capabilities = capabilities_of(user),
    noNewPrivileges = first.noNewPrivileges,
  }
end

return { main = main, joining = joining, default_path = default_path }
