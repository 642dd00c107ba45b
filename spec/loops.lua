-- The loops that nsbox.use knows, each as { name, use, start(fn), sleep(seconds), run() }, for specs that hold for all.
local sys = require "nsbox.sys"

local loops = {}

function loops.luv()
  local uv = require "luv"
  return {
    use = "luv",
    start = function(fn) coroutine.wrap(fn)() end,
    sleep = function(seconds)
      local co, timer = coroutine.running(), uv.new_timer()
      timer:start(seconds * 1000 // 1, 0, function()
        timer:close()
        assert(coroutine.resume(co))
      end)
      coroutine.yield()
    end,
    run = function() uv.run() end,
    left = function()
      local n = 0
      uv.walk(function(handle) n = n + (handle:is_closing() and 0 or 1) end)
      return n
    end,
  }
end

function loops.cqueues()
  local cqueues = require "cqueues"
  local controller = cqueues.new()
  return {
    use = "cqueues",
    start = function(fn) controller:wrap(fn) end,
    sleep = cqueues.sleep,
    run = function() assert(controller:loop()) end,
    left = function() return controller:count() end,
  }
end

function loops.copas()
  package.loaded.copas = require "spec.copas_stub"
  local copas = package.loaded.copas
  return {
    use = "copas",
    start = copas.addthread,
    sleep = copas.sleep,
    run = copas.loop,
    left = function() return 0 end,
  }
end

-- A scheduler of the user's own: a coroutine yields rows and a deadline.
function loops.own()
  local waiting = {}
  local function resume(co)
    local ok, rows, deadline = coroutine.resume(co)
    assert(ok, rows)
    waiting[co] = coroutine.status(co) ~= "dead" and { rows = rows, deadline = deadline } or nil
  end
  local function step()
    local all, nearest, due = {}, math.huge, {}
    for co, w in pairs(waiting) do
      nearest = math.min(nearest, w.deadline)
      for _, row in ipairs(w.rows) do all[#all + 1] = { fd = row.fd, events = row.events, co = co } end
    end
    sys.poll(all, math.max(0, nearest - sys.clock()))
    for _, row in ipairs(all) do due[row.co] = row.revents and true or due[row.co] end
    for co, w in pairs(waiting) do due[co] = due[co] or sys.clock() >= w.deadline or nil end
    for co in pairs(due) do resume(co) end
  end
  return {
    use = function(fds, deadline) coroutine.yield(fds, deadline) end,
    start = function(fn) resume(coroutine.create(fn)) end,
    sleep = function(seconds) coroutine.yield({}, sys.clock() + seconds) end,
    run = function() while next(waiting) do step() end end,
    left = function() return 0 end,
  }
end

return loops
