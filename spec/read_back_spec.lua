-- The rows by which a plan reads back what the kernel applied: what is so passes, what is not stops the start.
local assert = require "luassert"
local helper = require "spec.helper"
local start = require "spec.start"
local sys = require "nsbox.sys"
helper.leakcheck { cold = true }

local EXEC = start.exec("busybox", "true")

local function cpus()
  local first = tonumber((helper.read "/proc/self/status"):match "Cpus_allowed_list:%s*(%d+)")
  local function mask(cpu) return ("\0"):rep(cpu // 8) .. string.char(1 << cpu % 8) .. ("\0"):rep(7 - cpu // 8 % 8) end
  return mask(first), mask(first + 1)
end

for _, mode in ipairs { "shared memory", "copies" } do
  describe("reading back, with " .. mode, function()
    local m = start.mode(mode)

    local function stops(at, ...)
      local steps = start.guarded { ... }
      steps[#steps + 1] = EXEC
      assert.same({ "failed", #start.guarded {} + at, sys.EPROTO }, { m.perform(steps) })
    end

    local function goes(...)
      local steps = start.guarded { ... }
      steps[#steps + 1] = EXEC
      assert.same({ "started", "exit", 0 }, { m.perform(steps) })
    end

    it("a limit is what it is", function()
      goes({ "setrlimit", "core", 0, 4096 }, { "check_rlimit", "core", 0, 4096 })
      stops(2, { "setrlimit", "core", 0, 4096 }, { "check_rlimit", "core", 0, 0 })
      stops(2, { "setrlimit", "core", 0, 4096 }, { "check_rlimit", "core", 4096, 4096 })
    end)

    it("a limit that is higher already is not raised", function()
      goes({ "setrlimit", "nofile", 64, 128 }, { "raise_limit", "nofile", 100 }, { "check_rlimit", "nofile", 64, 128 })
    end)

    it("CPUs are these and no others", function()
      local one, other = cpus()
      goes({ "sched_setaffinity", one }, { "check_affinity", one })
      stops(2, { "sched_setaffinity", one }, { "check_affinity", other })
      stops(2, { "sched_setaffinity", one }, { "check_affinity", one .. "\1" })
    end)

    it("priority and personality are what they are", function()
      goes({ "setpriority", 0, 0, 19 }, { "getpriority", 0, 0, expect = 1 }, { "personality", 0x40000 },
        { "personality", 0xffffffff, expect = 0x40000 })
      stops(2, { "setpriority", 0, 0, 19 }, { "getpriority", 0, 0, expect = 20 })
    end)

    it("capabilities are no more than asked, and what other programs get is exactly that", function()
      helper.needs "userns"
      -- kept: in inheritable
      local function event_of(kept, ...)
        return { m.perform { start.GUARD, { "clone", "vm,vfork,parent,newuser" }, start.GUARD,
          { "cap_bound", "kill,chown" }, { "capset", "kill,chown", "kill,chown", kept }, ... } }
      end
      local raise = { "prctl", "cap_ambient", 2, 5, 0, 0 } -- PR_CAP_AMBIENT_RAISE, CAP_KILL
      -- inheritable, ambient, what check_caps is asked
      local right = {
        { "", {}, { "kill,chown", "kill,chown", "" } }, { "kill", { raise }, { "kill,chown", "kill,chown", "kill" } },
        { "", {}, { "kill,chown,setuid", "kill,chown,setuid", "" } },
      }
      local wrong = {
        { "", {}, { "kill", "kill,chown", "" } }, { "", {}, { "kill,chown", "kill", "" } },
        { "kill", {}, { "kill,chown", "kill,chown", "" } }, { "kill", {}, { "kill,chown", "kill,chown", "kill" } },
        { "", {}, { "kill,chown", "kill,chown", "kill" } },
        { "kill,chown", { raise }, { "kill,chown", "kill,chown", "kill,chown" } },
      }
      local function each(rows, expected)
        for i, row in ipairs(rows) do
          local steps = { table.unpack(row[2]) }
          steps[#steps + 1] = { "check_caps", table.unpack(row[3]) }
          steps[#steps + 1] = EXEC
          assert.same(expected(#row[2]), event_of(row[1], table.unpack(steps)), "row " .. i)
        end
      end
      each(right, function() return { "started", "exit", 0 } end)
      each(wrong, function(more) return { "failed", 6 + more, sys.EPROTO } end)
    end)

    it("mounts are not the caller's", function()
      helper.needs "userns"
      local root <close> = assert(sys.open("/", "path,directory"))
      local function event_of(flags)
        local steps = { start.GUARD, { "clone", "vm,vfork,parent" .. flags }, start.GUARD,
          { "other_mount", "@root", "/" }, EXEC }
        return { m.perform(steps, { root = root }) }
      end
      assert.same({ "failed", 4, sys.EPROTO }, event_of "")
      assert.same({ "started", "exit", 0 }, event_of ",newuser,newns")
    end)
  end)
end
