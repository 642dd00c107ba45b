-- Shared by the specs of plans: configurations of every kind, and what is planned for each.
local plan = require "nsbox.plan"
local stations = require "spec.stations"

local plans = {}

plans.terminal = { read_only = true, tty = { rows = 24, cols = 80 }, env = { TERM = "xterm" } }

local variants = {
  {}, plans.terminal, { read_only = true }, { tty = true }, { hostname = "h", domainname = "d", workdir = "/w" },
  { namespaces = { time = { boottime = 5, monotonic = -5.5 } } },
  { init = true }, { init = true, tty = true },
  { namespaces = { time = { boottime = 5, monotonic = -5.5 } } }, { fds = { [3] = 0, [20] = 0 } },
  { namespaces = { pid = false } }, { namespaces = { net = false, uts = false, ipc = false, cgroup = false } },
  { namespaces = { net = "/proc/1/ns/net", uts = "/proc/1/ns/uts", ipc = 1, cgroup = 1, time = 1 } },
}
local ids = { { userns = "single" }, { userns = "keep-id" },
  { uid_map = { { 0, 100005, 3 } }, gid_map = { { 0, 100005, 3 } } } }
local as_root = { { userns = "host" },
  { user = "5:6" }, { user = "5:6", tty = true }, { namespaces = { user = false } }, { namespaces = { pid = 1 } },
  { namespaces = { user = false, pid = false } }, { namespaces = { user = 1, mount = true } },
}

local cases = {}

local function add_case(name, host, image, opts)
  cases[#cases + 1] = { name = ("%s, %s, %d"):format(name, image.name, #cases + 1),
    given = { host = host, image = image, opts = opts, cmd = { "true" } } }
end

local function add_idle(name, host, image)
  add_case(name .. ", idle", host, image, {})
  cases[#cases].given.cmd = false
end

for _, image in ipairs { stations.folder(), stations.host_image() } do
  add_case("as a user without ranges", stations.plain, image, {})
  for _, opts in ipairs(variants) do
    add_case("as root", stations.root, image, opts)
    add_case("as a user", stations.user, image, opts)
    if opts.namespaces and opts.namespaces.time then
      add_case("as root, before Linux 6.3", stations.old, image, opts)
    end
  end
  for _, opts in ipairs(ids) do
    add_case("as root", stations.root, image, opts)
    add_case("as a user", stations.user, image, opts)
  end
  for _, opts in ipairs(as_root) do
    add_case("as root", stations.root, image, opts)
  end
end
add_idle("as root", stations.root, stations.folder())
add_idle("as a user", stations.user, stations.host_image())
add_case("as root", stations.root, stations.host_image(), { init = true, namespaces = { mount = false } })
add_case("as root", stations.root, stations.host_image(), { namespaces = { mount = false } })
add_case("as root", stations.root, stations.host_image(), { namespaces = { mount = "/proc/1/ns/mnt" } })

-- Calls f(plan, config, host) for each case; its failure names the case.
function plans.each(f)
  for _, case in ipairs(cases) do
    local c, o = stations.config(case.given)
    local ok, problem = pcall(function()
      assert(c, tostring(o))
      f(plan.plan(c, case.given.host), c, case.given.host)
    end)
    if not ok then
      error(("%s: %s"):format(case.name, tostring(type(problem) == "table" and problem.message or problem)), 0)
    end
  end
end

return plans
