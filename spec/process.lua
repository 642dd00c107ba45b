-- Shared by the specs of nsbox.sys: processes made by sys.clone, judged from outside.
local helper = require "spec.helper"
local assert = require "luassert"
local sys = require "nsbox.sys"

local process = {}

--- A scope that closes several: local _ <close> = process.closing(r, w).
function process.closing(...)
  local list = { ... }
  return setmetatable({}, { __close = function()
    for _, handle in ipairs(list) do handle:close() end
  end })
end

--- All that comes out of a descriptor until its end.
function process.drain(fd)
  local parts = {}
  repeat
    parts[#parts + 1] = assert(sys.read(fd))
  until parts[#parts] == ""
  return table.concat(parts)
end

--- Runs fn(say) in a child: say writes a line into a pipe. Answers {how, code, lines}, and what went to stderr.
function process.child(flags, fn)
  local r, w = sys.pipe2()
  local er, ew = sys.pipe2()
  local _ <close> = process.closing(r, w, er, ew)
  local function say(...)
    local words = table.pack(...)
    for i = 1, words.n do words[i] = tostring(words[i]) end
    assert(sys.write(w, table.concat(words, " ") .. "\n"))
  end
  local pid = assert(sys.clone(flags, function()
    assert(sys.dup3(ew, 2))
    return fn(say)
  end))
  w:close()
  ew:close()
  local out, err = process.drain(r), process.drain(er)
  local how, code = sys.waitid(pid)
  local lines = {}
  for line in out:gmatch "([^\n]*)\n" do lines[#lines + 1] = line end
  return { how, code, lines }, err
end

--- The child ends well, and says exactly this.
function process.assert_child(expected, flags, fn)
  local seen, err = process.child(flags, fn)
  assert.same({ { "exit", 0, expected }, "" }, { seen, err })
end

local uid, gid = sys.geteuid(), sys.getegid()

--- Makes a child of "newuser" root there, whoever the caller is.
function process.become_root()
  assert(sys.setgroups_deny "self")
  assert(sys.uid_map("self", { { 0, uid, 1 } }))
  assert(sys.gid_map("self", { { 0, gid, 1 } }))
end

function process.needs_userns()
  local pid, why = sys.clone("newuser", function() end)
  if not pid then helper.skip("needs user namespaces for uid " .. uid .. ": " .. why) end
  sys.waitid(pid)
end

--- Skips where the kernel is a picture of one that lacks the calls of ten years: valgrind 3.19.
function process.needs_kernel()
  local fd, _, errno = sys.pidfd_open(sys.getpid())
  if errno == sys.ENOSYS then helper.skip "needs pidfd_open and its like, which valgrind lacks" end
  fd:close()
end

function process.needs_root()
  if uid ~= 0 then helper.skip "needs root" end
end

--- assert_child as root of a new user namespace, which flags must ask for.
function process.in_userns(flags, expected, fn)
  process.needs_userns()
  process.assert_child(expected, flags, function(say)
    process.become_root()
    return fn(say)
  end)
end

--- A process that holds its namespaces until the end of the block it is declared in (pid, close), when fn has run.
function process.holder(flags, fn)
  local r, w = sys.pipe2()
  local ready, go = sys.pipe2()
  local _ <close> = process.closing(r, ready, go)
  local pid = assert(sys.clone(flags, function()
    w:close()
    fn()
    assert(sys.write(go, "x"))
    sys.read(r, 1)
  end))
  go:close()
  local held = setmetatable({ pid = pid }, { __close = function()
    w:close()
    sys.waitid(pid)
  end })
  assert(sys.read(ready, 1) == "x", "the holder ended early")
  return held
end

return process
