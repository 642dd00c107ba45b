-- Why a box has ended, by what its cgroup has counted.
local cgroup = require "nsbox.cgroup"

local HOW = { exit = { "exit", 0 }, fails = { "exit", 1 }, killed = { "signal", 9 } }

-- used: CPU seconds; ticks: what user and sys say of them; kills: for want of memory.
local function reason(how, limit, used, ticks, kills, before)
  local killed = false
  local group = { usage = function() return { user = ticks, sys = 0, oom_kills = kills } end,
    cpu_time = function() return used end, kill = function() killed = true end }
  local task = { cgroup = group, how = HOW[how][1], status = HOW[how][2], cpu_time = limit, reason = before }
  cgroup.ended(task)
  assert(killed, "what shares the caller's pids ends with it")
  return task.reason
end

describe("the end of a box with a cgroup", function()
  it("has its reason from what was counted", function()
    local rows = {
      { "cpu", "killed", 0.3, 0.301, 0.301, 0 },
      { "cpu", "killed", 0.3, 0.301, 0.292, 0 }, -- v1 counts user and sys in ticks
      { nil, "killed", 0.3, 0.299, 0.304, 0 },
      { "oom", "killed", nil, nil, 1, 1 },
      { "oom", "killed", 0.3, 0.1, 0.1, 1 },
      { "oom", "fails", 0.3, 0.4, 0.4, 1 }, -- it ended by itself
      { nil, "exit", 0.3, 0.4, 0.4, 1 },
      { "timeout", "killed", 0.3, 0.4, 0.4, 1, "timeout" },
    }
    for i, row in ipairs(rows) do
      assert.equal(row[1], reason(table.unpack(row, 2, 7)), "row " .. i)
    end
  end)
end)
