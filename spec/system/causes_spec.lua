-- Hosts and callers that deny user namespaces: the error of a start names the exact cause and the narrowest fix. Each
-- cause is a real one, in namespaces of the spec's own, but for the settings that this kernel may not have.
local assert = require "luassert"
local box = require "spec.box"
local helper = require "spec.helper"
local process = require "spec.process"
local sys = require "nsbox.sys"

helper.leakcheck { cold = true }

-- A line of the shell that runs lines in namespaces of its own, as a user with rights there.
local function unshare(flags, lines)
  return ("unshare -U --map-user=1000 --map-group=1000 --keep-caps %s sh <<'END'\n%s\nEND\n"):format(flags, lines)
end

-- What a start says in its hint, as a line of its own after what failed.
local RUN = [[
  local r, err = require("nsbox").run("/usr", { "true" }, OPTS)
  print(r and "started" or err.kind .. " " .. tostring(err.call) .. " " .. tostring(err.name))
  print(r and "" or err.hint)]]

-- shell: the line that LUA is the last word of; before: Lua that runs first; opts: of nsbox.run, as text.
local function says(shell, before, opts)
  local out = box.script(shell, (before or "") .. RUN:gsub("OPTS", opts or "nil"))
  local failure, hint = out:match "^([^\n]*)\n([^\n]*)\n$"
  return failure or out, hint
end

local function needs_user()
  if helper.root() then helper.skip "needs a user: what is tried does not bind root" end
end

-- Who has subordinate ids has them from newuidmap, which is bound by neither.
local function needs_single_id()
  if helper.has_ids() then helper.skip "needs a user without subordinate ids, whose map the keeper itself writes" end
end

local container = "run it outside that container, or give the container more: docker run --security-opt "

describe("a start where user namespaces are denied says why:", function()
  before_each(process.needs_userns)

  for _, kind in ipairs { "user", "mnt", "pid", "net" } do
    it("there may be no namespaces of kind " .. kind, function()
      local failure, hint = says(unshare("",
        ("echo 0 >/proc/sys/user/max_%s_namespaces\nLUA </dev/null"):format(kind)))
      assert.matches("^setup %l+ ENOSPC$", failure)
      assert.equal(("user.max_%s_namespaces is 0: sysctl -w user.max_%s_namespaces=10000"):format(kind, kind), hint)
    end)
  end

  it("the limit of a namespace above the caller's is reached", function()
    local failure, hint = says(unshare("", "echo 1 >/proc/sys/user/max_user_namespaces\n"
      .. unshare("", "LUA </dev/null"):gsub("END", "INNER")))
    assert.equal("setup clone ENOSPC", failure)
    assert.matches("^a limit of namespaces is reached, .*: raise the one of user.max_%*_namespaces", hint)
  end)

  it("the caller's ids are not mapped", function()
    local failure, hint = says("unshare -U sh <<'END'\nLUA </dev/null\nEND\n")
    assert.matches("^setup %l+ EPERM$", failure)
    assert.equal("the caller's user or group has no number in its user namespace, and so may make none below it: "
      .. "unshare --user --map-current-user COMMAND", hint)
  end)

  it("the caller is in a chroot", function()
    local root = helper.tmpdir()
    local failure, hint = says(unshare("-m", ([[
      for d in /*; do
        if [ -L $d ]; then ln -s $(readlink $d) ROOT$d
        elif [ -d $d ]; then mkdir ROOT$d && mount --rbind $d ROOT$d; fi
      done
      chroot ROOT sh <<'INNER'
LUA </dev/null
INNER]]):gsub("ROOT", root)))
    assert.matches("^setup %l+ EPERM$", failure)
    assert.equal("the caller is in a chroot, where nobody may make user namespaces: start it outside the chroot", hint)
  end)

  it("a filter of the caller hides clone3, as docker's does", function()
    local failure, hint = says("LUA", [[require("filter").refuse("clone3", require("nsbox").sys.ENOSYS)]])
    assert.matches("^setup %l+ ENOSYS$", failure)
    assert.equal("a system call filter of the caller hides clone3, as docker's default does: " .. container
      .. "seccomp=unconfined", hint)
  end)

  it("a filter of the caller forbids namespaces", function()
    local failure, hint = says("LUA", [[require("filter").refuse("clone3", require("nsbox").sys.EPERM)]])
    assert.matches("^setup %l+ EPERM$", failure)
    assert.equal("a system call filter of the caller forbids namespaces: " .. container
      .. "seccomp=unconfined (a systemd unit: RestrictNamespaces=no)", hint)
  end)

  it("a filter of the caller forbids mounts", function()
    local failure, hint = says("LUA", [[require("filter").refuse("fsopen", require("nsbox").sys.EPERM)]])
    assert.equal("setup fsopen EPERM", failure)
    assert.equal("a system call filter of the caller forbids fsopen: " .. container .. "seccomp=unconfined", hint)
  end)

  it("parts of the caller's /proc are hidden, as docker hides them", function()
    local failure, hint = says(unshare("-mpf --mount-proc",
      "mount --bind /dev/null /proc/interrupts\nLUA </dev/null"))
    assert.equal("setup fsmount EPERM", failure)
    assert.equal("parts of the caller's own /proc are hidden, so the kernel gives no fresh one: " .. container
      .. "systempaths=unconfined", hint)
  end)

  it("a caller that has changed its user and is not dumpable", function()
    needs_single_id()
    local failure, hint = says("LUA", "require('nsbox').sys.prctl('set_dumpable', 0, 0, 0, 0)")
    assert.equal("setup write_file EACCES", failure)
    assert.equal("a caller that has changed its user is not dumpable, nor its /proc its own: prctl(PR_SET_DUMPABLE, 1)",
      hint)
  end)
end)

-- Settings of other kernels: the file that is read is another, the refusal is made by a filter, or by the kernel for a
-- caller that is not dumpable.
describe("a start on a host of another kind says why:", function()
  local fake = [[
    local file, name, value = require "nsbox.probe.file", "%s", %d
    local number = file.number
    function file.number(path) return path == "/proc/sys/kernel/" .. name and value or number(path) end
    %s
  ]]
  local refuse = [[require("filter").refuse("clone3", require("nsbox").sys.%s)]]
  local profile = ("echo 'abi <abi/4.0>, profile nsbox %s flags=(unconfined) { userns, }' | "
    .. "tee /etc/apparmor.d/nsbox | apparmor_parser -r (for that program; for all: "
    .. "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0)")
    :format(assert(sys.readlink "/proc/self/exe"))

  it("Debian's kernel.unprivileged_userns_clone", function()
    needs_user()
    local failure, hint = says("LUA", fake:format("unprivileged_userns_clone", 0, refuse:format "EPERM"))
    assert.matches("^setup %l+ EPERM$", failure)
    assert.equal("kernel.unprivileged_userns_clone is 0: sysctl -w kernel.unprivileged_userns_clone=1", hint)
  end)

  it("Ubuntu's AppArmor, where it denies the namespace", function()
    needs_user()
    local failure, hint = says("LUA", fake:format("apparmor_restrict_unprivileged_userns", 1, refuse:format "EACCES"))
    assert.matches("^setup %l+ EACCES$", failure)
    assert.equal("AppArmor forbids user namespaces to programs without a profile of their own "
      .. "(kernel.apparmor_restrict_unprivileged_userns is 1): " .. profile, hint)
  end)

  it("Ubuntu's AppArmor, where it takes the rights in it", function()
    needs_single_id()
    local failure, hint = says("LUA", fake:format("apparmor_restrict_unprivileged_userns", 1,
      "require('nsbox').sys.prctl('set_dumpable', 0, 0, 0, 0)"))
    assert.equal("setup write_file EACCES", failure)
    assert.equal("AppArmor takes the rights of unprivileged user namespaces away "
      .. "(kernel.apparmor_restrict_unprivileged_userns is 1): " .. profile, hint)
  end)
end)

describe("a caller with no_new_privs", function()
  it("runs boxes, and is told why it has no more ids in them", function()
    local out = box.script("setpriv --no-new-privs sh <<'END'\nLUA </dev/null\nEND\n", [[
      local nsbox = require "nsbox"
      print(nsbox.run("busybox", { "echo", "ran" }).stdout .. table.concat({
        require("nsbox.probe.caller").no_newuidmap() }, ": "))]])
    assert.equal("ran\nno_new_privs is set for the caller: newuidmap gains nothing for it: "
      .. "start the caller without it\n", out)
  end)
end)
