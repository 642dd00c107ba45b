-- The rules of devices as cgroup v1 takes them, and what a box with them may use.
local box = require "spec.box"
local devices = require "nsbox.cgroup.devices"
local helper = require "spec.helper"
local nsbox = require "nsbox"
helper.leakcheck { settle = true, outside = true }
setup(box.warm_cgroup)

local ALL = { allow = false, access = "rwm" }

describe("rules of devices", function()
  it("are lines of devices.deny and devices.allow", function()
    assert.same({ { file = "devices.deny", text = "a" }, { file = "devices.allow", text = "c 1:3 rw" },
      { file = "devices.allow", text = "b *:* m" }, { file = "devices.deny", text = "c 136:* rwm" },
      { file = "devices.allow", text = "a" } },
      devices.v1 { ALL, { allow = true, type = "c", major = 1, minor = 3, access = "rw" },
        { allow = true, type = "b", access = "m" }, { allow = false, type = "c", major = 136 },
        { allow = true, type = "a", access = "rwm" } })
  end)

  it("are read back", function()
    local allow = { file = "devices.allow", text = "c 1:3 rw" }
    for _, case in ipairs { { "c 1:3 rw", true }, { "b 8:0 r\nc 1:3 rwm", true }, { "c 1:3 r", false },
      { "", false }, { "c 11:3 rw", false } } do
      assert.same(case, { case[1], devices.listed(case[1], allow) })
    end
    assert.is_true(devices.listed("c 1:3 m", { file = "devices.deny", text = "c 1:3 rw" }))
    assert.is_false(devices.listed("c 1:3 rwm", { file = "devices.deny", text = "c 1:3 rw" }))
    assert.is_true(devices.listed("", { file = "devices.deny", text = "a" }))
    assert.is_false(devices.listed("a *:* rwm", { file = "devices.deny", text = "a" }))
  end)

  it("hold in a box: what docker allows, and what is added", function()
    local SHOW = "for d in null zero random tty; do (: > /dev/$d) 2>/dev/null && echo $d; done; "
      .. "mknod /m c 10 200 && (: < /m) 2>&1 | grep -o 'Operation not permitted'; "
      .. "mknod /z c 1 5 && head -c 1 /z | wc -c"
    local opts = { device_rules = {}, userns = "host", layer = "discard" }
    local r, err = nsbox.run("busybox", SHOW, opts)
    if not r then
      assert.equal("unsupported", err.kind)
      helper.skip("needs root and the controller devices of cgroup v1: " .. err.message)
    end
    assert.equal("null\nzero\nrandom\nOperation not permitted\n1\n", r.stdout)
    assert.matches("c 1:3 rwm", r.limits.device_rules.value)
    assert.matches("cgroup v1 devices.list", r.limits.device_rules.by)
    opts.device_rules = { "c 10:200 r" }
    r = assert(nsbox.run("busybox", SHOW, opts))
    assert.is_nil(r.stdout:find("not permitted", 1, true))
    assert.matches("c 10:200 r", r.limits.device_rules.value)
  end)
end)
