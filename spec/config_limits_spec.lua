-- What becomes of limits that cannot be enforced: an Error that says why, or a note.
local assert = require "luassert"
local limits = require "nsbox.config.limits"

local DENIED = { why = "the cgroup /c/x is not the caller's", fix = "become root" }
local HOST = { cgroups = { v1 = { pids = DENIED } } }
local PIDS = { resources = { pids = { limit = 5 } } }

describe("a limit that cannot be enforced", function()
  it("is refused with its name, the reason, what to change, and how to do without", function()
    local notes, err, errno = limits.settle("run", { pids = 5 }, PIDS, {}, HOST)
    assert.same({ nil, nil, "unsupported", "run" }, { notes, errno, err.kind, err.verb })
    assert.equal("nsbox: run: option 'pids' cannot be enforced: the cgroup /c/x is not the caller's\n"
      .. '  hint: become root; or degrade = { "pids" }', tostring(err))
  end)

  it("is noted where it may be", function()
    local nsbox = { degrade = { pids = true } }
    assert.same({ { what = "pids", why = "not enforced: the cgroup /c/x is not the caller's" } },
      limits.settle("run", { pids = 5 }, PIDS, nsbox, HOST))
    assert.is_nil(nsbox.cgroup)
  end)

  it("is not kept: CPU time", function()
    local nsbox = { cpu_time = 5, degrade = { cpu_time = true } }
    local places = { v1 = { pids = { folder = "/c" } } }
    local notes = limits.settle("run", { pids = 5, cpu_time = 5 }, PIDS, nsbox, { cgroups = places })
    assert.equal("cpu_time", notes[1].what)
    assert.is_nil(nsbox.cpu_time)
    nsbox.cpu_time, places.v1.cpuacct = 5, { folder = "/c" }
    assert.same({}, limits.settle("run", { pids = 5, cpu_time = 5 }, PIDS, nsbox, { cgroups = places }))
    assert.equal(5, nsbox.cpu_time)
  end)

  it("is none where none is asked for", function()
    assert.same({}, limits.settle("run", {}, {}, {}, HOST))
    assert.is_false(limits.needs_cgroup { hostname = "x" })
    assert.is_true(limits.needs_cgroup { cpu_time = 1 })
  end)
end)
