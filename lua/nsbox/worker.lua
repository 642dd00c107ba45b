-- worker.lua: the process that owns a detached box: it starts the box, keeps its output, its timeout and the record of
-- its end. It is an interpreter of its own, started by detach/start.lua with a socket to the caller as descriptor 0.

local E = require "nsbox.error"
local core = require "nsbox.core"
local handle = require "nsbox.process.handle"
local limits = require "nsbox.box.limits"
local log = require "nsbox.detach.log"
local message = require "nsbox.detach.message"
local pack = require "nsbox.pack"
local process = require "nsbox.process"
local start = require "nsbox.start"
local state = require "nsbox.detach.state"
local sys = require "nsbox.sys"
local wait = require "nsbox.wait"

-- ---- requests ----

local requests = {}

-- A kill by a handle in another process, told before it is made.
function requests.sent(task, signo)
  task.sent = task.sent or {}
  task.sent[signo] = true
  return true
end

function requests.stop(task, grace)
  requests.sent(task, sys["SIG" .. task.stop_signal])
  requests.sent(task, sys.SIGKILL)
  if not task:look() then
    task.stopping = nil
    task:ask_to_end(nil, grace)
  end
  return true
end

-- A change of its limits, for the record too.
function requests.update(task, resources)
  local done, problem = limits.change(task, resources)
  task.record.config, task.record.limits = task.config, handle.limits_of(task)
  state.write(state.path_of(task.id), task.record)
  return { done = done, problem = problem }
end

-- What arguments a request may have.
local takes = {
  sent = function(v) return math.type(v) == "integer" end,
  stop = function(v) return math.type(v) ~= nil and v >= 0 end,
  update = function(v) return type(v) == "table" end,
}

local function answer(task, text)
  local request = pack.decode(text)
  local name = type(request) == "table" and request[1]
  if not requests[name] or not takes[name](request[2]) then
    return { error = "unknown request" }
  end
  local ran, answer_ = pcall(requests[name], task, request[2]) -- an error here would end the box
  return ran and { ok = answer_ } or { error = tostring(answer_) }
end

-- A task for wait.lua: whoever connects says one thing and gets one answer.
local server = {}
local server_mt = { __index = server }

local function take(self)
  local socket = core.accept(self.socket)
  if socket then
    self.connections[socket] = true
  end
end

local function serve(self, socket)
  local text, _, errno = sys.recvfd(socket, nil, 0)
  if text and text ~= "" then
    sys.sendfd(socket, pack.encode(answer(self.task, text)))
  end
  if text or errno ~= sys.EAGAIN then
    self.connections[socket] = nil
    socket:close()
  end
end

function server:rows(rows)
  rows[#rows + 1] = { fd = self.socket, events = "in", serve = take, task = self }
  for socket in pairs(self.connections) do
    rows[#rows + 1] = { fd = socket, events = "in", task = self, serve = function() serve(self, socket) end }
  end
end

function server:patience()
  return self and 60
end

function server:turned()
  return self
end

local function serve_requests(task, path)
  local socket, why, errno = message.listen(path)
  if not socket then
    return nil, why, errno
  end
  local self = setmetatable({ socket = socket, connections = {}, task = task, owner = core.self() }, server_mt)
  wait.add(self)
  return self
end

-- ---- the record ----

local function record_of(task, making, request)
  local pid, fd = task.process:pid(), task.process:fileno()
  return {
    id = task.id, name = making.name, labels = request.opts.labels, image = task.image, command = task.command,
    created = os.time(), clock = sys.clock(), pid = pid, started = pid and fd and state.started_at(pid, fd) or nil,
    worker = sys.getpid(),
    config = task.config, is_pid1 = task.is_pid1, has_init = task.has_init,
    notes = task.notes, limits = handle.limits_of(task), began = task.began, exec_at = task.exec_at,
    check = task.check or false,
    stop_signal = task.stop_signal, stop_timeout = task.stop_timeout, verb = task.verb,
    max_output = task.max_output, terminal = task.terminal ~= nil,
    logs = { stdout = (task.streams.stdout or task.streams.relay) ~= nil, stderr = task.streams.stderr ~= nil },
  }
end

local told_apart = { stdout = true, stderr = true, command = true, id = true, notes = true, ok = true }

-- All that is in the Result but what lies in the record and the logs already.
local function end_of(task)
  local ended = { at = os.time() }
  for name, v in pairs(handle.result_of(task)) do
    if not told_apart[name] then
      ended[name] = v
    end
  end
  return ended
end

-- ---- the box's life ----

local function open(request)
  local making, why, errno = state.create(request.opts.name)
  if not making then
    return E.fail { kind = "setup", verb = "start", message = why, errno = errno,
      name = errno and core.errno_name(errno) }
  end
  local function new_log(name, max)
    return log.writer(making.folder, name, max)
  end
  local ok, task, err, number = pcall(start.start, "start", request.image, request.cmd, request.opts,
    process.new, { worker = { id = making.id, log = new_log } })
  if ok and task then
    return process.task_of(task), making
  end
  making:drop()
  if not ok then
    error(task, 0)
  end
  return nil, err, number
end

local function give_up(task, making, text, errno)
  task.handle:close()
  making:drop()
  return E.fail { kind = "setup", verb = "start", message = text, errno = errno,
    name = errno and core.errno_name(errno) }
end

-- Once it can be found: its record, its server | nil, err.
local function publish(task, making, request)
  local record = record_of(task, making, request)
  task.record = record
  local server_, text, errno = serve_requests(task, making.path)
  local ok = server_
  if server_ then
    ok, text, errno = making:publish(record)
  end
  if not ok then
    return give_up(task, making, text, errno)
  end
  return record, server_
end

local function reply_of(err)
  local fields = {}
  for key, v in pairs(err) do
    fields[key] = v
  end
  return { error = fields }
end

-- Serves the box, and those who ask for something, to its end. The log is complete when the record has the end.
local function serve_box(task, record, making, server_)
  wait.wait(function() return task:look() end, nil, nil, task)
  server_.socket:close()
  record.ended = end_of(task)
  task.handle:close()
  sys.unlink(making.path .. "/socket")
  state.write(making.path, record)
end

local function work(socket)
  local request = message.receive(socket)
  if not request then
    return
  end
  local task, making = open(request)
  local record, server_
  if task then
    sys.chdir "/"
    record, server_ = publish(task, making, request)
    making = record and making or server_
  end
  if not record then
    message.send(socket, reply_of(making))
    return
  elseif not message.send(socket, { id = record.id }) then -- nobody knows of it, and nobody will
    task.handle:close()
    making:drop()
    return
  end
  socket:close()
  serve_box(task, record, making, server_)
end

local function run(socket)
  local ok, text = pcall(work, socket)
  if not ok and socket:fileno() then
    message.send(socket, { raised = tostring(text) })
  end
  os.exit(ok and 0 or 1, true)
end

-- The socket is 0; the three streams are nobody's.
local function daemon_streams()
  local socket = assert(sys.dup(0))
  local null <close> = assert(sys.open("/dev/null", "rdwr"))
  assert(sys.dup3(null, 0, 0))
  local comm = io.open("/proc/self/comm", "w")
  if comm then
    comm:write "nsbox-worker"
    comm:close()
  end
  return socket
end

--- The worker's program: goes on in a child, so that the caller has none to wait for. Does not return.
local function main()
  local socket = daemon_streams()
  local pid = sys.clone(sys.SIGCHLD, function() run(socket) end)
  sys._exit(pid and 0 or 1)
end

return { main = main }
