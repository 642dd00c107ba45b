local E = require "nsbox.error"

local EPERM = "Operation not permitted"

describe("nsbox.error", function()
  describe("as text", function()
    local rows = {
      { "only a message", { message = "it broke" }, "nsbox: it broke" },
      { "with a verb", { verb = "run", message = "it broke" }, "nsbox: run: it broke" },
      { "a step whose message says all",
        { verb = "run", step = 14, call = "mount", path = "/proc", errno = 1, name = "EPERM",
          message = "mount proc on /proc: " .. EPERM },
        "nsbox: run: step 14 mount proc on /proc: Operation not permitted (EPERM)" },
      { "a step whose message says nothing", { step = 3, call = "mkdir", path = "/a", message = EPERM, name = "EPERM" },
        "nsbox: step 3 mkdir /a: Operation not permitted (EPERM)" },
      { "a step alone", { step = 3, message = "it broke" }, "nsbox: step 3: it broke" },
      { "a call alone", { call = "setns", message = EPERM }, "nsbox: setns: Operation not permitted" },
      { "a call that only begins like the message",
        { call = "mount", message = "mountain" }, "nsbox: mount: mountain" },
      { "a path alone", { path = "/no", message = "No such file", name = "ENOENT" },
        "nsbox: /no: No such file (ENOENT)" },
      { "an errno name that is there already", { message = "gone (ENOENT)", name = "ENOENT" }, "nsbox: gone (ENOENT)" },
      { "what the program wrote last", { message = "no", hint = "try", log = "a\27\nb\n" },
        "nsbox: no\n  hint: try\n  end of its output:\n  | a\\x1b\n  | b" },
      { "that not twice", { message = "no\n  end of stderr:\n  | a", log = "a\n" },
        "nsbox: no\n  end of stderr:\n  | a" },
      { "no step for a program that cannot be run", { kind = "exec", step = 9, path = "nope", message = "No file" },
        "nsbox: nope: No file" },
      { "a hint", { message = "no", hint = "sysctl x=1" }, "nsbox: no\n  hint: sysctl x=1" },
    }
    for _, row in ipairs(rows) do
      it("shows " .. row[1], function()
        row[2].kind = row[2].kind or "setup"
        assert.equal(row[3], tostring(E.new(row[2])))
      end)
    end

    it("can be concatenated on both sides", function()
      local err = E.new { kind = "image", message = "no" }
      assert.equal("a: nsbox: no", "a: " .. err)
      assert.equal("nsbox: no!", err .. "!")
      assert.equal("nsbox: nononsbox: no", err .. "no" .. err)
    end)

    it("is what Lua's own assert raises", function()
      local ok, raised = pcall(_G.assert, E.fail { kind = "exec", message = "no" })
      assert.is_false(ok)
      assert.is_true(E.is(raised))
    end)
  end)

  it("keeps its fields readable", function()
    local err = E.new { kind = "exec", message = "no", errno = 2, name = "ENOENT", path = "/x", log = "l" }
    assert.same({ "exec", "no", 2, "ENOENT", "/x", "l" },
      { err.kind, err.message, err.errno, err.name, err.path, err.log })
    assert.equal("nsbox.error", getmetatable(err).__name)
  end)

  it("accepts every kind of the list and no other", function()
    for kind in ("setup image exec unsupported limit timeout closed exit call"):gmatch("%a+") do
      assert.equal(kind, E.new({ kind = kind, message = "m" }).kind)
    end
    assert.has_error(function() E.new { kind = "odd", message = "m" } end, "nsbox.error: unknown kind odd")
    assert.has_error(function() E.new { message = "m" } end, "nsbox.error: unknown kind nil")
  end)

  it("refuses unknown fields and a missing message", function()
    assert.has_error(function() E.new { kind = "exec", message = "m", eron = 1 } end,
      "nsbox.error: unknown field eron")
    assert.has_error(function() E.new { kind = "exec" } end, "nsbox.error: a message is needed")
  end)

  it("knows its own from other values", function()
    assert.is_true(E.is(E.new { kind = "exec", message = "m" }))
    for _, v in ipairs { "text", 1, {}, true, print, setmetatable({}, { __name = "nsbox.error" }) } do
      assert.is_false(E.is(v))
    end
    assert.is_false(E.is(nil))
  end)

  it("fails with the three returns of a failure of the world", function()
    local returns = table.pack(E.fail { kind = "setup", message = "m", errno = 13 })
    assert.equal(3, returns.n)
    assert.is_nil(returns[1])
    assert.is_true(E.is(returns[2]))
    assert.equal(13, returns[3])
    assert.equal(3, select("#", E.fail { kind = "setup", message = "m" }))
  end)

  describe("misuse", function()
    local here = debug.getinfo(1, "S").short_src

    it("is a string at the line of the user", function()
      local line = debug.getinfo(1, "l").currentline + 1
      local ok, raised = pcall(function() E.misuse("nsbox.run: option '%s' %d", "x", 3) return 1 end)
      assert.is_false(ok)
      assert.equal(("%s:%d: nsbox.run: option 'x' 3"):format(here, line), raised)
    end)

    it("skips nsbox's own frames and C frames", function()
      local own = debug.getinfo(E.new, "S").source:match("^(@.*[/\\])") .. "deep/inner.lua"
      local inner = assert(load([[
        local misuse = ...
        return function() pcall(error) table.sort({ 2, 1 }, function() misuse("nsbox.run: no") end) end
      ]], own))(E.misuse)
      local line = debug.getinfo(1, "l").currentline + 1
      local ok, raised = pcall(function() inner() return 1 end)
      assert.is_false(ok)
      assert.equal(("%s:%d: nsbox.run: no"):format(here, line), raised)
    end)

    it("does without a position where there is no user frame", function()
      local thread = coroutine.create(E.misuse)
      local _, raised = coroutine.resume(thread, "nsbox.run: %s", "no")
      assert.equal("nsbox.run: no", raised)
    end)

    it("names the next line known after a tail call", function()
      local function tail() return E.misuse("nsbox.run: no") end
      local line = debug.getinfo(1, "l").currentline + 1
      local _, raised = pcall(function() tail() return 1 end)
      assert.equal(("%s:%d: nsbox.run: no"):format(here, line), raised)
    end)
  end)

  describe("nearest", function()
    local list = { "memory", "mounts", "timeout", "tty", "read_only", "env", "io" }
    local rows = {
      { "memroy", "memory" }, { "memor", "memory" }, { "MEMORY", "memory" }, { "tiemout", "timeout" },
      { "timeouts", "timeout" }, { "readonly", "read_only" }, { "mount", "mounts" }, { "tyt", "tty" }, { "evn", "env" },
      { "xyz", nil }, { "", nil }, { "entirely", nil }, { ("memory"):rep(20), nil },
    }
    for _, row in ipairs(rows) do
      it(("of '%.12s' is %s"):format(row[1], row[2]), function()
        assert.equal(row[2], E.nearest(row[1], list))
      end)
    end

    it("of equals is the first", function()
      assert.equal("abd", E.nearest("abc", { "abd", "abe" }))
      assert.is_nil(E.nearest("abc", {}))
    end)
  end)
end)
