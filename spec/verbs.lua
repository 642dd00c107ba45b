-- Shared by scripts of specs: every method of a Box, a Process and a Stream. Called in any state it has a defined
-- answer: a value, or nil and an Error (of a Stream also nil, message, errno; nil alone where that says "none").
local nsbox = require "nsbox"

local verbs = {}

local function nothing() return 5 end
local LATE = 30 -- seconds until a call counts as hung

--- Calls: { name, function(handle, seconds) }, where seconds is what a call that waits may take.
verbs.process = {
  { "wait", function(h, s) return h:wait(s) end },
  { "poll", function(h) return h:poll() end },
  { "kill USR1", function(h) return h:kill "USR1" end },
  { "kill STOP", function(h) return h:kill "STOP" end },
  { "kill CONT", function(h) return h:kill "CONT" end },
  { "kill", function(h) return h:kill() end },
  { "stop", function(h, s) return h:stop(s) end },
  { "communicate", function(h, s) return h:communicate(nil, s) end },
  { "communicate text", function(h, s) return h:communicate("text\n", s) end },
  { "logs", function(h) return h:logs() end },
  { "logs 1", function(h) return h:logs(1, "stderr") end },
  { "expect", function(h, s) return h:expect("never", s) end },
  { "send", function(h) return h:send "x\n" end },
  { "resize", function(h) return h:resize(5, 5) end },
  { "pidfd", function(h) return h:pidfd() end },
  { "fileno", function(h) return h:fileno() end },
  { "close", function(h) return h:close() end },
  { "tostring", tostring },
  { "state", function(h) return h.state end },
  { "fields", function(h)
    return { h.pid, h.command, h.stdin, h.stdout, h.stderr, h.id, h.image, h.limits, h.notes, h.name, h.detached }
  end },
  { "wait_any", function(h, s) return nsbox.wait_any({ h }, s) end },
}

verbs.box = {
  { "exec", function(h, s) return h:exec({ "true" }, { timeout = s, stop_timeout = 0.05 }) end },
  { "exec sleep", function(h, s) return h:exec({ "sleep", "100" }, { timeout = s, stop_timeout = 0.05 }) end },
  { "exec missing", function(h) return h:exec { "/none" } end },
  { "spawn", function(h)
    local p <close>, err, errno = h:spawn { "sleep", "100" }
    return p and true, err, errno
  end },
  { "spawn with a terminal", function(h)
    local p <close>, err, errno = h:spawn({ "sleep", "100" }, { tty = true, stdin = "pipe", stdout = "pipe" })
    return p and true, err, errno
  end },
  { "spawn and forget", function(h)
    local p, err, errno = h:spawn({ "sleep", "100" }, { stdout = "pipe" })
    return p and true, err, errno
  end },
  { "call", function(h) return h:call(nothing, { timeout = 1 }) end }, -- in a box that is paused meanwhile: for ever
  { "pause", function(h) return h:pause() end },
  { "resume", function(h) return h:resume() end },
  { "processes", function(h) return h:processes() end },
  { "update pids", function(h) return h:update { pids = 100 } end },
  { "destroy", function(h) return h:destroy() end },
  { "connect", function(h, s)
    local c <close>, err, errno = h:connect(80, s)
    return c and true, err, errno
  end },
  { "connect to a path", function(h, s)
    local c <close>, err, errno = h:connect("/none", s)
    return c and true, err, errno
  end },
}

for _, name in ipairs { "update", "stats", "read", "write", "put", "get", "stat", "list", "remove", "changes",
  "commit" } do
  table.insert(verbs.box, { name, function(h) return h[name](h) end })
end

table.move(verbs.process, 1, #verbs.process, #verbs.box + 1, verbs.box)

local function read(...)
  local formats = table.pack(...)
  return function(s) return s:read(table.unpack(formats, 1, formats.n)) end
end

verbs.stream = {
  { "read l", read "l" }, { "read L", read "L" }, { "read n", read "n" }, { "read a", read "a" }, { "read 3", read(3) },
  { "read 0", read(0) }, { "read several", read("l", 2, "a") },
  { "lines", function(s)
    local ok, line = pcall(s:lines())
    if ok then return line end
    return nil, line
  end },
  { "write", function(s) return s:write("x\n", 5, "\n") end },
  { "write much", function(s) return s:write(("x"):rep(1 << 18)) end },
  { "flush", function(s) return s:flush() end },
  { "fileno", function(s) return s:fileno() end }, { "getfd", function(s) return s:getfd() end },
  { "pollfd", function(s) return s:pollfd() end }, { "dirty", function(s) return s:dirty() end },
  { "events", function(s) return s:events() end }, { "timeout", function(s) return s:timeout() end },
  { "close", function(s) return s:close() end }, { "tostring", tostring },
}

local may_be_nil = { poll = true, fileno = true, getfd = true, pollfd = true, timeout = true, lines = true }

local function is_error(v)
  return type(v) == "table" and getmetatable(v).__name == "nsbox.error"
end

--- What is wrong with the answer of a call that took so many seconds, or nil.
function verbs.complaint(name, seconds, ok, answer, err, errno)
  if seconds > LATE then
    return ("took %.1f s"):format(seconds)
  elseif not ok then
    return "raised " .. tostring(answer)
  elseif answer ~= nil or may_be_nil[name] or name:find "^read" and err == nil then
    return nil
  elseif is_error(err) then
    return errno ~= err.errno and ("errno is %s, of the error %s"):format(errno, err.errno) or nil
  end
  return not (type(err) == "string" and math.type(errno)) and "answered nil, " .. tostring(err) or nil
end

--- Calls one, and prints what is wrong with its answer.
function verbs.try(where, verb, subject, seconds)
  local before = nsbox.clock()
  local answers = table.pack(pcall(verb[2], subject, seconds))
  local problem = verbs.complaint(verb[1], nsbox.clock() - before, table.unpack(answers, 1, 4))
  if problem then print(("%s, %s: %s"):format(where, verb[1], problem)) end
end

return verbs
