-- idrange.lua: of root's caller: ranges of 65,536 ids that are nobody else's, one for each box that asks for its own.
--
-- They come from the ranges of the user "nsbox" in /etc/subuid and /etc/subgid or, where it has none, from 524288 on,
-- but for what is given to others there. Who has one keeps so many bytes of a file in the runtime folder locked, from
-- the byte of its first id on: the kernel gives them back when their holder is gone.

local core = require "nsbox.core"
local owner = require "nsbox.owner"
local subid = require "nsbox.subid"
local sys = require "nsbox.sys"

local COUNT = 65536
local FIRST = 524288
local LAST = 4294967295 - COUNT -- the highest id is none: (uid_t) -1

local USER = "nsbox"

-- What this process holds: first id -> true; spare: one that a box has given back, for the next; common: that of all
-- boxes that share pids, of which processes may be left when they have ended. Of a fork they are its maker's.
local held = { owner = core.self(), ranges = {} }

local function overlaps(list, first)
  for _, range in ipairs(list) do
    if range.first < first + COUNT and range.first + range.count > first then
      return true
    end
  end
  return false
end

local function has_whole(list, first)
  for _, range in ipairs(list) do
    if range.first <= first and range.first + range.count >= first + COUNT then
      return true
    end
  end
  return false
end

-- Those that belong to users of the system; the user nsbox's own are none of them.
local function of_others(path)
  local list = {}
  for _, range in ipairs(subid.read(path)) do
    if range.who ~= USER then
      list[#list + 1] = range
    end
  end
  return list
end

-- Of each range of the user nsbox what is whole, in order.
local function of_user(uids, gids)
  local list = {}
  for _, range in ipairs(uids) do
    for first = range.first, range.first + range.count - COUNT, COUNT do
      list[#list + 1] = has_whole(gids, first) and first or nil
    end
  end
  return function(i)
    return list[i]
  end
end

local function of_nobody()
  local others, groups = of_others(subid.UIDS), of_others(subid.GIDS)
  local list, at = {}, FIRST
  return function(i)
    while not list[i] and at <= LAST do
      if not overlaps(others, at) and not overlaps(groups, at) then
        list[#list + 1] = at
      end
      at = at + COUNT
    end
    return list[i]
  end
end

local function signature()
  local words = {}
  for _, path in ipairs { subid.UIDS, subid.GIDS } do
    local stat = sys.stat(path)
    words[#words + 1] = stat and ("%s %s %s %s"):format(path, stat.ino, stat.size, stat.mtime) or path
  end
  return table.concat(words, " ")
end

local rules -- { of = what the files were, nth = function(i) -> the first id of the i-th range that may be taken }

-- Answers, too, whether the files have changed.
local function ranges()
  local now = signature()
  if rules and rules.of == now then
    return rules.nth, false
  end
  local uids = subid.of(subid.UIDS, USER)
  rules = { of = now, nth = uids[1] and of_user(uids, subid.of(subid.GIDS, USER)) or of_nobody() }
  return rules.nth, true
end

local function open_file()
  local folder = owner.runtime()
  local ok, message, errno = owner.make_folder(folder)
  if not ok then
    return nil, message, errno
  end
  return sys.open(folder .. "/ids", "rdwr,creat,nofollow", "0600")
end

local function ids_of(first)
  return { uid = { { 0, first, COUNT } }, gid = { { 0, first, COUNT } }, setgroups = true, range = first }
end

local function begin()
  if held.owner ~= core.self() then
    held = { owner = core.self(), ranges = {} } -- the file that is open is the maker's, and so are its locks
  end
  local message, errno
  if not held.file then
    held.file, message, errno = open_file()
  end
  return held.file, message, errno
end

-- Whether a process has one of these ids: what is left of a box that shared pids may outlive the lock's holder.
local function is_in_use(first)
  for _, pid in ipairs(sys.readdir "/proc" or {}) do
    local stat = pid:find "^%d+$" and sys.stat("/proc/" .. pid)
    if stat and stat.uid >= first and stat.uid < first + COUNT then
      return true
    end
  end
  return false
end

local function let_go(first)
  sys.fcntl_ofd_setlk(held.file, "unlck", first, COUNT)
end

local function lock_one(file, nth)
  local i, message, errno = 0, nil, nil
  while true do
    i = i + 1
    local first, ok = nth(i), nil
    if not first then
      return nil, i == 1 and "the ranges of the user nsbox hold no 65536 ids that are whole"
        or "every range of 65536 ids is taken", sys.EUSERS
    elseif not held.ranges[first] then
      ok, message, errno = sys.fcntl_ofd_setlk(file, "wrlck", first, COUNT)
    end
    if ok and not is_in_use(first) then
      return first
    elseif ok then
      let_go(first)
    elseif errno and errno ~= sys.EAGAIN and errno ~= sys.EACCES then
      return nil, message, errno
    end
  end
end

--- A range that is free, for give_back: { uid = rows, gid = rows, setgroups = true } as config/ids.lua takes them
-- | nil, message, errno (EUSERS: all are taken). in_common: the one for boxes that share pids.
local function take(in_common)
  local file, message, errno = begin()
  if not file then
    return nil, message, errno
  end
  local nth, changed = ranges()
  if in_common and held.common then
    return ids_of(held.common)
  elseif changed and held.spare then
    let_go(held.spare) -- it may be somebody's by now
    held.spare = nil
  end
  local first = held.spare
  held.spare = nil
  if not first then
    first, message, errno = lock_one(file, nth)
  end
  if not first then
    return nil, message, errno
  end
  held.ranges[first] = true
  held.common = held.common or in_common and first or nil
  return ids_of(first)
end

--- Of a box that has ended: the next may have it.
local function give_back(ids)
  local first = ids.range
  if held.owner ~= core.self() or not held.ranges[first] or first == held.common then
    return
  end
  held.ranges[first] = nil
  if held.spare == nil then
    held.spare = first
  else
    let_go(first)
  end
end

--- The first that there may be, taken by nobody: to show what a start would do.
local function first()
  return ids_of(ranges()(1) or FIRST)
end

return { take = take, give_back = give_back, first = first }
