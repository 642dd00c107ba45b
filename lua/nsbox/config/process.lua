-- config/process.lua: the process of a configuration: whose it is, its environment, and its rights.

local capabilities = require "nsbox.config.capabilities"
local limits = require "nsbox.options.limits"

local UMASK = 18 -- 0022

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

local function user_of(o, umask)
  return { uid = o.user and o.user.uid or 0, gid = o.user and o.user.gid or 0, umask = o.umask or umask }
end

local function scheduler(nice)
  return nice and { policy = "SCHED_OTHER", nice = nice } or nil
end

--- The main process. args: its arguments, as strings; caps: as capabilities.settle() has them.
local function main(o, image, args, caps)
  local user = user_of(o, UMASK)
  return {
    terminal = o.tty and true or false,
    consoleSize = o.tty and o.tty.rows and { height = o.tty.rows, width = o.tty.cols } or nil,
    user = user,
    args = args,
    env = environment(o, image, user),
    cwd = o.workdir or image.config.WorkingDir or "/",
    capabilities = capabilities.lists(user, caps),
    noNewPrivileges = o.no_new_privs ~= false,
    rlimits = limits.list(o.rlimits),
    oomScoreAdj = o.oom_score_adj,
    scheduler = scheduler(o.nice),
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

local function joining_user(first, o)
  if o.user or o.umask and o.umask ~= first.user.umask then
    local user = user_of(o, first.user.umask)
    if not o.user then
      user.uid, user.gid, user.additionalGids = first.user.uid, first.user.gid, first.user.additionalGids
    end
    return user
  end
  return first.user
end

local function own_or_first(own, first)
  if own == nil then
    return first
  end
  return own
end

--- A process that is added: the main process's user, environment, working directory, limits and so on where the
-- options name none.
local function joining(first, o, args, caps)
  local user = joining_user(first, o)
  return {
    terminal = o.tty and true or false,
    consoleSize = o.tty and o.tty.rows and { height = o.tty.rows, width = o.tty.cols } or nil,
    user = user,
    args = args,
    env = joining_environment(first, o, user),
    cwd = o.workdir or first.cwd,
    capabilities = capabilities.lists(user, caps),
    noNewPrivileges = own_or_first(o.no_new_privs, first.noNewPrivileges),
    rlimits = limits.list(o.rlimits, first.rlimits),
    oomScoreAdj = own_or_first(o.oom_score_adj, first.oomScoreAdj),
    scheduler = scheduler(o.nice) or first.scheduler,
  }
end

return { main = main, joining = joining, default_path = default_path }
