-- detach/log.lua: the newest output of a detached box in files that outlive who wrote them. Of a stream the bytes from
-- position 500 on lie in NAME.500: whoever reads needs nothing but the folder. Both ends have what serve.lua and
-- talk.lua use of the core's buffers.

local sys = require "nsbox.sys"

local AT_ONCE = 4 << 20 -- as in the core: a flood cannot hold the loop
local CHUNK = 65536
local FOLLOWED = 1 -- seconds
local TRIES = 100

-- ---- the worker's end ----

local writer = {}
local writer_mt = { __index = writer }

-- A file is kept as long as it has some of the newest `max` bytes.
local function drop_old(self)
  while #self.files > 1 and self.files[2] <= self.count - self.max do
    sys.unlinkat(self.folder, self.name .. table.remove(self.files, 1), 0)
  end
end

local function next_file(self)
  if self.fd then
    self.fd:close()
  end
  self.fd, self.size = sys.openat(self.folder, self.name .. self.count, "wronly,creat,trunc,nofollow", "0600"), 0
  self.files[#self.files + 1] = self.fd and self.count or nil
end

-- What cannot be written is lost, as what lies beyond `max` is: what comes next begins a new file.
local function keep(self, data)
  if self.max == 0 then
    self.count = self.count + #data
    return
  end
  if not self.fd or self.size >= self.max // 2 then
    next_file(self)
  end
  local n = self.fd and sys.write(self.fd, data) or 0
  self.size = self.size + n
  if n < #data and self.fd then
    self.lost = true
    self.fd:close()
    self.fd = nil
  end
  self.count = self.count + #data
  drop_old(self)
end

--- fill(fd) -> bytes taken, 0 at the end | false when nothing is there now | nil, message, errno.
function writer:fill(fd, most)
  local taken = 0
  while taken < (most or AT_ONCE) do
    local data, message, errno = sys.read(fd, CHUNK)
    if data and data ~= "" then
      keep(self, data)
      taken = taken + #data
    elseif taken > 0 then
      return taken
    elseif data then
      return 0
    elseif errno == sys.EAGAIN then
      return false
    else
      return nil, message, errno
    end
  end
  return taken
end

function writer:total()
  return self.count
end

function writer:truncated()
  return self.lost or self.count > self.max
end

--- contents() -> "", position of the end: whoever wants them reads the files.
function writer:contents()
  return "", self.count
end

--- The log of a stream, at most `max` of its newest bytes. folder: a descriptor, for the folder gets another name.
local function new_writer(folder, name, max)
  return setmetatable({ folder = folder, name = name .. ".", max = max, count = 0, files = {} }, writer_mt)
end

-- ---- the readers' end ----

local reader = {}
local reader_mt = { __index = reader }

local function starts(self)
  local list = {}
  for _, name in ipairs(sys.readdir(self.folder) or {}) do
    local word, start = name:match "^(%l+)%.(%d+)$"
    if word == self.name then
      list[#list + 1] = math.tointeger(tonumber(start))
    end
  end
  table.sort(list)
  return list
end

local function read_file(path)
  local f = io.open(path, "rb")
  local text = f and f:read "a"
  if f then
    f:close()
  end
  return text
end

-- The files one after the other, from the last gap on; nothing when one went meanwhile.
local function read_all(self)
  local parts, total = {}, 0
  for _, start in ipairs(starts(self)) do
    local text = read_file(self.path .. start)
    if not text then
      return nil
    elseif start ~= total then
      parts = {}
    end
    parts[#parts + 1] = text
    total = start + #text
  end
  return table.concat(parts), total
end

--- contents(from = 0) -> string, position of its end: what is kept, from that position on.
function reader:contents(from)
  local text, total
  for _ = 1, TRIES do
    text, total = read_all(self)
    if text then
      break
    end
  end
  text, total = text or "", total or 0
  local wanted = math.max(0, math.min(#text, self.max, total - (from or 0)))
  return text:sub(#text - wanted + 1), total
end

--- total() -> the position of the end.
function reader:total()
  self.asked = sys.clock()
  local list = starts(self)
  local stat = list[1] and sys.lstat(self.path .. list[#list])
  return list[1] and list[#list] + (stat and stat.size or 0) or 0
end

--- Whether somebody waits for what comes: no descriptor tells of it.
function reader:followed()
  return self.asked ~= nil and sys.clock() - self.asked < FOLLOWED
end

function reader:truncated()
  return self:total() > self.max
end

--- What is kept of a stream in a folder by a writer with this `max`.
local function new_reader(folder, name, max)
  return setmetatable({ folder = folder, name = name, path = ("%s/%s."):format(folder, name), max = max }, reader_mt)
end

return { writer = new_writer, reader = new_reader }
