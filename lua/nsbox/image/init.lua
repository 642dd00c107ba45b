-- image/init.lua: what a user names as image -> { name, root, config, host }.

local error_ = require "nsbox.error"
local sys = require "nsbox.sys"

-- Prefixes of INTERFACE that wait for the store.
local later = { tar = true, oci = true, ["oci-archive"] = true, ["docker-archive"] = true, bundle = true }

local function fail(verb, name, message, hint, errno)
  return error_.fail { kind = "image", verb = verb, path = name, message = message, hint = hint, errno = errno }
end

local function absolute(path)
  if path:sub(1, 1) == "/" then
    return path
  end
  return (sys.getcwd() or ".") .. "/" .. path
end

local function folder(verb, path)
  local stat, message, errno = sys.stat(path)
  if not stat then
    return fail(verb, path, ("image: %s"):format(message),
      "an image that is a path must be a folder with a root file system", errno)
  end
  if stat.type == "file" then
    return fail(verb, path, ("image %s is a file"):format(path), "archives are not read yet: unpack it to a folder",
      sys.ENOTDIR)
  elseif stat.type ~= "dir" then
    return fail(verb, path, ("image %s is not a folder but a %s"):format(path, stat.type), nil, sys.ENOTDIR)
  end
  return { name = path, root = absolute(path), config = {} }
end

local function check_name(verb, name)
  if type(name) ~= "string" then
    error_.misuse("nsbox.%s: the image must be a string, not a %s", verb, type(name))
  elseif name == "" then
    error_.misuse("nsbox.%s: the image's name is empty", verb)
  elseif name:find("\0", 1, true) then
    error_.misuse("nsbox.%s: the image's name holds a NUL byte", verb)
  end
end

local function named(verb, name, o)
  if not name:match "^[%w][%w._/-]*:?[%w._-]*$" then
    error_.misuse("nsbox.%s: '%s' is no image name: letters, digits and . _ - / only; a path starts with / or ./",
      verb, (name:gsub("%c", "?")))
  end
  local base = name:gsub(":latest$", "")
  if base == "busybox" then
    return require("nsbox.image.busybox").image(verb, o.store)
  end
  return fail(verb, name, ("no image named '%s'"):format(name),
    "known so far: busybox, host, and folders (a path starts with / or ./)", sys.ENOENT)
end

--- Finds the image. Returns { name=, root= (a folder), config= (OCI image config: Env, Cmd …), host= (layout, for
-- the host itself) } | nil, err, errno (kind image, unsupported). Raises for what is no name at all.
local function resolve(verb, name, o)
  check_name(verb, name)
  local prefix, rest = name:match "^([%a-]+):(.*)$"
  if prefix == "dir" then
    return folder(verb, rest)
  elseif later[prefix] then
    return error_.fail { kind = "unsupported", verb = verb,
      message = ("images of the form %s: are not built yet"):format(prefix) }
  elseif name:match "^%.?%.?/" or name == "." or name == ".." then
    return folder(verb, name)
  elseif name == "host" then
    return require("nsbox.image.host").image(verb, o)
  end
  return named(verb, name, o)
end

return { resolve = resolve }
