-- What a newcomer sees in a box, and what the host sees of it.
local helper = require "spec.helper"
local lfs = require "lfs"
local nsbox = require "nsbox"
local sys = require "nsbox.sys"
helper.leakcheck()

local box = require "spec.box"
local says, lines = box.says, box.lines

describe("a box", function()
  it("runs its command as process 1", function()
    assert.equal("1\n", says "echo $$")
  end)

  it("lists two processes: the shell and ps", function()
    local seen = lines(says { "sh", "-c", "ps -o pid,comm; true" })
    assert.same({ "PID   COMMAND", "    1 sh", "    2 ps" }, seen)
  end)

  it("answers with the command's exit code and both outputs", function()
    local r = assert(nsbox.run("busybox", { "sh", "-c", "echo out; echo err >&2; exit 3" }))
    assert.same({ "out\n", "err\n", 3, false, "exit" }, { r.stdout, r.stderr, r.code, r.ok, r.reason })
  end)

  it("has a host name of its own, which is its id", function()
    local before = helper.read "/proc/sys/kernel/hostname"
    local r = assert(nsbox.run("busybox", { "hostname" }))
    assert.equal(r.id .. "\n", r.stdout)
    assert.equal(before, helper.read "/proc/sys/kernel/hostname")
  end)

  it("has the names it was given", function()
    local seen = says("hostname; cat /proc/sys/kernel/domainname", { hostname = "web", domainname = "example.org" })
    assert.equal("web\nexample.org\n", seen)
  end)

  it("has a loopback device that is up, and no other", function()
    local seen = lines(says "ls /sys/class/net; ip -o link; ping -c 1 -w 30 127.0.0.1 >/dev/null && echo answers")
    assert.equal(3, #seen)
    assert.equal("lo", seen[1])
    assert.matches("^1: lo: <LOOPBACK,UP,LOWER_UP>", seen[2])
    assert.equal("answers", seen[3])
  end)

  it("has every namespace of its own but time", function()
    local kinds = { "cgroup", "ipc", "mnt", "net", "pid", "user", "uts", "time" }
    local seen = lines(says("for k in " .. table.concat(kinds, " ") .. "; do readlink /proc/self/ns/$k; done"))
    for i, kind in ipairs(kinds) do
      local ours = lfs.symlinkattributes("/proc/self/ns/" .. kind, "target")
      assert.equal(kind == "time", ours == seen[i], kind .. " " .. seen[i])
    end
  end)

  it("sees its cgroups as the root of theirs", function()
    for _, line in ipairs(lines(says { "cat", "/proc/self/cgroup" })) do assert.matches("^%d+:[^:]*:/$", line) end
  end)

  it("is seen by the host under its real pid, though it is 1 to itself", function()
    local marker, seen = box.marker(), {}
    local function look()
      seen.pids = box.find(marker)
      seen.nspid = box.status(seen.pids[1], "NSpid")
      seen.namespace = lfs.symlinkattributes(("/proc/%d/ns/pid"):format(seen.pids[1]), "target")
    end
    local said = says({ "sh", "-c", "cat; echo $$; readlink /proc/self/ns/pid", marker }, { input = look })
    assert.is_true(seen.pids[1] > 1)
    assert.matches("^" .. seen.pids[1] .. "%s.*%s1$", seen.nspid)
    assert.equal("1\n" .. seen.namespace .. "\n", said)
    assert.same({}, box.pids(marker))
  end)

  it("ends with its command: what it left running is gone", function()
    local marker = box.marker()
    says { "sh", "-c", "sh -c 'while :; do sleep 60; done' " .. marker .. " >/dev/null 2>&1 & exit 0" }
    assert.same({}, box.pids(marker))
  end)

  it("starts from inside a coroutine", function()
    local r = coroutine.wrap(function() return assert(nsbox.run("busybox", { "echo", "hi" })) end)()
    assert.equal("hi\n", r.stdout)
  end)
end)

describe("the file systems of a box", function()
  -- Of the default lists, what this kernel has.
  local hidden = { "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap",
    "/sys/firmware" }
  local protected = { "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger" }
  local own = { "/", "/proc", "/dev", "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty",
    "/dev/pts", "/dev/shm", "/sys" }

  local function existing(list)
    local found = {}
    for _, path in ipairs(list) do
      if lfs.symlinkattributes(path) then found[#found + 1] = path end
    end
    return found
  end

  -- mount point -> { options = ",ro,nosuid,", type = }
  local function mounts(opts)
    local found = {}
    for _, line in ipairs(lines(says({ "cat", "/proc/self/mountinfo" }, opts))) do
      local point, options, kind = line:match "^%d+ %d+ %S+ %S+ (%S+) (%S+) .*%- (%S+)"
      assert.is_nil(found[point], point .. " is mounted twice")
      found[point] = { options = "," .. options .. ",", type = kind }
    end
    return found
  end

  it("are these mounts and no others", function()
    local expected = {}
    for _, list in ipairs { own, existing(hidden), existing(protected) } do
      for _, path in ipairs(list) do expected[path] = true end
    end
    local seen = {}
    for point in pairs(mounts()) do seen[point] = true end
    assert.same(expected, seen)
  end)

  local restricted = {
    { "/proc", "proc", "nosuid", "nodev", "noexec" },
    { "/sys", "sysfs", "ro", "nosuid", "nodev", "noexec" },
    { "/dev", "tmpfs", "nosuid", "noexec" },
    { "/dev/pts", "devpts", "nosuid", "noexec" },
    { "/dev/shm", "tmpfs", "nosuid", "nodev", "noexec" },
  }
  for _, row in ipairs(restricted) do
    it(("mount %s as %s, %s"):format(row[1], row[2], table.concat(row, ",", 3)), function()
      local seen = mounts()[row[1]]
      assert.equal(row[2], seen.type)
      for i = 3, #row do assert.is_truthy(seen.options:find("," .. row[i] .. ",", 1, true), seen.options) end
    end)
  end

  it("end at the box's root: above it is nothing", function()
    local inodes = {}
    for inode in says("ls -di / /.. /../.."):gmatch "(%d+) /" do inodes[#inodes + 1] = inode end
    assert.same({ inodes[1], inodes[1], inodes[1] }, inodes)
    assert.equal(3, #inodes)
  end)

  it("hide what a box must not see, each behind /dev/null or an empty read-only folder", function()
    local script = { "for p in " .. table.concat(existing(hidden), " "), "do",
      [[case $(stat -c %F "$p") in]],
      [[directory) ls -A "$p"; touch "$p/x" 2>&1 | grep -o 'Read-only file system' || echo "$p can be written";;]],
      [[*) stat -c '%F %t:%T' "$p"; wc -c <"$p";;]], "esac", "done" }
    local seen = lines(says(table.concat(script, "\n")))
    assert.is_true(#seen > 0)
    local possible = { ["Read-only file system"] = true, ["character special file 1:3"] = true, ["0"] = true }
    for _, line in ipairs(seen) do assert.is_true(possible[line], line) end
  end)

  it("protect the kernel's settings from writes", function()
    local mounted = mounts()
    for _, path in ipairs(existing(protected)) do
      assert.is_truthy(mounted[path].options:find(",ro,", 1, true), path .. mounted[path].options)
    end
    for _, command in ipairs { "echo x >/proc/sys/kernel/hostname", "mkdir /sys/kernel/x", "echo >/sys/kernel/mm/x" } do
      local r = assert(nsbox.run("busybox", command))
      assert.is_false(r.ok)
      assert.matches("Read%-only file system", r.stderr, command)
    end
  end)

  it("cannot be made writable or visible again from inside", function()
    for _, command in ipairs { "mount -o remount,rw /sys", "umount /proc/sys", "mount -t proc proc /tmp" } do
      local r = assert(nsbox.run("busybox", command))
      assert.is_false(r.ok, command)
      assert.is_truthy(r.stderr:find "permission denied" or r.stderr:find "Operation not permitted", r.stderr)
    end
  end)

  it("have a minimal /dev", function()
    local names = "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero"
    assert.equal(names, table.concat(lines(says "ls /dev"), " "))
    assert.same({ "full 1:7", "null 1:3", "random 1:8", "tty 5:0", "urandom 1:9", "zero 1:5" },
      lines(says "cd /dev; for d in full null random tty urandom zero; do stat -c '%n %t:%T' $d; done"))
    assert.equal("1777\n", says "stat -c %a /dev/shm")
    assert.equal("ptmx\n", says "ls /dev/pts")
    assert.equal("4\n", says "head -c 4 /dev/zero | wc -c; echo gone >/dev/null")
  end)

  it("give no way to a device of the host", function()
    local r = assert(nsbox.run("busybox", "mknod /tmp/disk b 8 0 && head -c 1 /tmp/disk"))
    assert.is_false(r.ok)
    assert.matches("Operation not permitted", r.stderr)
  end)
end)

describe("the layer of a box", function()
  it("takes its writes and is gone with it; the image stays as it is, byte for byte", function()
    local root = box.image { ["etc/keep"] = "kept\n", ["etc/gone"] = "x", ["data/a/b"] = { "b", "0600" } }
    local before = box.manifest(root)
    local change = "cd /; echo new >etc/new; echo more >>etc/keep; busybox rm -r etc/gone data; busybox chmod 777 bin;"
      .. "busybox mkdir -p tmp/x; busybox ls etc"
    local r = assert(nsbox.run(root, change))
    assert.equal("keep\nnew\n", r.stdout .. r.stderr)
    assert.equal(before, box.manifest(root))
    assert.equal("kept\n", assert(nsbox.run(root, "read line </etc/keep; echo $line")).stdout)
  end)

  it("is not there with read_only: nothing below / can be written, /dev/shm can", function()
    local root = box.image {}
    local before = box.manifest(root)
    local r = assert(nsbox.run(root, "echo x >/file; echo x >/dev/shm/file && echo ok", { read_only = true }))
    assert.equal("ok\n", r.stdout)
    assert.matches("Read%-only file system", r.stderr)
    assert.equal(before, box.manifest(root))
  end)
end)

describe("the process of a box", function()
  local capabilities = { Prm = "a80425fb", Eff = "a80425fb", Bnd = "a80425fb", Inh = "00000000", Amb = "00000000" }

  it("has docker's 14 capabilities, and none to inherit", function()
    local status = says { "cat", "/proc/self/status" }
    for set, value in pairs(capabilities) do
      assert.equal("00000000" .. value, status:match("\nCap" .. set .. ":%s*(%x+)"), set)
    end
  end)

  it("can gain no privilege by exec", function()
    assert.matches("\nNoNewPrivs:%s*1\n", says { "cat", "/proc/self/status" })
  end)

  it("has the file mode mask 0022 and no blocked or ignored signal", function()
    assert.equal("0022\n", says "umask")
    local status = says { "cat", "/proc/self/status" }
    assert.equal("0000000000000000", status:match "\nSigBlk:%s*(%x+)")
    assert.equal("0000000000000000", status:match "\nSigIgn:%s*(%x+)")
  end)

  local environments = {
    { "PATH and HOME", nil, {} },
    { "what it was given", { A = "1", B = "two words\nand\nlines", N = 7 },
      { A = "1", B = "two words\nand\nlines", N = "7" } },
    { "the caller's, when named", { "LANG" }, { LANG = os.getenv "LANG" } },
    { "a replaced HOME", { HOME = "/data" }, { HOME = "/data" } },
    { "no HOME when that is taken away", { HOME = false }, { HOME = false } },
  }
  for _, row in ipairs(environments) do
    it("has exactly this environment: " .. row[1], function()
      local expected = { PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", HOME = "/root" }
      for name, value in pairs(row[3]) do expected[name] = value or nil end
      local seen = {}
      for entry in says({ "cat", "/proc/self/environ" }, { env = row[2] }):gmatch "([^%z]+)%z" do
        local name, value = entry:match "^([^=]+)=(.*)$"
        seen[name] = value
      end
      assert.same(expected, seen)
    end)
  end

  it("has TERM with a terminal", function()
    local r = assert(nsbox.run("busybox", { "sh", "-c", "echo $TERM" }, { tty = true, stdout = "capture" }))
    assert.equal((os.getenv "TERM" or "xterm") .. "\r\n", r.stdout)
  end)

  for _, path in ipairs { "/", "/tmp", "/made/of new/folders", "/bin/../tmp/." } do
    it("begins in " .. path, function()
      local real = path == "/bin/../tmp/." and "/tmp" or path
      assert.equal(real .. "\n", says({ "pwd" }, { workdir = path }))
    end)
  end

  it("has the descriptors 0, 1 and 2 only, though the caller holds 50 that exec keeps", function()
    local null <close> = assert(sys.open("/dev/null", "rdwr"))
    for fd = 200, 249 do assert(sys.dup3(null, fd)) end
    local ok, seen = pcall(says, "ls /proc/$$/fd; true")
    for fd = 200, 249 do sys.close(fd) end
    assert.is_true(ok, seen)
    assert.equal("0\n1\n2\n", seen)
  end)

  it("reads an empty stdin unless told otherwise", function()
    assert.equal("/dev/null\n", says "readlink /proc/self/fd/0; cat")
  end)

  it("is the user it was told to be, without capabilities", function()
    if not helper.has_ids() then helper.skip "needs more ids than one" end
    local script = "id -u; id -g; echo $HOME; grep -E 'Cap(Prm|Eff|Bnd)|Groups' /proc/self/status"
    for user, ids in pairs { [1000] = "1000\n0\n", ["65533:7"] = "65533\n7\n" } do
      local seen = says(script, { user = user })
      assert.equal(ids .. "/\n", seen:match "^%d+\n%d+\n/\n")
      assert.matches("Groups:%s*" .. ids:match "\n(%d+)" .. " \nCapPrm:%s*0+\nCapEff:%s*0+\nCapBnd:%s*0+a80425fb", seen)
    end
  end)

  local commands = {
    { "a list", { "echo", "a", "b c", "" }, nil, "a b c \n" },
    { "a string, for a shell", "echo a   'b  c'; exit 0", nil, "a b  c\n" },
    { "the image's own", nil, { input = "echo from stdin\n" }, "from stdin\n" },
    { "an entrypoint, then the list", { "c" }, { entrypoint = { "echo", "a", "b" } }, "a b c\n" },
    { "an entrypoint alone", nil, { entrypoint = { "echo", "only" } }, "only\n" },
    { "a string, which leaves the entrypoint out", "echo shell", { entrypoint = { "false" } }, "shell\n" },
    { "a list, with no entrypoint", { "echo", "x" }, { entrypoint = false }, "x\n" },
  }
  for _, row in ipairs(commands) do
    it("runs " .. row[1], function() assert.equal(row[4], says(row[2], row[3])) end)
  end
end)
