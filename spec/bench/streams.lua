-- streams.lua: how fast output flows, beside a bare loop in C: a pipe that is captured, a terminal that is relayed.
-- Called by spec/bench/run: streams.lua PROGRAM. The producer is the same; the order is drawn anew in each block.

local nsbox = require "nsbox"
local sys = nsbox.sys

local SCALE = tonumber(os.getenv "BENCH_SCALE" or 1)
local BLOCKS = math.max(3, math.floor(9 * SCALE))
local PIPE, TERMINAL = 1 << 30, 64 << 20 -- bytes
local GOAL = 0.9

local function producer(bytes)
  return { "/bin/busybox", "head", "-c", tostring(bytes), "/dev/zero" }
end

local function in_c(program, kind, bytes)
  local pipe = assert(io.popen(("%s %s %s"):format(program, kind, table.concat(producer(bytes), " "))))
  local total, time = pipe:read("n", "n")
  assert(pipe:close() and total == bytes, "the C loop has not read all")
  return time / 1e9
end

local function captured(_, _, bytes)
  local r = assert(nsbox.run("host", producer(bytes)))
  assert(r.ok and #r.stdout == math.min(bytes, 16 << 20) and r.truncated.stdout == (bytes > 16 << 20), tostring(r))
  return r.usage.wall
end

local null = assert(sys.open("/dev/null", "rdwr"))

local function relayed(_, _, bytes)
  local r = assert(nsbox.run("host", producer(bytes), { tty = true, stdout = null }))
  assert(r.ok, tostring(r))
  return r.usage.wall
end

local function median(list)
  table.sort(list)
  return list[(#list + 1) // 2]
end

-- The median of the ratios of each block's two times: what disturbs a block disturbs both.
local function compare(kind, bytes, ours)
  local ratios, times = {}, {}
  for i = 1, BLOCKS do
    local contenders = { ours, in_c }
    local first = math.random(2)
    local took = {}
    for _, k in ipairs { first, 3 - first } do
      took[k] = contenders[k](arg[1], kind, bytes)
    end
    ratios[i], times[i] = took[2] / took[1], took[1]
  end
  local ratio = median(ratios)
  print(("%-9s %4d MiB  %6.0f MiB/s  %.2f of the C loop  (goal %.2f: %s)"):format(kind, bytes >> 20,
    bytes / (1 << 20) / median(times), ratio, GOAL, ratio >= GOAL and "met" or "missed"))
end

print("output, the speed of nsbox and its ratio to a C loop's")
assert(nsbox.run("host", { "true" }))
compare("pipe", PIPE, captured)
compare("pty", TERMINAL, relayed)
