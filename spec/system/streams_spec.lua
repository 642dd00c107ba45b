-- The three streams of a box, and that none of them can hang, break or kill the caller.
local helper = require "spec.helper"
local in_time = require "spec.in_time"
local nsbox = require "nsbox"
local sys = require "nsbox.sys"
helper.leakcheck { outside = true }

local box = require "spec.box"
setup(box.warm_shared)
local closing = require("spec.process").closing
local run = nsbox.run
local says = box.says

local MEGABYTE = 1024 * 1024

local function bytes()
  local list = {}
  for i = 0, 255 do list[#list + 1] = string.char(i) end
  return table.concat(list)
end

describe("captured output", function()
  it("is what the program wrote, each stream for itself", function()
    local r = assert(run("busybox", "echo one; echo two >&2; echo three"))
    assert.same({ "one\nthree\n", "two\n" }, { r.stdout, r.stderr })
    assert.same({ stdout = false, stderr = false }, r.truncated)
  end)

  it("keeps every byte as it is", function()
    local data = bytes():rep(300)
    assert.is_true(data == says({ "cat" }, { input = data }))
  end)

  it("is all there when the program ends right after a large write", function()
    local r = assert(run("busybox", "head -c 3000000 /dev/zero; head -c 2000000 /dev/zero >&2"))
    assert.same({ 3000000, 2000000 }, { #r.stdout, #r.stderr })
  end)

  local limits = {
    { 1000, 999, 999, false }, { 1000, 1000, 1000, false }, { 1000, 1001, 1000, true },
    { "64K", 70000, 65536, true }, { 0, 1, 0, true }, { 0, 0, 0, false },
  }
  for _, row in ipairs(limits) do
    it(("of %d bytes is %d with max_output = %s, %s"):format(row[2], row[3], row[1], row[4] and "truncated" or "whole"),
      function()
        local script = "head -c %d /dev/zero"
        local r = assert(run("busybox", script:format(row[2]), { max_output = row[1] }))
        assert.same({ row[3], row[4], "exit", 0 }, { #r.stdout, r.truncated.stdout, r.reason, r.code })
        assert.is_false(r.truncated.stderr)
        r = assert(run("busybox", (script .. " >&2"):format(row[2]), { max_output = row[1] }))
        assert.same({ row[3], row[4], "exit", 0 }, { #r.stderr, r.truncated.stderr, r.reason, r.code })
      end)
  end

  it("beyond the limit is read and dropped: the program goes on", function()
    local r = assert(run("busybox", "head -c 4000000 /dev/zero; exit 5", { max_output = 10 }))
    assert.same({ ("\0"):rep(10), 5 }, { r.stdout, r.code })
  end)

  for _, where in ipairs { "", " >&2" } do
    it("beyond the limit ends the box with overflow = kill" .. where, function()
      local r = assert(run("busybox", "while :; do echo line; done" .. where, { max_output = 1000, overflow = "kill" }))
      assert.same({ "output", "KILL", false }, { r.reason, r.signal, r.ok })
      assert.equal(1000, #r.stdout + #r.stderr)
      assert.same({ nil, "signal", 9 }, { r:unpack() })
    end)
  end
end)

describe("input", function()
  it("is fed, and ends", function()
    assert.equal("a\nb\n3\n", says("cat; echo 3", { input = "a\nb\n" }))
  end)

  it("may be empty: the program finds the end at once", function()
    assert.equal("0\n", says("wc -c", { input = "" }))
  end)

  it("comes from a function, chunk by chunk, until nil", function()
    local chunks, at = { "one ", "", "two ", bytes(), "", "three" }, 0
    local seen = says({ "cat" }, { input = function()
      at = at + 1
      return chunks[at]
    end })
    assert.equal(table.concat(chunks), seen)
    assert.equal(#chunks + 1, at)
  end)

  it("of 8 MiB flows in and out at once, without deadlock", function()
    local data = bytes():rep(8 * MEGABYTE // 256)
    assert.is_true(data == says({ "cat" }, { input = data }))
  end)

  it("of 8 MiB waits while the program first writes 8 MiB", function()
    local seen = says("head -c 8388608 /dev/zero; wc -c", { input = ("x"):rep(8 * MEGABYTE) })
    assert.equal(("\0"):rep(8 * MEGABYTE) .. "8388608\n", seen)
  end)

  it("that nobody reads is dropped when the program ends, without SIGPIPE", function()
    assert.equal("", says({ "true" }, { input = ("x"):rep(8 * MEGABYTE) }))
  end)

  it("that the program stops reading is dropped, and the program goes on", function()
    assert.equal("xdone\n", says("head -c 1; exec <&-; sleep 0.1; echo done", { input = ("x"):rep(8 * MEGABYTE) }))
  end)

  it("without end stops when the program ends", function()
    assert.equal(("y"):rep(10), says({ "head", "-c", "10" }, { input = function() return ("y"):rep(100000) end }))
  end)

  for _, value in ipairs { "a string", { "a table" } } do
    it("function that raises ends the box and raises that very error: " .. type(value), function()
      local marker, pids = box.marker(), nil
      local ok, raised = pcall(run, "busybox", { "sh", "-c", "cat; true", marker }, { input = function()
        pids = box.find(marker)
        error(value, 0)
      end })
      assert.is_false(ok)
      assert.equal(value, raised)
      assert.is_true(#pids > 0)
      assert.same({}, box.pids(marker))
    end)
  end

  it("function may answer an empty string when it has nothing yet", function()
    assert.equal("ab\n", says("cat; echo", { input = coroutine.wrap(function()
      for _, chunk in ipairs { "", "a", "", "", "b" } do coroutine.yield(chunk) end
    end) }))
  end)

  it("function that answers no string is told so", function()
    local ok, raised = pcall(run, "busybox", { "cat" }, { input = function() return 7 end })
    assert.is_false(ok)
    assert.matches("_spec.lua:%d+: nsbox.run: option 'input': the function must return a string or nil, not a number$",
      raised)
  end)

  it("function that answers empty strings without end keeps no timeout from coming", function()
    in_time(0.2, { "timeout", true, true }, function(seconds)
      local asked, began = 0, os.clock()
      local r = assert(run("busybox", { "cat" }, { timeout = seconds, input = function()
        asked = asked + 1
        return os.clock() - began < 60 and "" or nil
      end }))
      return { r.reason, asked > 1, os.clock() - began < 50 }
    end)
  end)
end)

describe("stdin", function()
  it("reads a file from where the caller is in it", function()
    local path = helper.tmpdir() .. "/in"
    helper.write(path, "from a file\n")
    local file <close> = assert(io.open(path))
    assert.equal("from a file\n", says({ "cat" }, { stdin = file }))
    assert.is_true(io.type(file) == "file")
  end)

  it("reads a descriptor, which stays the caller's", function()
    local path = helper.tmpdir() .. "/in"
    helper.write(path, "by number\n")
    local fd <close> = assert(sys.open(path, "rdonly"))
    assert.equal("by number\n", says({ "cat" }, { stdin = fd:fileno() }))
    assert.is_truthy(sys.fstat(fd))
  end)

  it("inherits the caller's", function()
    local out, ok = box.script("echo inherited | LUA", [[
      io.write(assert(require "nsbox".run("busybox", { "cat" }, { stdin = "inherit" })).stdout)]])
    assert.same({ "inherited\n", true }, { out, ok })
  end)

  it("is /dev/null where the caller's is closed", function()
    local out, ok = box.script("LUA <&-", [[
      io.write(assert(require "nsbox".run("busybox", "readlink /proc/self/fd/0", { stdin = "inherit" })).stdout)]])
    assert.same({ "/dev/null\n", true }, { out, ok })
  end)
end)

describe("stdout and stderr", function()
  it("go to a file of the caller, who writes on behind it", function()
    local path = helper.tmpdir() .. "/out"
    local file <close> = assert(io.open(path, "w"))
    local r = assert(run("busybox", "echo out; echo err >&2", { stdout = file, stderr = file }))
    assert.same({ "", "" }, { r.stdout, r.stderr })
    file:write "mine\n"
    file:flush()
    assert.equal("out\nerr\nmine\n", helper.read(path))
  end)

  it("go to a descriptor", function()
    local r, w = sys.pipe2()
    local _ <close> = closing(r, w)
    local result = assert(run("busybox", "echo out; echo err >&2", { stdout = w, stderr = "capture" }))
    w:close()
    assert.same({ "out\n", "", "" }, { sys.read(r), sys.read(r), result.stdout })
    assert.equal("err\n", result.stderr)
  end)

  it("go nowhere with null", function()
    local r = assert(run("busybox", "at=$(readlink /proc/1/fd/1); echo lost; echo $at >&2", { stdout = "null" }))
    assert.same({ "", "/dev/null\n" }, { r.stdout, r.stderr })
    r = assert(run("busybox", "at=$(readlink /proc/1/fd/2); echo lost >&2; echo $at", { stderr = "null" }))
    assert.same({ "/dev/null\n", "" }, { r.stdout, r.stderr })
  end)

  it("are the caller's with inherit", function()
    local out, ok = box.script("LUA 2>&1", [[
      local streams = { stdout = "inherit", stderr = "inherit" }
      local r = assert(require "nsbox".run("busybox", "echo out; echo err >&2", streams))
      print(#r.stdout, #r.stderr)]])
    assert.same({ "out\nerr\n0\t0\n", true }, { out, ok })
  end)

  it("are one stream, in order, with stderr = stdout", function()
    local r = assert(run("busybox", "echo 1; echo 2 >&2; echo 3", { stderr = "stdout" }))
    assert.same({ "1\n2\n3\n", "" }, { r.stdout, r.stderr })
  end)

  it("are one in the file that stdout is, too", function()
    local path = helper.tmpdir() .. "/out"
    local file <close> = assert(io.open(path, "w"))
    assert(run("busybox", "echo 1; echo 2 >&2; echo 3", { stdout = file, stderr = "stdout" }))
    assert.equal("1\n2\n3\n", helper.read(path))
  end)

  it("leave the caller's descriptors blocking, as they were", function()
    local r, w = sys.pipe2()
    local _ <close> = closing(r, w)
    local function flags() return helper.read("/proc/self/fdinfo/" .. w:fileno()):match "flags:%s*(%d+)" end
    local before = flags()
    assert(run("busybox", { "true" }, { stdout = w }))
    assert.equal(before, flags())
  end)
end)

describe("a process that outlives the command and holds its output", function()
  it("is gone with the box", function()
    local marker, began = box.marker(), sys.clock()
    local r = assert(run("busybox", { "sh", "-c", "sh -c 'sleep 60; true' " .. marker .. " & echo started" }))
    assert.equal("started\n", r.stdout)
    assert.is_true(sys.clock() - began < 30)
    assert.same({}, box.pids(marker))
  end)

  it("and writes to it without end keeps nobody waiting", function()
    local script = "(i=0; while :; do echo line; i=$((i+1)); [ $i = 30 ] && : >/tmp/enough; done) & echo $! >&2; "
      .. "until [ -e /tmp/enough ]; do sleep 0.01; done"
    local r = assert(run("busybox", script, { namespaces = { pid = false }, max_output = 100, timeout = 60 }))
    local pid = assert(math.tointeger(tonumber(r.stderr)))
    box.kill(pid) -- SIGPIPE may have been first
    assert.same({ "exit", 100 }, { r.reason, #r.stdout })
  end)

  it("keeps nobody waiting where it shares the caller's pids; the result notes it", function()
    local began = sys.clock()
    local r = assert(run("busybox", "sleep 60 & echo $!", { namespaces = { pid = false } }))
    local pid = assert(math.tointeger(tonumber(r.stdout)))
    box.kill(pid)
    assert.is_true(sys.clock() - began < 30)
    assert.equal("exit", r.reason)
    if helper.root() then assert.equal("namespaces.pid", r.notes[1].what) end -- users: see namespaces_spec
  end)
end)
