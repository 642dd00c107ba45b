-- Talking with the processes of a box: pipes as streams, communicate, expect, logs, line functions.
local assert_misuse = require "spec.misuse"
local box = require "spec.box"
local helper = require "spec.helper"
local nsbox = require "nsbox"
local sys = require "nsbox.sys"
helper.leakcheck { settle = true }

local start = nsbox.start
local PIPES = { stdin = "pipe", stdout = "pipe", stderr = "pipe" }

local function cat(cmd, opts)
  return assert(start("busybox", cmd or { "cat" }, opts or { stdin = "pipe", stdout = "pipe" }))
end

describe("a stream", function()
  it("reads as a Lua file does", function()
    local text = "one\ntwo\n\n 12 0x1F -3.5e2 word\nlast without end"
    local rows = {
      { "l" }, { "L" }, { "a" }, { 3 }, { 0 }, { "l", "l", "L", "l" }, { "*l", 2, "a" },
      { "l", "l", "l", "n", "n", "n", "l" }, { 100 }, { "a", "a" }, { "a", "l" }, { "l", "n" },
    }
    local path = helper.tmpdir() .. "/text"
    helper.write(path, text)
    for i, formats in ipairs(rows) do
      local b <close> = cat()
      assert(b.stdin:write(text))
      b.stdin:close()
      local f <close> = assert(io.open(path, "rb"))
      assert.same({ i, f:read(table.unpack(formats)) }, { i, b.stdout:read(table.unpack(formats)) })
      assert.same({ i, f:read "l" }, { i, b.stdout:read "l" })
    end
  end)

  it("has lines, and ends with nil", function()
    local b <close> = cat("printf 'a\\nb\\n\\nc'", { stdout = "pipe" })
    local seen = {}
    for line in b.stdout:lines() do seen[#seen + 1] = line end
    assert.same({ "a", "b", "", "c" }, seen)
    assert.same({ nil, nil }, { b.stdout:read() })
    assert.equal("", b.stdout:read "a")
  end)

  it("carries every byte and any size, both ways at once", function()
    local b <close> = cat()
    local data = ("\0\1\255\n"):rep(500000)
    local other <close> = cat({ "head", "-c", "3000000", "/dev/zero" }, { stdout = "capture" })
    local got = {}
    -- Neither end may wait for the other: a writer and a reader take turns.
    assert(nsbox.gather({ 1, 2 }, function(i)
      if i == 1 then
        assert(b.stdin:write(data, 1, "x"))
        return b.stdin:close()
      end
      got[1] = b.stdout:read "a"
      return true
    end))
    assert.is_true(got[1] == data .. "1x")
    assert.equal(3000000, #assert(other:wait(30)).stdout)
  end)

  it("says that its reader is gone, without a signal", function()
    local b <close> = cat({ "sh", "-c", "exec <&-; echo closed; sleep 100" }, { stdin = "pipe", stdout = "pipe" })
    assert.equal("closed", b.stdout:read())
    local ok, message, errno = b.stdin:write "x"
    assert.same({ nil, sys.EPIPE }, { ok, errno })
    assert.matches("Broken pipe", tostring(message))
  end)

  it("gives up when its time is over, and nothing is lost", function()
    local b <close> = cat({ "sh", "-c", "printf half; read x; echo ' line'; sleep 100" })
    b.stdout:settimeout(0.1)
    local line, err, errno = b.stdout:read "l"
    assert.same({ nil, "timeout", sys.ETIMEDOUT }, { line, err.kind, errno })
    b.stdout:settimeout(nil)
    assert(b:send "\n")
    assert.equal("half line", b.stdout:read "l")
    b.stdin:settimeout(0.1)
    local ok, why = b.stdin:write(("x"):rep(1 << 20))
    assert.same({ nil, "timeout" }, { ok, why.kind })
  end)

  it("gives each of several that read at once a line of its own", function()
    local b <close> = cat({ "sh", "-c", "printf longer; read x; printf ' line\\na\\nb\\nc\\nd\\n'; sleep 100" })
    b.stdout:settimeout(helper.PATIENCE)
    local began = false
    local lines = assert(nsbox.gather({ 1, 2, 3, 4, 5, 6 }, function(i)
      if i == 3 then
        local two = b.stdout:read(2)
        began = true
        return two
      end
      if i < 6 then return b.stdout:read "l" end
      box.eventually("the first bytes", function() return began end)
      return b:send "\n"
    end))
    table.remove(lines)
    table.sort(lines)
    assert.same({ "a", "b", "c", "lo", "nger line" }, lines)
  end)

  it("is defined when closed, and refuses misuse", function()
    local b <close> = cat()
    local out, input = b.stdout, b.stdin
    assert_misuse("format", out.read, out, "x")
    assert_misuse("number of bytes", out.read, out, -1)
    assert_misuse("write", input.write, input, {})
    assert_misuse("settimeout", input.settimeout, input, "x")
    assert.equal(input, input:write("a", 1, 2.5):flush())
    for _ = 1, 2 do
      assert.same({ true, true }, { out:close(), input:close() })
    end
    assert.same({ nil, nil, nil }, { out:fileno(), input:getfd(), input:pollfd() })
    assert.equal("closed", select(2, out:read()).kind)
    assert.equal("closed", select(2, input:write "x").kind)
    assert.matches("closed", tostring(out))
  end)

  it("is given to another box: a pipeline", function()
    local first <close> = cat("echo b; echo a", { stdout = "pipe" })
    local r = assert(nsbox.run("busybox", { "sort" }, { stdin = first.stdout }))
    assert.equal("a\nb\n", r.stdout)
  end)

  it("of a terminal", function()
    local b <close> = cat({ "sh" }, { tty = true, stdin = "pipe", stdout = "pipe" })
    assert(b.stdin:write "stty -echo; PS1=; echo x$((20+3))y\n")
    assert.equal("x23y", b:expect "x%d+y")
    assert.same({ true, n = 1 }, table.pack(b:send "exit 4\n"))
    assert.equal(4, assert(b:wait(30)).code)
    local sent, err = b:send "nobody reads it\n"
    assert.same({ nil, "closed" }, { sent, err.kind })
  end)
end)

describe("communicate", function()
  it("feeds, reads both streams and waits", function()
    local b <close> = cat("cat; echo e >&2; exit 3", PIPES)
    local data = ("line\n"):rep(200000)
    local r = assert(b:communicate(data, 30))
    assert.is_true(r.stdout == data)
    assert.same({ "e\n", 3, "exit", false }, { r.stderr, r.code, r.reason, r.ok })
    assert.equal(r, b:wait())
  end)

  it("can be called again after its timeout", function()
    local b <close> = cat("cat; until [ -e /tmp/go ]; do sleep 0.02; done; echo more", PIPES)
    local r, err = b:communicate("first ", 0.05)
    assert.same({ nil, "timeout" }, { r, err.kind })
    assert(b:exec ": >/tmp/go")
    assert.equal("first more\n", assert(b:communicate(nil, 10)).stdout)
  end)

  it("and expect look at the time, though a program writes faster than it is read", function()
    local b <close> = cat({ "sleep", "100" }, { stdout = "pipe" })
    local read, chunk, calls = sys.read, ("x"):rep(4096), 0
    finally(function() sys.read = read end)
    function sys.read()
      calls = calls + 1
      return calls < 20000 and chunk or error "it reads for ever"
    end
    for _, verb in ipairs { "communicate", "expect" } do
      calls = 0
      local r, err = b[verb](b, verb == "expect" and "nothing" or nil, 0.01)
      assert.same({ nil, "timeout" }, { r, err.kind })
    end
  end)

  it("of captured streams is wait; without a pipe no input", function()
    local b <close> = assert(start("busybox", "echo a", { stdout = "capture" }))
    assert.equal("unsupported", select(2, b:communicate "x").kind)
    assert.equal("a\n", assert(b:communicate()).stdout)
  end)
end)

describe("expect", function()
  it("answers with match or captures, each beyond the last, of both streams", function()
    local b <close> = assert(start("busybox", "echo port 80; echo port 81; echo err 1 >&2; sleep 100"))
    assert.equal("80", b:expect("port (%d+)", 30))
    assert.equal("port 81", b:expect("port %d+", 30))
    assert.same({ "err", "1" }, { b:expect("(%a+) (%d)\n", 30) })
    local r, err, errno = b:expect("port", 0.05)
    assert.same({ nil, "timeout", sys.ETIMEDOUT }, { r, err.kind, errno })
    assert.matches("port 81", err.log)
  end)

  it("finds what comes in pieces, and what came before the end", function()
    local b <close> = assert(start("busybox", "printf rea; sleep 0.1; printf dy; exit 9"))
    assert.equal("ready", b:expect("ready", 30))
    local r, err = b:expect("never", 30)
    assert.same({ nil, "exit", 9 }, { r, err.kind, err.result.code })
    assert.matches('ended %(exit code 9%)', tostring(err))
  end)

  it("fails at once when the process dies first", function()
    local b <close> = assert(start("busybox", "echo cannot bind >&2; exit 1"))
    local began = nsbox.clock()
    local _, err = b:expect("ready", 60)
    assert.is_true(nsbox.clock() - began < 30)
    assert.equal("cannot bind\n", err.log)
    assert.matches('matches "ready"\n  end of its output:\n  | cannot bind$', tostring(err))
  end)

  it("drives a shell by pipes", function()
    local b <close> = cat({ "sh" }, { stdin = "pipe", stdout = "pipe" })
    assert(b:send "echo one; echo two\n")
    assert.equal("one\n", b:expect("one\n", 30))
    assert.equal("two", b.stdout:read())
  end)

  it("refuses a malformed pattern", function()
    local b <close> = assert(start("busybox", { "sleep", "100" }))
    assert_misuse("unfinished capture", b.expect, b, "(")
    local c <close> = assert(start("busybox", "echo a; sleep 0.1; echo b; sleep 100"))
    assert_misuse("malformed pattern", c.expect, c, "b[")
    local caught = assert(nsbox.gather({ 1, 2 }, function(i)
      local d <close> = assert(start("busybox", "echo a; sleep 0.1; echo b; sleep 100"))
      if i == 2 then return (assert(d:expect "b")) end
      return select(2, pcall(d.expect, d, "b["))
    end))
    assert.matches("malformed pattern", caught[1])
    assert.equal("b", caught[2])
  end)
end)

describe("logs", function()
  it("are the last of what was written, until close", function()
    local b <close> = assert(start("busybox", "seq 1 100000; echo e1 >&2; echo e2 >&2", { max_output = 1000 }))
    local r = assert(b:wait(30))
    assert.same({ true, false }, { r.truncated.stdout, r.truncated.stderr })
    assert.equal(1000, #r.stdout)
    assert.equal("99999\n100000\n", b:logs(2, "stdout"))
    assert.equal("e2\n", b:logs(1, "stderr"))
    assert.equal("100000\ne2\n", b:logs(1))
    assert.same({ "", r.stdout .. r.stderr }, { b:logs(0), b:logs() })
    assert.equal(r.stdout, b:logs(nil, "stdout"))
  end)

  it("of any size keep the last bytes", function()
    for _, size in ipairs { 0, 1, 999, 1000, 1001, 65536, 65537, 131072, 300000 } do
      local r = assert(nsbox.run("busybox", ("head -c %d /dev/zero | tr '\\0' x; printf 'the end'"):format(size),
        { stdout = "log", max_output = 70000 }))
      local want = (("x"):rep(size) .. "the end"):sub(-70000)
      assert.is_true(want == r.stdout, size)
      assert.equal(size + 7 > 70000, r.truncated.stdout)
    end
  end)
end)

describe("a line function", function()
  it("has each line of its stream, whole, and the last without an end", function()
    local seen = {}
    local function line(text, name) seen[#seen + 1] = name .. ":" .. text end
    local r = assert(nsbox.run("busybox", "printf 'a\\n\\nb'; sleep 0.1; printf 'c\\nd'; printf e >&2",
      { stdout = line, stderr = line }))
    table.sort(seen)
    assert.same({ "stderr:e", "stdout:", "stdout:a", "stdout:bc", "stdout:d" }, seen)
    assert.equal("a\n\nbc\nd", r.stdout)
  end)

  it("has a million bytes without a line end in parts, and all of a flood", function()
    local n, parts = 0, 0
    local r = assert(nsbox.run("busybox", "head -c 1000000 /dev/zero; seq 1 50000", { stdout = function(text)
      parts = parts + 1
      n = n + #text
    end }))
    assert.equal(0, r.code)
    assert.equal(1000000 + 238894 + 0, n)
    assert.is_true(parts >= 50000)
  end)

  it("that raises ends the process, and raises in the call that waits for it", function()
    local thing = {}
    local b <close> = assert(start("busybox", "echo x; sleep 100", { stdout = function() error(thing) end }))
    assert(nsbox.run("busybox", { "sleep", "0.2" }))
    local ok, raised = pcall(b.wait, b)
    assert.same({ false, true }, { ok, raised == thing })
    assert.equal("KILL", b:wait(30).signal)
    ok, raised = pcall(nsbox.run, "busybox", "echo x; sleep 100", { stdout = function() error(thing) end })
    assert.same({ false, true }, { ok, raised == thing })
  end)

  it("may use the box that it listens to, and others", function()
    local b, seen
    b = assert(start("busybox", "echo go; sleep 100", { stdout = function(text)
      seen = text .. assert(b:exec { "echo", "inner" }).stdout
        .. assert(nsbox.run("busybox", { "echo", "other" })).stdout
      b:kill()
    end }))
    local _ <close> = b
    assert.equal("killed", b:wait(30).reason)
    assert.equal("goinner\nother\n", seen)
  end)
end)

describe("a process that is added", function()
  it("to a box that ends meanwhile is refused as closed", function()
    for i = 1, 12 do
      local b <close> = assert(start("busybox", { "sleep", "100" }, { timeout = 0.005 * i, stop_timeout = 0 }))
      local added, err
      repeat
        added, err = b:spawn({ "true" })
        if added then added:close() end
      until not added
      assert.equal("closed", err.kind, tostring(err))
    end
  end)
end)
