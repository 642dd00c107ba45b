-- The core alone: the CPU time of a process that has ended.
local helper = require "spec.helper"
local start = require "spec.start"
local sys = require "nsbox.sys"
helper.leakcheck { cold = true }

local guarded, exec = start.guarded, start.exec
local SPIN = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done"

for _, mode in ipairs { "shared memory", "copies" } do
  local m = start.mode(mode)

  local function started(...)
    local launch <close> = assert(m.open(guarded { exec(...) }))
    local event, process, errno = m.follow(launch)
    assert.equal("started", event, errno)
    return process
  end

  local function polled(process)
    start.eventually("it ends", function() return process:poll() end)
    return process:poll()
  end

  describe("the CPU time of a process in " .. mode, function()
    it("is known when it was reaped, and stays so", function()
      local process <close> = started("sh", "-c", "read x; " .. SPIN)
      assert.is_nil(process:usage())
      local how = polled(process)
      assert.equal("exit", how)
      local user, system = process:usage()
      assert.equal("float", math.type(user))
      assert.equal("float", math.type(system))
      assert.is_true(user + system > 0)
      process:close()
      assert.same({ user, system }, { process:usage() })
    end)

    it("has that of the processes it waited for", function()
      local process <close> = started("sh", "-c", "sh -c '" .. SPIN:rep(4, "; ") .. "'; exit 3")
      assert.same({ "exit", 3 }, { polled(process) })
      local user, system = process:usage()
      local single <close> = started "true"
      polled(single)
      local least, most = single:usage()
      assert.is_true(user + system > least + most)
    end)

    it("is known of one that was killed", function()
      local process <close> = started("sleep", "100")
      assert(process:kill())
      assert.same({ "signal", 9 }, { polled(process) })
      assert.equal("float", math.type(process:usage()))
    end)

    it("is not known when somebody else took its end", function()
      local process <close> = started "true"
      assert.same({ "exit", 0 }, { sys.waitid(process:pid(), 30) })
      polled(process)
      assert.is_nil(process:usage())
    end)
  end)
end
