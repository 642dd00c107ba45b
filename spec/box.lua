-- Shared by the specs of whole boxes: what a box says, images made by a spec, and the host's view of a box.
local assert = require "luassert"
local helper = require "spec.helper"
local core = require "nsbox.core"
local lfs = require "lfs"
local nsbox = require "nsbox"
local sys = nsbox.sys

local box = {}

--- The standard output of a box of busybox that ends well and says nothing on stderr. cmd: list or string.
function box.says(cmd, opts)
  local r = assert(nsbox.run("busybox", cmd, opts))
  assert.same({ stderr = "", reason = "exit", code = 0 }, { stderr = r.stderr, reason = r.reason, code = r.code })
  return r.stdout
end

--- The lines of a text, as a list.
function box.lines(text)
  local list = {}
  for line in text:gmatch "[^\n]+" do list[#list + 1] = line end
  return list
end

--- What a Result notes, but that the caller has no subordinate ids.
function box.notes(result)
  local list = {}
  for _, note in ipairs(result.notes) do
    if note.what ~= "userns" then
      list[#list + 1] = note.what .. (note.why:find("the host's", 1, true) and " of the host" or "")
    end
  end
  return list
end

--- For a file's setup: the first box that shares the caller's pids makes the keeper of such boxes, which stays.
function box.warm_shared()
  assert(nsbox.run("busybox", { "true" }, { namespaces = { pid = false } }))
end

-- The first box with a limit makes what stays: a second keeper, and the caller's own cgroup of each controller.
function box.warm_cgroup()
  box.warm_shared()
  nsbox.run("busybox", { "true" }, { pids = 100, cpuset = "0", device_rules = {}, io = {},
    degrade = { "pids", "cpuset", "device_rules", "io" } })
end

--- A start that fails with an Error: kind, and the errno as it is returned. Answers the Error.
function box.fails(kind, errno, ...)
  local r, err, third = nsbox.run(...)
  assert.is_nil(r, tostring(r))
  assert.equal("nsbox.error", getmetatable(err) and getmetatable(err).__name, tostring(err))
  assert.same({ kind, errno, errno }, { err.kind, err.errno, third }, tostring(err))
  return err
end

local busybox -- the program, read once

local function put(path, text, mode)
  helper.write(path, text)
  assert(sys.chmod(path, mode))
end

local function folders(path)
  if lfs.attributes(path, "mode") == "directory" then return end
  folders(path:match "^(.*)/")
  assert(lfs.mkdir(path))
end

--- Copies a program of the build into an image.
function box.program(name, root)
  put(root .. "/" .. name, assert(helper.read(helper.build .. "/spec/" .. name)), "0755")
end

--- A fresh folder with a busybox and an applet sh in it, as an image. files: path -> text, or { text, mode }.
function box.image(files)
  local root = helper.tmpdir() .. "/root"
  busybox = busybox or assert(helper.read "/bin/busybox")
  for _, at in ipairs { root, root .. "/bin" } do
    assert(lfs.mkdir(at))
    assert(sys.chmod(at, "0755"))
  end
  put(root .. "/bin/busybox", busybox, "0755")
  assert(sys.symlink("busybox", root .. "/bin/sh"))
  for path, file in pairs(files or {}) do
    local text, mode = file, "0644"
    if type(file) == "table" then text, mode = file[1], file[2] end
    local at = root .. "/" .. path
    folders(at:match "^(.*)/")
    put(at, text, mode)
  end
  return root
end

--- Every name, mode, owner, size, time, target and content below a folder, as one text.
function box.manifest(root)
  local pipe = assert(io.popen(("cd %s && find . -printf '%%P %%y %%m %%U %%G %%s %%T@ %%l\\n' | sort && "
    .. "find . -type f -exec sha256sum {} + | sort"):format(helper.quote(root))))
  local text = pipe:read "a"
  assert(pipe:close())
  return text
end

--- A word that no other process has in its command line, to find a box by from outside.
function box.marker()
  return ("nsbox-spec-%d-%s"):format(helper.pid, core.random_id())
end

--- The host's pids of all processes with this word among their arguments.
function box.pids(marker)
  local found = {}
  for _, pid in ipairs(helper.names "/proc") do
    local line = pid:match "^%d+$" and helper.read("/proc/" .. pid .. "/cmdline")
    if line and ("\0" .. line):find("\0" .. marker .. "\0", 1, true) then found[#found + 1] = tonumber(pid) end
  end
  return found
end

--- The same, when the first of them has come: exec is done a moment before the new arguments can be read.
function box.find(marker)
  local deadline = nsbox.clock() + helper.PATIENCE
  local found
  repeat found = box.pids(marker) until #found > 0 or nsbox.clock() > deadline
  return found
end

--- Waits until test() is true, while boxes are served; `what` tells what did not come.
function box.eventually(what, test)
  local deadline = nsbox.clock() + helper.PATIENCE
  while not test() do
    assert(nsbox.clock() < deadline, what)
    nsbox.sleep(0.005)
  end
end

--- What a paused box has written, when it has been read to the end.
function box.quiet(b)
  local text
  box.eventually("it goes on writing", function()
    local before = b:logs()
    nsbox.sleep(0.03)
    text = b:logs()
    return text == before
  end)
  return text
end

--- A field of /proc/PID/status.
function box.status(pid, field)
  return (helper.read(("/proc/%s/status"):format(pid)) or ""):match("\n" .. field .. ":%s*([^\n]*)")
end

--- Waits until a process found by its marker has a handler for a signal (a number).
function box.handles(marker, signo)
  local deadline = nsbox.clock() + helper.PATIENCE
  repeat
    for _, pid in ipairs(box.pids(marker)) do
      local caught = box.status(pid, "SigCgt")
      if caught and tonumber(caught, 16) >> (signo - 1) & 1 == 1 then return end
    end
  until nsbox.clock() > deadline
  error("no handler for signal " .. signo)
end

--- Kills a process that the spec's box left, by its pid, and waits until it runs no more; who adopted it reaps it.
function box.kill(pid)
  local state
  repeat
    nsbox.sys.kill(pid, "KILL")
    state = (helper.read(("/proc/%d/stat"):format(pid)) or ""):match "%) (%a)"
  until not state or state == "Z" or state == "X"
end

--- The line of the shell that runs a Lua script in an interpreter of its own, as its last process.
function box.command(text)
  local path, quote = helper.tmpdir() .. "/script.lua", helper.quote
  helper.write(path, text)
  return ("LUA_PATH=%s LUA_CPATH=%s exec %s %s"):format(
    quote(package.path), quote(package.cpath), quote(helper.lua), quote(path))
end

--- Runs a Lua script through a line of the shell, in which LUA stands for that: box.script("LUA <&-", text).
-- Answers its stdout, then its status as os.execute.
function box.script(line, text)
  local command = box.command(text)
  local pipe = assert(io.popen((line:gsub("LUA", function() return command end)), "r"))
  local out = pipe:read "a"
  return out, pipe:close()
end

return box
