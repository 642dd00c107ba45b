-- bench.lua: what a start costs beside its peers. Called by spec/bench/run:
--   bench.lua measure FOLDER WHO RATIOS   FOLDER holds the programs and the root folder; WHO stands in the headings;
--                                         ratios that have a goal are added to the file RATIOS
--   bench.lua goals RATIOS                the last lines: the worst of each ratio beside its goal
--
-- Every contender is a process that makes one start for each byte it is sent and answers the nanoseconds, measured by
-- itself, so all wait in the same way. A block asks each for some starts, the order of contenders is drawn anew for
-- every block; what disturbs the machine for longer than a block disturbs all. Between two contenders lies a rest and
-- the starts that are not counted: the kernel takes network namespaces down behind our back, for tens of milliseconds,
-- and caches hold the other's work. So each is measured beside its own debris, and nobody else's.

local nsbox = require "nsbox"
local sys = nsbox.sys

local SCALE = tonumber(os.getenv "BENCH_SCALE" or 1)
local REST = 20 -- milliseconds
local LARGE, SMALL = 1024, 10 -- MiB of heap
local SPARE = 512 -- MiB that must be left beside the large heap

local SETTLE = 0.05 -- seconds between two contenders
local modes = {
  { name = "hot", rest = 0, blocks = 30, warm = 4, starts = 12 },
  { name = "paused", rest = REST, blocks = 30, warm = 1, starts = 3 },
}
local programs = { { name = "raw", file = "true_raw" }, { name = "libc", file = "true_libc" } }
local goals = { { "start/floor", 1.40 }, { "start/bwrap", 0.40 }, { "heap 1GiB/10MiB", 1.10 } }

-- ---- numbers ----

local function quantile(list, q)
  local sorted = table.move(list, 1, #list, 1, {})
  table.sort(sorted)
  return sorted[math.max(1, math.ceil(q * #sorted))]
end

local function median(list)
  return quantile(list, 0.5)
end

-- The median over all blocks of the ratio of two contenders' medians within one. Other load on the machine, which comes
-- and goes, hardly moves it: these are the ratios that have goals.
local function by_block(a, b)
  local ratios = {}
  for i = 1, #a.blocks do
    ratios[i] = median(a.blocks[i]) / median(b.blocks[i])
  end
  return median(ratios)
end

local function shuffled(list)
  local out = table.move(list, 1, #list, 1, {})
  for i = #out, 2, -1 do
    local j = math.random(i)
    out[i], out[j] = out[j], out[i]
  end
  return out
end

-- ---- contenders ----

local function must(what, value, message)
  if not value then
    error(("%s: %s"):format(what, message), 0)
  end
  return value
end

-- A process with `command`, whose stdin and stdout are ours. Its descriptors close themselves when it is collected.
local function open(name, command)
  local its_in, to, errno = sys.pipe2()
  must(name, its_in, to or errno)
  local from, its_out = sys.pipe2()
  must(name, from, its_out)
  local pid, message = sys.clone("", function()
    assert(sys.dup3(its_in, 0) and sys.dup3(its_out, 1))
    error(select(2, sys.execve(command[1], command)), 0)
  end)
  must(name, pid, message)
  its_in:close()
  its_out:close()
  return { name = name, to = to, from = from, pid = pid, blocks = {}, all = {} }
end

local function close(contender)
  contender.to:close()
  local how, status = sys.waitid(contender.pid)
  contender.from:close()
  if how ~= "exit" or status ~= 0 then
    error(("%s: ended with %s %s"):format(contender.name, how, status), 0)
  end
end

local function ask(contender, rest)
  must(contender.name, sys.write_nosig(contender.to, string.char(rest)))
  local answer = must(contender.name, sys.read(contender.from, 64))
  return must(contender.name, tonumber(answer), "a start failed") / 1000
end

local function block(contender, mode)
  local took = {}
  sys.nanosleep(SETTLE)
  for _ = 1, mode.warm do
    ask(contender, mode.rest)
  end
  for i = 1, mode.starts do
    took[i] = ask(contender, mode.rest)
  end
  return took
end

-- ---- one comparison ----

local function compare(contenders, mode)
  for _, c in ipairs(contenders) do
    c.blocks, c.all = {}, {}
  end
  for i = 1, math.max(2, mode.blocks * SCALE // 1) do
    for _, c in ipairs(shuffled(contenders)) do
      c.blocks[i] = block(c, mode)
      table.move(c.blocks[i], 1, #c.blocks[i], #c.all + 1, c.all)
    end
  end
end

-- The first contender is the one that the others are measured against.
local function print_table(title, contenders)
  local first = contenders[1]
  print(("\n%-36s %9s %9s %9s   %s/... of medians, by block"):format(title, "median", "p90", "min", first.name))
  for _, c in ipairs(contenders) do
    local line = ("  %-34s %9.0f %9.0f %9.0f"):format(c.label or c.name, median(c.all), quantile(c.all, 0.9),
      quantile(c.all, 0))
    if c ~= first then
      line = line .. ("   %10.2f %21.2f"):format(median(first.all) / median(c.all), by_block(first, c))
    end
    print(line)
  end
end

local function note(file, name, value, condition)
  local f = assert(io.open(file, "a"))
  assert(f:write(name, "\t", ("%.4f"):format(value), "\t", condition, "\n"))
  f:close()
end

-- ---- the contenders on one root folder ----

local function first_of(...)
  for _, path in ipairs { ... } do
    if sys.stat(path) then
      return path
    end
  end
end

local peers = {
  { name = "unshare", path = first_of("/usr/bin/unshare", "/bin/unshare"), label = "unshare (chroot and proc only)",
    arguments = function(root)
      return { "--user", "--map-root-user", "--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup", "--fork",
        "--mount-proc", "--root=" .. root }
    end },
  { name = "bwrap", path = first_of("/usr/bin/bwrap", "/usr/local/bin/bwrap"), label = "bwrap (no overlay, sys, masks)",
    arguments = function(root)
      return { "--unshare-all", "--unshare-user", "--uid", "0", "--gid", "0", "--hostname", "box", "--as-pid-1",
        "--die-with-parent", "--new-session", "--bind", root, "/", "--proc", "/proc", "--dev", "/dev",
        "--tmpfs", "/tmp" }
    end },
}

local function worker(name, mib, folder, program)
  return open(name, { folder .. "/lua", folder .. "/worker.lua", tostring(mib), folder .. "/root", program })
end

local function contenders_of(folder, file)
  local root, program = folder .. "/root", "/" .. file
  local list = {
    worker("nsbox", 0, folder, program),
    open("floor", { folder .. "/floor", "-s", root, program }),
  }
  for _, peer in ipairs(peers) do
    if peer.path then
      local command = { folder .. "/spawn", "-s", peer.path }
      for _, a in ipairs(peer.arguments(root)) do
        command[#command + 1] = a
      end
      command[#command + 1] = program
      list[#list + 1] = open(peer.name, command)
      list[#list].label = peer.label
    end
  end
  list[#list + 1] = open("spawn", { folder .. "/spawn", "-s", root .. program })
  list[#list].label = "spawn (no isolation)"
  return list
end

local function named(list, name)
  for _, c in ipairs(list) do
    if c.name == name then
      return c
    end
  end
end

local function starts(folder, who, ratios)
  for _, program in ipairs(programs) do
    local list = contenders_of(folder, program.file)
    for _, mode in ipairs(modes) do
      local condition = ("%s, %s, %s"):format(who, program.name, mode.name)
      compare(list, mode)
      print_table(condition, list)
      for _, peer in ipairs { "floor", "bwrap" } do
        local c = named(list, peer)
        if c then
          note(ratios, "start/" .. peer, by_block(list[1], c), condition)
        end
      end
    end
    for _, c in ipairs(list) do
      close(c)
    end
  end
end

-- ---- the heap of the caller ----

local function free_mib()
  local f = assert(io.open "/proc/meminfo")
  local kib = f:read("a"):match "MemAvailable:%s*(%d+)"
  f:close()
  return tonumber(kib or 0) // 1024
end

local function heaps(folder, who, ratios)
  if free_mib() < LARGE + SPARE then
    print(("\n%s: a heap of %d MiB is not measured: %d MiB of memory are free"):format(who, LARGE, free_mib()))
    return
  end
  local list = { worker("1 GiB", LARGE, folder, "/true_raw"), worker("10 MiB", SMALL, folder, "/true_raw") }
  for _, mode in ipairs(modes) do
    local condition = ("%s, heap, %s"):format(who, mode.name)
    compare(list, mode)
    print_table(condition, list)
    note(ratios, "heap 1GiB/10MiB", by_block(list[1], list[2]), condition)
  end
  for _, c in ipairs(list) do
    close(c)
  end
end

-- ---- the whole ----

local function read(path)
  local f = io.open(path)
  local text = f and f:read "a" or ""
  if f then
    f:close()
  end
  return text
end

local function print_machine(who)
  local _, cpus = read("/proc/cpuinfo"):gsub("processor%s*:", "")
  local _, mounts = read("/proc/self/mountinfo"):gsub("\n", "")
  local load = read("/proc/loadavg"):match "^%S*"
  local release = read("/proc/sys/kernel/osrelease"):match "%S*"
  print(("\nas %s: Linux %s, %d processors, load %s, %d mounts; microseconds from start to reaped")
    :format(who, release, cpus, load, mounts))
  if tonumber(load) > cpus / 2 then
    print("the machine is busy with other things: look at the ratios by block, or measure again")
  end
  for _, peer in ipairs(peers) do
    if not peer.path then
      print(peer.name .. " is not installed, and not measured")
    end
  end
end

local function measure(folder, who, ratios)
  print_machine(who)
  starts(folder, who, ratios)
  heaps(folder, who, ratios)
end

local function worst(ratios, name)
  local value, condition
  for n, v, c in read(ratios):gmatch "([^\t\n]*)\t([^\t\n]*)\t([^\t\n]*)\n" do
    if n == name and (not value or tonumber(v) > value) then
      value, condition = tonumber(v), c
    end
  end
  return value, condition
end

local function print_goals(ratios)
  print("\nratios by block, the worst of all conditions:")
  for _, goal in ipairs(goals) do
    local value, condition = worst(ratios, goal[1])
    if value then
      print(("ratio %s = %.2f (goal <= %.2f) [%s]"):format(goal[1], value, goal[2], condition))
    else
      print(("ratio %s not measured (goal <= %.2f)"):format(goal[1], goal[2]))
    end
  end
end

if arg[1] == "goals" then
  print_goals(arg[2])
else
  measure(arg[2], arg[3], arg[4])
end
