-- Bad input is refused before anything is made: misuse raises at the caller's line, the rest is an Error.
local helper = require "spec.helper"
local lfs = require "lfs"
local nsbox = require "nsbox"
helper.leakcheck()

local box = require "spec.box"
local run, fails = nsbox.run, box.fails

local here = debug.getinfo(1, "S").short_src

local closed = assert(io.open "/dev/null")
closed:close()

local long = ("x"):rep(131072)
local nan = 0 / 0

-- ---- what raises ----

-- What is wrong, image, command, options; what the message says.
local misuse = {
  { "no image", nil, { "true" }, {}, "the image must be a string" },
  { "an image that is a number", 7, { "true" }, {}, "the image must be a string" },
  { "an image without a name", "", { "true" }, {}, "the image's name is empty" },
  { "a NUL in the image's path", "/tmp\0/x", { "true" }, {}, "NUL" },
  { "a newline in the image's name", "busy\nbox", { "true" }, {}, "no image name" },
  { "a space in the image's name", "busy box", { "true" }, {}, "no image name" },

  { "an empty list", "busybox", {}, {}, "must not be an empty list" },
  { "an empty string", "busybox", "", {}, "must not be an empty string" },
  { "a program without a name", "busybox", { "", "x" }, {}, "names no program" },
  { "a number as command", "busybox", 7, {}, "must be a list of strings or a string" },
  { "a number among the words", "busybox", { "echo", 7 }, {}, "[2]" },
  { "a hole among the words", "busybox", { "echo", nil, "x" }, {}, "the command" },
  { "a NUL in a word", "busybox", { "echo", "a\0b" }, {}, "NUL" },
  { "a NUL in the shell's line", "busybox", "echo a\0b", {}, "NUL" },
  { "options in the command's place", "busybox", { timeout = 1 }, nil, "options are the third argument" },

  { "options that are no table", "busybox", { "true" }, "timeout", "options must be a table" },
  { "a misspelt option", "busybox", { "true" }, { hostnam = "x" }, "did you mean 'hostname'" },
  { "another tool's name", "busybox", { "true" }, { cwd = "/" }, "use workdir" },
  { "a numbered option", "busybox", { "true" }, { "timeout" }, "options have names" },

  { "a table in env", "busybox", { "true" }, { env = { A = {} } }, "A must be a string" },
  { "true in env", "busybox", { "true" }, { env = { A = true } }, "A must be a string" },
  { "a name with = in env", "busybox", { "true" }, { env = { ["A=B"] = "x" } }, "'='" },
  { "a NUL in env", "busybox", { "true" }, { env = { A = "x\0y" } }, "NUL" },

  { "a relative workdir", "busybox", { "true" }, { workdir = "tmp" }, "absolute path" },
  { "a NUL in workdir", "busybox", { "true" }, { workdir = "/tmp\0" }, "NUL" },
  { "a workdir that is too long", "busybox", { "true" }, { workdir = "/" .. ("x"):rep(4096) }, "longer than" },
  { "a newline in hostname", "busybox", { "true" }, { hostname = "a\nb" }, "newline" },
  { "a hostname that is too long", "busybox", { "true" }, { hostname = ("x"):rep(65) }, "longer than 64" },
  { "a newline in name", "busybox", { "true" }, { name = "a\nb" }, "must be letters" },
  { "a negative user", "busybox", { "true" }, { user = -1 }, "a number from 0" },

  { "a timeout of text", "busybox", { "true" }, { timeout = "5" }, "a number of seconds" },
  { "a timeout of 0", "busybox", { "true" }, { timeout = 0 }, "more than 0" },
  { "a negative timeout", "busybox", { "true" }, { timeout = -1 }, "negative" },
  { "a timeout that is no number", "busybox", { "true" }, { timeout = nan }, "a number of seconds" },
  { "an endless timeout", "busybox", { "true" }, { timeout = math.huge }, "at most" },
  { "a signal that is none", "busybox", { "true" }, { stop_signal = "NOPE" }, "a signal" },

  { "a closed file", "busybox", { "true" }, { stdout = closed }, "closed file" },
  { "a negative descriptor", "busybox", { "true" }, { stdin = -1 }, "descriptor" },
  { "a stream by a wrong word", "busybox", { "true" }, { stdin = "file" }, "stdin" },
  { "input and stdin", "busybox", { "true" }, { input = "x", stdin = "null" }, "excludes stdin" },
  { "input that is a number", "busybox", { "true" }, { input = 7 }, "a string or a function" },
  { "stderr beside a terminal", "busybox", { "true" }, { tty = true, stderr = "capture" }, "excludes tty" },
  { "a terminal without rows", "busybox", { "true" }, { tty = { rows = 0, cols = 1 } }, "from 1 to" },
  { "a size of no unit", "busybox", { "true" }, { max_output = "64Q" }, "a size" },

  { "an unknown namespace", "busybox", { "true" }, { namespaces = { pidd = true } }, "pidd" },
  { "a namespace by a word", "busybox", { "true" }, { namespaces = { net = "host" } }, "net = false" },
  { "an unknown network", "busybox", { "true" }, { network = "bridge" }, "network" },
  { "network twice", "busybox", { "true" }, { network = "none", namespaces = { net = true } }, "namespaces.net" },
  { "read_only and layer", "busybox", { "true" }, { read_only = true, layer = "discard" }, "layer" },
  { "an empty store", "busybox", { "true" }, { store = "" }, "must not be empty" },
}

describe("misuse raises at the caller's line, and nothing was made:", function()
  for _, row in ipairs(misuse) do
    local what, image, cmd, opts, text = table.unpack(row, 1, 5)
    it(what, function()
      local store = helper.tmpdir() .. "/store"
      if type(opts) == "table" and opts.store == nil then opts.store = store end
      local call = function() run(image, cmd, opts) end
      local ok, raised = pcall(call)
      assert.is_false(ok)
      assert.equal(("%s:%d: nsbox"):format(here, debug.getinfo(call, "S").linedefined), raised:match "^.-:%d+: nsbox")
      assert.is_truthy(raised:find(text, 1, true), raised)
      assert.is_nil(raised:find "[%c\128-\255]", raised)
      assert.is_nil(lfs.attributes(store))
    end)
  end

  it("in a coroutine", function()
    local call = function() run("busybox", {}) end
    local ok, raised = coroutine.resume(coroutine.create(call))
    assert.is_false(ok)
    local line = debug.getinfo(call, "S").linedefined
    assert.equal(("%s:%d: nsbox.run: the command must"):format(here, line), raised:match "^.-must")
  end)

  it("before the first box: no keeper, no descriptor", function()
    local out, ok = box.script("LUA", [[
      local nsbox = require "nsbox"
      local sys = nsbox.sys
      local before = table.concat(sys.readdir "/proc/self/fd", " ")
      for _, bad in ipairs { { "busybox", {} }, { "busybox", { "true" }, { env = { A = {} } } }, { "" }, { "/no", "x" },
        { "busybox", { ("x"):rep(200000) } }, { "busybox", { "true" }, { dns = { "1.1.1.1" } } } } do
        local ok, r = pcall(nsbox.run, table.unpack(bad, 1, 3))
        assert(not ok or not r)
      end
      local after = table.concat(sys.readdir "/proc/self/fd", " ")
      local children = io.open(("/proc/self/task/%d/children"):format(sys.getpid()))
      print(before == after, children and children:read "a" or "")]])
    assert.same({ "true\t\n", true }, { out, ok })
  end)
end)

describe("what the arguments alone show to be too big is refused before anything is made:", function()
  local big = {
    { "a word", { "echo", long }, {}, "argument [2] of the command is 131072 bytes long" },
    { "the shell's line", "echo " .. long, {}, "the command is 131077 bytes long" },
    { "a variable", { "true" }, { env = { A = long } }, "environment variable A is 131074 bytes long" },
    { "an entrypoint", { "x" }, { entrypoint = { long } }, "entrypoint[1] is 131072 bytes long" },
  }
  for _, row in ipairs(big) do
    it(row[1], function()
      local store = helper.tmpdir() .. "/store"
      local opts = row[3]
      opts.store = store
      local err = fails("exec", 7, "busybox", row[2], opts)
      assert.is_truthy(tostring(err):find(row[4], 1, true), tostring(err))
      assert.is_nil(lfs.attributes(store))
    end)
  end

  it("all together", function()
    local words = { "echo" }
    for _ = 1, 60 do words[#words + 1] = ("x"):rep(110000) end
    local err = fails("exec", 7, "busybox", words)
    assert.matches("the command with its environment is %d+ bytes long", tostring(err))
  end)

  it("but the longest word there can be is taken", function()
    assert.equal("131071\n", box.says({ "sh", "-c", "echo ${#1}", "sh", ("x"):rep(131071) }))
  end)
end)

-- ---- what is an Error ----

describe("an image that cannot be one is an Error:", function()
  local function in_folder(name)
    return helper.tmpdir() .. "/" .. name
  end

  it("one that does not exist", function()
    local err = fails("image", 2, in_folder "none", { "true" })
    assert.matches("/none", tostring(err))
    assert.matches("No such file or directory", tostring(err))
  end)

  it("a name that nobody knows", function()
    assert.matches("known so far: busybox", fails("image", 2, "no-such", { "true" }).hint)
    fails("image", 2, "images/../busybox", { "true" })
  end)

  it("a file", function()
    local path = in_folder "file"
    helper.write(path, "text")
    assert.matches("is a file", tostring(fails("image", 20, path, { "true" })))
    assert.equal("text", helper.read(path))
  end)

  it("a device", function()
    assert.matches("not a folder but a", tostring(fails("image", 20, "/dev/null", { "true" })))
  end)

  it("a link to nothing", function()
    local path = in_folder "link"
    assert(os.execute("ln -s /no/target " .. helper.quote(path)))
    fails("image", 2, path, { "true" })
  end)

  it("a folder without a shell, for a command that is a string", function()
    local path = in_folder "empty"
    assert(lfs.mkdir(path))
    local err = fails("exec", 2, path, "true")
    assert.equal("/bin/sh", err.path)
    assert.same({}, helper.names(path))
  end)

  it("a folder whose way may not be searched", function()
    if helper.root() then helper.skip "needs an unprivileged caller: root may search every folder" end
    local path = in_folder "locked"
    assert(lfs.mkdir(path) and lfs.mkdir(path .. "/root"))
    assert(os.execute("chmod 0 " .. helper.quote(path)))
    fails("image", 13, path .. "/root", { "true" })
  end)

  it("an archive, so far", function()
    fails("unsupported", nil, "tar:/x.tar", { "true" })
  end)

  it("none of which touches a store that is not there", function()
    local store = in_folder "store"
    fails("image", 2, "no-such", { "true" }, { store = store })
    fails("image", 20, "/dev/null", { "true" }, { store = store })
    assert.is_nil(lfs.attributes(store))
  end)

  it("while a link to a folder, and one with every odd character, are images", function()
    local root = box.image {}
    local path = in_folder "a:b,c\\d e\"f\n=%s"
    assert(os.execute(("ln -s %s %s"):format(helper.quote(root), helper.quote(path))))
    assert.equal("hi\n", assert(run(path, "echo hi")).stdout)
    assert(os.execute(("mv %s %s"):format(helper.quote(root), helper.quote(path .. "2"))))
    assert.equal("hi\n", assert(run(path .. "2", "echo hi")).stdout)
  end)
end)

describe("a world that has not what was named is an Error:", function()
  it("a descriptor that is not open", function()
    local err = fails("setup", 9, "busybox", { "true" }, { stdout = 9999 })
    assert.equal("EBADF", err.name)
  end)

  it("a network that is not there", function()
    local err = fails("setup", 2, "busybox", { "true" }, { network = "/nonexistent/net" })
    assert.equal("/nonexistent/net", err.path)
  end)

  it("a workdir whose way is a file of the image", function()
    local root = box.image { ["etc/file"] = "x" }
    local err = fails("setup", 20, root, "true", { workdir = "/etc/file/x" })
    assert.same({ "mkpath", "ENOTDIR" }, { err.call, err.name })
  end)

  it("a store that cannot be made", function()
    local file = helper.tmpdir() .. "/file"
    helper.write(file, "")
    local err = fails("image", 20, "busybox", { "true" }, { store = file .. "/store" })
    assert.matches("Not a directory", tostring(err))
  end)
end)
