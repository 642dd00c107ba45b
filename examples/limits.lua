#!/usr/bin/env lua5.4
-- Namespaces change what a process sees; cgroups are what holds it back. Each limit, and a program that runs into it.
local nsbox = require "nsbox"

local GROW = "x=a; while :; do x=$x$x; done"
local FORK = "i=0; while [ $i -lt 50 ]; do sleep 1 & i=$((i + 1)); done; wait"
local BUSY = "while :; do :; done"

local function memory(u) return ("%d MiB at most, %d killed"):format(u.memory_peak >> 20, u.oom_kills) end
local function cpu(u) return ("%.1f s of CPU in %.1f s"):format(u.user + u.sys, u.wall - u.setup) end
local function output(_, r) return ("%d bytes kept"):format(#r.stdout) end

local rows = {
  { "memory", GROW, { memory = "16M" }, memory },
  { "pids", FORK, { pids = 10 }, function(u) return ("%d at most"):format(u.pids_peak) end },
  { "cpus", BUSY, { cpus = 0.5, timeout = 1 }, cpu },
  { "cpu_time", BUSY, { cpu_time = 0.5 }, cpu },
  { "timeout", "sleep 100", { timeout = 0.3 }, cpu },
  { "max_output", "yes", { max_output = "64K", overflow = "kill" }, output },
}

-- What it sees is not what it may use: the numbers of /proc are the host's.
local box = nsbox.run("busybox", "nproc; sed -n 's/MemTotal: *//p' /proc/meminfo", { memory = "16M",
  degrade = { "memory" } })
print("what it sees: " .. box.stdout:gsub("\n", " CPUs, ", 1):gsub("\n", " of memory"))

for _, row in ipairs(rows) do
  local name, command, opts, tell = table.unpack(row)
  local r, err = nsbox.run("busybox", command, opts)
  if r then
    local by = r.limits[name] and (" (%s)"):format(r.limits[name].by) or ""
    print(("%-11s ended by %s: %s%s"):format(name, r.reason, tell(r.usage, r), by))
  else
    print(("%-11s %s"):format(name, err.message)) -- what this caller cannot have, and why
  end
end
