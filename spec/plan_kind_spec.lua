-- Plans are kept by kind: one must never be taken for another. No privilege, nothing is started.
local assert = require "luassert"
local explain = require "nsbox.explain"
local plan = require "nsbox.plan"
local plans = require "spec.plans"
local stations = require "spec.stations"

local each = plans.each

-- All of a plan as plain text, in one order.
local function deep(v)
  if type(v) ~= "table" then
    return tostring(v)
  end
  local keys, parts = {}, {}
  for key in pairs(v) do
    keys[#keys + 1] = key
  end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  for i, key in ipairs(keys) do
    parts[i] = tostring(key) .. "=" .. deep(v[key])
  end
  return "{" .. table.concat(parts, " ") .. "}"
end

-- By a plan.lua that has made no other.
local function planned_alone(c, host)
  package.loaded["nsbox.plan"] = nil
  local alone = require "nsbox.plan"
  package.loaded["nsbox.plan"] = plan
  return alone.plan(c, host)
end

describe("a plan that is kept", function()
  -- Each of the configurations after each other: one that takes another's plan, or another's value, shows.
  it("is the same as one that was made alone, whatever was planned before", function()
    local texts, alone = {}, {}
    for pass = 1, 2 do
      local n = 0
      each(function(_, c, host)
        n = n + 1
        local text = tostring(explain.show({}, c, host))
        alone[n] = alone[n] or deep(planned_alone(c, host))
        assert.equal(alone[n], deep(plan.plan(c, host)))
        assert.equal(texts[n] or text, text)
        texts[n] = text
        assert.is_true(pass == 1 or plan.steps_of(c, host) == plan.steps_of(c, host) or c.nsbox.host ~= nil)
      end)
    end
  end)

  it("is a new one for whatever of its configuration changes", function()
    local changes = {
      function(c) c.process.capabilities.bounding = { "CAP_CHOWN" } end,
      function(c) c.process.capabilities.permitted = { "CAP_CHOWN" } end,
      function(c) c.process.capabilities.effective = {} end,
      function(c) c.process.noNewPrivileges = false end,
      function(c) c.nsbox.become = nil end,
      function(c) c.nsbox.shift = nil end,
      function(c) c.nsbox.setgroups = nil end,
      function(c) c.process.user = { uid = 7, gid = 0, umask = 18 } end,
      function(c) c.process.user = { uid = 0, gid = 7, umask = 18 } end,
      function(c) c.process.user = { uid = 0, gid = 0, umask = 7 } end,
      function(c) c.process.user = { uid = 0, gid = 0, umask = 18, additionalGids = { 5 } } end,
      function(c) c.process.terminal = true end,
      function(c) c.linux.maskedPaths = { "/proc/kcore" } end,
      function(c) c.linux.readonlyPaths = {} end,
      function(c) c.mounts = { c.mounts[1] } end,
      function(c) c.root.readonly = true end,
      function(c) c.root.path = "/other" end,
      function(c) c.hostname = nil end,
      function(c) c.hostname = "other" end,
      function(c) c.domainname = "domain" end,
      function(c) c.process.cwd = "/other" end,
      function(c) c.process.args = { "other" } end,
      function(c) c.process.env = { "PATH=/other" } end,
      function(c) c.nsbox.layer_path = "/layer" end,
      function(c) c.nsbox.init = true end,
      function(c) c.nsbox.init, c.nsbox.idle = true, true end,
      function(c) c.nsbox.fds = { 3 } end,
      function(c) c.nsbox.fds = { 3, 4 } end,
      function(c) c.nsbox.fds = { 34 } end,
      function(c) c.linux.uidMappings = { { containerID = 0, hostID = 5, size = 6 } } end,
      function(c) c.linux.gidMappings = { { containerID = 0, hostID = 5, size = 6 } } end,
      function(c) table.remove(c.linux.namespaces) end,
      function(c) c.linux.namespaces[#c.linux.namespaces].path = "/proc/1/ns/x" end,
      function(c) table.insert(c.linux.namespaces, { type = "time" }) end,
    }
    local of_a_terminal = {
      function(c) c.process.consoleSize.height = 7 end,
      function(c) c.process.consoleSize.width = 7 end,
      function(c) c.process.consoleSize = nil end,
    }
    local of_clocks = {
      function(c) c.linux.timeOffsets.boottime.secs = 7 end,
      function(c) c.linux.timeOffsets.boottime.nanosecs = 7 end,
      function(c) c.linux.timeOffsets.monotonic = nil end,
    }
    local function all_differ(opts, list)
      local function text(change)
        local c = stations.config { opts = opts }
        local caps = c.process.capabilities
        c.process.capabilities = { bounding = caps.bounding, permitted = caps.permitted, effective = caps.effective }
        change(c)
        local found = deep(plan.plan(c, stations.root))
        assert.equal(deep(planned_alone(c, stations.root)), found)
        return found
      end
      local seen = {}
      for i, change in ipairs(list) do
        seen[text(function() end)] = 0 -- so that the last plan of this kind is the one that nothing was changed for
        local changed = text(change)
        assert.is_nil(seen[changed], ("change %d is not in the plan, or as change %s"):format(i, seen[changed]))
        seen[changed] = i
      end
    end
    all_differ({}, changes)
    all_differ({ tty = { rows = 24, cols = 80 } }, of_a_terminal)
    all_differ({ namespaces = { time = { boottime = 1, monotonic = 1 } } }, of_clocks)
  end)
end)

