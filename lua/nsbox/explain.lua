-- explain.lua: what each station of a start produced, without starting anything.

local idmap = require "nsbox.idmap"
local idrange = require "nsbox.idrange"
local plan = require "nsbox.plan"
local probe = require "nsbox.probe"
local start = require "nsbox.start"
local step_text = require "nsbox.step"

local explanation_mt = { __name = "nsbox.explanation" }

local MIN_CALL, MAX_CALL = 24, 76 -- how wide the column of calls is

-- A long call goes on in the lines below, broken behind a comma or a space where there is one, never in a character.
local function wrapped(call, width)
  local lines = {}
  while #call > width do
    local n = width
    while n > MIN_CALL and call:find("^[\x80-\xbf]", n + 1) do
      n = n - 1
    end
    n = #(call:sub(1, n):match("^" .. ("."):rep(MIN_CALL // 2) .. ".*[, ]") or call:sub(1, n))
    lines[#lines + 1] = (call:sub(1, n):gsub(" +$", ""))
    call = "  " .. call:sub(n + 1):gsub("^ +", "")
  end
  lines[#lines + 1] = call
  return lines
end

local function row(number, step, width)
  local calls = wrapped(step_text.text(step), width)
  local marks = {}
  if step.ok then
    marks[1] = ("(%s is no failure)"):format(step.ok)
  end
  if step.expect ~= nil then
    marks[#marks + 1] = ("(must answer %s)"):format(tostring(step.expect))
  end
  local why = table.concat({ step.why, table.unpack(marks) }, " ")
  local form = "%4d  %-6s  %-" .. width .. "s  %s"
  calls[1] = form:format(number, step.side, calls[1], why)
  return table.concat(calls, "\n" .. (" "):rep(14))
end

function explanation_mt.__tostring(e)
  local width = MIN_CALL
  for _, step in ipairs(e.plan) do
    local n = #step_text.text(step)
    width = n <= MAX_CALL and math.max(width, n) or width
  end
  local lines = { ("step  who     %-" .. width .. "s  why"):format "call" }
  for i, step in ipairs(e.plan) do
    lines[#lines + 1] = row(i, step, width)
  end
  return table.concat(lines, "\n") .. "\n"
end

-- Options and configurations share constant tables, and plans steps; what is shown may be changed by who looks at it.
local function copy(v)
  if type(v) ~= "table" then
    return v
  end
  local out = {}
  for key, value in pairs(v) do
    out[key] = copy(value)
  end
  return out
end

--- The explanation of checked options and a configuration. Pure.
local function show(o, config, host)
  local steps = copy(plan.plan(config, host))
  return setmetatable({ options = copy(o), config = copy(config), plan = steps }, explanation_mt)
end

-- What a start is likely to have: a range of root's may be taken, and newuidmap may refuse.
local function ids_of(_, host)
  return host.ids or host.root.ok and idrange.first() or idmap.of_caller(host)
end

--- What a run with these arguments would do: { options =, config =, plan = } with __tostring; never prints, starts
-- nothing. plan[i] = { call, arguments…, why =, side = "parent" | "child" }. `host` is a probe table (default: this
-- host's). nil, err, errno for what run would refuse; raises on misuse.
local function explain(name, cmd, opts, host)
  host = host or probe.host()
  local config, o, errno = start.describe("explain", name, cmd, opts, host, "box", ids_of)
  if not config then
    return nil, o, errno
  end
  return show(o, config, host)
end

return { explain = explain, show = show }
