local flags = require "nsbox.cli.flags"

describe("flags.spelled", function()
  -- what a script would write, and what a command line has; the same where that has no such thing
  local rows = {
    { 'or degrade = { "memory" }', "or --degrade memory" }, { 'userns = "host" leaves', "--userns host leaves" },
    { 'cap_add = "all", unmask = "all"', '--cap-add all, unmask = "all"' },
    { "use disable_userns = true", "use --disable-userns" }, { 'use stdin = "inherit"', "use --interactive" },
    { 'mounts = { "SRC:DST[:ro]" }', "--volume SRC:DST[:ro]" }, { 'with stdin = "pipe"', 'with stdin = "pipe"' },
    { 'cgroup = { ["a.b"] = "0" }', 'cgroup = { ["a.b"] = "0" }' },
    { "optional = true in its row", "optional = true in its row" },
  }
  for _, row in ipairs(rows) do
    it(row[1], function()
      assert.equal(row[2], flags.spelled(row[1]))
    end)
  end
end)
