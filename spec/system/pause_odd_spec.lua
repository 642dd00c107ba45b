-- Programs that are odd to pause by signals: orphans, vfork, threads without a first one, fork bombs. None of their
-- boxes has a cgroup, whose freezer would hold them.
local box = require "spec.box"
local helper = require "spec.helper"
local nsbox = require "nsbox"
helper.leakcheck { settle = true, outside = true }

local quiet = box.quiet
local COUNT = "i=0; while :; do i=$((i+1)); echo $i; done"

local kinds = { { "of its own pids", { degrade = { "cgroup" } } },
  { "that shares the caller's pids", { degrade = { "cgroup" }, namespaces = { pid = false } } } }

local function start(cmd)
  local b = assert(nsbox.start("busybox", cmd, { degrade = { "cgroup" } }))
  helper.cleanup(function() b:close() end)
  return b
end

local function letters(b)
  local list = {}
  for i, p in ipairs(assert(b:processes())) do list[i] = p.state end
  return table.concat(list)
end

describe("pause", function()
  it("finds orphans, another session and a pid namespace below", function()
    local b = start({ "sh", "-c", "(setsid sh -c '" .. COUNT .. "' &); (" .. COUNT .. " &);"
      .. "unshare -U -p -f sh -c '(" .. COUNT .. ") & wait' & wait" })
    box.eventually("six processes", function() return #b:processes() == 6 end)
    assert.is_true(b:pause())
    assert.equal("TTTTTT", letters(b))
    local text = quiet(b)
    assert.equal(text, quiet(b))
    b:resume()
    box.eventually("it does not go on", function() return b:logs() ~= text end)
  end)

  it("holds a parent in vfork, and threads whose first one has ended", function()
    local root = box.image()
    box.program("spinner", root)
    for _, kind in ipairs(kinds) do
      for _, how in ipairs { "vfork", "threads" } do
        local b = assert(nsbox.start(root, { "/spinner", how }, kind[2]))
        b:expect "x\nx\n"
        assert.is_true(b:pause())
        local text = quiet(b)
        assert.equal(text, quiet(b))
        -- Linux 6.1 says T of a process whose first thread has ended
        assert.truthy(letters(b):find(how == "vfork" and "^DT$" or "^[ZT]$"), letters(b))
        b:resume()
        box.eventually("it does not go on", function() return b:logs() ~= text end)
        b:pause()
        local left = b:processes()
        b:close()
        for _, p in ipairs(kind[2].namespaces and left or {}) do box.kill(p.pid) end
      end
    end
  end)

  it("holds programs that fork all the time", function()
    local b = start({ "sh", "-c", "for i in 1 2 3 4; do for j in 1 2 3 4; do (while :; do (:); done) & done; done;"
      .. "echo ready; while :; do (:); done" })
    b:expect "ready"
    for _ = 1, helper.rounds(10) do
      assert.is_true(b:pause())
      local before = {}
      for i, p in ipairs(b:processes()) do before[i] = p.inside end
      assert.is_true(#before >= 17)
      assert.is_nil(letters(b):find "[^TZ]" and letters(b))
      nsbox.sleep(0.02)
      local after = {}
      for i, p in ipairs(b:processes()) do after[i] = p.inside end
      assert.same(before, after)
      b:resume()
    end
  end)

  it("takes programs that wake each other up", function()
    local b = start({ "sh", "-c", "for i in 1 2 3; do (while :; do kill -CONT -1; done) & done; echo ready; wait" })
    b:expect "ready"
    for _ = 1, helper.rounds(10) do
      assert.is_true(b:pause())
      assert.equal("TTTT", letters(b))
      b:resume()
    end
  end)
end)
