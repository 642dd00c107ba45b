-- plan/param.lua: what differs between boxes of a kind. Their plans have a placeholder there, {param = name}, so that
-- one plan, made and marshalled once, serves them all.

local idrows = require "nsbox.idrows"
local leaf = require "nsbox.cgroup.leaf"
local signal = require "nsbox.signal"

local function path_of(env)
  for _, e in ipairs(env) do
    local path = e:match "^PATH=(.*)$"
    if path then
      return path
    end
  end
  return "/bin:/usr/bin"
end

-- As execvp: a name with a slash is a path; else each folder of the box's PATH is tried.
local function candidates(name, env)
  if name:find("/", 1, true) then
    return { name }
  end
  local list = {}
  for folder in (path_of(env) .. ":"):gmatch "([^:]*):" do
    list[#list + 1] = (folder == "" and "." or folder) .. "/" .. name
  end
  return list
end

-- What our program is told: see csrc/pid1.c. The number of its channel is known at the start only.
local function init_words(config, paths)
  local words, process = { config.nsbox.init and "nsbox-init" or "nsbox-exec", "@status" }, config.process
  if config.nsbox.idle then
    words[3] = tostring(signal.number(config.nsbox.stop_signal) or 15)
    return words
  end
  words[3] = config.nsbox.init and process.terminal and "tty" or nil
  table.move(paths, 1, #paths, #words + 1, words)
  words[#words + 1] = "--"
  return table.move(process.args, 1, #process.args, #words + 1, words)
end

--- name -> value for a configuration.
local function of(config)
  local process, linux = config.process, config.linux
  local paths = candidates(process.args[1], process.env)
  local values = {
    root = config.root.path,
    layer = config.nsbox.layer_path,
    hostname = config.hostname,
    domainname = config.domainname,
    cwd = process.cwd,
    argv = process.args,
    env = process.env,
    paths = paths,
    init_argv = (config.nsbox.init or config.nsbox.sealed) and init_words(config, paths) or nil,
    uid_map = linux.uidMappings and idrows.of_oci(linux.uidMappings),
    gid_map = linux.gidMappings and idrows.of_oci(linux.gidMappings),
  }
  local c = config.nsbox.cgroup
  for where in pairs(c and c.at or {}) do
    values["cgroup_" .. where] = leaf.of(c, where)
  end
  return values
end

--- The value of a placeholder; anything else is its own.
local function value(v, values)
  if type(v) == "table" and v.param then
    return values[v.param]
  end
  return v
end

--- A step with its values in place.
local function bind(step, values)
  local bound
  for i = 2, #step do
    if type(step[i]) == "table" and step[i].param then
      if not bound then
        bound = {}
        for key, v in pairs(step) do
          bound[key] = v
        end
      end
      bound[i] = value(step[i], values)
    end
  end
  return bound or step
end

local placeholder = {}
for _, name in ipairs { "root", "layer", "hostname", "domainname", "cwd", "argv", "env", "paths", "init_argv",
  "uid_map", "gid_map" } do
  placeholder[name] = { param = name }
end

return { of = of, value = value, bind = bind, placeholder = placeholder }
