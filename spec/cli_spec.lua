local E = require "nsbox.error"
local cli = require "nsbox.cli"
local options = require "nsbox.options"
local result = require "nsbox.result"

local function sink()
  local parts = {}
  return {
    write = function(self, ...)
      for _, part in ipairs { ... } do
        parts[#parts + 1] = tostring(part)
      end
      return self
    end,
    text = function() return table.concat(parts) end,
  }
end

local function ended(fields)
  fields.reason = fields.reason or "exit"
  return result.new(fields)
end

-- Runs the command against a stub; `answer` is what run and explain return, or a function called in their place.
local function nsbox_command(argv, answer)
  local seen = {}
  local function verb(name)
    return function(image, cmd, opts)
      seen[#seen + 1] = { verb = name, image = image, cmd = cmd, opts = opts }
      if type(answer) == "function" then
        return answer(image, cmd, opts)
      elseif E.is(answer) then
        return nil, answer, answer.errno
      end
      return answer or ended { code = 0 }
    end
  end
  local stub = {
    run = verb "run", explain = verb "explain", _VERSION = "nsbox 9.9",
    probe = function() return setmetatable({}, { __tostring = function() return "the probe" end }) end,
  }
  local out, err = sink(), sink()
  local status = cli.main(argv, stub, { out = out, err = err })
  return { status = status, out = out.text(), err = err.text(), call = seen[1], calls = #seen }
end

local function words(text)
  local list = {}
  for word in text:gmatch("%S+") do
    list[#list + 1] = word
  end
  return list
end

local notes = { { what = "cgroup", why = "moved" }, { what = "memory", why = "not enforced: no" } }

local function contains(text, part)
  assert.is_truthy(text:find(part, 1, true), ("%q does not contain %q"):format(text, part))
end

describe("nsbox command", function()
  describe("run", function()
    it("passes image, command and options on", function()
      local r = nsbox_command(words "run busybox sh -c -e")
      assert.same({ verb = "run", image = "busybox", cmd = { "sh", "-c", "-e" },
        opts = { stdin = "null", stdout = "inherit", stderr = "inherit" } }, r.call)
      assert.same({ 0, "", "" }, { r.status, r.out, r.err })
    end)

    it("leaves the command to the image when there is none", function()
      assert.is_nil(nsbox_command(words "run busybox").call.cmd)
    end)

    it("gives only options that the schema takes", function()
      local line = "run -it -e A=1 -e PATH -w /tmp -u 1:2 -h box --domainname d --read-only --network host "
        .. "--entrypoint sh --timeout 5 --stop-timeout 1.5 --stop-signal INT --store /s busybox"
      local checked, err = options.check("run", nsbox_command(words(line)).call.opts)
      assert.is_nil(err)
      assert.equal(5, checked.timeout)
      assert.same({ uid = 1, gid = 2 }, checked.user)
      assert.same({ stdin = false, stdout = false, stderr = false }, checked.named)
    end)

    it("reads rules of devices, whose words are one argument", function()
      local r = nsbox_command { "run", "--device-cgroup-rule", "c 1:3 r", "--device-cgroup-rule=b 8:* m", "img" }
      assert.same({ "c 1:3 r", "b 8:* m" }, r.call.opts.device_rules)
    end)

    describe("reads", function()
      -- the flags, the options they become (the streams aside)
      local rows = {
        { "-e A=1", { env = { A = "1" } } }, { "-eA=1", { env = { A = "1" } } }, { "-e=A=1", { env = { A = "1" } } },
        { "--env A=1 --env=B=2=3 -e C=", { env = { A = "1", B = "2=3", C = "" } } },
        { "-e A -e B=1", { env = { "A", B = "1" } } }, { "-e A=1 -e A=2", { env = { A = "2" } } },
        { "-e A -e A=2", { env = { A = "2" } } }, { "-e A=2 -e A", { env = { "A" } } },
        { "-w /tmp", { workdir = "/tmp" } }, { "--workdir=/tmp", { workdir = "/tmp" } },
        { "-w/tmp", { workdir = "/tmp" } },
        { "-u 5", { user = "5" } }, { "-u www:adm", { user = "www:adm" } },
        { "--group-add 5 --group-add=adm", { groups = { "5", "adm" } } },
        { "--user 5:6", { user = "5:6" } }, { "-h name", { hostname = "name" } },
        { "--hostname name --domainname dom", { hostname = "name", domainname = "dom" } },
        { "--timeout 1.5", { timeout = 1.5 } }, { "--timeout x", { timeout = "x" } },
        { "--stop-timeout=3", { stop_timeout = 3 } }, { "--stop-signal 15", { stop_signal = "15" } },
        { "--network none", { network = "none" } }, { "--net host", { network = "host" } },
        { "--entrypoint sh", { entrypoint = { "sh" } } }, { "--entrypoint=", { entrypoint = false } },
        { "--read-only", { read_only = true } }, { "--read-only=false", {} },
        { "--read-only=true", { read_only = true } },
        { "--store /s --", { store = "/s" } },
        { "-v /a:/b:ro --volume=./c:/d --mount type=bind,src=/e,dst=/f,readonly,idmap",
          { mounts = { "/a:/b:ro", "./c:/d", { type = "bind", source = "/e", target = "/f", options = { "ro" },
            idmap = true } } } },
        { "--mount source=/e,destination=/f,options=noexec,readonly,readonly=false,optional=1",
          { mounts = { { source = "/e", target = "/f", options = { "noexec", "ro", "rw" }, optional = true } } } },
        { "--userns keep-id", { userns = "keep-id" } },
        { "--uidmap 0:1000:1 --uidmap=1:100000:5 --gidmap 0:a:1",
          { uid_map = { { 0, 1000, 1 }, { 1, 100000, 5 } }, gid_map = { { 0, "a", 1 } } } },
        { "--cap-add sys_ptrace --cap-add=ALL --cap-drop kill",
          { cap_add = { "sys_ptrace", "ALL" }, cap_drop = { "kill" } } },
        { "--ulimit nofile=64:128 --ulimit core=-1 --ulimit as=64M", { rlimits = { nofile = { 64, 128 }, core = "inf",
          as = "64M" } } },
        { "--sysctl net.x=1 --sysctl net.y=a", { sysctls = { ["net.x"] = "1", ["net.y"] = "a" } } },
        { "--security-opt no-new-privileges=false --disable-userns", { no_new_privs = false, disable_userns = true } },
        { "--security-opt no-new-privileges", { no_new_privs = true } },
        { "--oom-score-adj -5 --nice 3 --cpu-affinity 0-1 --umask 0077", { oom_score_adj = -5, nice = 3,
          affinity = "0-1", umask = "0077" } },
        { "-m 64M --swap 0 --memory-reservation=1M --cpus 1.5 --cpu-weight 5 --cpuset-cpus 0-1 --pids-limit 9",
          { memory = "64M", swap = "0", memory_reservation = "1M", cpus = 1.5, cpu_weight = 5, cpuset = "0-1",
            pids = 9 } },
        { "--memory much --cpus a --pids-limit b", { memory = "much", cpus = "a", pids = "b" } },
        { "--blkio-weight 10 --device-read-bps /dev/a:1M --device-write-bps=8:0:5 --device-read-iops /dev/a:7",
          { io = { weight = 10, ["/dev/a"] = { rbps = "1M", riops = 7 }, ["8:0"] = { wbps = 5 } } } },
        { "--device-write-iops /dev/a --blkio-weight x --device-read-bps weight:1",
          { io = { weight = { rbps = 1 }, ["/dev/a"] = { wiops = "" } } } },
        { "--cgroup-parent /a --cgroup-conf memory.low=1M --cgroup-conf=a.b --cpu-time=2 --degrade=memory --degrade=io",
          { cgroup_parent = "/a", cgroup = { ["memory.low"] = "1M", ["a.b"] = "" }, cpu_time = 2,
            degrade = { "memory", "io" } } },
        { "--name web -l a=b --label c", { name = "web", labels = { a = "b", c = "" } } },
      }
      for _, row in ipairs(rows) do
        it(row[1], function()
          local r = nsbox_command(words("run " .. row[1] .. " img -x"))
          row[2].stdin, row[2].stdout, row[2].stderr = "null", "inherit", "inherit"
          assert.same(row[2], r.call.opts)
          assert.same({ "img", { "-x" } }, { r.call.image, r.call.cmd })
        end)
      end

      local streams = {
        { "-i", { stdin = "inherit", stdout = "inherit", stderr = "inherit" } },
        { "--interactive=false", { stdin = "null", stdout = "inherit", stderr = "inherit" } },
        { "-t", { tty = true, stdin = "null", stdout = "inherit" } }, { "-it", { tty = true } },
        { "-ti", { tty = true } }, { "-i -t", { tty = true } }, { "--tty --interactive", { tty = true } },
        { "-it=false", { stdin = "inherit", stdout = "inherit", stderr = "inherit" } },
        { "-itw /x", { tty = true, workdir = "/x" } }, { "-itw/x", { tty = true, workdir = "/x" } },
      }
      for _, row in ipairs(streams) do
        it(row[1], function()
          local r = nsbox_command(words("run " .. row[1] .. " img"))
          assert.same(row[2], r.call.opts)
          assert.equal("img", r.call.image)
        end)
      end
    end)

    describe("refuses", function()
      local rows = {
        { "run", "an IMAGE is needed" }, { "run -it", "an IMAGE is needed" }, { "run -e", "flag -e needs a value" },
        { "run --workdir", "flag --workdir needs a value" }, { "run --bogus img", "unknown flag --bogus" },
        { "run --tiemout 1 img", "unknown flag --tiemout; did you mean --timeout?" },
        { "run -z img", "unknown flag -z" }, { "run -iz img", "unknown flag -z" },
        { "run --privileged img", "program needs (--cap-add all, " }, { "run --rm img", "a box is removed at its end" },
        { "run --publish 80 img", "nsbox maps no ports" },
        { "run -p 80:80 img", "unknown flag -p: nsbox maps no ports" },
        { "run --read-only=maybe img", "takes no value but true or false, got 'maybe'" },
        { "run --dns 1.1.1.1 img", "flag --dns (option 'dns') is not built yet" },
        { "run --memory-swap 1 img", "use swap: what may be swapped beyond memory (not the sum)" },
        { "run --cpu-shares 1 img", "use cpu_weight" },
      }
      for _, row in ipairs(rows) do
        it(row[1], function()
          local r = nsbox_command(words(row[1]))
          assert.equal(125, r.status)
          assert.equal(0, r.calls)
          assert.equal("", r.out)
          contains(r.err, row[2])
          assert.matches("^nsbox: run: [^\n]+\n$", r.err)
        end)
      end
    end)

    describe("ends with", function()
      local function failed(kind, errno)
        return E.new { kind = kind, verb = "run", message = "no", errno = errno }
      end

      -- status, what run answers, what is on stderr
      local rows = {
        { 0, ended { code = 0 }, "" }, { 3, ended { code = 3 }, "" }, { 255, ended { code = 255 }, "" },
        { 137, ended { reason = "signal", signo = 9 }, "" }, { 139, ended { reason = "signal", signal = "SEGV" }, "" },
        { 124, ended { reason = "timeout", signo = 9 }, "nsbox: the command ran longer than its timeout\n" },
        { 124, ended { reason = "timeout", code = 0 }, "nsbox: the command ran longer than its timeout\n" },
        { 137, ended { reason = "oom", signo = 9 }, "nsbox: the box ran out of memory\n" },
        { 137, ended { reason = "oom", code = 1 }, "nsbox: the box ran out of memory\n" },
        { 124, ended { reason = "cpu", signo = 9 }, "nsbox: the box used up its CPU time\n" },
        { 137, ended { reason = "output", signo = 9 }, "" },
        { 125, ended { reason = "lost" }, "nsbox: the exit status was lost\n" },
        { 125, failed("setup", 1), "nsbox: run: no\n" }, { 125, failed("image", 2), "nsbox: run: no\n" },
        { 0, ended { code = 0, notes = notes }, "nsbox: note: memory: not enforced: no\n" },
        { 125, E.new { kind = "limit", message = "no", hint = 'init = true' }, "nsbox: no\n  hint: --init\n" },
        { 125, failed("unsupported"), "nsbox: run: no\n" }, { 127, failed("exec", 2), "nsbox: run: no\n" },
        { 126, failed("exec", 13), "nsbox: run: no\n" }, { 126, failed("exec", 8), "nsbox: run: no\n" },
        { 126, failed("exec"), "nsbox: run: no\n" },
      }
      for i, row in ipairs(rows) do
        it(("%d (row %d)"):format(row[1], i), function()
          local r = nsbox_command(words "run img", row[2])
          assert.same({ row[1], "", row[3] }, { r.status, r.out, r.err })
        end)
      end

      it("125 for misuse, told without a line of the program", function()
        local r = nsbox_command(words "run --timeout x img", function(_, _, opts)
          return options.check("run", opts)
        end)
        assert.equal(125, r.status)
        assert.equal("nsbox: run: option 'timeout' must be a number of seconds, got 'x'\n", r.err)
      end)

      it("125 for a --mount with what is unknown in it", function()
        for text, told in pairs {
          ["src=/a,dst=/b,bind-propagation=shared"] = "has no key 'bind-propagation'",
          ["src=/a,dst=/b,options,ro"] = "has the mount option ''",
          ["src=/a,dst=/b,readonly=maybe"] = "has the mount option 'readonly=maybe'",
          ["src=/a,dst=/b,idmap=maybe"] = "idmap must be a boolean, got 'maybe'",
          ["src=/a,dst=/b,nonsense"] = "has no key 'nonsense'", [""] = "must be a path as source, got nil",
        } do
          local r = nsbox_command({ "run", "--mount", text, "img" }, function(_, _, opts)
            return options.check("run", opts)
          end)
          assert.equal(125, r.status)
          contains(r.err, told)
          assert.is_nil(r.err:find("traceback", 1, true))
        end
      end)

      it("125 and a traceback for a fault of nsbox itself", function()
        local r = nsbox_command(words "run img", function() error("oops") end)
        assert.equal(125, r.status)
        contains(r.err, "oops")
        contains(r.err, "stack traceback")
      end)

      it("125 for an error value that is raised", function()
        local r = nsbox_command(words "run img", function() error(failed("setup")) end)
        assert.same({ 125, "nsbox: run: no\n" }, { r.status, r.err })
      end)

      it("130 after Ctrl-C", function()
        local r = nsbox_command(words "run img", function() error("interrupted!") end)
        assert.same({ 130, "" }, { r.status, r.err })
      end)
    end)

    it("writes what was captured after all", function()
      local r = nsbox_command(words "run -it img", ended { code = 0, stdout = "out\n", stderr = "err\n" })
      assert.same({ "out\n", "err\n" }, { r.out, r.err })
    end)
  end)

  it("explain prints the explanation", function()
    local answer = setmetatable({}, { __tostring = function() return "the plan" end })
    local r = nsbox_command(words "explain -e A=1 img sh", answer)
    assert.same({ 0, "the plan\n", "" }, { r.status, r.out, r.err })
    assert.same({ "explain", "img", { "sh" }, { A = "1" } }, { r.call.verb, r.call.image, r.call.cmd, r.call.opts.env })
    local refused = nsbox_command(words "explain img", E.new { kind = "image", verb = "explain", message = "no" })
    assert.same({ 125, "nsbox: explain: no\n" }, { refused.status, refused.err })
    assert.equal(125, nsbox_command({ "explain" }).status)
  end)

  it("probe prints the probe", function()
    local r = nsbox_command { "probe" }
    assert.same({ 0, "the probe\n", "" }, { r.status, r.out, r.err })
    assert.equal(125, nsbox_command(words "probe img").status)
  end)

  it("--version and help tell who it is", function()
    assert.equal("nsbox 9.9\n", nsbox_command({ "--version" }).out)
    for _, line in ipairs { "help", "--help", "run --help", "explain --help", "ps --help", "exec --help",
      "-h", "stats -h", "run -h" } do
      local r = nsbox_command(words(line))
      assert.equal(0, r.status)
      contains(r.out, "usage: nsbox run")
      contains(r.out, "\n* -e, --env VALUE")
      contains(r.out, "\n  --name VALUE")
      contains(r.out, "-i, --interactive ")
      assert.is_nil(r.out:find("--dns", 1, true))
    end
  end)

  it("run -d starts, and prints the id", function()
    local closed
    local started = setmetatable({ id = "abc" }, { __close = function() closed = true end })
    local out, given = sink(), nil
    local stub = { start = function(...) given = table.pack(...) return started end }
    assert.equal(0, cli.main(words "run -dit --name web busybox sh", stub, { out = out, err = sink() }))
    assert.same({ "busybox", { "sh" }, { detach = true, tty = true, name = "web" }, n = 3 }, given)
    assert.same({ "abc\n", true }, { out.text(), closed })
  end)

  it("run -d tells of limits that it is without", function()
    local started = setmetatable({ id = "abc", notes = notes }, { __close = function() end })
    local stub = { start = function() return started end }
    local out, err = sink(), sink()
    assert.equal(0, cli.main(words "run -d --degrade memory -m 64m img", stub, { out = out, err = err }))
    assert.same({ "abc\n", "nsbox: note: memory: not enforced: no\n" }, { out.text(), err.text() })
  end)

  describe("refuses, of boxes that are there,", function()
    local rows = {
      { "ps -aqx", 125, "unknown flag -x" }, { "ps -q5", 125, "flag -5" }, { "logs -fn a", 125, "needs a number" },
      { "kill -9 a", 1, "no such box" }, { "kill -TERM", 125, "a BOX is needed" }, { "stop -t5 a", 1, "no such box" },
      { "stop -tx a", 125, "needs a number" }, { "logs -fn5 a", 1, "no such box" }, { "exec -q a b", 125, "flag -q" },
      { "ps x", 125, "takes no arguments, got 'x'" }, { "ps --all=x", 125, "takes no value" },
      { "logs", 125, "a BOX is needed" }, { "stats --stream", 125, "unknown flag --stream" },
      { "stats --no-stream a", 1, "no such box" }, { "update a", 125, "a limit is needed" },
      { "update -m 64M", 125, "a BOX is needed" }, { "update -m 64M a", 1, "no such box" },
      { "update --memry 64M a", 125, "did you mean --memory?" },
      { "logs a b", 125, "takes one BOX" }, { "logs --tail x a", 125, "flag --tail needs a number" },
      { "stop", 125, "a BOX is needed" }, { "stop -z a", 125, "unknown flag -z" }, { "kill -s", 125, "needs a value" },
      { "exec a", 125, "a BOX and a COMMAND are needed" }, { "exec a b", 1, "no such box" }, { "wait a", 1, "no such" },
      { "rm a b", 1, "no such box" }, { "kill a", 1, "hint: --userns host\n" }, { "logs a", 1, "no such box" },
    }
    for _, row in ipairs(rows) do
      it(row[1], function()
        local stub = {
          boxes = function() return {} end,
          box = function()
            return nil, E.new { kind = "setup", verb = "box", message = "no such box", hint = 'userns = "host"' }
          end,
        }
        local out, err = sink(), sink()
        assert.equal(row[2], cli.main(words(row[1]), stub, { out = out, err = err }))
        contains(err.text(), row[3])
      end)
    end
  end)

  describe("stats", function()
    local function box(id, name, usage, limits)
      return setmetatable({ id = id, name = name, state = "running", limits = limits or {},
        stats = function() return usage end }, { __close = function() end })
    end
    local boxes = {
      a = box("a1", "web", { user = 1.5, sys = 0.25, memory = 3 << 20, io_read = 1536, io_write = 0, pids = 3 },
        { memory = { value = 64 << 20, by = "" } }),
      b = box("b2", nil, {}),
    }
    local stub = { box = function(id) return boxes[id] end, boxes = function() return { boxes.a, boxes.b } end }

    it("is a table for people", function()
      local out = sink()
      stub.box = function(id) return boxes[id:sub(1, 1)] end
      assert.equal(0, cli.main(words "stats --no-stream", stub, { out = out, err = sink() }))
      assert.equal("ID  NAME  CPU TIME  MEM USAGE / LIMIT  MEM %  BLOCK I/O    PIDS\n"
        .. "a1  web   1.75s     3MiB / 64MiB       4.69%  1.5KiB / 0B  3\n"
        .. "b2        -         - / -              -      - / -        -\n", out.text())
    end)
  end)

  it("update hands its flags on to each box", function()
    local given = {}
    local stub = { box = function(id)
      return setmetatable({ update = function(_, opts) given[#given + 1] = { id, opts } return true end },
        { __close = function() end })
    end }
    local out = sink()
    assert.equal(0, cli.main(words "update -m 64M --pids-limit 5 --cpus 0.5 a b", stub, { out = out, err = sink() }))
    local opts = { memory = "64M", pids = 5, cpus = 0.5 }
    assert.same({ { "a", opts }, { "b", opts } }, given)
    assert.equal("a\nb\n", out.text())
  end)

  it("says which commands are not built yet", function()
    for name in ("pause resume cp inspect images load save tag rmi build commit "
      .. "gc verify"):gmatch("%a+") do
      local r = nsbox_command { name, "x" }
      assert.same({ 125, ("nsbox: %s is not built yet\n"):format(name) }, { r.status, r.err })
    end
  end)

  it("refuses unknown commands and none", function()
    local r = nsbox_command { "rnu" }
    assert.same({ 125, "nsbox: unknown command 'rnu'; did you mean run?\n" }, { r.status, r.err })
    assert.equal("nsbox: unknown command 'xyzzy'; see nsbox help\n", nsbox_command({ "xyzzy" }).err)
    contains(nsbox_command({ "attach", "x" }).err, "unknown command 'attach': nsbox logs -f")
    local empty = nsbox_command {}
    assert.equal(125, empty.status)
    contains(empty.err, "usage: nsbox run")
  end)
end)
