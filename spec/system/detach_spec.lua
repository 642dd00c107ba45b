-- Boxes that outlive their caller: found again by others, ended by their worker, and nothing left of them.
local assert_misuse = require "spec.misuse"
local box = require "spec.box"
local helper = require "spec.helper"
local nsbox = require "nsbox"
local owner = require "nsbox.owner"
local script = require "spec.script"
local start = require "spec.start"
local sys = require "nsbox.sys"

helper.leakcheck { detached = true, settle = true }

local RUNTIME = owner.runtime()
local FOREVER = "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.05; done"

-- A detached box that goes with the test.
local function detached(cmd, opts)
  opts = opts or {}
  opts.detach = true
  local b, err = nsbox.start("busybox", cmd, opts)
  assert(b, tostring(err))
  local id = b.id
  helper.cleanup(function()
    local left = nsbox.box(id)
    if left then left:destroy() end
  end)
  return b
end

local function ended(pid)
  return start.in_state(pid, "Z")
end

local function worker_of(id)
  return require("nsbox.detach.state").load(id).worker
end

describe("a detached box", function()
  setup(helper.warm_detached)

  it("lives on after its caller, is found by id and by name, and has its output and its status", function()
    local marker = box.marker()
    local s <close> = script.start([[
      local nsbox = require "nsbox"
      local b = assert(nsbox.start("busybox",
        { "sh", "-c", "mkfifo /tmp/go; echo one; read x < /tmp/go; echo two; exit 3", arg[1] },
        { detach = true, name = arg[1], labels = { use = "spec" } }))
      print(b.id)
    ]], { marker = marker })
    local id = assert(s:line())
    helper.cleanup(function()
      local left = nsbox.box(id)
      if left then left:destroy() end
    end)
    assert.same({ "exit", 0 }, { s:wait() })
    local found <close> = assert(nsbox.box(id:sub(1, 6)))
    local b <close> = assert(nsbox.box(marker))
    assert.same({ id, id, marker, "spec", true, "running", "busybox" },
      { found.id, b.id, b.name, b.labels.use, b.detached, b.state, b.image })
    assert.equal("one", b:expect("one", 30)) -- from here on its shell has no fork
    assert.same({ b.pid }, box.find(marker))
    assert.equal("timeout", select(2, b:wait(0.05)).kind)
    assert.is_nil(b:poll())
    assert.equal("in\n", assert(b:exec({ "cat" }, { input = "in\n" })).stdout)
    assert(b:exec "echo x > /tmp/go") -- its end may be that of the box
    local r = assert(b:wait(30))
    assert.same({ "exit", 3, "one\ntwo\n", "" }, { r.reason, r.code, r.stdout, r.stderr })
    assert.equal(3, found:wait(30).code)
    assert.equal("two\n", found:logs(1))
    assert.equal(3, assert(nsbox.box(id)):wait().code)
    assert.is_true(b:destroy())
    assert.same({ "closed", sys.ENOENT }, { b.state, select(3, nsbox.box(id)) })
  end)

  it("goes on when its handle is closed or collected", function()
    local b = detached(FOREVER)
    local pid, id = b.pid, b.id
    assert(b:expect("ready", 30))
    b:close()
    assert(nsbox.box(id))
    collectgarbage()
    collectgarbage()
    assert.is_false(ended(pid))
    assert.equal("running", assert(nsbox.box(id)).state)
  end)

  it("is stopped by its worker, killed by a handle, and told apart in the record", function()
    local b <close> = detached(FOREVER)
    assert(b:expect("ready", 30))
    local r = assert(b:stop(30))
    assert.same({ "exit", 7, "ready\nbye\n" }, { r.reason, r.code, r.stdout })
    assert.is_true(b:kill())
    local c <close> = detached({ "sleep", "60" })
    assert.equal("unsupported", select(2, c:kill "TERM").kind)
    assert.is_true(c:kill())
    assert.same({ "killed", "KILL" }, { c:wait(30).reason, c:wait().signal })
    local d <close> = detached({ "sleep", "60" })
    assert(sys.kill(d.pid, "kill"))
    assert.equal("signal", d:wait(30).reason)
    local e <close> = detached({ "sleep", "60" })
    assert.same({ "killed", "KILL" }, { e:stop(0).reason, e:wait().signal })
  end)

  it("is stopped with a grace that never ends", function()
    local b <close> = detached { "sh", "-c", FOREVER }
    assert(b:expect("ready", 30))
    local r = b:stop(math.huge)
    assert.same({ "exit", 7, "ready\nbye\n" }, { r.reason, r.code, r.stdout })
  end)

  it("goes on when its worker is asked for what makes no sense", function()
    local b <close> = detached { "sh", "-c", FOREVER }
    assert(b:expect("ready", 30))
    local message, path = require "nsbox.detach.message", require("nsbox.detach.state").path_of(b.id)
    for _, request in ipairs { {}, { "nothing" }, { "sent" }, { "sent", "x" }, { "sent", 1.5 }, { "stop" },
      { "stop", "x" }, { "stop", -1 }, { true }, "stop", 5 } do
      assert.same({ error = "unknown request" }, message.request(path, request))
    end
    assert.same({ ok = { done = true } }, message.request(path, { "update", {} })) -- it has no cgroup
    assert.equal("unsupported", message.request(path, { "update", { pids = { limit = 5 } } }).ok.problem.kind)
    assert.is_string(message.request(path, { "update", { pids = 5 } }).error)
    assert.equal("running", b.state)
    assert.equal("timeout", select(2, b:wait(0.1)).kind)
  end)

  it("is not taken for one that has ended where no descriptor is left", function()
    for free = 0, 3 do
      local name, held = box.marker(), {}
      local b <close> = detached({ "sh", "-c", FOREVER }, { name = name })
      assert(b:expect("ready", 30))
      collectgarbage()
      repeat
        local fd = sys.dup(1)
        held[#held + 1] = fd
      until not fd
      for _ = 1, free do table.remove(held):close() end
      local found <close>, err = nsbox.box(name)
      for _, other in ipairs(held) do other:close() end
      if found then
        assert.equal("running", found.state)
        assert.is_true(found:kill())
        assert.equal("killed", assert(found:wait(30)).reason)
      else
        assert.equal("EMFILE", err.name)
      end
    end
  end)

  it("has its timeout kept, and its check", function()
    local b <close> = detached({ "sleep", "60" }, { timeout = 0.2, check = true })
    local _, err = b:wait(30)
    assert.same({ "exit", "timeout" }, { err.kind, err.result.reason })
  end)

  it("keeps the newest max_output bytes, and both streams", function()
    local b <close> = detached("i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; echo no >&2",
      { max_output = 1000 })
    local r = assert(b:wait(20))
    assert.equal(1000, #r.stdout)
    assert.matches("line 2998\nline 2999\n$", r.stdout)
    assert.same({ true, false, "no\n" }, { r.truncated.stdout, r.truncated.stderr, r.stderr })
    assert.equal("line 2999\n", b:logs(1, "stdout"))
    local c <close> = detached("printf 'a\\0b\\377'; echo x >&2", { stderr = "stdout" })
    assert.equal("a\0b\255x\n", c:wait(30).stdout)
    local d <close> = detached("echo x", { stdout = "null" })
    assert.equal("", d:wait(30).stdout)
  end)

  it("takes input and a terminal", function()
    local b <close> = detached({ "cat" }, { input = "some text" })
    assert.equal("some text", b:wait(30).stdout)
    local c <close> = detached("tty; sleep 0.2; read x || echo end", { tty = true })
    assert.equal("/dev/pts/0", c:expect("/dev/pts/%d", 30))
    assert.is_nil(c:wait(0.4)) -- nobody types, and there is no end of input
    assert.equal("running", c.state)
  end)

  it("says what its handle cannot do for a detached one", function()
    local b <close> = detached({ "sh" }, { tty = true })
    for _, row in ipairs { { "resize", 3, 4 }, { "pause" }, { "send", "x" } } do
      local ok, err = b[row[1]](b, row[2], row[3])
      assert.same({ nil, "unsupported" }, { ok, err.kind })
      assert.matches("detached box", tostring(err))
      assert.is_nil(tostring(err):find("start it with", 1, true))
    end
  end)

  it("is lost with its worker", function()
    local b <close> = detached({ "sleep", "60" })
    local pid = b.pid
    assert(sys.kill(worker_of(b.id), "kill"))
    assert.equal("lost", b:wait(30).reason)
    assert.is_true(ended(pid))
    assert.same({ "lost", "ended" }, { assert(nsbox.box(b.id)):wait().reason, nsbox.box(b.id).state })
  end)

  it("of an earlier boot is no process of this one", function()
    local b <close> = detached { "sh", "-c", FOREVER }
    local state = require "nsbox.detach.state"
    local record = assert(state.load(b.id))
    local started = record.started
    local fd <close> = assert(sys.pidfd_open(b.pid))
    assert.equal(started, state.started_at(b.pid, fd))
    record.started = "00000000-0000-0000-0000-000000000000" .. started:match " .*$"
    assert(state.write(state.path_of(b.id), record))
    local found <close> = assert(nsbox.box(b.id))
    assert.is_true(found:kill())
    assert.equal("timeout", select(2, b:wait(0.1)).kind)
    record.started = started
    assert(state.write(state.path_of(b.id), record))
  end)

  it("ends what an exec added with the caller of that", function()
    local b <close> = detached({ "sleep", "60" })
    local marker = box.marker()
    local s <close> = script.start(([[
      local nsbox = require "nsbox"
      local p = assert(assert(nsbox.box "%s"):spawn { "sh", "-c", "sleep 50; true", arg[1] })
      print(p.pid)
      nsbox.sleep(60)
    ]]):format(b.id), { marker = marker })
    local pid = tonumber(assert(s:line()))
    s:signal "kill"
    s:wait()
    start.eventually("the added process ends", function() return ended(pid) end)
    assert.equal("running", b.state)
  end)

  it("is refused as nsbox.start refuses, and nothing stays", function()
    local before = helper.names(RUNTIME .. "/boxes")
    local function start_(cmd, opts, image)
      opts.detach = true
      return select(2, nsbox.start(image or "busybox", cmd, opts))
    end
    local err = start_({ "no-such" }, { name = "gone" })
    assert.same({ "exec", "ENOENT", "no-such" }, { err.kind, err.name, err.path })
    assert.equal("image", start_({ "true" }, {}, "nobody-made-it").kind)
    assert.equal("unsupported", start_({ "true" }, { dns = { "1.1.1.1" } }).kind)
    assert.same({ before, sys.ENOENT }, { helper.names(RUNTIME .. "/boxes"), select(3, nsbox.box "gone") })
  end)

  it("takes no options that are of the caller", function()
    local function with(opts, verb)
      opts.detach = true
      return function() return nsbox[verb or "start"]("busybox", { "true" }, opts), nil end
    end
    for _, opts in ipairs { { stdout = print }, { stdout = 1 }, { stdin = "pipe" }, { stdin = "inherit" },
      { stderr = "capture" }, { stdout = io.stdout }, { tty = true, stdin = "inherit" } } do
      assert.has_error(with(opts))
    end
    local ok, text = pcall(with { input = print })
    assert.is_false(ok)
    assert.matches("option 'input' cannot be handed", text)
    ok, text = pcall(with({}, "run"))
    assert.is_false(ok)
    assert.matches("option 'detach' belongs to nsbox.start", text)
    assert_misuse("option 'name' must be letters", nsbox.start, "busybox", nil, { detach = true, name = "a/b" })
    assert_misuse("an id or a name expected", nsbox.box, 1)
    assert_misuse("takes no arguments", nsbox.boxes, { label = "x" })
  end)

  it("resolves image, names and paths as the caller does", function()
    local root = box.image { ["etc/mark"] = "mine" }
    local s <close> = script.start([[
      local nsbox = require "nsbox"
      nsbox.sys.chdir(arg[1])
      local b = assert(nsbox.start("./root", "cat /etc/mark; echo $SPEC_WORD",
        { detach = true, env = { "SPEC_WORD" } }))
      print(b.id)
    ]], { marker = root:match "^(.*)/root$", env = { SPEC_WORD = "word" } })
    local id = assert(s:line())
    local b = assert(nsbox.box(id))
    assert.equal("mineword\n", b:wait(30).stdout)
    assert.is_true(b:destroy())
  end)
end)

describe("the name of a detached box", function()
  it("is given to one of several that start at once", function()
    local scripts, name = {}, "race-" .. helper.pid
    for i = 1, 3 do
      scripts[i] = script.start(([[
        local nsbox = require "nsbox"
        local b, err, errno = nsbox.start("busybox", { "sleep", "60" }, { detach = true, name = "%s" })
        print(b and "won" or err.kind .. " " .. err.name .. " " .. errno)
      ]]):format(name))
    end
    local said = {}
    for _, s in ipairs(scripts) do
      said[#said + 1] = s:line()
      s:wait()
    end
    table.sort(said)
    assert.same({ "setup EEXIST 17", "setup EEXIST 17", "won" }, said)
    assert.is_true(assert(nsbox.box(name)):destroy())
    local again <close> = detached({ "true" }, { name = name })
    assert.equal(name, again.name)
  end)

  it("is kept by a box that has ended, and is a field of one that is not detached", function()
    local b <close> = detached({ "true" }, { name = "kept" })
    b:wait(30)
    assert.equal(sys.EEXIST, select(3, nsbox.start("busybox", { "true" }, { detach = true, name = "kept" })))
    local c <close> = assert(nsbox.start("busybox", { "true" }, { name = "kept", labels = { a = "b" } }))
    assert.same({ "kept", "b", false }, { c.name, c.labels.a, c.detached })
    assert.equal("unsupported", select(2, c:destroy()).kind)
  end)
end)

local function listed()
  local ids = {}
  for _, b in ipairs(nsbox.boxes()) do
    ids[#ids + 1] = b.id
    b:close()
  end
  return ids
end

describe("nsbox.boxes", function()
  it("lists all, the oldest first", function()
    local ids = {}
    for i = 1, 3 do
      local b <close> = detached({ i == 2 and "true" or "sleep", "60" })
      ids[i] = b.id
    end
    assert.same(ids, table.move(listed(), #listed() - 2, #listed(), 1, {})) -- others' boxes may be there, and are older
  end)
end)

describe("the folder of states", function()
  it("is swept of what is half made or half removed, and of nothing else", function()
    local b <close> = detached({ "sleep", "60" })
    for _, name in ipairs { "new-aaaaaaaaaaaa", "gone-aaaaaaaaaaaa" } do
      assert(sys.mkdir(RUNTIME .. "/boxes/" .. name, "0700"))
      helper.write(RUNTIME .. "/boxes/" .. name .. "/lock", "")
      helper.write(RUNTIME .. "/boxes/" .. name .. "/stdout.0", "text")
    end
    assert(sys.symlink("aaaaaaaaaaaa", RUNTIME .. "/names/stale"))
    local c <close> = detached({ "true" }, { name = "stale" })
    assert.same({ "running", "stale" }, { b.state, c.name })
    for _, name in ipairs(helper.names(RUNTIME .. "/boxes")) do assert.matches("^%x+$", name) end
  end)

  it("is refused when it is a link, or others may write to it", function()
    local b <close> = detached({ "sleep", "60" })
    local path = RUNTIME .. "/boxes/" .. b.id
    assert(sys.rename(path, path .. "-aside", 0))
    assert(sys.symlink(b.id .. "-aside", path))
    assert.equal(sys.ENOTDIR, select(3, nsbox.box(b.id)))
    for _, id in ipairs(listed()) do assert.not_equal(b.id, id) end
    assert(sys.unlink(path))
    assert(sys.rename(path .. "-aside", path, 0))
    assert(sys.chmod(path, "0777"))
    assert.equal(sys.EPERM, select(3, nsbox.box(b.id)))
    assert(sys.chmod(path, "0700"))
    assert(sys.chmod(RUNTIME .. "/boxes", "0777"))
    local err, errno = select(2, nsbox.start("busybox", "true", { detach = true }))
    assert(sys.chmod(RUNTIME .. "/boxes", "0700"))
    assert.same({ "setup", sys.EPERM }, { err.kind, errno })
  end)

  it("of another user is refused", function()
    if not helper.root() then helper.skip "needs root, to give it away" end
    local b <close> = detached({ "sleep", "60" })
    assert(sys.chown(RUNTIME .. "/boxes/" .. b.id, 1, 1))
    assert.equal(sys.EPERM, select(3, nsbox.box(b.id)))
    assert(sys.chown(RUNTIME .. "/boxes/" .. b.id, 0, 0))
  end)
end)
