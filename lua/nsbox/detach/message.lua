-- detach/message.lua: texts of any length, and requests with their answers, on sockets that keep messages apart.

local core = require "nsbox.core"
local pack = require "nsbox.pack"
local sys = require "nsbox.sys"

local PIECE = 60000
local PATIENCE = 10 -- seconds until a worker that does not answer is taken for stopped

local function ready(socket, events, deadline)
  while sys.poll({ { fd = socket, events = events } }, math.max(0, math.min(1, deadline - sys.clock()))) ~= 1 do
    if sys.clock() >= deadline then
      return false
    end
  end
  return true
end

local function each(call, ...)
  local answers
  repeat
    answers = table.pack(call(...))
  until answers[1] or answers[3] ~= sys.EINTR
  return table.unpack(answers, 1, answers.n)
end

--- Sends a plain value. true | nil, message, errno (EPIPE: nobody is there).
local function send(socket, v)
  local text = assert(pack.encode(v))
  local ok, message, errno = each(sys.sendfd, socket, string.pack("=I8", #text))
  for at = 1, #text, PIECE do
    if not ok then
      break
    end
    ok, message, errno = each(sys.sendfd, socket, text:sub(at, at + PIECE - 1))
  end
  return ok, message, errno
end

--- A plain value that was sent | nil, message, errno (EPIPE: the sender has ended).
local function receive(socket)
  local head, message, errno = each(sys.recvfd, socket, 8, 0)
  if not head then
    return nil, message, errno
  end
  local parts, left = {}, #head == 8 and string.unpack("=I8", head) or 0
  while left > 0 do
    local part
    part, message, errno = each(sys.recvfd, socket, PIECE, 0)
    if not part then
      return nil, message, errno
    elseif part == "" then
      break
    end
    parts[#parts + 1] = part
    left = left - #part
  end
  local v = pack.decode(table.concat(parts))
  if v == nil then
    return nil, "the other side has ended", sys.EPIPE
  end
  return v
end

-- The path of a socket may be longer than the kernel takes; by a descriptor of its folder it is not.
local function short(folder)
  return ("/proc/self/fd/%d/socket"):format(folder:fileno())
end

--- Where a worker takes requests, in a folder: a socket | nil, message, errno.
local function listen(path)
  local folder <close>, message, errno = sys.open(path, "path,directory")
  if not folder then
    return nil, message, errno
  end
  return core.listen(short(folder))
end

--- Tells the worker of the box in a folder something: its answer | nil, message, errno.
local function request(path, v)
  local folder <close>, message, errno = sys.open(path, "path,directory")
  if not folder then
    return nil, message, errno
  end
  local socket <close>, why, number = core.connect_local(short(folder))
  if not socket then
    return nil, why, number
  end
  local ok
  ok, message, errno = sys.sendfd(socket, pack.encode(v))
  if not ok then
    return nil, message, errno
  elseif not ready(socket, "in", sys.clock() + PATIENCE) then
    return nil, "the box's worker does not answer", sys.ETIMEDOUT
  end
  local answer
  answer, message, errno = sys.recvfd(socket, PIECE, 0)
  if not answer then
    return nil, message, errno
  end
  return pack.decode(answer)
end

return { send = send, receive = receive, listen = listen, request = request }
