-- serve/flow.lua: the output of a process into its buffers and to line functions, and its input out of strings and
-- functions, as far as goes without waiting. `self` is a task of serve.lua.

local E = require "nsbox.error"
local sys = require "nsbox.sys"
local wait = require "nsbox.wait"

local LINES_AT_ONCE = 65536 -- bytes; their buffer holds as many at least

-- stream -> the coroutine in which its lines are told; one that is dropped while it waits is none
local telling = setmetatable({}, { __mode = "kv" })

local function close_stream(stream)
  wait.closing(stream.fd)
  stream.fd:close()
  stream.done = true
end

-- The next line, or nil: what has no end yet waits, up to some size.
local function next_line(stream)
  stream.rest = stream.rest:sub(stream.at) .. stream.buffer:contents(stream.told)
  stream.told, stream.at = stream.buffer:total(), 1
  return function()
    local from, at = stream.at, stream.rest:find("\n", stream.at, true)
    if at then
      stream.at = at + 1
      return stream.rest:sub(from, at - 1)
    elseif from <= #stream.rest and (stream.last or #stream.rest - from >= LINES_AT_ONCE) then
      stream.at = #stream.rest + 1
      return stream.rest:sub(from)
    end
  end
end

-- Whole lines are told at once. While the function waits, more may come: that is told when it has returned, as one that
-- is told a line while it waits for something would see them out of order.
local function tell_lines(self, stream, last)
  stream.last = stream.last or last
  if telling[stream] and coroutine.status(telling[stream]) ~= "dead" then
    return
  end
  telling[stream] = coroutine.running()
  repeat
    for line in next_line(stream) do
      self:call(stream.line, line, stream.name)
      if self.failure or self.closed then
        break
      end
    end
  until stream.told == stream.buffer:total() or self.failure or self.closed
  telling[stream] = nil
end

local function drain(self, stream)
  local n, _, errno = stream.buffer:fill(stream.fd, stream.line and LINES_AT_ONCE or nil)
  local over = n == 0 or (n == nil and errno ~= sys.EINTR)
  if over then
    close_stream(stream)
  end
  if stream.line then
    tell_lines(self, stream, over)
  end
  return n
end

-- What is still in the pipe when the process has ended. One fill takes more than a pipe holds, and no more than that:
-- a descendant that holds the other end and writes on without end keeps nobody waiting.
local function drain_rest(self, stream)
  if not stream.done and stream.buffer then
    drain(self, stream)
    if not stream.done then
      close_stream(stream)
      if stream.line then
        tell_lines(self, stream, true)
      end
    end
  end
end

-- ---- input ----

local function next_chunk(self, feeder)
  local source = feeder.source
  if type(source) == "function" then
    return self:call(function()
      local chunk = source()
      if chunk ~= nil and type(chunk) ~= "string" then
        E.misuse("nsbox.%s: option 'input': the function must return a string or nil, not a %s", self.verb, type(chunk))
      end
      return chunk
    end)
  end
  feeder.source = function() return nil end
  return source
end

-- Writes what fits; false when there is no more to write. An empty chunk is none yet: the function is asked again at
-- the next turn, and the box's deadline is looked at in between.
local function feed(self, feeder, fd)
  if not feeder.chunk or feeder.at > #feeder.chunk then
    feeder.chunk, feeder.at = next_chunk(self, feeder), 1
  end
  if not feeder.chunk or feeder.done or self.closed then -- the function may have waited, or closed its box
    return false
  elseif feeder.chunk == "" then
    return true
  end
  local n, _, errno = sys.write_nosig(fd, feeder.chunk, feeder.at)
  if n then
    feeder.at = feeder.at + n
    return true
  end
  return errno == sys.EAGAIN or errno == sys.EINTR
end

return {
  LINES_AT_ONCE = LINES_AT_ONCE,
  close_stream = close_stream,
  tell_lines = tell_lines,
  drain = drain,
  drain_rest = drain_rest,
  feed = feed,
}
