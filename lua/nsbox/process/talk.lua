-- process/talk.lua: the methods of a process that talk with it: send, communicate, logs, expect.

local E = require "nsbox.error"
local handle = require "nsbox.process.handle"
local result = require "nsbox.result"
local sys = require "nsbox.sys"
local wait = require "nsbox.wait"

local kept, misuse, open, over, seconds, timed_out = handle.kept, handle.misuse, handle.open, handle.over,
  handle.seconds, handle.timed_out
local answer, make_result, result_of = handle.answer, handle.make_result, handle.result_of

local methods = {}

local function need_stream(self, verb, name)
  local task, err = open(self, verb)
  if not task then
    return nil, err
  elseif not task.streams.public[name] and task.detached then
    return E.fail { kind = "unsupported", verb = verb,
      message = ("a detached box has no %s of its callers'"):format(name),
      hint = ("box:spawn(cmd, { %s = \"pipe\" }) talks with a process in it"):format(name) }
  elseif not task.streams.public[name] then
    return E.fail { kind = "unsupported", verb = verb, message = ("%s is no pipe"):format(name),
      hint = ("start it with %s = \"pipe\""):format(name) }
  end
  return task.streams.public[name], task
end

--- send(text) -> true | nil, err, errno: writes to stdin, which must be "pipe".
function methods:send(text)
  local stdin, task, errno = need_stream(self, "send", "stdin")
  if not stdin then
    return nil, task, errno -- the Error
  elseif task.terminal and task:look() then -- a terminal takes what nobody will read
    return handle.ended(task, "send")
  end
  local ok, err
  ok, err, errno = stdin:write(text)
  if ok then
    return true
  end
  return nil, err, errno
end

-- A pipe that communicate() reads to its end.
local function collect(parts, public)
  local chunk, ended = public:drain()
  parts[#parts + 1] = chunk
  return ended
end

local function check_input(input)
  if input ~= nil and type(input) ~= "string" then
    misuse("communicate", "a string or nil expected as input, got a %s", type(input))
  end
end

-- The output of the pipes belongs into the Result as what is captured does.
local function with_pipes(task, texts)
  local made = make_result(task)
  local fields = { verb = task.verb }
  for name, v in pairs(made) do
    fields[name] = v
  end
  fields.ok, fields.signal, fields.signo = nil, nil, task.how == "signal" and task.status or nil
  for name, parts in pairs(texts) do
    fields[name] = table.concat(parts)
  end
  return result.new(fields)
end

local function communicate_step(task, feed, texts)
  local public = task.streams.public
  if feed.text and public.stdin and public.stdin.fd then
    local n, _, errno = sys.write_nosig(public.stdin.fd, feed.text, feed.at)
    feed.at = feed.at + (n or 0)
    if feed.at > #feed.text or errno and errno ~= sys.EAGAIN and errno ~= sys.EINTR then
      feed.text = nil
    end
  end
  if not feed.text and public.stdin then
    public.stdin:close()
  end
  local open_ends = 0
  for name, parts in pairs(texts) do
    if public[name].fd and not collect(parts, public[name]) then
      open_ends = open_ends + 1
    end
  end
  return open_ends
end

--- communicate(input, timeout) -> Result | nil, err, errno: writes the text to stdin and ends it, reads stdout and
-- stderr to their ends, waits for the end of the process. What came by a pipe is in the Result as captured output is.
-- After a timeout it can be called again, and what was read is not lost.
function methods:communicate(input, timeout)
  wait.check_allowed "communicate"
  check_input(input)
  local deadline = seconds("communicate", timeout) and sys.clock() + timeout
  local task, err = open(self, "communicate")
  if not task then
    return nil, err
  end
  local public = task.streams.public
  if input and not public.stdin then
    return need_stream(self, "communicate", "stdin")
  end
  task.feed = task.feed or { text = input, at = 1 }
  task.texts = task.texts or { stdout = public.stdout and {}, stderr = public.stderr and {} }
  local rows = {}
  for name, s in pairs(public) do
    rows[#rows + 1] = s.fd and { fd = s.fd, events = name == "stdin" and "out" or "in" }
  end
  local me = coroutine.running()
  local function done()
    if task.closed then
      return true
    end
    local open_ends = communicate_step(task, task.feed, task.texts)
    for i = #rows, 1, -1 do
      if not rows[i].fd:fileno() then
        table.remove(rows, i)
      end
    end
    return over(task, me) and (open_ends == 0 or communicate_step(task, task.feed, task.texts) >= 0)
  end
  if not wait.wait(done, deadline, rows, task) then
    return timed_out(task, "communicate")
  elseif task.closed then
    return open(self, "communicate")
  end
  if not task.failure and next(task.texts) then
    task.result = with_pipes(task, task.texts)
  end
  return answer(task)
end

--- logs(lines, stream) -> text: what is kept of "stdout", "stderr", or without a name of the one and then the other; of
-- each the last `lines` lines. Also after the end, until close.
function methods:logs(lines, name)
  local task, err = open(self, "logs")
  if not task then
    return nil, err
  elseif name ~= nil and name ~= "stdout" and name ~= "stderr" then
    misuse("logs", "\"stdout\" or \"stderr\" expected, got %s", tostring(name))
  elseif lines ~= nil and not (math.type(lines) == "integer" and lines >= 0) then
    misuse("logs", "a number of lines expected, got %s", tostring(lines))
  end
  if not task.how then
    wait.turn(0)
  end
  local out, errors = kept(task.streams.stdout or task.streams.relay), kept(task.streams.stderr)
  return (name == "stderr" and "" or handle.tail(out, lines)) .. (name == "stdout" and "" or handle.tail(errors, lines))
end

-- ---- expect ----

-- Looks for the pattern in what a kept stream has beyond the last match.
local function find_kept(stream, pattern)
  if not stream or not stream.buffer or stream.buffer:total() == stream.seen and stream.pattern == pattern then
    return nil
  end
  local text, total = stream.buffer:contents(stream.matched or 0)
  stream.seen, stream.pattern = total, pattern
  local found = table.pack(text:find(pattern))
  if not found[1] then
    return nil
  end
  stream.matched, stream.pattern = total - #text + found[2], nil
  if found.n > 2 then
    return table.unpack(found, 3, found.n)
  end
  return text:sub(found[1], found[2])
end

local function find_once(task, pattern)
  local s = not task.closed and task.streams or { public = {} }
  for _, name in ipairs { "stdout", "stderr" } do
    local public = s.public[name]
    local found = table.pack(find_kept(s[name] or name == "stdout" and s.relay or nil, pattern))
    if not found[1] and public and public.fd then
      found = table.pack(public:find(pattern))
    end
    if found[1] then
      return found
    end
  end
end

-- What fn answers. What Lua says of a pattern is misuse.
local function finds(pattern, fn, ...)
  local ok, answer_ = pcall(fn, ...)
  if ok then
    return answer_
  end
  local why = type(answer_) == "string" and answer_:match "[^:]*$" or ""
  if why:find "pattern" or why:find "capture" then
    misuse("expect", "%q: %s", pattern, (why:gsub("^ ", "")))
  end
  error(answer_, 0)
end

local function ended_without(task, pattern)
  local r = result_of(task)
  return nil, E.new { kind = "exit", verb = "expect", result = r, log = handle.log(task),
    message = ("%s ended (%s) and had not written what matches %q"):format(task.what, handle.how(task), pattern) }
end

local function pipe_rows(task)
  local rows = {}
  for _, name in ipairs { "stdout", "stderr" } do
    local public = task.streams.public[name]
    if public and public.fd and not public.ended then
      rows[#rows + 1] = { fd = public.fd, events = "in" }
    end
  end
  return rows
end

--- expect(pattern, timeout) -> the captures, or the match | nil, err, errno. Waits until stdout or stderr have what the
-- Lua pattern matches, beyond the last match; of a pipe, all up to the match's end is taken out. kind "exit" (with
-- result and log) at the end of the process, "timeout" (with log) when the time is over.
function methods:expect(pattern, timeout)
  wait.check_allowed "expect"
  if type(pattern) ~= "string" then
    misuse("expect", "a pattern expected, got a %s", type(pattern))
  end
  finds(pattern, string.find, "", pattern) -- most malformed ones raise here
  local deadline = seconds("expect", timeout) and sys.clock() + timeout
  local task, err = open(self, "expect")
  if not task then
    return nil, err
  end
  local found, failed
  local me = coroutine.running()
  local function done() -- called in any coroutine: an error is for ours
    local ok, answer_ = pcall(find_once, task, pattern)
    found, failed = ok and answer_, not ok and { answer_ }
    return found or failed or over(task, me)
  end
  local ok = wait.wait(done, deadline, pipe_rows(task), task)
  found = found or finds(pattern, function() return failed and error(failed[1], 0) or find_once(task, pattern) end)
  if found then
    return table.unpack(found, 1, found.n)
  elseif task.closed then
    return open(self, "expect")
  elseif task.failure then
    return answer(task)
  elseif ok then
    return ended_without(task, pattern)
  end
  local _, e, errno = timed_out(task, "expect", ("nothing matched %q in time"):format(pattern))
  e.log = handle.log(task)
  return nil, e, errno
end

return methods
