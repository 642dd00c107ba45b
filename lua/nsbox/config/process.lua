-- config/process.lua: the process of a configuration: whose it is, its environment, and its rights.

-- docker's default set (moby profiles, 14 capabilities).
local capabilities = {
  "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
  "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SYS_CHROOT", "CAP_MKNOD", "CAP_AUDIT_WRITE",
  "CAP_SETFCAP",
}

local default_path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

local function home(user)
  return user.uid == 0 and "/root" or "/"
end

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
  local map = { PATH = default_path, HOME = home(user) }
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

local function user_of(user)
  return { uid = user and user.uid or 0, gid = user and user.gid or 0, umask = 18 }
end

local function capabilities_of(user)
  local own = user.uid == 0 and capabilities or no_capabilities
  return { bounding = capabilities, permitted = own, effective = own, inheritable = {}, ambient = {} }
end

--- The main process. args: its arguments, as strings; default: whose it is if the options do not say, or nil for root.
local function main(o, image, args, default)
  local user = user_of(o.user or default)
  return {
    terminal = o.tty and true or false,
    consoleSize = o.tty and o.tty.rows and { height = o.tty.rows, width = o.tty.cols } or nil,
    user = user,
    args = args,
    env = environment(o, image, user),
    cwd = o.workdir or image.config.WorkingDir or "/",
    capabilities = capabilities_of(user),
    noNewPrivileges = true,
  }
end

-- ---- a process that is added to a box ----

-- The main process's environment; HOME follows the user where it was the default.
local function joining_environment(first, o, user)
  local map = {}
  for _, e in ipairs(first.env) do
    local k, v = e:match "^([^=]+)=(.*)$"
    map[k] = v
  end
  if map.HOME == home(first.user) then
    map.HOME = home(user)
  end
  if o.tty and not map.TERM then
    map.TERM = os.getenv "TERM" or "xterm"
  end
  return merged(map, o.env)
end

--- A process that is added: the main process's user, environment and working directory where the options name none.
local function joining(first, o, args)
  local user = o.user and user_of(o.user) or first.user
  return {
    terminal = o.tty and true or false,
    consoleSize = o.tty and o.tty.rows and { height = o.tty.rows, width = o.tty.cols } or nil,
    user = user,
    args = args,
    env = joining_environment(first, o, user),
    cwd = o.workdir or first.cwd,
    capabilities = capabilities_of(user),
    noNewPrivileges = first.noNewPrivileges,
  }
end

return { main = main, joining = joining, default_path = default_path }
