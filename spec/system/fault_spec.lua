-- Faults: each kernel call of a start fails once, by strace. The start then fails with the step's name, and leaves
-- nothing.
local box = require "spec.box"
local helper = require "spec.helper"
local script = require "spec.script"
local sys = require "nsbox.sys"
helper.leakcheck { settle = true }

local ERRNO = "EIO" -- none that a step tolerates

-- What a start makes in its own processes, and the caller for it.
local calls = { "mount", "move_mount", "mount_setattr", "fsopen", "fsconfig", "fsmount", "open_tree", "openat2",
  "mkdirat", "mknodat", "symlinkat", "fchdir", "setns", "unshare", "sethostname", "pivot_root", "umount2", "setresuid",
  "setresgid", "setgroups", "capset", "prctl", "close_range", "dup3", "umask", "setsid", "statx", "sendmsg", "recvmsg",
  "recvfrom", "clone3", "clone", "socketpair", "getppid", "capget", "getresuid", "getresgid", "getgroups", "ioctl",
  "fcntl", "poll", "pipe2", "socket", "pidfd_send_signal", "memfd_create", "execveat", "chdir",
  "pidfd_open" }

local function strace_path()
  local pipe = assert(io.popen "command -v strace")
  local path = pipe:read "l"
  pipe:close()
  if not path then helper.skip "needs strace" end
  return path
end

local SCRIPT = [[
  local nsbox = require "nsbox"
  local sys = nsbox.sys
  require "nsbox.probe.trial"
  if not COLD then assert(nsbox.run("busybox", { "true" }, OPTS)) end
  local own = io.open("/proc/self/comm"):read "l"
  local function comm_of(pid) -- a keeper that has exec'ed still has our name for a moment
    local deadline, file, comm = sys.clock() + 10
    repeat
      file = io.open("/proc/" .. pid .. "/comm")
      comm = file and file:read "l"
    until comm ~= own or sys.clock() > deadline
    return comm
  end
  local function state()
    local list = {}
    for pid in io.open(("/proc/%d/task/%d/children"):format(sys.getpid(), sys.getpid())):read "a":gmatch "%d+" do
      local comm = comm_of(pid)
      if comm and comm ~= "nsbox-keeper" and comm ~= "memfd:nsbox-ini" then list[#list + 1] = pid .. " " .. comm end
    end
    collectgarbage() collectgarbage()
    local names = sys.readdir "/proc/self/fd" or sys.readdir "/proc/self/fd" -- the fault may come here
    return #names, table.concat(list, ", ")
  end
  local fds = state()
  io.write("ready\n"):flush()
  io.read "l"
  local ok, r, err = pcall(nsbox.run, "busybox", { "sh", "-c", "exit 7", arg[1] }, OPTS)
  local after, children = state()
  if COLD then after = fds end
  local event = "raised"
  if ok then event = r and r.reason .. " " .. tostring(r.code) or err.kind .. (err.step and " step" or "") end
  print(("%s|%s|%d|%s"):format(event, tostring(ok and err or r):gsub("\n", " "), after - fds, children))]]

-- Which processes a log of strace shows to be hit: "caller", "child" -> the line. What a program does after its exec
-- is not ours.
local function hits_of(log, caller)
  local hit, programs = {}, {}
  for line in (helper.read(log) or ""):gmatch "[^\n]+" do
    local pid, rest = line:match "^(%d+)%s+(.*)"
    if rest:find "execve.*= 0$" then programs[pid] = true end
    if rest:find("(INJECTED)", 1, true) and not programs[pid] then
      hit[tonumber(pid) == caller and "caller" or "child"] = line
    end
  end
  return hit
end

-- One start with the n-th CALL of each of its processes failing. Answers what the script says and who was hit.
local function inject(strace, call, n, opts, cold)
  local marker = box.marker()
  local text = SCRIPT:gsub("OPTS", opts):gsub("COLD", tostring(cold))
  local r, w = sys.pipe2()
  local er, ew = sys.pipe2()
  local s <close> = script.start(text, { marker = marker, before = function() assert(sys.dup3(r, 0)) end })
  r:close()
  assert.equal("ready", s:line())
  local log = helper.tmpdir() .. "/log"
  local tracer = assert(sys.clone(sys.SIGCHLD, function()
    assert(sys.dup3(ew, 2))
    error(select(2, sys.execve(strace, { "strace", "-f", "-o", log, "-e", "trace=execve,execveat," .. call, "-e",
      ("inject=%s:error=%s:when=%d"):format(call, ERRNO, n), "-p", tostring(s.pid) }, {})))
  end))
  ew:close()
  local said = sys.read(er)
  assert(said and said:find "attached", said)
  w:close()
  local answer = s:line()
  local how, code = s:wait()
  if not s.ended then s:signal "kill" end
  assert(sys.waitid(tracer, helper.PATIENCE))
  er:close()
  local what = ("%s %d %s"):format(call, n, opts)
  assert(answer, what .. ": the script hangs or died: " .. tostring(how) .. " " .. tostring(code))
  assert.same({}, box.pids(marker), what)
  return answer, hits_of(log, s.pid), what
end

-- In the caller a call may have failed that matters little; in the child none may.
local function judge(answer, hit, what)
  local event, message, fds, children = answer:match "^([^|]*)|([^|]*)|([^|]*)|([^|]*)$"
  assert.equal("0", fds, what .. ": descriptors: " .. answer)
  -- A copy that cannot tell of itself stays a zombie until the caller ends.
  local mute = os.getenv "NSBOX_CLONE" == "copy" and (what:find "^sendmsg" or what:find "^pidfd_open")
  assert.equal("", mute and "" or children, what .. ": " .. answer)
  assert.not_equal("raised", event, what .. ": " .. answer)
  -- A keeper that cannot read what it is told ends: that is all that is seen of it.
  local deaf = what:find "^recvmsg" ~= nil and message:find("the keeper was killed, twice", 1, true) ~= nil
  local told = deaf or message:find(ERRNO, 1, true) ~= nil
  if hit.child then
    assert.is_true(event == "setup step" or event == "exec step", what .. ": " .. answer .. " " .. hit.child)
    assert.is_true(told, what .. ": " .. message)
    assert.matches("step %d+", message)
  elseif event ~= "exit 7" then
    assert.is_true(told, what .. ": " .. message)
  end
end

local function all(opts, cold, most)
  local strace, hits = strace_path(), 0
  for _, call in ipairs(calls) do
    for n = 1, most do
      local answer, hit, what = inject(strace, call, n, opts, cold)
      if not hit.child and not hit.caller then break end
      hits = hits + 1
      judge(answer, hit, what)
    end
  end
  assert.is_true(hits >= 20, "only " .. hits .. " calls were hit")
end

describe("a fault in a start is told by its step, and leaves nothing:", function()
  it("the first of each call", function() all("{}", false, 1) end)
  it("the first of each call for the keeper", function() all("{}", true, 1) end)
  for _, opts in ipairs { "{}", "{ tty = true }", "{ namespaces = { pid = false } }", "{ read_only = true }" } do
    it("each of each call, " .. opts .. " #soak", function() all(opts, false, 200) end)
  end
  it("each of each call for the keeper #soak", function() all("{}", true, 200) end)
end)
