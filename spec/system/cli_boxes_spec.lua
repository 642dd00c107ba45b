-- The nsbox command on boxes that run detached, as a user types it.
local box = require "spec.box"
local helper = require "spec.helper"
local nsbox = require "nsbox"

helper.leakcheck { detached = true, settle = true }

-- What the command prints on stdout and stderr together, and its status.
local function run(line)
  local quote = helper.quote
  local pipe = assert(io.popen(("export LUA_PATH=%s LUA_CPATH=%s; nsbox() { %s rockspec/nsbox \"$@\"; }; "
    .. "exec_nsbox() { exec %s rockspec/nsbox \"$@\"; }; %s"):format(
    quote(package.path), quote(package.cpath), quote(helper.lua), quote(helper.lua), "{ " .. line .. "; } 2>&1")))
  local out = pipe:read "a"
  return out, select(3, pipe:close())
end

-- A shell line that runs `nsbox run busybox sh -c BODY` and sends signals to it once it has said "ready".
local function signalled(body, signals)
  local line = "said=%s/said; exec_nsbox run busybox sh -c %s > $said & "
    .. "until grep -q ready $said 2>/dev/null; do sleep 0.05; done; %s wait $!; status=$?; cat $said; (exit $status)"
  return run(line:format(helper.tmpdir(), helper.quote(body), signals))
end

describe("nsbox run", function()
  local body = "trap 'echo got %s; exit 5' %s; echo ready; while :; do sleep 0.05; done"

  for _, name in ipairs { "INT", "TERM", "HUP" } do
    it("hands " .. name .. " on to the command", function()
      local out, status = signalled(body:format(name, name), ("kill -%s $!;"):format(name))
      assert.same({ "ready\ngot " .. name .. "\n", 5 }, { out, status })
    end)
  end

  it("kills a process 1 that ignores them at the second", function()
    local out, status = signalled("echo ready; while :; do sleep 0.05; done",
      "kill -TERM $!; sleep 0.3; kill -0 $! && while kill -TERM $! 2>/dev/null; do sleep 0.3; done;")
    assert.same({ "ready\n", 137 }, { out, status })
  end)
end)

describe("nsbox", function()
  setup(function()
    helper.warm_detached()
    box.warm_cgroup()
  end)

  local function detached(flags)
    local out, status = run("nsbox run -d " .. flags .. " busybox sh -c 'echo up; sleep 100'")
    if out:find("cannot be enforced", 1, true) then helper.skip "needs cgroups of the caller's" end
    local id = out:match "^(%x+)\n$"
    assert.equal(0, status, out)
    helper.cleanup(function()
      local left = nsbox.box(id)
      if left then left:destroy() end
    end)
    assert(assert(nsbox.box(id)):expect("up", 30))
    return id
  end

  it("stats, update", function()
    local id = detached "-m 64M --pids-limit 50 --name fed"
    local row = "ID            NAME  CPU TIME  MEM USAGE / LIMIT .- PIDS\n"
      .. id .. "  fed   %d+%.%d%ds     [%d.]+[KM]iB / %dMiB .-%s1\n$"
    assert.matches(row:gsub("%%dMiB", "64MiB"), (run "nsbox stats --no-stream fed"))
    assert.same({ "fed\n", 0 }, { run "nsbox update -m 96M --swap 0 fed" })
    assert.matches(row:gsub("%%dMiB", "96MiB"), (run "nsbox stats"))
    assert.equal(96 << 20, assert(nsbox.box(id)).limits.memory.value)
    local out, status = run "nsbox update --cpuset-cpus 0 fed"
    assert.same({ 1, true }, { status, out:find("no cgroup of its controller", 1, true) ~= nil }, out)
    out, status = run "nsbox update --hostname x fed"
    assert.same({ "nsbox: box:update: option 'hostname' is fixed at the start of a box: give it to nsbox.run or "
      .. "nsbox.start\n", 125 }, { out, status })
  end)

  it("stats of a box without limits, update of it", function()
    local id = detached ""
    assert.matches("\n" .. id .. "        %d+%.%d%ds     %- / %- +%- +%- / %- +%-\n$", (run "nsbox stats"))
    assert.same({ "nsbox: update: option 'pids' cannot be changed: the box has no cgroup\n"
      .. "  hint: start it with pids\n", 1 }, { run("nsbox update --pids-limit 5 " .. id) })
  end)

  it("run tells that memory or CPU time was used up", function()
    detached "-m 64M" -- skips
    assert.same({ "nsbox: the box ran out of memory\n", 137 },
      { run "nsbox run -m 8M busybox dd if=/dev/zero of=/dev/null bs=32M count=1" })
    assert.same({ "nsbox: the box used up its CPU time\n", 124 },
      { run "nsbox run --cpu-time 0.05 busybox sh -c 'while :; do :; done'" })
  end)

  it("run tells that the time was over, wait too, which ends with 0", function()
    local told = "nsbox: the command ran longer than its timeout\n"
    assert.same({ told, 124 }, { run "nsbox run --timeout 0.05 busybox sleep 10" })
    local id = run("nsbox run -d --timeout 0.05 busybox sleep 10"):match "%x+"
    helper.cleanup(function() assert(nsbox.box(id)):destroy() end)
    assert.same({ told .. "124\n", 0 }, { run("nsbox wait " .. id) })
  end)

  it("run tells of a limit that it is without", function()
    local line = "nsbox run %s --degrade cgroup --cgroup-conf memory.no_such_file=1 busybox echo hi"
    local told = "nsbox: note: cgroup: not enforced: [^\n]+\n$"
    assert.matches("^hi\n" .. told, (run(line:format "")))
    helper.cleanup(function() assert(nsbox.box "bare"):destroy() end)
    assert.matches("^" .. told, (run(line:format "-d --name bare" .. " >/dev/null")))
  end)

  it("run -d, ps, exec, logs, stop, wait, rm", function()
    local out, status = run [[nsbox run -d --name web busybox sh -c \
      'echo one; trap "exit 4" TERM; echo two; while :; do sleep 0.05; done']]
    local id = out:match "^(%x+)\n$"
    assert.same({ 12, 0 }, { #(id or out), status }, out)
    helper.cleanup(function()
      local left = nsbox.box(id)
      if left then left:destroy() end
    end)
    assert(assert(nsbox.box "web"):expect("two", 30))
    assert.matches(id .. "  web   busybox  sh %-c .-  running  ", (run "nsbox ps"))
    assert.same({ id .. "\n" }, { (run "nsbox ps -q") })
    assert.same({ "in\n", 5 }, { run "nsbox exec web sh -c 'echo in; exit 5'" })
    assert.same({ "fed", 0 }, { run "printf fed | nsbox exec -i web cat" })
    assert.same({ "two\n", 0 }, { run "nsbox logs --tail 1 web" })
    assert.matches("box web is running", (run "nsbox rm web"))
    assert.same({ "web\none\ntwo\n", 0 }, { run "nsbox stop -t 5 web; nsbox logs -f web" })
    assert.same({ "4\n", 0 }, { run "nsbox wait web" })
    assert.equal("", (run "nsbox ps -q"))
    assert.matches("ended %(4%)", (run "nsbox ps -a"))
    assert.equal(id .. "\n", (run "nsbox ps -aq"))
    assert.same({ ("nsbox: exec: box %s has ended: exit code 4\n"):format(id), 1 }, { run "nsbox exec web true" })
    assert.same({ "web\n", 0 }, { run "nsbox rm web" })
    assert.same({ "nsbox: box: no such box: web (ENOENT)\n", 1 }, { run "nsbox kill web" })
  end)
end)
