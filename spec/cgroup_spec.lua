-- Why a box has ended, by what its cgroup has counted.
local cgroup = require "nsbox.cgroup"

local HOW = { exit = { "exit", 0 }, fails = { "exit", 1 }, killed = { "signal", 9 }, terminated = { "signal", 15 } }

-- used: CPU seconds; ticks: what user and sys say of them; kills: for want of memory; sent: signals of ours.
local function reason(how, limit, used, ticks, kills, before, sent)
  local killed = false
  local group = { usage = function() return { user = ticks, sys = 0, oom_kills = kills } end,
    cpu_time = function() return used end, kill = function() killed = true end }
  local task = { cgroup = group, how = HOW[how][1], status = HOW[how][2], cpu_time = limit, reason = before,
    sent = sent }
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
      { nil, "killed", nil, nil, nil, 1, nil, { [9] = true } }, -- by us; a child of it was killed before
      { nil, "terminated", nil, nil, nil, 1, nil, { [15] = true } },
      { nil, "fails", nil, nil, nil, 1, nil, { [9] = true, [15] = true } }, -- it was stopped
      { "oom", "fails", nil, nil, nil, 1, nil, { [1] = true } },
      { "oom", "killed", nil, nil, nil, 1, nil, { [15] = true } },
    }
    for i, row in ipairs(rows) do
      assert.equal(row[1], reason(table.unpack(row, 2, 8)), "row " .. i)
    end
  end)
end)
