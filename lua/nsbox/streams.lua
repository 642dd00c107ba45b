-- streams.lua: the streams of a call and its other descriptors: the ends the box gets, and what the caller serves
-- meanwhile.

local core = require "nsbox.core"
local stream = require "nsbox.stream"
local sys = require "nsbox.sys"

local names = { "stdin", "stdout", "stderr" }

local streams_mt = { __name = "nsbox.streams" }

-- A descriptor of ours above 2, whatever the caller has there. A closed one is as good as /dev/null.
local function inherited(number)
  local fd, message, errno = sys.dup(number)
  if not fd and errno == sys.EBADF then
    return sys.open("/dev/null", "rdwr")
  end
  return fd, message, errno
end

local function null()
  return sys.open("/dev/null", "rdwr")
end

-- A pipe of which the caller's end does not block.
local function pipe(s, caller_reads)
  local r, w, errno = sys.pipe2()
  if not r then
    return nil, w, errno
  end
  local mine, its = caller_reads and r or w, caller_reads and w or r
  s.open[#s.open + 1] = mine
  sys.nonblock(mine, true)
  return its, mine
end

local MIN_LINES = 65536 -- what serve.lua takes at once of a stream whose lines are told

-- Where output goes: kept are its first bytes, or of a log the last. A line function has its lines, and a log of them.
local function sink(want, name, o, new_log)
  local line = type(want) == "function" and want or nil
  local most = line and math.max(o.max_output, MIN_LINES) or o.max_output
  local buffer = new_log and new_log(name, most) or core.buffer(most, want ~= "capture")
  return { buffer = buffer, name = name, line = line, rest = "", at = 1, told = 0 }
end

local function keep(s, name, o)
  local its, mine, errno = pipe(s, true)
  if its then
    s[name] = sink(o[name], name, o, s.new_log)
    s[name].fd = mine
  end
  return its, mine, errno
end

-- The caller's end is a Stream's, and the user's.
local function stream_end(s, name)
  local its, mine, errno = pipe(s, name ~= "stdin")
  if its then
    s.public[name] = stream.new(mine, name, name == "stdin" and "out" or "in")
  end
  return its, mine, errno
end

local makers = {
  null = null,
  inherit = function(_, name)
    return inherited(name == "stdin" and 0 or name == "stdout" and 1 or 2)
  end,
  capture = keep,
  log = keep,
  pipe = stream_end,
}

local function feed(s, o)
  local its, mine, errno = pipe(s, false)
  if its then
    s.feeder = { fd = mine, source = o.input, at = 1 }
  end
  return its, mine, errno
end

local function make(s, name, o)
  local want = o[name]
  if name == "stdin" and o.input ~= nil then
    return feed(s, o)
  end
  if name == "stderr" and want == "stdout" then
    return sys.dup(s.inputs.stdout)
  end
  if makers[want] or type(want) == "function" then
    return (makers[want] or keep)(s, name, o)
  end
  return sys.dup(want)
end

local function plain(s, o)
  for _, name in ipairs(names) do
    local fd, message, errno = make(s, name, o)
    if not fd then
      return nil, message, errno
    end
    s.inputs[name] = fd
  end
  return s
end

local function relay_source(relay, o, own)
  if o.input ~= nil then
    relay.input = { source = o.input, at = 1 }
  elseif o.stdin == "pipe" then
    relay.stream = true
  elseif own or o.stdin == "inherit" then
    relay.from = 0
  elseif o.named.stdin and o.stdin ~= "null" then
    relay.from = o.stdin
  end
end

local function relay_target(relay, o, own, new_log)
  local want = o.stdout
  if own or want == "inherit" then
    relay.to = 1
  elseif want == "pipe" then
    relay.stream_out = true
  elseif want == "capture" or want == "log" or type(want) == "function" then
    local made = sink(want, "stdout", o, new_log)
    relay.buffer, relay.line, relay.name, relay.rest, relay.at, relay.told = made.buffer, made.line, made.name, "", 1, 0
  elseif want == "null" then
    relay.buffer = core.buffer(0)
  else
    relay.to = want
  end
end

-- With a terminal the box's streams are its pty; what the user named is relayed to and from it.
local function relayed(s, o)
  local own = not o.named.stdin and not o.named.stdout and core.same_terminal(0, 1)
  s.relay = {}
  relay_source(s.relay, o, own)
  relay_target(s.relay, o, own, s.new_log)
  for _, name in ipairs(names) do
    local fd, message, errno = null()
    if not fd then
      return nil, message, errno
    end
    s.inputs[name] = fd
  end
  return s
end

local function terminal_stream(s, terminal, name, at_close)
  local fd, message, errno = sys.dup(terminal)
  if not fd then
    return nil, message, errno
  end
  s.public[name] = stream.new(fd, name, name == "stdin" and "out" or "in", at_close)
  return true
end

--- The caller has its side of the box's terminal: Streams of it are made. true | nil, message, errno.
local function attach(s, terminal)
  local relay = s.relay
  local ok, message, errno = true, nil, nil
  sys.nonblock(terminal, true)
  relay.null = not relay.from and not relay.input and not relay.stream
  if relay.stream then
    ok, message, errno = terminal_stream(s, terminal, "stdin", function() relay.null = not relay.ended end)
  end
  if ok and relay.stream_out then
    ok, message, errno = terminal_stream(s, terminal, "stdout", function() relay.stream_out = nil end)
    relay.buffer = core.buffer(0)
  end
  return ok, message, errno
end

-- What the box gets beyond its streams: `fd_N` becomes its number N. All are looked at before any is made: a number
-- that was closed must not come to mean a descriptor of ours.
local function numbered(s, fds)
  for _, call in ipairs { "fstat", "dup" } do
    for n, handle in pairs(fds) do
      local made, message, errno = sys[call](handle)
      if not made then
        return nil, ("fds[%d]: %s"):format(n, message), errno
      end
      s.inputs["fd_" .. n] = call == "dup" and made or nil
    end
  end
  return s
end

function streams_mt.__close(s)
  for _, fd in pairs(s.inputs) do
    fd:close()
  end
  for _, public in pairs(s.public) do
    public:close()
  end
  for _, fd in ipairs(s.open) do
    fd:close()
  end
end

--- Opens the streams that checked options ask for. The result's `inputs` are the box's ends by slot name;
-- `stdout`, `stderr` {fd, buffer} are kept, `feeder` writes the input, `relay` serves a terminal, `public` has the
-- Streams that the user reads and writes.
-- new_log(name, max) -> what is kept of a stream, with the methods of the core's buffers that are used; nil: those.
-- To be closed. nil, message, errno when the descriptors run out.
local function open(o, new_log)
  local s = setmetatable({ inputs = {}, open = {}, public = {}, new_log = new_log }, streams_mt)
  local ok, message, errno = numbered(s, o.fds or {})
  if ok and o.tty then
    ok, message, errno = relayed(s, o)
  elseif ok then
    ok, message, errno = plain(s, o)
  end
  if not ok then
    streams_mt.__close(s)
    return nil, message, errno
  end
  return s
end

--- The box has its ends: the caller's copies go, so that the end of the box is the end of the stream.
local function started(s)
  for _, fd in pairs(s.inputs) do
    fd:close()
  end
end

return { open = open, attach = attach, started = started }
