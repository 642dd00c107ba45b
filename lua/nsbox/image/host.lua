-- image/host.lua: the host's own root as an image: which parts get a private layer, which are only shown.

local core = require "nsbox.core"
local error_ = require "nsbox.error"
local sys = require "nsbox.sys"

-- Not taken over: the box has its own (config.mounts).
local own = { ["/proc"] = true, ["/sys"] = true, ["/dev"] = true, ["/run"] = true, ["/tmp"] = true, ["/var/tmp"] = true,
  ["/lost+found"] = true }

-- Each part costs two slots of the plan, two descriptors and a mount; some are for the rest of the box.
local MAX_PARTS = 200

local function unescape(path)
  return (path:gsub("\\(%d%d%d)", function(octal) return string.char(tonumber(octal, 8)) end))
end

-- Every mount point, and every folder above one. proc(5), mountinfo.
local function parse(mountinfo)
  local points, above = {}, {}
  for line in mountinfo:gmatch "[^\n]+" do
    local point = unescape(line:match "^%S+ %S+ %S+ %S+ (%S+)" or "/")
    points[point] = true
    local parent = point:match "^(.*)/[^/]*$"
    while parent and parent ~= "" do
      above[parent] = true
      parent = parent:match "^(.*)/[^/]*$"
    end
  end
  return points, above
end

local function within(path, folder)
  return path == folder or path:sub(1, #folder + 1) == folder .. "/"
end

-- The mount the working directory lies on: the longest mount point that holds it.
local function mount_of(points, path)
  local best = "/"
  for point in pairs(points) do
    if #point > #best and within(path, point) then
      best = point
    end
  end
  return best
end

local add_folder

local function add_entry(layout, ctx, source)
  if own[source] then
    return
  end
  local stat = ctx.fs.lstat(source)
  if not stat then
    return
  end
  local path = source:sub(2)
  if stat.type == "link" then
    layout[#layout + 1] = { how = "link", path = path, target = ctx.fs.readlink(source) }
  elseif stat.type ~= "dir" then
    if stat.type == "file" then
      layout[#layout + 1] = { how = "bind", kind = "file", path = path, source = source }
    end
  elseif ctx.points[source] and source ~= ctx.private then
    layout[#layout + 1] = { how = "bind", kind = "dir", path = path, source = source }
  elseif ctx.above[source] then
    layout[#layout + 1] = { how = "dir", path = path, mode = stat.mode }
    add_folder(layout, ctx, source)
  else
    layout[#layout + 1] = { how = "overlay", path = path, source = source, mode = stat.mode }
  end
end

-- A folder with mounts below it cannot be an overlay's layer: its parts are taken one by one.
function add_folder(layout, ctx, folder)
  for _, name in ipairs(ctx.fs.readdir(folder) or {}) do
    add_entry(layout, ctx, (folder == "/" and "" or folder) .. "/" .. name)
  end
end

-- How many parts lie in each folder directly, and in all.
local function count(parts)
  local all, within_of = 0, {}
  for _, part in ipairs(parts) do
    if part.how == "overlay" or part.how == "bind" then
      local folder = part.path:match "^(.*)/[^/]*$" or ""
      all, within_of[folder] = all + 1, (within_of[folder] or 0) + 1
    end
  end
  return all, within_of
end

-- The working directory keeps its private layer, and what is hidden of the host is not shown.
local function may_be_whole(path, cwd)
  for place in pairs(own) do
    if within(place, path) then
      return false
    end
  end
  return not within(cwd, path)
end

local function fullest(parts, cwd, within_of)
  local best
  for _, part in ipairs(parts) do
    local n = part.how == "dir" and within_of[part.path] or 0
    if n > (best and within_of[best.path] or 0) and may_be_whole("/" .. part.path, cwd) then
      best = part
    end
  end
  return best
end

-- A folder with its mounts in one piece: for looking only.
local function show_whole(parts, folder)
  local list, path = {}, "/" .. folder.path
  for _, part in ipairs(parts) do
    if part == folder then
      list[#list + 1] = { how = "bind", kind = "dir", path = part.path, source = path, whole = true }
    elseif not within("/" .. part.path, path) then
      list[#list + 1] = part
    end
  end
  return list
end

-- A folder with mounts below it may hold thousands of others: the fullest are not taken apart. nil when that does not
-- help.
local function thinned(parts, cwd)
  local all, within_of = count(parts)
  while all > MAX_PARTS do
    local folder = fullest(parts, cwd, within_of)
    if not folder then
      return nil
    end
    parts = show_whole(parts, folder)
    all, within_of = count(parts)
  end
  return parts
end

-- A working directory in a place that is fresh in the box (/tmp, say) is shown there all the same, alone.
local function in_fresh_place(fs, cwd)
  for place in pairs(own) do
    if within(cwd, place) and cwd ~= place and place ~= "/proc" and place ~= "/sys" and place ~= "/dev" then
      local stat = fs.stat(cwd)
      return stat and stat.type == "dir" and { path = cwd:sub(2), source = cwd, mode = stat.mode } or nil
    end
  end
end

--- The parts of a root with these mounts (the text of a mountinfo) for a box that works in cwd; fs = { lstat, stat,
-- readlink, readdir } looks at it. Each part is a link, dir (made empty, its parts follow), overlay (a private layer
-- above it) or bind (shown read-only; whole: with mounts of the host in it, because its parts are too many). nil when
-- there are too many all the same.
local function layout(mountinfo, cwd, fs)
  local points, above = parse(mountinfo)
  local parts = {}
  add_folder(parts, { points = points, above = above, private = mount_of(points, cwd), fs = fs }, "/")
  parts = thinned(parts, cwd)
  if parts then
    parts.workdir = in_fresh_place(fs, cwd)
  end
  return parts
end

--- The host as an image | nil, err, errno (kind image): without /proc its mounts are not known, and there may be too
-- many. A box on the caller's own mounts needs no layout.
local function image(verb, o)
  local cwd = o.workdir or sys.getcwd() or "/"
  local found = { name = "host", root = "/", config = { WorkingDir = cwd }, host = {} }
  if not o.namespaces.mount.new then
    return found
  end
  local f, message, errno = io.open "/proc/self/mountinfo"
  if not f then
    return error_.fail { kind = "image", verb = verb, errno = errno, name = core.errno_name(errno),
      message = "image host: the host's mounts cannot be read: " .. message }
  end
  local mountinfo = f:read "a"
  f:close()
  found.host = layout(mountinfo, cwd, sys)
  if not found.host then
    return error_.fail { kind = "image", verb = verb,
      message = ("image host: more than %d folders and mounts would have to be shown one by one"):format(MAX_PARTS),
      hint = "work in a folder that has fewer beside it and its parents" }
  end
  return found
end

return { image = image, layout = layout }
