-- What a user names as image, and the one that is made: busybox.
local assert = require "luassert"
local assert_misuse = require "spec.misuse"
local box = require "spec.box"
local error_ = require "nsbox.error"
local helper = require "spec.helper"
local image = require "nsbox.image"
local lfs = require "lfs"
local nsbox = require "nsbox"
local owner = require "nsbox.owner"
local store = require "nsbox.image.store"

local sys = nsbox.sys

helper.leakcheck()

local function resolve(name, opts)
  return image.resolve("run", name, opts or {})
end

local function refused(kind, text, name, opts)
  local img, err, errno = resolve(name, opts)
  assert.is_nil(img)
  assert.is_true(error_.is(err))
  assert.same({ kind, "run", err.errno }, { err.kind, err.verb, errno })
  assert.is_truthy(tostring(err):find(text, 1, true), tostring(err))
  return err
end

-- A store that goes away with the test, and what this process owns in it.
local function fresh_store()
  local path = helper.tmpdir() .. "/store"
  helper.cleanup(function() owner.forget(path) end)
  return path
end

-- What is in a store but for this process's folder, and what is in that but for its lock.
local function leftover(path)
  local own, list = ("owner-%d-1"):format(helper.pid), {}
  for _, folder in ipairs { path, path .. "/" .. own } do
    for _, name in ipairs(helper.names(folder)) do
      list[#list + 1] = name ~= own and name ~= "lock" and name or nil
    end
  end
  return list
end

describe("an image that is a path", function()
  local here = lfs.currentdir()
  local rows = {
    { "/usr", "/usr" }, { "dir:/usr", "/usr" }, { "./spec", here .. "/./spec" }, { "dir:spec", here .. "/spec" },
    { "../", here .. "/../" }, { ".", here .. "/." }, { "..", here .. "/.." },
  }
  for _, row in ipairs(rows) do
    it(("'%s' is a folder, below the caller's if it is relative"):format(row[1]), function()
      assert.same({ root = row[2], config = {} }, { root = resolve(row[1]).root, config = resolve(row[1]).config })
    end)
  end

  it("must be there", function()
    local err = refused("image", "/no/such: No such file or directory", "/no/such")
    assert.equal(sys.ENOENT, err.errno)
    refused("image", "dir/such: No such file or directory", "dir:/no/dir/such")
  end)

  it("must not be a file, yet", function()
    local err = refused("image", "image ./Makefile is a file", "./Makefile")
    assert.same({ sys.ENOTDIR, "archives are not read yet: unpack it to a folder" }, { err.errno, err.hint })
  end)

  it("must not be a device", function()
    refused("image", "image /dev/null is not a folder but a char", "/dev/null")
  end)

  it("may have any character in it that a path may have", function()
    local root = box.image()
    local odd = root .. " :,\\\n'\"\xff"
    assert(os.rename(root, odd))
    assert.equal("ok\n", assert(nsbox.run(odd, { "/bin/sh", "-c", "echo ok" })).stdout)
  end)

  it("may be a link to a folder", function()
    local root = box.image()
    assert(sys.symlink(root, root .. "-link"))
    assert.equal("ok\n", assert(nsbox.run(root .. "-link", { "/bin/sh", "-c", "echo ok" })).stdout)
  end)
end)

describe("an image of a form that is not built", function()
  for _, prefix in ipairs { "tar:", "oci:", "oci-archive:", "docker-archive:", "bundle:" } do
    it(prefix .. " says so", function()
      refused("unsupported", ("images of the form %s are not built yet"):format(prefix), prefix .. "/x")
    end)
  end
end)

describe("an image's name", function()
  it("that nobody knows is told what there is", function()
    for _, name in ipairs { "alpine", "library/alpine:3.20", "busybox:1.36", "a.b-c_d" } do
      local err = refused("image", ("no image named '%s'"):format(name:gsub(":latest$", "")), name)
      assert.same({ "known so far: busybox, host, and folders (a path starts with / or ./)", sys.ENOENT },
        { err.hint, err.errno })
    end
  end)

  it("must be a name", function()
    for _, name in ipairs { "two words", "new\nline", "-x", ":latest", "a:b:c", "ä" } do
      assert_misuse("is no image name: letters, digits and . _ - / only", nsbox.run, name, { "true" })
    end
  end)

  it("must be a string, with something in it, and no NUL", function()
    assert_misuse("nsbox.run: the image must be a string, not a table", nsbox.run, {}, { "true" })
    assert_misuse("nsbox.run: the image must be a string, not a nil", nsbox.run)
    assert_misuse("nsbox.run: the image's name is empty", nsbox.run, "", { "true" })
    assert_misuse("nsbox.run: the image's name holds a NUL byte", nsbox.run, "/a\0b", { "true" })
  end)
end)

describe("the image busybox", function()
  it("is made once, in the store, with what programs expect", function()
    local path = fresh_store()
    local img = assert(resolve("busybox", { store = path }))
    assert.same({ path .. "/busybox", { Cmd = { "sh" } } }, { img.root, img.config })
    local function mode(name)
      local stat = assert(sys.lstat(img.root .. "/" .. name), name)
      return stat.type .. " " .. stat.mode
    end
    assert.same({ "dir 0755", "dir 1777", "dir 0755", "dir 0700", "file 0755", "file 0644" }, { mode ".", mode "tmp",
      mode "home", mode "root", mode "bin/busybox", mode "etc/passwd" })
    assert.matches("^root:x:0:0:.*\nnobody:x:65534:65534:", helper.read(img.root .. "/etc/passwd"))
    assert.matches("^root:x:0:\n.*nobody", helper.read(img.root .. "/etc/group"))
    assert.equal("/bin/busybox", sys.readlink(img.root .. "/bin/sh"))
    local before = box.manifest(img.root)
    assert.equal(img.root, assert(resolve("busybox:latest", { store = path })).root)
    assert.equal(before, box.manifest(img.root))
  end)

  it("is not made different by the caller's umask", function()
    local path = fresh_store()
    local old = sys.umask("0077")
    finally(function() sys.umask(("%04o"):format(old)) end)
    local img = assert(resolve("busybox", { store = path }))
    for _, name in ipairs { "", "/bin", "/tmp", "/etc" } do
      assert.is_true(tonumber(sys.stat(img.root .. name).mode, 8) & 5 == 5, name)
    end
  end)

  it("lies in a store of the user's own", function()
    local path = fresh_store()
    assert(resolve("busybox", { store = path }))
    assert.equal("0700", sys.stat(path).mode)
  end)

  it("leaves only itself and this process's folder there", function()
    local path = fresh_store()
    assert(resolve("busybox", { store = path }))
    assert.same({ "busybox", ("owner-%d-1"):format(helper.pid) }, helper.names(path))
    assert.same({ "lock" }, helper.names(path .. ("/owner-%d-1"):format(helper.pid)))
  end)

  it("is whole, whoever is first of several processes at the same time", function()
    local path = fresh_store()
    local script = ("local r, e = require('nsbox').run('busybox', { 'sh', '-c', 'echo $0' }, { store = %q })\n"
      .. "io.write(r and r.stdout or tostring(e))"):format(path)
    local out = box.script("F=$(mktemp); for i in 1 2 3 4 5 6; do (LUA </dev/null >>$F) & done; wait; cat $F; rm $F",
      script)
    assert.equal(("sh\n"):rep(6), out)
    assert.same({ "busybox" }, helper.names(path))
  end)

  it("is whole, whoever is first of several coroutines at the same time", function()
    local path = fresh_store()
    local said = assert(nsbox.gather({ 1, 2, 3, 4, 5, 6 }, function()
      return assert(nsbox.run("busybox", { "sh", "-c", "echo $0" }, { store = path })).stdout
    end))
    assert.equal(("sh\n"):rep(6), table.concat(said))
    assert.same({ "busybox" }, leftover(path))
  end)

  it("does not wait for a coroutine that never goes on with it, of which its end leaves nothing", function()
    local path = assert(store.open(fresh_store()))
    local stuck = coroutine.create(store.once)
    local _, part = assert(coroutine.resume(stuck, path, "busybox", coroutine.yield))
    assert.is_truthy(sys.lstat(part))
    assert.equal("sh\n", assert(nsbox.run("busybox", { "sh", "-c", "echo $0" }, { store = path })).stdout)
    assert.is_truthy(sys.lstat(part))
    assert(coroutine.close(stuck))
    assert.same({ "busybox" }, leftover(path))
  end)

  it("is not half there after a failure", function()
    local path = fresh_store()
    local made, message = store.once(assert(store.open(path)), "thing", function(part)
      helper.write(part .. "/file", "x")
      return nil, "no more"
    end)
    assert.same({ nil, "no more" }, { made, message })
    assert.same({}, leftover(path))
  end)

  it("is not half there after an error", function()
    local path = assert(store.open(fresh_store()))
    assert.error_matches(function()
      store.once(path, "thing", function(part)
        helper.write(part .. "/file", "x")
        error "no more"
      end)
    end, "no more")
    assert.same({}, leftover(path))
  end)

  it("may be another's, which a failure came too late for", function()
    local path = assert(store.open(fresh_store()))
    local made = assert(store.once(path, "thing", function(_, final)
      assert(store.once(path, "thing", function() return true end))
      return nil, final, sys.EIO
    end))
    assert.equal(path .. "/thing", made)
    assert.same({ "thing" }, leftover(path))
  end)

  it("is the first that is ready of several begun in this process", function()
    local path = assert(store.open(fresh_store()))
    local function making(name, meanwhile)
      return coroutine.wrap(function()
        return store.once(path, "thing", function(part)
          helper.write(part .. "/name", name)
          meanwhile()
          helper.write(part .. "/whole", helper.read(part .. "/name"))
          return true
        end)
      end)
    end
    local first, made = making("first", coroutine.yield), nil
    first()
    assert.equal(path .. "/thing", making("second", function() made = first() end)())
    assert.equal(path .. "/thing", made)
    assert.same({ "first", "first" }, { helper.read(made .. "/name"), helper.read(made .. "/whole") })
    assert.same({ "thing" }, leftover(path))
  end)

  it("cannot be made without the host's, and says what to install", function()
    local path = fresh_store()
    local programs = require("nsbox.image.busybox").programs
    local real = table.move(programs, 1, #programs, 1, {})
    programs[1], programs[2] = "/nowhere/busybox", nil
    finally(function() table.move(real, 1, #real, 1, programs) end)
    local err = refused("image", "image busybox: the host has no busybox", "busybox", { store = path })
    assert.same({ sys.ENOENT, "install a static busybox (Debian: busybox-static)" }, { err.errno, err.hint })
    assert.is_nil(lfs.attributes(path .. "/busybox"))
  end)

  it("cannot be made of a program that needs libraries, and says so", function()
    local path = fresh_store()
    local programs = require("nsbox.image.busybox").programs
    local real = table.move(programs, 1, #programs, 1, {})
    programs[1], programs[2] = "/bin/cat", nil
    finally(function() table.move(real, 1, #real, 1, programs) end)
    local img, err = resolve("busybox", { store = path })
    assert.is_nil(img)
    assert.is_truthy(tostring(err):find("loader", 1, true), tostring(err))
    assert.is_nil(lfs.attributes(path .. "/busybox"))
  end)

  it("needs a store that can be written", function()
    if helper.root() then helper.skip "needs a user who may not write everywhere" end
    local err = refused("image", "/proc/nsbox", "busybox", { store = "/proc/nsbox" })
    assert.matches("%-%-store", err.hint)
  end)

  it("needs to know where the store is", function()
    if helper.root() then helper.skip "root's is fixed" end
    local out = box.script("unset HOME XDG_DATA_HOME; LUA </dev/null",
      'local r, e = require("nsbox").run("busybox", { "true" }) io.write(e.kind, ": ", tostring(e))')
    assert.is_truthy(out:find("neither XDG_DATA_HOME nor HOME is set: give store = a folder", 1, true), out)
  end)
end)
