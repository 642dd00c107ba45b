-- Each example does what its first lines say; the interactive one under a terminal of its own.
local helper = require "spec.helper"

helper.leakcheck({ cold = true })

local lua = os.getenv "LUA" or "lua5.4"

local function run(command)
  local pipe = assert(io.popen(command .. " 2>&1"))
  local out = pipe:read "a"
  local _, _, status = pipe:close()
  return out, status
end

local function example(name)
  return run(("%s examples/%s.lua </dev/null"):format(lua, name))
end

describe("the example", function()
  it("hello.lua prints three lines from a box", function()
    local out, status = example "hello"
    assert.are.equal(0, status)
    assert.are.equal("hello from process 1\non host box\nas root, in /\n", out)
  end)

  it("pid_namespace.lua shows two worlds with a process 1 each, and their numbers outside", function()
    local out, status = example "pid_namespace"
    assert.are.equal(0, status)
    local outside = {}
    for _, name in ipairs { "first", "second" } do
      assert.is_truthy(out:find(name .. ": inside I am process 1, my parent is 0\n", 1, true))
      assert.is_truthy(out:find(name .. ": there is no process 2 here\n", 1, true))
      outside[#outside + 1] = tonumber(out:match(name .. ": outside it is process (%d+)"))
    end
    assert.is_true(outside[1] > 1 and outside[2] > 1 and outside[1] ~= outside[2])
  end)

  it("adder.lua runs a program from disk, as a process, and in a box that keeps what it writes", function()
    local out, status = example "adder"
    assert.are.equal(0, status)
    assert.is_truthy(out:find("bytes on disk, and no output file", 1, true))
    assert.is_truthy(out:match "process:  it ran as %d+ and wrote 42\n")
    assert.is_truthy(out:find("in a box: it ran as 1 and wrote 42; outside there is no output file\n", 1, true))
  end)

  it("exec.lua enters a running box with a command and a shell", function()
    local out, status = example "exec"
    assert.are.equal(0, status, out)
    assert.is_truthy(out:find("\ninhabited\n", 1, true), out)
    assert.is_truthy(out:match "\n +1 root +/bin/sh %-c echo up", out)
    assert.is_truthy(out:match "the shell: I am process %d+, and there are %d of us\n", out)
    assert.is_truthy(out:find("the box ends by killed, and the shell with it: KILL\n", 1, true), out)
  end)

  it("identities.lua tells who root of a box is outside, and whose its files are", function()
    local out, status = example "identities"
    assert.are.equal(0, status, out)
    local outside = out:match "inside, id says: +0\noutside, it is: +(%d+)\n"
    local own = tostring(helper.uid)
    assert.are.equal(helper.root(), outside ~= own, out)
    local file = "its file belongs to:  " .. outside .. "\nsignal the host's 1?  it may not\n"
    assert.is_truthy(out:find(file, 1, true), out)
    assert.is_truthy(out:find("keep-id, its file:    " .. own .. "\n", 1, true), out)
  end)

  -- Without cgroups of the caller's they tell why, in place of what they would show.
  local function has_cgroups()
    return require("nsbox.probe").probe().cgroup.ok
  end

  it("limits.lua runs into every limit", function()
    local out, status = example "limits"
    assert.are.equal(0, status, out)
    assert.is_truthy(out:match "timeout +ended by timeout: .*\nmax_output +ended by output: 65536 bytes kept\n$", out)
    local memory = has_cgroups() and "memory +ended by oom: 1[56] MiB at most, [1-9]%d* killed %(cgroup v[12] memory"
      or "memory +option 'memory' cannot be enforced: "
    assert.is_truthy(out:match(memory), out)
  end)

  it("judge.lua has a verdict for every program", function()
    if not os.execute "command -v gcc >/dev/null" then return helper.skip "needs gcc" end
    local out, status = example "judge"
    assert.are.equal(0, status, out)
    local verdicts = {}
    for verdict in out:gmatch "(%u%u%u?) [^\n]*\n" do verdicts[#verdicts + 1] = verdict end
    assert.are.same({ "AC", "WA", "TLE", "OLE", has_cgroups() and "MLE" or "AC", "RE", "CE" }, verdicts, out)
    assert.is_truthy(out:find("crashes    killed by signal ABRT", 1, true), out)
    assert.are.equal(has_cgroups(), out:find("note memory", 1, true) == nil, out)
  end)

  it("expect.lua drives a shell on a terminal", function()
    local out, status = example "expect"
    assert.are.equal(0, status, out)
    assert.are.equal("the terminal: /dev/pts/0\nits size:     24 80\na sum:        42\nafter Ctrl-C: 130\n"
      .. "the shell:    exit 7\n", out)
  end)

  it("daemon_spec.lua is a spec that passes", function()
    if not os.execute "command -v redis-server >/dev/null" then return helper.skip "needs redis-server" end
    local command = "%s spec/busted.lua -o plainTerminal --pattern=daemon_spec examples/daemon_spec.lua --no-recursive"
    local out, status = run(command:format(lua))
    assert.are.equal(0, status, out)
    assert.is_truthy(out:find("4 successes / 0 failures / 0 errors / 0 pending", 1, true), out)
  end)

  it("call.lua runs tests as root of a world of their own each, and tells how they end", function()
    local out, status = example "call"
    assert.are.equal(0, status)
    local marks = {}
    for mark in out:gmatch "([^\n]-ok)  [^\n]*\n" do marks[#marks + 1] = mark end
    assert.are.same({ "ok", "ok", "ok", "not ok", "not ok" }, marks)
    assert.is_truthy(out:find("fails: examples/call.lua:%d+: arithmetic") or out:find "fails: arithmetic", out)
    assert.is_truthy(out:find("never ends: the function had not returned in time", 1, true), out)
  end)

  it("luv_many.lua runs its boxes at once, and the loop goes on", function()
    if not package.searchpath("luv", package.cpath) then helper.skip "needs the module luv: Debian's lua-luv" end
    local out, status = example "luv_many"
    assert.are.equal(0, status, out)
    assert.are.equal(20, select(2, out:gsub("box +%d+ begins\n", "")))
    assert.are.equal(20, select(2, out:gsub("box +%d+ ends\n", "")))
    assert.is_truthy(out:find "20 boxes, 0 failed, in [%d.]+ s; the loop ticked %d+ times\n$", out)
  end)

  it("docker_run_it.lua shows what a shell in a box sees, where there is no terminal", function()
    local out, status = example "docker_run_it"
    assert.are.equal(0, status)
    assert.is_true(tonumber(out:match "outside, the shell is process (%d+)") > 1)
    assert.is_truthy(out:find("/ # echo $$\n1\n", 1, true))
    local listed = out:match "/ # ps\n.-\n(.-)\n\n"
    assert.are.equal(2, select(2, (listed .. "\n"):gsub("\n", "")))
    assert.are.equal("lo:", out:match '/ # ip [^\n]*\n(%S+)')
    assert.is_truthy(out:find("overlay on / type overlay", 1, true))
  end)

  it("docker_run_it.lua is that shell, on a terminal", function()
    -- script(1) is part of every Debian; what is typed before the shell's prompt may be lost
    local shown = helper.tmpdir() .. "/shown"
    local typed = ("(i=0; until grep -q '/ # ' %s || [ $((i+=1)) -gt 600 ]; do sleep 0.05; done; "
      .. "echo 'echo pid $$; ps; tty; exit 7'; sleep 1)"):format(shown)
    local command = (": >%s; %s | script -qfec '%s examples/docker_run_it.lua' %s"):format(shown, typed, lua, shown)
    local out, status = run(command)
    assert.are.equal(7, status)
    assert.is_truthy(out:find("pid 1\r\n", 1, true), out)
    assert.is_truthy(out:find("/dev/pts/0\r\n", 1, true), out)
  end)
end)
