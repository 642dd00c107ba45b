local assert_misuse = require "spec.misuse"
local options = require "nsbox.options"

local function check(opts, verb)
  local checked, err = options.check(verb or "run", opts)
  assert.is_nil(err)
  return checked
end

describe("nsbox.options", function()
  describe("command", function()
    local none = check(nil)

    local function command(cmd, opts, verb)
      return options.command(verb or "run", cmd, opts or none)
    end

    it("returns a copy of a list, a string, or nil for the image's own", function()
      local cmd = { "sh", "", "-c" }
      local ok, copy = command(cmd)
      assert.is_true(ok)
      assert.same(cmd, copy)
      assert.not_equal(cmd, copy)
      assert.same({ true, "echo hi" }, { command("echo hi") })
      assert.same({ true, nil }, { command(nil) })
    end)

    it("returns false for an idle box, which is only an init, with a pid namespace of its own", function()
      assert.same({ true, false }, { command(false) })
      local opts = check { init = true, entrypoint = { ("x"):rep(200000) } }
      assert.same({ true, false }, { command(false, opts, "start") })
      assert_misuse("nsbox.run: option 'init' must not be false", options.command, "run", false, check { init = false })
      assert_misuse("needs a pid namespace of its own", options.command, "run", false,
        check { namespaces = { pid = false } })
      local ok, err, errno = command(false, check { env = { A = ("x"):rep(131072) } })
      assert.same({ nil, "exec", 7 }, { ok, err.kind, errno })
    end)

    local rows = {
      { {}, "the command must not be an empty list" }, { "", "must not be an empty string" },
      { { "" }, "names no program" }, { { "a", nil, "c" }, "has a hole: [2] is nil" },
      { { [2] = "a" }, "has a hole: [1] is nil" }, { { "a", 5 }, "[2] must be a string, got 5" },
      { { "a\0b" }, "[1] must not contain a NUL byte" }, { "a\0b", "must not contain a NUL byte" },
      { { timeout = 5 }, "options are the third argument (the command has the key 'timeout')" },
      { { "sh", timeout = 5 }, "options are the third argument" }, { 5, "a list of strings or a string, got 5" },
      { true, "got true" }, { print, "got a function" }, { { "a", {} }, "[2] must be a string, got a table" },
      { { "a", [1.5] = "b" }, "has a hole" },
    }
    for i, row in ipairs(rows) do
      it(("raises: %s (row %d)"):format(row[2], i), function()
        assert_misuse("nsbox.run: ", options.command, "run", row[1], none)
        assert_misuse(row[2], options.command, "run", row[1], none)
      end)
    end

    it("of exec is needed and comes first", function()
      assert_misuse("nsbox.exec: a command is needed", options.command, "exec", nil, check({}, "exec"))
      assert_misuse("got false", options.command, "exec", false, check({}, "exec"))
      assert_misuse("options are the second argument", options.command, "exec", { tty = true }, check({}, "exec"))
    end)

    it("may be as long as the kernel takes it and no longer", function()
      local longest, word = ("x"):rep(131071), ("y"):rep(100000)
      local many = {}
      for i = 1, 63 do
        many[i] = word
      end
      local passing = {
        { { "echo", longest } }, { longest }, { { "a" }, check { env = { A = longest:sub(3) } } },
        { table.move(many, 1, 62, 1, {}) },
      }
      for _, row in ipairs(passing) do
        assert.is_true((command(row[1], row[2])))
      end
      local failing = {
        { { "echo", longest .. "x" }, nil, "argument [2] of the command is 131072 bytes long" },
        { longest .. "x", nil, "the command is 131072 bytes" },
        { { "a" }, check { env = { A = longest:sub(2) } }, "environment variable A is 131072 bytes" },
        { { "a" }, check { entrypoint = { longest .. "x" } }, "entrypoint[1] is 131072 bytes" },
        { nil, check { entrypoint = { longest .. "x" } }, "entrypoint[1]" },
        { many, nil, "the command with its environment is 6300567 bytes long, the kernel takes at most 6291456" },
      }
      for _, row in ipairs(failing) do
        local ok, err, errno = command(row[1], row[2])
        assert.is_nil(ok)
        assert.equal("exec", err.kind)
        assert.equal(7, errno)
        assert.equal("E2BIG", err.name)
        assert.is_truthy(err.message:find(row[3], 1, true), err.message)
      end
    end)

    it("as a string leaves the Entrypoint out", function()
      assert.is_true((command("a", check { entrypoint = { ("x"):rep(200000) } })))
    end)
  end)

  describe("size", function()
    local rows = {
      { 0, 0 }, { 5, 5 }, { 1e6, 1000000 }, { "0", 0 }, { "64M", 67108864 }, { "64m", 67108864 }, { "1k", 1024 },
      { "1.5G", 1610612736 }, { "2T", 2199023255552 }, { "9007199254740993", 9007199254740993 }, { "0.5", 0 },
      { math.maxinteger, math.maxinteger },
    }
    for _, row in ipairs(rows) do
      it(("of %s is %d"):format(row[1], row[2]), function()
        assert.equal(row[2], options.size(row[1]))
        assert.equal("integer", math.type(options.size(row[1])))
      end)
    end

    it("is nil with the problem for all else", function()
      local bad = {
        -1, 1.5, 0 / 0, math.huge, "", "M", "-1M", "1 M", "1X", "1MB", "0x10", "1e3", "99999999T",
        "99999999999999999999", "1..5", {}, true, print,
      }
      for _, value in ipairs(bad) do
        local bytes, problem = options.size(value)
        assert.is_nil(bytes)
        assert.matches('^must be a size: bytes, or text such as "64M", got ', problem)
      end
      assert.is_nil((options.size(nil)))
    end)
  end)
end)
