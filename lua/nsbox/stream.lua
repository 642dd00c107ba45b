-- stream.lua: the caller's end of a pipe, a terminal or a connection, with the methods of a Lua file. Its waits serve
-- all live boxes, and yield where nsbox.use says so.

local E = require "nsbox.error"
local sys = require "nsbox.sys"
local wait = require "nsbox.wait"

local CHUNK = 65536
local AT_ONCE = 4 << 20 -- bytes of one look, more than a pipe holds: who writes without end cannot hold the loop

local stream = {}
local stream_mt = { __name = "nsbox.stream", __index = stream }

local function closed(self, call)
  return nil, E.new { kind = "closed", verb = call, message = self.name .. " is closed", errno = sys.EBADF,
    name = "EBADF" }, sys.EBADF
end

local function timed_out(call)
  return nil, E.new { kind = "timeout", verb = call, message = "nothing came in time", errno = sys.ETIMEDOUT,
    name = "ETIMEDOUT" }, sys.ETIMEDOUT
end

local function limit(self)
  return self.seconds and sys.clock() + self.seconds
end

-- Takes what is there. Answers whether something has changed: more bytes, the end, or an error.
local function take(self)
  if self.ended then
    return true
  end
  local chunk, message, errno = sys.read(self.fd, CHUNK)
  if chunk == "" or errno == sys.EIO or errno == sys.ECONNRESET then -- EIO: the other side of a terminal has closed
    self.ended = true
  elseif chunk then
    self.parts[#self.parts + 1] = chunk
    self.size = self.size + #chunk
  elseif errno ~= sys.EAGAIN and errno ~= sys.EINTR then
    self.ended, self.failure = true, { message, errno }
  else
    return false
  end
  wait.changed()
  return true
end

local function text_of(self)
  if #self.parts > 1 then
    self.parts = { table.concat(self.parts) }
  end
  return self.parts[1] or ""
end

-- Takes n bytes off what was read, and `skip` more behind them.
local function cut(self, n, skip)
  local text = text_of(self)
  local rest = text:sub(n + (skip or 0) + 1)
  self.parts, self.size, self.taken = rest ~= "" and { rest } or {}, #rest, self.taken + #text - #rest
  return text:sub(1, n)
end

-- Until enough() answers something or the end: true | nil, err, errno.
local function fill_until(self, call, enough)
  local deadline, rows = limit(self), { { fd = self.fd, events = "in" } }
  while not enough() and not self.ended do
    -- Another coroutine that reads may have taken more than it needed.
    if not wait.wait(function() return not self.fd or enough() or take(self) end, deadline, rows) then
      return timed_out(call)
    elseif not self.fd then
      return closed(self, call)
    end
  end
  return true
end

local function failed(self)
  if self.failure then
    return nil, self.failure[1], self.failure[2]
  end
  return nil
end

local readers = {}

local function line(self, keep)
  local searched, at = self.taken, nil -- bytes of all that came: another coroutine may take some meanwhile
  local ok, err, errno = fill_until(self, "read", function()
    local text = text_of(self)
    at = text:find("\n", math.max(1, searched - self.taken + 1), true)
    searched = self.taken + (at and at - 1 or #text)
    return at
  end)
  if not ok then
    return nil, err, errno
  elseif at then
    return cut(self, keep and at or at - 1, keep and 0 or 1)
  elseif self.size > 0 then
    return cut(self, self.size)
  end
  return failed(self)
end

function readers.l(self)
  return line(self, false)
end

function readers.L(self)
  return line(self, true)
end

function readers.a(self)
  local ok, err, errno = fill_until(self, "read", function() return false end)
  if not ok then
    return nil, err, errno
  elseif self.failure and self.size == 0 then
    return failed(self)
  end
  return cut(self, self.size)
end

-- How much of a text, from `at` on, Lua's files take for a number: no more than may begin one; liolib.c, read_number.
local function number_end(text, at)
  local function skip(pattern)
    local after = text:match("^" .. pattern .. "()", at)
    local some = after > at
    at = after
    return some
  end
  skip "[+-]?"
  local digits, exponent = "%d*", "[eE]?"
  local some = skip "0?"
  if some and skip "[xX]?" then
    digits, exponent, some = "%x*", "[pP]?", false
  end
  some = skip(digits) or some
  if skip "%.?" then
    some = skip(digits) or some
  end
  if some and skip(exponent) then
    skip "[+-]?"
    skip "%d*"
  end
  return at
end

function readers.n(self)
  local first, after
  local ok, err, errno = fill_until(self, "read", function()
    first = text_of(self):match "^%s*()"
    after = number_end(text_of(self), first)
    return after <= self.size
  end)
  if not ok then
    return nil, err, errno
  end
  local text = text_of(self):sub(first, after - 1)
  cut(self, after - 1)
  return tonumber(text)
end

local function bytes(self, n)
  local ok, err, errno = fill_until(self, "read", function() return self.size >= n and (n > 0 or self.size > 0) end)
  if not ok then
    return nil, err, errno
  elseif self.size == 0 then
    return failed(self)
  end
  return cut(self, math.min(n, self.size))
end

local function reader_of(format)
  if math.type(format) then
    local n = math.tointeger(format)
    if not n or n < 0 then
      E.misuse("nsbox: read: a number of bytes expected, got %s", tostring(format))
    end
    return bytes, n
  end
  local read = type(format) == "string" and readers[format:gsub("^%*", ""):sub(1, 1)]
  if not read then
    E.misuse('nsbox: read: a format ("l", "L", "a", "n" or a number of bytes) expected, got %s', tostring(format))
  end
  return read
end

--- read(format, ...) as of a Lua file: "l" (a line, the default), "L", "a", "n", a number of bytes. nil at the end;
-- nil, Error, errno when the stream is closed or the time of settimeout is over (what came stays to be read).
function stream:read(...)
  local formats, results = table.pack(...), {}
  if formats.n == 0 then
    formats = { "l", n = 1 }
  end
  if not self.fd then
    return closed(self, "read")
  end
  for i = 1, formats.n do
    local read, n = reader_of(formats[i])
    local value, err, errno = read(self, n)
    if value == nil and (err or i == 1) then
      return nil, err, errno
    end
    results[i] = value
    if value == nil then
      return table.unpack(results, 1, i)
    end
  end
  return table.unpack(results, 1, formats.n)
end

--- An iterator of read(format, ...), by lines if there is no format, as of a Lua file. An error in reading is raised.
function stream:lines(...)
  local formats = table.pack(...)
  return function()
    local results = table.pack(self:read(table.unpack(formats, 1, formats.n)))
    if results[1] == nil and results[2] then
      error(results[2], 0)
    end
    return table.unpack(results, 1, results.n)
  end
end

-- All of a text, or nil, err, errno.
local function put(self, text)
  local at, deadline, rows = 1, limit(self), { { fd = self.fd, events = "out" } }
  local why, number
  local function some()
    if not self.fd then
      return true
    end
    local n, message, errno = sys.write_nosig(self.fd, text, at)
    if n then
      at = at + n
    elseif errno ~= sys.EAGAIN and errno ~= sys.EINTR then
      why, number = message, errno
    end
    return n ~= nil or why ~= nil
  end
  while at <= #text do
    if not wait.wait(some, deadline, rows) then
      return timed_out "write"
    elseif not self.fd then
      return closed(self, "write")
    elseif why then
      return nil, why, number
    end
  end
  return true
end

--- Writes strings and numbers, all of them: the stream itself | nil, message, errno. A reader that is gone is EPIPE,
-- and no signal.
function stream:write(...)
  if not self.fd then
    return closed(self, "write")
  end
  for i = 1, select("#", ...) do
    local v = select(i, ...)
    if type(v) ~= "string" and not math.type(v) then
      E.misuse("nsbox: write: a string or a number expected, got a %s", type(v))
    end
    local ok, err, errno = put(self, tostring(v))
    if not ok then
      return nil, err, errno
    end
  end
  return self
end

--- Nothing is kept back: the stream itself.
function stream:flush()
  return self
end

--- Seconds after which a read or write gives up with nil, Error of kind "timeout"; nil: never.
function stream:settimeout(seconds)
  if seconds ~= nil and not (math.type(seconds) and seconds >= 0) then
    E.misuse("nsbox: settimeout: a number of seconds expected, got %s", tostring(seconds))
  end
  self.seconds = seconds
  return self
end

--- Gives the descriptor back: true. Of a stream that is written to, the reader finds the end. Any number of times.
function stream:close()
  local fd = self.fd
  if fd then
    self.fd = nil
    if self.at_close then
      self.at_close()
    end
    wait.closing(fd)
    fd:close()
  end
  return true
end

--- The descriptor's number, borrowed; nil when closed. Under its other names for the loops: getfd and pollfd.
function stream:fileno()
  return self.fd and self.fd:fileno()
end

stream.getfd = stream.fileno
stream.pollfd = stream.fileno

--- For luasocket's select: whether something was read already, so that no readiness has to be waited for.
function stream:dirty()
  return self.size > 0
end

--- For cqueues: what to poll for.
function stream:events()
  return self.direction == "out" and "w" or self.direction == "in" and "r" or "rw"
end

--- For cqueues: seconds until it wants to be looked at.
function stream:timeout()
  return self.seconds
end

-- What is there now.
local function take_all(self)
  local most = self.size + AT_ONCE
  while not self.ended and self.size < most and take(self) do end
end

-- For communicate: what is there now, without waiting, and whether that was the end.
function stream.drain(self)
  take_all(self)
  return cut(self, self.size), self.ended
end

-- For expect: takes what is there, and finds the pattern. The captures or the match, cut off with all before it.
function stream.find(self, pattern)
  take_all(self)
  local found = table.pack(text_of(self):find(pattern))
  if not found[1] then
    return nil
  end
  local match = text_of(self):sub(found[1], found[2])
  cut(self, found[2])
  if found.n > 2 then
    return table.unpack(found, 3, found.n)
  end
  return match
end

function stream_mt.__tostring(self)
  return ("nsbox.stream: %s%s"):format(self.name, self.fd and "" or " (closed)")
end

stream_mt.__close = stream.close
stream_mt.__gc = stream.close

--- A Stream of a non-blocking descriptor, which it owns. name: for messages; direction: "in", "out" or "both";
-- at_close: called before the descriptor goes.
local function new(fd, name, direction, at_close)
  return setmetatable({ fd = fd, name = name, direction = direction, parts = {}, size = 0, taken = 0,
    ended = false, at_close = at_close }, stream_mt)
end

--- Whether a value is a Stream.
local function is(v)
  return getmetatable(v) == stream_mt
end

return { new = new, is = is }
