-- config/process.lua: the process of a configuration: whose it is, its environment, and its rights.

local capabilities = require "nsbox.config.capabilities"
local limits = require "nsbox.options.limits"
local users = require "nsbox.users"

local UMASK = 18 -- 0022

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

local function user_of(user, umask)
  return { uid = user.uid, gid = user.gid, umask = umask, additionalGids = users.additional(user) }
end

local function scheduler(nice)
  return nice and { policy = "SCHED_OTHER", nice = nice } or nil
end

--- The main process. args: its arguments, as strings; user: as users.lua resolves it; caps: as capabilities.settle()
-- has them.
local function main(o, image, args, user, caps)
  return {
    terminal = o.tty and true or false,
    consoleSize = o.tty and o.tty.rows and { height = o.tty.rows, width = o.tty.cols } or nil,
    user = user_of(user, o.umask or UMASK),
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

local function own_or_first(own, first)
  if own == nil then
    return first
  end
  return own
end

--- A process that is added to a box of a configuration: the main process's environment, working directory, limits and
-- so on where the options name none.
local function joining(box, o, args, user, caps)
  local first = box.process
  return {
    terminal = o.tty and true or false,
    consoleSize = o.tty and o.tty.rows and { height = o.tty.rows, width = o.tty.cols } or nil,
    user = user_of(user, o.umask or first.user.umask),
    args = args,
    env = joining_environment(box, o, user),
    cwd = o.workdir or first.cwd,
    capabilities = capabilities.lists(user, caps),
    noNewPrivileges = own_or_first(o.no_new_privs, first.noNewPrivileges),
    rlimits = limits.list(o.rlimits, first.rlimits),
    oomScoreAdj = own_or_first(o.oom_score_adj, first.oomScoreAdj),
    scheduler = scheduler(o.nice) or first.scheduler,
  }
end

return { main = main, joining = joining, default_path = default_path }
