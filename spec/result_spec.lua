local E = require "nsbox.error"
local result = require "nsbox.result"

local function made(fields)
  fields.reason = fields.reason or "exit"
  fields.command = fields.command or { "sh", "-c", "exit 3" }
  return result.new(fields)
end

local function check_error(fields)
  local ok, err = pcall(made(fields).check, made(fields))
  assert.is_false(ok)
  return err
end

describe("nsbox.result", function()
  describe("by reason", function()
    -- reason, status given, ok, code, signal, what unpack answers, text
    local rows = {
      { { reason = "exit", code = 0 }, true, { true, "exit", 0 }, "exit code 0" },
      { { reason = "exit", code = 3 }, false, { nil, "exit", 3 }, "exit code 3" },
      { { reason = "signal", signo = 11 }, false, { nil, "signal", 11 }, "killed by signal SEGV" },
      { { reason = "signal", signal = "KILL" }, false, { nil, "signal", 9 }, "killed by signal KILL" },
      { { reason = "timeout", signo = 9 }, false, { nil, "signal", 9 }, "timed out (killed by signal KILL)" },
      { { reason = "timeout", code = 0 }, false, { true, "exit", 0 }, "timed out (exit code 0)" },
      { { reason = "output", signo = 9 }, false, { nil, "signal", 9 },
        "wrote more than max_output (killed by signal KILL)" },
      { { reason = "oom", code = 1 }, false, { nil, "exit", 1 }, "out of memory (exit code 1)" },
      { { reason = "cpu", signo = 9 }, false, { nil, "signal", 9 }, "used up its CPU time (killed by signal KILL)" },
      { { reason = "killed", signo = 35 }, false, { nil, "signal", 35 },
        "killed by its handle (killed by signal RTMIN+1)" },
      { { reason = "lost" }, false, { nil, "lost" }, "its exit status was lost" },
    }
    for _, row in ipairs(rows) do
      it(row[1].reason .. ": " .. row[4], function()
        local r = made(row[1])
        assert.equal(row[2], r.ok)
        assert.equal(row[1].code, r.code)
        local a, b, c = r:unpack()
        assert.same({ row[3][1], row[3][2], row[3][3] }, { a, b, c })
        assert.equal("nsbox.result: sh -c 'exit 3': " .. row[4], tostring(r))
      end)
    end
  end)

  it("names the signal and keeps its number to itself", function()
    local r = made { reason = "signal", signo = 15, verb = "run" }
    assert.equal("TERM", r.signal)
    assert.is_nil(r.code)
    assert.is_nil(r.signo)
    assert.is_nil(r.verb)
  end)

  it("says for both streams whether they were cut", function()
    assert.same({ stdout = false, stderr = false }, made({ code = 0 }).truncated)
    assert.same({ stdout = true, stderr = false }, made({ code = 0, truncated = { stdout = true } }).truncated)
  end)

  it("is immutable", function()
    local r = made { code = 0 }
    for _, key in ipairs { "ok", "code", "new", 1 } do
      local ok, err = pcall(function() r[key] = 1 end)
      assert.is_false(ok)
      assert.matches("result_spec.lua:%d+: nsbox: a Result is immutable", err)
    end
    assert.is_true(r.ok)
    assert.is_nil(r.new)
  end)

  it("is not changed by a change of the table it was made from", function()
    local fields = { reason = "exit", code = 0, stdout = "a" }
    local r = result.new(fields)
    fields.stdout = "b"
    assert.equal("a", r.stdout)
    assert.is_nil(fields.ok)
  end)

  it("can be walked with pairs, in a fixed order, without absent fields", function()
    local keys = {}
    for key in pairs(made { code = 3, stdout = "", stderr = "", id = "x" }) do
      keys[#keys + 1] = key
    end
    assert.same({ "ok", "reason", "code", "stdout", "stderr", "truncated", "id", "command" }, keys)
  end)

  it("is told from other values", function()
    assert.is_true(result.is(made { code = 0 }))
    assert.is_false(result.is {})
    assert.is_false(result.is(nil))
    assert.equal("nsbox.result", getmetatable(made { code = 0 }).__name)
  end)

  it("refuses what nsbox must never make", function()
    assert.has_error(function() result.new { reason = "odd", code = 0 } end, "nsbox.result: unknown reason odd")
    assert.has_error(function() result.new { reason = "exit", cod = 0 } end, "nsbox.result: unknown field cod")
    assert.has_error(function() result.new { reason = "exit" } end, "nsbox.result: no status")
    assert.has_error(function() result.new { reason = "exit", code = 0, signo = 9 } end,
      "nsbox.result: both a code and a signal")
  end)

  describe("check", function()
    it("returns an ok Result itself", function()
      local r = made { code = 0 }
      assert.equal(r, r:check())
    end)

    it("raises an Error with command, status, stderr and the Result", function()
      local r = made { code = 3, stdout = "out\n", stderr = "first\nlast\n", verb = "run", log = "the log" }
      local ok, err = pcall(r.check, r)
      assert.is_false(ok)
      assert.is_true(E.is(err))
      assert.equal("exit", err.kind)
      assert.equal(r, err.result)
      assert.equal("the log", err.log)
      assert.is_nil(err.errno)
      assert.equal("nsbox: run: sh -c 'exit 3': exit code 3\n  end of stderr:\n  | first\n  | last", tostring(err))
    end)

    it("quotes the last ten lines only", function()
      local lines = {}
      for i = 1, 30 do
        lines[i] = "line" .. i
      end
      local text = check_error({ code = 1, stderr = table.concat(lines, "\n") }).message
      assert.is_nil(text:find("line20", 1, true))
      assert.matches("end of stderr:\n  | line21\n", text)
      assert.matches("| line30$", text)
    end)

    it("keeps a single endless line short", function()
      local text = check_error({ code = 1, stderr = ("x"):rep(1 << 20) .. "END" }).message
      assert.is_true(#text < 2200)
      assert.matches("xEND$", text)
    end)

    it("escapes what would drive a terminal", function()
      local text = check_error({ code = 1, stderr = "\27[2Jred\7\r\n\0bad\xff caf\u{e9}\nok \u{e9}\u{9b}1m\n" }).message
      assert.is_nil(text:gsub("\n", ""):find("[%c\x80-\x9f][^\xa9]"))
      assert.matches("| \\x1b[2Jred\\x07\n", text, 1, true)
      assert.matches("| \\x00bad\\xff caf\\xc3\\xa9\n", text, 1, true)
      assert.matches("| ok \u{e9}\\xc2\\x9b1m", text, 1, true)
    end)

    it("quotes stdout when stderr is empty", function()
      assert.matches("\n  end of stdout:\n  | said$", check_error({ code = 1, stdout = "said\n", stderr = "" }).message)
    end)

    it("says when the end was not kept", function()
      local fields = { code = 1, stderr = "a", truncated = { stderr = true } }
      assert.matches("end of stderr %(as far as it was kept%):", check_error(fields).message)
    end)

    it("says no more than the status when there is no output", function()
      assert.equal("sh -c 'exit 3': exit code 1", check_error({ code = 1, stdout = "", stderr = "" }).message)
    end)

    local commands = {
      { "a shell string", "echo hi; false", "echo hi; false" },
      { "quotes", { "echo", "it's", "", "a=b" }, "echo 'it'\\''s' '' a=b" },
      { "control characters", { "echo", "a\nb\27" }, "echo 'a\\x0ab\\x1b'" },
    }
    for _, row in ipairs(commands) do
      it("shows a command with " .. row[1], function()
        assert.equal(row[3] .. ": exit code 1", check_error({ code = 1, command = row[2] }).message)
      end)
    end

    it("cuts a long command", function()
      local text = check_error({ code = 1, command = { "echo", ("y"):rep(1000) } }).message
      assert.is_true(#text < 250)
      assert.matches("yyy...: exit code 1", text, 1, true)
    end)
  end)

  it("gives its Error without raising it", function()
    local r = made { code = 1 }
    assert.is_true(E.is(result.to_error(r)))
    assert.equal(r, result.to_error(r).result)
  end)
end)
