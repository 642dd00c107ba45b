local signal = require "nsbox.signal"

local table_of_linux = {
  [1] = "HUP", [2] = "INT", [3] = "QUIT", [6] = "ABRT", [7] = "BUS", [9] = "KILL", [10] = "USR1", [11] = "SEGV",
  [12] = "USR2", [13] = "PIPE", [15] = "TERM", [16] = "STKFLT", [17] = "CHLD", [18] = "CONT", [19] = "STOP",
  [24] = "XCPU", [25] = "XFSZ", [28] = "WINCH", [29] = "IO", [30] = "PWR", [31] = "SYS", [32] = "32", [33] = "33",
  [34] = "RTMIN", [35] = "RTMIN+1", [50] = "RTMIN+16", [64] = "RTMIN+30",
}

describe("nsbox.signal", function()
  it("names the signals of Linux", function()
    for n, name in pairs(table_of_linux) do
      assert.equal(name, signal.name(n))
    end
    assert.equal("TERM", signal.name(15.0))
  end)

  it("finds back the number of every name", function()
    for n = 1, 64 do
      local name = signal.name(n)
      assert.equal(n, signal.number(name))
      assert.equal(n, signal.number(name:lower()))
      if name:find("^%a") then
        assert.equal(n, signal.number("SIG" .. name))
      end
    end
  end)

  local spellings = {
    { "TERM", 15 }, { "SIGTERM", 15 }, { "term", 15 }, { "sigTerm", 15 }, { "15", 15 }, { 15, 15 }, { 15.0, 15 },
    { "IOT", 6 }, { "CLD", 17 }, { "POLL", 29 }, { "SIGRTMIN+3", 37 }, { "rtmin", 34 }, { "RTMAX", 64 },
    { "RTMAX-2", 62 }, { "64", 64 },
  }
  for _, row in ipairs(spellings) do
    it(("reads %s as %d"):format(row[1], row[2]), function()
      assert.equal(row[2], signal.number(row[1]))
    end)
  end

  it("answers nil for what is no signal", function()
    local none = {
      0, -1, 65, 1.5, 0 / 0, math.huge, "", "SIG", "NOPE", "0", "65", "-9", "15 ", "RTMIN-1", "RTMAX+1", "RTMIN+31",
      "RTMIN+", "RTMIN3", "RTMID", "SIGSIGTERM", {}, true, print,
    }
    for _, value in ipairs(none) do
      assert.is_nil(signal.number(value))
    end
    assert.is_nil(signal.number(nil))
    for _, value in ipairs { 0, -1, 65, 1.5, "TERM", "15", {} } do
      assert.is_nil(signal.name(value))
    end
    assert.is_nil(signal.name(nil))
  end)
end)
