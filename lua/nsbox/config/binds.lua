-- config/binds.lua: the option `mounts`: from what a user names to what is there.

local core = require "nsbox.core"
local error_ = require "nsbox.error"
local sys = require "nsbox.sys"

-- nil, message, errno where the caller's folder has no name any more: another of that name is not what was meant.
local function absolute(path)
  if path:sub(1, 1) == "/" then
    return path
  end
  local cwd, message, errno = sys.getcwd()
  return cwd and cwd .. "/" .. path, message, errno
end

local function plain(message)
  return message:match ": ([^:]*)$" or message
end

local function missing(verb, row, message, errno, hint)
  return error_.fail { kind = "setup", verb = verb, errno = errno, name = core.errno_name(errno),
    message = ("mount %s on %s: %s"):format(row.source, row.target, plain(message)), hint = hint }
end

local function no_idmap(verb, row, message, hint)
  return error_.fail { kind = "unsupported", verb = verb, hint = hint,
    message = ("mount %s on %s: %s"):format(row.source, row.target, message) }
end

-- Only the host's root may show a file system with other owners than it has, and only as a user namespace counts.
local function check_idmap(verb, row, o, host)
  if not row.idmap then
    return true
  elseif not host.root.ok then
    return no_idmap(verb, row, "an idmapped mount takes the host's root",
      'with userns = "keep-id" files that the command makes are the caller\'s')
  elseif o.namespaces.user.new == false then
    return no_idmap(verb, row, "an idmapped mount takes a user namespace of the box's own", "leave idmap away")
  end
  return true
end

--- The rows of checked options as OCI's mounts, of which a plan needs to know more: file = it is no folder, idmap; and
-- those optional ones that are not there, as notes | nil, err, errno (kinds setup unsupported).
local function find(verb, o, host)
  local list, notes = {}, {}
  for _, row in ipairs(o.mounts) do
    local ok, err, number = check_idmap(verb, row, o, host)
    if not ok then
      return nil, err, number
    end
    local source, message, errno = absolute(row.source)
    if not source then
      return missing(verb, row, message, errno, "the caller's working directory was removed: name the path from / on")
    end
    local stat
    stat, message, errno = sys.stat(source)
    if stat then
      list[#list + 1] = { destination = row.target, type = "bind", source = source, options = row.options,
        idmap = row.idmap, file = stat.type ~= "dir" or nil }
    elseif row.optional and errno == sys.ENOENT then
      notes[#notes + 1] = { what = row.target, why = ("it is not mounted: there is no %s"):format(row.source) }
    else
      return missing(verb, row, message, errno,
        errno == sys.ENOENT and "optional = true in its row leaves out what is not there" or nil)
    end
  end
  return list, notes
end

return { find = find }
