-- users.lua: from the options `user` and `groups` to ids, by /etc/passwd and /etc/group of the image or the box.
--
-- The rules are docker's. A number is that id, whatever the files hold; a name must be in them; the first line that
-- matches counts. A user without a group named has that of its passwd line and is in all groups that list it; with one
-- named ("user:group") it has that one alone. A uid without a line has group 0. `groups` are added in any case.
--
-- The files are others' work, and may be anything. They are opened inside the root, nothing but a regular file is
-- opened at all, and no more is read than fits below the bounds here. A line that is no proper line is skipped, so that
-- it never stands for an id, least of all for 0. A file that is there and cannot be used is an error for all who need
-- it: to go on without a group is no safe answer, since modes may shut members of a group out.

local E = require "nsbox.error"
local box_root = require "nsbox.box.root"
local core = require "nsbox.core"
local option = require "nsbox.options.user"
local sys = require "nsbox.sys"

local CHUNK = 65536
local MAX_FILE = 1 << 20 -- some 20,000 users
local MAX_LINE = 65536 -- docker's
local MAX_NEAR = 200 -- names that a wrong one is compared with
local TRIES = 16 -- EAGAIN: a rename elsewhere raced with a ".." on the way; openat2(2)
local MAX_GROUPS = option.MAX_GROUPS

local PASSWD, GROUP = "etc/passwd", "etc/group"

-- ---- the files ----

local function plain(message)
  return message:match ": ([^:]*)$" or message
end

local function find(root, path)
  local place, message, errno
  for _ = 1, TRIES do
    place, message, errno = sys.openat2(root, path, "path", nil, "in_root,no_magiclinks")
    if place or errno ~= sys.EAGAIN then
      break
    end
  end
  return place, message, errno
end

-- Opened by the descriptor that was looked at, so that it is the same file: to open a device may do something. Answers
-- the file and how much of it to read at a time | nil, problem, errno.
local function open_file(root, path)
  local place <close>, message, errno = find(root, path)
  if not place then
    return nil, "cannot be opened: " .. plain(message), errno
  end
  local stat = sys.fstat(place)
  if not stat or stat.type ~= "file" then
    return nil, "is no regular file but a " .. (stat and stat.type or "?"), sys.EINVAL
  elseif stat.size == 0 then -- nothing to read; or a file of /proc, which may do something when it is opened
    return nil, "is empty", sys.ENOENT
  elseif stat.size > MAX_FILE then
    return nil, ("is too large: %d bytes, and at most %d are read"):format(stat.size, MAX_FILE), sys.EFBIG
  end
  local file
  file, message, errno = sys.open(("/proc/self/fd/%d"):format(place:fileno()), "rdonly,nonblock,noctty")
  if not file then
    return nil, "cannot be opened: " .. plain(message), errno
  end
  return file, math.min(CHUNK, math.max(stat.size + 1, 4096)) -- more than is there: a buffer costs its size
end

-- Calls f with each whole line of a text; answers where the rest begins, nil when f has seen enough (answered true).
-- Adds a problem for a line that is too long.
local function feed(text, f)
  local at = 1
  while true do
    local newline = text:find("\n", at, true)
    if (newline or #text + 1) - at > MAX_LINE then
      return nil, ("has a line of more than %d bytes"):format(MAX_LINE), sys.EFBIG
    elseif not newline then
      return at
    end
    local line = text:sub(at, newline - 1)
    if not line:find("\0", 1, true) and f(line) then
      return nil
    end
    at = newline + 1
  end
end

-- true | nil, problem, errno
local function each_line(file, chunk_size, f)
  local rest, total = "", 0
  while true do
    local chunk, message, errno = sys.read(file, chunk_size)
    if chunk == "" then
      feed(rest .. "\n", f)
      return true
    elseif chunk then
      total = total + #chunk
      if total > MAX_FILE then
        return nil, ("is too large: at most %d bytes are read"):format(MAX_FILE), sys.EFBIG
      end
      local at, problem, number = feed(rest .. chunk, f)
      if not at then
        return not problem or nil, problem, number
      end
      rest = (rest .. chunk):sub(at)
    elseif errno ~= sys.EINTR then
      return nil, "cannot be read: " .. plain(message), errno
    end
  end
end

-- true, also when there is no such file | nil, problem, errno
local function scan(root, path, f)
  local file <close>, answer, errno = open_file(root, path)
  if not file then
    return errno == sys.ENOENT or nil, answer, errno
  end
  return each_line(file, answer, f)
end

-- ---- their lines; passwd(5), group(5) ----

-- Comments, and the lines that send NIS and its like elsewhere, are of nobody.
local function is_entry(name)
  return not name:find "^[#+-]"
end

local function passwd_line(line)
  local name, uid, gid, rest = line:match "^([^:]+):[^:]*:([^:]*):([^:]*)(.*)$"
  uid, gid = option.number(uid or ""), option.number(gid or "")
  if not (uid and gid and is_entry(name)) then
    return nil
  end
  local home = rest:match "^:[^:]*:([^:]+)"
  return { name = name, uid = uid, gid = gid, home = home or "/" }
end

local function group_line(line)
  local name, gid, rest = line:match "^([^:]+):[^:]*:([^:]*)(.*)$"
  gid = option.number(gid or "")
  if gid and is_entry(name) then
    return name, gid, rest:sub(2)
  end
end

-- A user's line | nil, problem, errno; nil, nil, nil, names when there is none.
local function find_user(root, user)
  local found, near = nil, {}
  local ok, problem, errno = scan(root, PASSWD, function(line)
    local entry = passwd_line(line)
    if entry and (entry.uid == user.uid or entry.name == user.name) then
      found = entry
    elseif entry and #near < MAX_NEAR then
      near[#near + 1] = entry.name
    end
    return found ~= nil
  end)
  if not ok then
    return nil, problem, errno
  end
  return found, nil, nil, near
end

-- wanted: a set of names. { gid = name -> gid, member = gids of the groups that list `user` (nil: none), near = names }
-- | nil, problem, errno
local function find_groups(root, wanted, user)
  local found, number, seen = { gid = {}, member = {}, near = {} }, 0, {}
  local by_name = next(wanted) ~= nil
  local ok, problem, errno = scan(root, GROUP, function(line)
    if not by_name and not line:find(user, 1, true) then
      return false -- of most lines that is known at a glance
    end
    local name, gid, members = group_line(line)
    if not name then
      return false
    elseif wanted[name] and not found.gid[name] then
      found.gid[name] = gid
    elseif #found.near < MAX_NEAR then
      found.near[#found.near + 1] = name
    end
    if user and not seen[gid] and ("," .. members .. ","):find("," .. user .. ",", 1, true) then
      number, seen[gid] = number + 1, true
      found.member[number] = gid
    end
    return number > MAX_GROUPS
  end)
  if not ok then
    return nil, problem, errno
  end
  return found
end

-- ---- from options to ids ----

local function fail(source, message, errno, hint)
  return E.fail { kind = "image", verb = source.verb, message = message, errno = errno, hint = hint,
    name = errno and core.errno_name(errno) or nil }
end

local function unusable(source, path, problem, errno)
  return fail(source, ("%s /%s %s"):format(source.whose, path, problem), errno,
    'numbers need no file: user = "1000:1000"')
end

local function missing(source, what, name, path, near)
  local like = E.nearest(name, near)
  return fail(source, ("%s '%s' is not in %s /%s"):format(what, name, source.whose, path), nil,
    like and ("did you mean '%s'?"):format(like) or nil)
end

-- The groups that are named: a set.
local function names_of(user, groups)
  local wanted = {}
  for _, g in ipairs { user, table.unpack(groups) } do
    if g.group then
      wanted[g.group] = true
    end
  end
  return wanted
end

-- Without the root only numbers are known.
local function without_root(source, user, groups)
  local name = user.name or next(names_of(user, groups))
  if source.root or not name then
    return true
  end
  return E.fail { kind = source.kind or "image", verb = source.verb, errno = source.errno,
    name = source.errno and core.errno_name(source.errno) or nil, hint = 'give numbers: user = "1000:1000"',
    message = ("'%s' cannot be looked up: %s"):format(name, source.problem) }
end

-- The passwd line of a user, or what stands for it. easy: whoever starts a box and names nobody is not to depend on
-- the files; with a group given, too, only HOME is looked up.
local function entry_of(source, user, easy)
  local entry, problem, errno, near
  if source.root then
    entry, problem, errno, near = find_user(source.root, user)
  end
  if problem and not easy then
    return unusable(source, PASSWD, problem, errno)
  elseif not entry and user.name then
    return missing(source, "user", user.name, PASSWD, near)
  end
  return entry or { uid = user.uid, gid = 0, home = user.uid == 0 and "/root" or "/" }
end

local function groups_of(source, user, groups, member, easy)
  local wanted = names_of(user, groups)
  if not source.root or not member and not next(wanted) then
    return { gid = {}, member = {} }
  end
  local found, problem, errno = find_groups(source.root, wanted, member)
  if not found and easy and not next(wanted) then
    return { gid = {}, member = {} }
  elseif not found then
    return unusable(source, GROUP, problem, errno)
  end
  for name in pairs(wanted) do
    if not found.gid[name] then
      return missing(source, "group", name, GROUP, found.near)
    end
  end
  return found
end

--- The additional groups of a resolved user, ascending, each once. The primary one is among them: a program that
-- changes its group (set-group-ID, newgrp) stays a member, and is still shut out by a mode such as 0705; CVE-2022-2989.
local function additional(user)
  local seen, list = {}, {}
  for _, gids in ipairs { { user.gid }, user.member, user.groups } do
    for _, gid in ipairs(gids) do
      list[#list + 1] = not seen[gid] and gid or nil
      seen[gid] = true
    end
  end
  table.sort(list)
  return list
end

local function gids_of(groups, found)
  local list = {}
  for i, g in ipairs(groups) do
    list[i] = g.gid or found.gid[g.group]
  end
  return list
end

local function checked(source, resolved)
  local count = #additional(resolved)
  if count > MAX_GROUPS then
    return fail(source, ("the user is in more groups than the %d that are possible here"):format(MAX_GROUPS))
  end
  return resolved
end

--- Resolves a user: { uid or name, gid or group or neither } and groups, a list of { gid or group }, as options.user
-- makes them. source: { verb, whose = "the image's", root = a descriptor, or nil and problem, errno, kind }.
-- easy: the user is nobody's choice, and the files need not be usable.
-- Returns { uid, gid, home, member = gids by the file, groups = gids asked for } | nil, err, errno (kind image, or
-- source.kind).
local function resolve(source, user, groups, easy)
  local alone = user.gid or user.group
  local ok, err, errno = without_root(source, user, groups)
  if not ok then
    return nil, err, errno
  end
  local entry, found
  entry, err, errno = entry_of(source, user, easy or user.uid and alone)
  if not entry then
    return nil, err, errno
  end
  found, err, errno = groups_of(source, user, groups, not alone and entry.name or nil, easy)
  if not found then
    return nil, err, errno
  end
  return checked(source, { uid = entry.uid, gid = user.gid or found.gid[user.group] or entry.gid, home = entry.home,
    member = found.member, groups = gids_of(groups, found) })
end

-- ---- where the files are ----

local function image_user(verb, img)
  local text = img.config.User
  if text == nil or text == "" then
    return { uid = 0 }, nil, nil, true
  end
  local user, problem = option.user(text)
  if not user then
    return E.fail { kind = "image", verb = verb, message = ("the User of image '%s' %s"):format(img.name, problem) }
  end
  return user
end

-- A mount namespace that is joined has a root of its own, which nobody sees before.
local function image_source(verb, o, img)
  local source, ns = { verb = verb, whose = "the image's" }, o.namespaces.mount
  if ns.path or ns.fd then
    source.problem, source.kind = "the mount namespace that is joined has files of its own", "unsupported"
  else
    source.root, source.problem, source.errno = sys.open(img.root, "path,directory")
  end
  return source
end

--- The user of a box's main process: of the options, else the default, else of the image, else root. o: what
-- options.check returned; img: what image.resolve did. Returns what resolve does | nil, err, errno (kind image,
-- unsupported).
local function of_image(verb, o, img, default)
  local user, err, errno, easy = o.user or default, nil, nil, o.user == nil and default ~= nil
  if not user then
    user, err, errno, easy = image_user(verb, img)
  end
  if not user then
    return nil, err, errno
  end
  local source = image_source(verb, o, img)
  local _ <close> = source.root
  return resolve(source, user, o.groups or {}, easy)
end

--- The user of a process that is added to a box: of the options, else the main process's with its groups. task: the
-- box's. Returns what resolve does | nil, err, errno (kind image).
local function of_box(verb, o, task)
  local first, groups = task.config.process.user, o.groups or {}
  local source = { verb = verb, whose = "the box's" }
  if o.user or next(names_of({}, groups)) then
    source.root, source.problem, source.errno = box_root.open(task)
  end
  local _ <close> = source.root
  if o.user then
    return resolve(source, o.user, groups, false)
  end
  local added, err, errno = resolve(source, { uid = first.uid, gid = first.gid }, groups, true)
  if not added then
    return nil, err, errno
  end
  added.member, added.home = first.additionalGids, task.config.nsbox.home
  return checked(source, added)
end

return { resolve = resolve, additional = additional, of_image = of_image, of_box = of_box }
