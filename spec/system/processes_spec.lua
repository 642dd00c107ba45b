-- The list of a box's processes.
local box = require "spec.box"
local helper = require "spec.helper"
local nsbox = require "nsbox"
local script = require "spec.script"
local sys = require "nsbox.sys"
helper.leakcheck { settle = true, outside = true }

local function start(cmd, opts)
  local b = assert(nsbox.start("busybox", cmd, opts))
  helper.cleanup(function() b:close() end)
  return b
end

local function letters(b)
  local list = {}
  for i, p in ipairs(assert(b:processes())) do list[i] = p.state end
  return table.concat(list)
end

describe("processes", function()
  it("lists those of a box as the box and the host number them", function()
    local b = start { "sh", "-c", "sleep 100 & (sleep 101 &) ; echo ready; sleep 102; :" }
    b:expect "ready"
    local added = assert(b:spawn({ "sh", "-c", "sleep 103; :" }))
    box.eventually("all six", function() return #b:processes() == 6 end)
    box.eventually("all exec", function()
      for _, p in ipairs(b:processes()) do
        if #p.command == 0 or p.name == "sh" and p.inside ~= 1 and p.pid ~= added.pid then return false end
      end
      return true
    end)
    local list, by = b:processes(), {}
    for i, p in ipairs(list) do
      assert.is_true(i == 1 or list[i - 1].inside < p.inside)
      assert.same({ p.pid, p.inside }, { p.pid, tonumber(box.status(p.pid, "NSpid"):match "%d+$") })
      assert.truthy(p.state:find "^[RSD]$")
      by[table.concat(p.command, " ")] = p
    end
    local main = by["sh -c sleep 100 & (sleep 101 &) ; echo ready; sleep 102; :"]
    assert.same({ 1, b.pid, "sh" }, { main.inside, main.pid, main.name })
    for _, n in ipairs { 100, 101, 102 } do assert.equal(b.pid, by["sleep " .. n].ppid) end
    assert.equal(added.pid, by["sleep 103"].ppid)
    assert.same({ "sleep", "100" }, by["sleep 100"].command)
    added:close()
  end)

  it("are the descendants in a box that shares the caller's pids", function()
    local b = start({ "sh", "-c", "sleep 100 & (sleep 100; :) & wait" }, { namespaces = { pid = false } })
    local function sleeping()
      local pids = {}
      for _, p in ipairs(b:processes()) do pids[#pids + 1] = p.name == "sleep" and p.pid or nil end
      return pids
    end
    box.eventually("all four", function() return #b:processes() == 4 and #sleeping() == 2 end)
    for _, p in ipairs(b:processes()) do assert.equal(p.pid, p.inside) end
    for _, pid in ipairs(sleeping()) do sys.kill(pid, "kill") end
    assert.equal(0, b:wait().code)
    assert.same({}, b:processes())
  end)

  it("shows one that has ended and is not reaped, and odd names", function()
    local root = box.image()
    local b = assert(nsbox.start(root, { "/bin/busybox", "sh", "-c",
      "/bin/busybox sleep 0.2 & printf 'a\\nState: R' > /proc/$$/comm; echo ready; read line" }, { stdin = "pipe" }))
    b:expect "ready"
    box.eventually("a zombie", function() return letters(b):find "Z" end)
    local zombie = b:processes()[2]
    assert.same({ "Z", {}, b.pid }, { zombie.state, zombie.command, zombie.ppid })
    assert.equal("a\nState: R", b:processes()[1].name)
    assert.is_true(b:pause())
    b:close()
  end)

  it("is refused to a fork, as pause and resume are", function()
    script.succeeds [[
      local host = require "host"
      local b = assert(nsbox.start("busybox", { "sleep", "100" }, { degrade = { "cgroup" } }))
      assert(b:pause())
      local child = host.fork()
      if child == 0 then
        local good = true
        for _, verb in ipairs { "pause", "resume", "processes" } do
          local ok, err = b[verb](b)
          good = good and ok == nil and err.kind == "closed"
        end
        b:close()
        os.exit(good and 9 or 1, true)
      end
      assert(select(2, sys.waitid(child, 30)) == 9)
      assert(b.state == "paused" and b:processes()[1].state == "T")
      b:close()]]
  end)

  it("get no signal by the number of a box that has ended and was reaped elsewhere", function()
    local other = start { "sh", "-c", "sleep 100 & wait" }
    box.eventually("two processes", function() return #other:processes() == 2 end)
    local task = require("nsbox.process").task_of(other)
    local gone = { config = task.config,
      process = { pid = function() return other.pid end, poll = function() return "lost" end } }
    local ok, _, errno = require("nsbox.box.everyone").signal(gone, sys.SIGKILL)
    assert.same({ sys.ESRCH, 2 }, { errno, #other:processes() })
    assert.is_nil(ok)
  end)
end)
