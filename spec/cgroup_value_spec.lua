-- How what a cgroup's file says compares with what was written to it.
local core = require "nsbox.core"
local same = require("nsbox.cgroup.value").same

local PAGE = core.PAGE_SIZE
local HIGHEST = tostring(math.maxinteger // PAGE * PAGE)

describe("a value that is read back", function()
  -- how, read, written, whether it is that
  local rows = {
    { "number", "50", "50", true }, { "number", "0x32", "50", true }, { "number", "max", "max", true },
    { "number", "49", "50", false }, { "number", "max", "50", false }, { "number", "", "", true },
    { "number", "junk", "50", false },
    { "pages", "8192", "8192", true }, { "pages", tostring(2 * PAGE), tostring(2 * PAGE + 1), true },
    { "pages", tostring(2 * PAGE), tostring(3 * PAGE - 1), true }, { "pages", tostring(2 * PAGE), "1", false },
    { "pages", tostring(2 * PAGE + 1), tostring(3 * PAGE), false }, { "pages", "max", "max", true },
    { "pages", HIGHEST, "-1", true },
    { "pages", tostring(math.maxinteger // (2 << 20) * (2 << 20)), "-1", true }, { "pages", "4096", "-1", false },
    { "pages", HIGHEST, tostring(math.maxinteger), true },
    { "pages", "max", "8192", false }, { "pages", "", "8192", false },
    { "list", "0-1", "0,1", true }, { "list", "0-2,5", "5,0-2", true }, { "list", "1", "0-1", false },
    { "list", "0-1", "1", false }, { "list", "", "0", false }, { "list", "0-3", "2-3,0-1", true },
    { "line", "8:0 rbps=5 wbps=max riops=max wiops=max", "8:0 rbps=5", true },
    { "line", "8:16 rbps=1\n8:0 rbps=5 wbps=7", "8:0 wbps=7 rbps=5", true },
    { "line", "8:0 rbps=5 wbps=max", "8:0 rbps=6", false }, { "line", "8:16 rbps=5", "8:0 rbps=5", false },
    { "line", "default 50\n8:0 100", "default 50", true }, { "line", "default 100\n8:0 50", "default 50", false },
    { "line", "8:0 100", "8:0 100", true }, { "line", "", "8:0 0", true }, { "line", "", "8:0 100", false },
    { "line", "8:00 100", "8:0 100", false },
    { "text", "max 100000", "max 100000", true }, { "text", " 50000  100000 ", "50000 100000", true },
    { "text", "50000 100000", "60000 100000", false }, { "text", "67108864", "64M", true },
    { "text", "65536", "64k", true }, { "text", "67108864", "65M", false }, { "text", "4096", "4097", true },
    { "text", "default 100\n8:0 5", "100", true }, { "text", "default 100", "10", false },
    { "text", "100", "0", false }, { "text", "some 150000", "full 0", false }, { "text", "", "8:0 0", true },
    { "text", "8:0 rbps=5 wbps=max", "8:0 rbps=5", true }, { "text", "max", "64M", false },
    { "text", "0-1", "0,1", true }, { "text", "0-1", "0,2", false }, { "text", "0-2", "0,1", false },
    { "text", "", "0-1", false }, { "text", "1", "1-1", true }, { "text", "0-1", "1", false },
    { "text", HIGHEST, "-1", true }, { "text", "4096", "-1", false }, { "text", "1048577", "0x100001", true },
    { "text", "oom_kill_disable 1\nunder_oom 0", "1", true }, { "text", "oom_kill_disable 0\nunder_oom 1", "1", false },
  }
  for i, row in ipairs(rows) do
    local how, read, written, answer = table.unpack(row)
    it(("as %s (row %d)"):format(how, i), function()
      assert.equal(answer, same[how](read, written) == true)
    end)
  end
end)
