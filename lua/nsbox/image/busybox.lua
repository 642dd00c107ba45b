-- image/busybox.lua: the built-in image: the host's static busybox, and what programs expect around it.

local core = require "nsbox.core"
local error_ = require "nsbox.error"
local store = require "nsbox.image.store"
local sys = require "nsbox.sys"

local programs = { "/bin/busybox", "/usr/bin/busybox" } -- never searched for by PATH

local missing = "the host has no busybox"

-- path -> mode; parents first.
local folders = {
  { "bin", "0755" }, { "sbin", "0755" }, { "usr", "0755" }, { "usr/bin", "0755" }, { "usr/sbin", "0755" },
  { "etc", "0755" }, { "home", "0755" }, { "root", "0700" }, { "tmp", "1777" }, { "var", "0755" },
  { "run", "0755" }, { "proc", "0755" }, { "sys", "0755" }, { "dev", "0755" },
}

local files = {
  { "etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n" },
  { "etc/group", "root:x:0:\nnobody:x:65534:\n" },
}

local function program()
  for _, path in ipairs(programs) do
    local f = io.open(path, "rb")
    if f then
      local bytes = f:read("a")
      f:close()
      return bytes
    end
  end
end

local function write(path, bytes, mode)
  local f, message, errno = io.open(path, "wb")
  if not f then
    return nil, message, errno
  end
  local ok
  ok, message, errno = f:write(bytes)
  local closed, why, number = f:close()
  if not ok or not closed then
    return nil, message or why, errno or number
  end
  return sys.chmod(path, mode)
end

-- The program itself tells its names; it is asked in a box, as everything of an image is.
-- That waits: another may have made the image meanwhile, and hundreds of links are for nothing then.
local function link_names(root, store_path, final)
  local r, err, errno = require("nsbox.box").run("dir:" .. root, { "/bin/busybox", "--list-full" },
    { store = store_path })
  if not r then
    return nil, err, errno
  elseif sys.lstat(final) then
    return nil, final .. ": another was first", sys.EEXIST
  end
  for name in r.stdout:gmatch "[^\n]+" do
    if name ~= "bin/busybox" and name:match "^[%w/._%[-]+$" and not name:find("..", 1, true) then
      sys.symlink("/bin/busybox", root .. "/" .. name)
    end
  end
  if not sys.lstat(root .. "/bin/sh") then
    return nil, "busybox names no sh", sys.ENOENT
  end
  return true
end

local function build(root, bytes, store_path, final)
  for _, f in ipairs(folders) do
    local ok, message, errno = sys.mkdir(root .. "/" .. f[1], f[2])
    if ok then
      ok, message, errno = sys.chmod(root .. "/" .. f[1], f[2]) -- mkdir's is cut by the umask
    end
    if not ok then
      return nil, message, errno
    end
  end
  for _, f in ipairs(files) do
    local ok, message, errno = write(root .. "/" .. f[1], f[2], "0644")
    if not ok then
      return nil, message, errno
    end
  end
  local ok, message, errno = write(root .. "/bin/busybox", bytes, "0755")
  if not ok then
    return nil, message, errno
  end
  ok, message, errno = sys.chmod(root, "0755")
  if not ok then
    return nil, message, errno
  end
  return link_names(root, store_path, final)
end

-- The program's box may fail like any other, and then says itself why.
local function fail(verb, message, errno, hint)
  if error_.is(message) then
    return nil, message, errno
  end
  hint = message == missing and "install a static busybox (Debian: busybox-static)" or hint
  return error_.fail { kind = "image", verb = verb, errno = errno, name = errno and core.errno_name(errno) or nil,
    message = "image busybox: " .. message, hint = hint }
end

--- The image, made at first use in the store. nil, err, errno (kind image) without a static busybox.
local function image(verb, path)
  local folder, message, errno = store.open(path)
  if not folder then
    return fail(verb, message, errno, "images are kept there: the option store (--store) names another folder")
  end
  local root
  root, message, errno = store.once(folder, "busybox", function(part, final)
    local bytes = program()
    if not bytes then
      return nil, missing, sys.ENOENT
    end
    return build(part, bytes, path, final)
  end)
  if not root then
    return fail(verb, message, errno)
  end
  return { name = "busybox", root = root, config = { Cmd = { "sh" } } }
end

return { image = image, programs = programs }
