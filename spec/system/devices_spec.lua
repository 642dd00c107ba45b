-- What a box with rules of devices may use.
local box = require "spec.box"
local devices = require "nsbox.cgroup.device_rules"
local helper = require "spec.helper"
local nsbox = require "nsbox"
helper.leakcheck { settle = true, outside = true }
setup(box.warm_cgroup)

describe("rules of devices", function()
  it("are read back", function()
    for _, case in ipairs { { "c 1:3 rw", true }, { "b 8:0 r\nc 1:3 rwm", true }, { "c 1:3 r", false },
      { "", false }, { "c 11:3 rw", false } } do
      assert.same(case, { case[1], devices.listed(case[1], "c 1:3 rw", "devices.allow") })
    end
    assert.is_true(devices.listed("c 1:3 m", "c 1:3 rw", "devices.deny"))
    assert.is_false(devices.listed("c 1:3 rwm", "c 1:3 rw", "devices.deny"))
    assert.is_true(devices.listed("", "a", "devices.deny"))
    assert.is_false(devices.listed("a *:* rwm", "a", "devices.deny"))
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
    local v1 = r.limits.device_rules.by == "cgroup v1 devices.list"
    assert.matches(v1 and "c 1:3 rwm" or "12 rules", r.limits.device_rules.value)
    opts.device_rules = { "c 10:200 r" }
    r = assert(nsbox.run("busybox", SHOW, opts))
    assert.is_nil(r.stdout:find("not permitted", 1, true))
    assert.matches(v1 and "c 10:200 r" or "13 rules", r.limits.device_rules.value)
  end)
end)
