-- Programs of the host's that nsbox has do what its caller may not.
local assert = require "luassert"
local helper = require "spec.helper"
local in_time = require "spec.in_time"
local tool = require "nsbox.tool"
helper.leakcheck()

local function shell(text, seconds, environment)
  return tool.run({ "/nonexistent", "/bin/sh" }, { "sh", "-c", text }, seconds or helper.PATIENCE, environment)
end

describe("tool.run", function()
  it("answers how the program ended and what it said was wrong", function()
    assert.same({ "exit", 0, "" }, { shell "echo out" })
    assert.same({ "exit", 3, "no such thing" }, { shell "echo no such thing >&2; echo >&2; exit 3" })
    assert.same({ "signal", 9, "" }, { shell "kill -9 $$" })
  end)

  it("makes one line of plain letters of it, and not too much", function()
    local _, _, said = shell "printf 'a\\tb\\nc\\033[1m\\303\\244\\n\\n' >&2"
    assert.equal("a?b?c?[1m??", said)
    _, _, said = shell "printf %05000d 0 >&2"
    assert.equal(4096, #said)
  end)

  it("waits no longer than it was told, and what runs then is killed", function()
    in_time(0.3, { "no end", "timeout", "begun" }, function(seconds)
      return { shell("echo begun >&2; exec sleep 60", seconds) }
    end)
  end)

  it("gives it no environment but what is named", function()
    local _, _, said = shell "env >&2"
    assert.matches("^LC_ALL=C", said)
    assert.is_nil(said:find("HOME=", 1, true))
    _, _, said = shell("echo $A $LC_ALL >&2", nil, { "A=1" })
    assert.equal("1", said)
  end)

  it("says that it could not be started", function()
    local how, err = tool.run({ "/nonexistent" }, { "x" }, helper.PATIENCE)
    assert.is_nil(how)
    assert.matches("No such file or directory", tostring(err))
  end)
end)
