-- The probe against boxes: what it says can be done is done.
local assert = require "luassert"
local box = require "spec.box"
local helper = require "spec.helper"
local nsbox = require "nsbox"

helper.leakcheck()

describe("the probe", function()
  it("agrees with what a box does", function()
    local found = nsbox.probe()
    for _, name in ipairs { "userns", "overlay", "proc", "net", "keeper", "busybox" } do
      assert.is_true(found[name].ok, name)
    end
    assert.equal(require("nsbox.probe").host().tmpfs_xattr.ok, found.tmpfs_xattr.ok)
    assert.equal("ok\n", box.says { "echo", "ok" })
  end)

  it("says why a box cannot be made, in the hint of its error", function()
    local shell = "unshare -U --map-user=1000 --keep-caps sh <<'END'\n"
      .. "echo 0 >/proc/sys/user/max_user_namespaces\nLUA </dev/null\nEND\n"
    local out = box.script(shell, [[
      local _, err = require("nsbox").run("/usr", { "true" })
      print(err.kind, err.call)
      print(err.hint)]])
    assert.equal("setup\tclone\nuser.max_user_namespaces is 0: sysctl -w user.max_user_namespaces=10000\n", out)
  end)
end)
