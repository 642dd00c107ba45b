-- The option fds: more descriptors for the program, under the numbers that it wants.
local helper = require "spec.helper"
local nsbox = require "nsbox"
local sys = require "nsbox.sys"
helper.leakcheck { outside = true }

local box = require "spec.box"
local run, says = nsbox.run, box.says

local LIST = { "ls", "/proc/self/fd" }

-- A file with this text, open for reading at its start, until the test ends.
local function open(text)
  local path = helper.tmpdir() .. "/text"
  helper.write(path, text)
  local fd = assert(sys.open(path, "rdonly"))
  helper.cleanup(function() fd:close() end)
  return fd
end

-- The numbers from `first` on, all of one file; and what ls shows of them, with its own.
local function many(first, count)
  local fds, shown, fd = {}, { 0, 1, 2 }, open "text"
  for n = first, first + count - 1 do
    fds[n] = fd
    shown[#shown + 1] = n
  end
  shown[#shown + 1] = first > 3 and 3 or first + count
  for i, n in ipairs(shown) do
    shown[i] = tostring(n)
  end
  table.sort(shown)
  return fds, table.concat(shown, "\n") .. "\n"
end

describe("fds", function()
  it("are in the program what they are in the caller", function()
    local file = assert(io.tmpfile())
    file:write "in a file\n"
    file:seek("set")
    local fds = { [3] = open "first\n", [7] = file, [1023] = open("last\n"):fileno() }
    assert.equal("first\nin a file\nlast\n", says("cat <&3; cat <&7; cat /proc/self/fd/1023", { fds = fds }))
    assert.equal("file", io.type(file))
    file:close()
  end)

  it("are duplicates: the place in the file is common, the caller's stays open and is closed by its exec", function()
    local fd = open "one\ntwo\n"
    assert.equal("one\n", says("head -c 4 <&5", { fds = { [5] = fd } }))
    assert.equal("two\n", sys.read(fd))
    assert.matches("flags:%s*02%d+00000", helper.read("/proc/self/fdinfo/" .. fd:fileno()))
  end)

  it("can be written to", function()
    local r, w = sys.pipe2()
    local reading <close> = r
    local _ <close> = w
    assert.equal("", says("echo out >&9", { fds = { [9] = w } }))
    w:close()
    assert.equal("out\n", sys.read(reading))
  end)

  it("are all that is open, beside 0, 1 and 2", function()
    local fd = open ""
    for _, more in ipairs { {}, { namespaces = { pid = false } } } do
      more.fds = { [3] = fd, [7] = fd }
      assert.equal("0\n1\n2\n3\n4\n7\n", says(LIST, more)) -- 4 is the listing's own
      more.fds = { [4] = fd }
      assert.equal("0\n1\n2\n3\n4\n", says(LIST, more))
      more.fds = {}
      assert.equal("0\n1\n2\n3\n", says(LIST, more))
    end
  end)

  it("are there with a terminal", function()
    local r = assert(run("busybox", "ls -1 /proc/self/fd; cat <&6",
      { tty = true, stdout = "capture", fds = { [6] = open "text" } }))
    assert.equal("0\r\n1\r\n2\r\n3\r\n6\r\ntext", r.stdout)
  end)

  it("are there in the host's root", function()
    assert.equal("text", assert(run("host", { "cat", "/proc/self/fd/20" }, { fds = { [20] = open "text" } })).stdout)
  end)

  for _, more in ipairs { {}, { namespaces = { pid = false } } } do
    it("belong to one process of a box" .. (more.namespaces and " that shares the caller's pids" or ""), function()
      local fds, shown = many(3, 200)
      local opts = { fds = { [5] = open "main\n" }, namespaces = more.namespaces }
      local b <close> = assert(nsbox.start("busybox", "cat <&5; sleep 100", opts))
      assert(b:expect "main")
      local lines = box.lines(assert(b:exec(LIST, { fds = fds })).stdout)
      table.sort(lines)
      assert.equal(shown, table.concat(lines, "\n") .. "\n")
      assert.equal("0\n1\n2\n3\n", assert(b:exec(LIST)).stdout)
      assert.equal("text", assert(b:exec("cat <&9", { fds = { [9] = open "text" } })).stdout)
      local r = assert(b:exec("ls -1 /proc/self/fd; cat <&6", { tty = true, fds = { [6] = open "text" } }))
      assert.equal("0\r\n1\r\n2\r\n3\r\n6\r\ntext", r.stdout)
      local p <close> = assert(b:spawn("cat <&4", { fds = { [4] = open "of one" } }))
      assert.equal("of one", assert(p:wait()).stdout)
      local _, err = b:exec({ "/none" }, { fds = fds })
      assert.same({ "exec", "ENOENT" }, { err.kind, err.name })
    end)
  end

  it("may be a Stream of another process", function()
    local p <close> = assert(nsbox.start("busybox", { "cat" }, { stdin = "pipe" }))
    assert.equal("", says("echo through >&3", { fds = { [3] = p.stdin } }))
    assert(p:expect "through")
    p.stdin:close()
    assert.error_matches(function() run("busybox", { "true" }, { fds = { [3] = p.stdin } }) end, "closed descriptor")
  end)

  it("swap their numbers", function()
    local one, two = open "one\n", open "two\n"
    local fds = { [one:fileno()] = two, [two:fileno()] = one }
    assert.equal("two\none\n", says(("cat /proc/self/fd/%d /proc/self/fd/%d"):format(one:fileno(), two:fileno()),
      { fds = fds }))
  end)

  it("keep their numbers", function()
    local one, two = open "one\n", open "two\n"
    local fds = { [one:fileno()] = one, [two:fileno()] = two }
    assert.equal("one\ntwo\n", says(("cat <&%d; cat <&%d"):format(one:fileno(), two:fileno()), { fds = fds }))
  end)

  for _, row in ipairs { { 3, 200 }, { 3, 256 }, { 700, 256 }, { 4, 64 } } do
    it(("are %2d to %d, wherever the plan's own lie"):format(row[1], row[1] + row[2] - 1), function()
      local fds, shown = many(row[1], row[2])
      local lines = box.lines(says(LIST, { fds = fds }))
      table.sort(lines)
      assert.equal(shown, table.concat(lines, "\n") .. "\n")
      assert.equal("text", says("cat <&" .. row[1], { fds = { [row[1]] = open "text" } }))
    end)
  end

  it("do not hide why a program cannot be run", function()
    local fds = many(3, 200)
    local one = box.fails("exec", sys.ENOENT, "busybox", { "/none" })
    local other = box.fails("exec", sys.ENOENT, "busybox", { "/none" }, { fds = fds })
    assert.equal(one.message, other.message)
    local image = box.image { script = { "#!/no/such/interpreter\n", "0755" } }
    assert.matches("/no/such/interpreter", box.fails("exec", sys.ENOENT, image, { "/script" }, { fds = fds }).message,
      1, true)
  end)

  it("beyond the caller's limit are an error of the start, with what to do", function()
    local out = box.script("ulimit -n 512; LUA", [[
      local r, err = require "nsbox".run("busybox", { "true" }, { fds = { [511] = io.stdin } })
      print(r and r.ok or err)
      r, err = require "nsbox".run("busybox", { "true" }, { fds = { [512] = io.stdin } })
      print(r, err.kind, err.call, err.name, err.hint)]])
    local hint = "the number is beyond the caller's limit of open descriptors: ulimit -n"
    assert.equal("true\nnil\tsetup\tdup3\tEBADF\t" .. hint .. "\n", out)
  end)

  it("with a number that is not open are an error of the start", function()
    local fd, other = open "", open ""
    local number = fd:fileno()
    fd:close() -- the next descriptor that anybody makes
    local fds = { [5] = number }
    for n = 6, 20 do fds[n] = other end
    local err = box.fails("setup", sys.EBADF, "busybox", { "true" }, { fds = fds })
    assert.matches("fds[5]", err.message, 1, true)
  end)

  it("are the command's alone: an init keeps none", function()
    local r, w = assert(sys.pipe2())
    local b <close> = assert(nsbox.start("busybox", "echo there >&3; exec 3>&-; sleep 100",
      { init = true, fds = { [3] = w } }))
    w:close()
    assert.equal("there\n", sys.read(r))
    assert.equal("", sys.read(r))
    assert.equal("running", b.state)
    r:close()
  end)

  it("are never taken for the channel of an init, whatever number that has", function()
    local r, w = assert(sys.socketpair())
    for n = 3, 40 do
      local res = assert(run("busybox", ("test -S /proc/self/fd/%d || exit 1; exit 7"):format(n),
        { init = true, fds = { [n] = w } }))
      assert.same({ "exit", 7 }, { res.reason, res.code }, "number " .. n)
    end
    assert.equal(0, sys.poll({ { fd = r, events = "in" } }, 0)) -- init has said nothing there
    r:close()
    w:close()
  end)

  it("leave nothing, and no set of numbers is taken for another", function()
    for i = 1, helper.rounds(60) do
      local first = 3 + i * 7 % 30
      local fds, shown = many(first, 1 + i % 5)
      local lines = box.lines(says(LIST, { fds = fds }))
      table.sort(lines)
      assert.equal(shown, table.concat(lines, "\n") .. "\n")
    end
  end)
end)
