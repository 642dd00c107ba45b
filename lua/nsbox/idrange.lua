-- idrange.lua: of root's caller: ranges of 65,536 ids that are nobody else's, one for each box that asks for its own.
--
-- They come from the ranges of the user "nsbox" in /etc/subuid and /etc/subgid or, where it has none, from 524288 on,
-- but for what is given to others there. Who has one keeps a byte of a file in the runtime folder locked, byte N for
-- the ids from N * 65536 on: the kernel gives it back when its holder is gone.

local core = require "nsbox.core"
local owner = require "nsbox.owner"
local subid = require "nsbox.subid"
local sys = require "nsbox.sys"

local COUNT = 65536
local FIRST = 524288 // COUNT
local LAST = 4294967295 // COUNT - 1 -- the highest range holds (uid_t) -1

local USER = "nsbox"

-- What this process holds: number -> true; spare: one that a box has given back, for the next; common: that of all
-- boxes that share pids, of which processes may be left when they have ended. Of a fork they are its maker's.
local held = { owner = core.self(), numbers = {} }

local function overlaps(list, number)
  for _, range in ipairs(list) do
    if range.first < (number + 1) * COUNT and range.first + range.count > number * COUNT then
      return true
    end
  end
  return false
end

local function has_whole(list, number)
  for _, range in ipairs(list) do
    if range.first <= number * COUNT and range.first + range.count >= (number + 1) * COUNT then
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

-- number -> whether it may be taken at all; the first, the last. Read once: the files change seldom.
local function read_rules()
  local uids, gids = subid.of(subid.UIDS, USER), subid.of(subid.GIDS, USER)
  if uids[1] then
    local first, last = LAST, 0
    for _, range in ipairs(uids) do
      first = math.min(first, range.first // COUNT)
      last = math.max(last, (range.first + range.count) // COUNT)
    end
    return function(n) return has_whole(uids, n) and has_whole(gids, n) end, first, last
  end
  local others, groups = of_others(subid.UIDS), of_others(subid.GIDS)
  return function(n) return not overlaps(others, n) and not overlaps(groups, n) end, FIRST, LAST
end

local rules

local function numbers()
  rules = rules or { read_rules() }
  local may, first, last = table.unpack(rules)
  return coroutine.wrap(function()
    for n = first, last do
      if may(n) then
        coroutine.yield(n)
      end
    end
  end)
end

local function open_file()
  local folder = owner.runtime()
  local ok, message, errno = owner.make_folder(folder)
  if not ok then
    return nil, message, errno
  end
  return sys.open(folder .. "/ids", "rdwr,creat,nofollow", "0600")
end

local function rows_of(number)
  return { { 0, number * COUNT, COUNT } }
end

local function ids_of(number)
  return { uid = rows_of(number), gid = rows_of(number), setgroups = true, range = number }
end

local function begin()
  if held.owner ~= core.self() then
    held = { owner = core.self(), numbers = {} } -- the file that is open is the maker's, and so are its locks
  end
  local message, errno
  if not held.file then
    held.file, message, errno = open_file()
  end
  return held.file, message, errno
end

local function lock_one(file)
  local message, errno
  for number in numbers() do
    local ok
    if not held.numbers[number] then
      ok, message, errno = sys.fcntl_ofd_setlk(file, "wrlck", number, 1)
    end
    if ok then
      return number
    elseif errno and errno ~= sys.EAGAIN and errno ~= sys.EACCES then
      return nil, message, errno
    end
  end
  return nil, "every range of 65536 ids is taken", sys.ENOSPC
end

--- A range that is free, for give_back: { uid = rows, gid = rows, setgroups = true } as config/ids.lua takes them
-- | nil, message, errno (ENOSPC: all are taken). in_common: the one for boxes that share pids.
local function take(in_common)
  local file, message, errno = begin()
  if not file then
    return nil, message, errno
  elseif in_common and held.common then
    return ids_of(held.common)
  end
  local number = held.spare
  held.spare = nil
  if not number then
    number, message, errno = lock_one(file)
  end
  if not number then
    return nil, message, errno
  end
  held.numbers[number] = true
  held.common = held.common or in_common and number or nil
  return ids_of(number)
end

--- Of a box that has ended: the next may have it.
local function give_back(ids)
  local number = ids.range
  if held.owner ~= core.self() or not held.numbers[number] or number == held.common then
    return
  end
  held.numbers[number] = nil
  if held.spare == nil then
    held.spare = number
  else
    sys.fcntl_ofd_setlk(held.file, "unlck", number, 1)
  end
end

--- The first that there may be, taken by nobody: to show what a start would do.
local function first()
  return ids_of(numbers()() or FIRST)
end

return { take = take, give_back = give_back, first = first }
