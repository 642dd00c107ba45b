local assert = require "luassert"
local helper = require "spec.helper"
local hint = require "nsbox.hint"
local probe = require "nsbox.probe"

-- Makes the probe answer this for the test.
local function with(found)
  local real = probe.probe
  probe.probe = function() return found end
  helper.cleanup(function() probe.probe = real end)
end

describe("nsbox.hint", function()
  it("asks the probe about what a step needs, and gives reason and fix", function()
    with { userns = { ok = false, why = "they are off", fix = "turn them on" } }
    for _, call in ipairs { "clone", "write_file", "namespaces" } do
      assert.equal("they are off: turn them on", hint.of({ call }, "EPERM"))
    end
    for _, name in ipairs { "ENOSPC", "EACCES", "ENOSYS" } do
      assert.equal("they are off: turn them on", hint.of({ "clone" }, name))
    end
  end)

  it("knows overlays and proc", function()
    with { overlay = { ok = false, why = "no overlay" }, proc = { ok = false, why = "masked", fix = "unmask" } }
    assert.equal("no overlay", hint.of({ "fsopen", "overlay" }, "ENODEV"))
    assert.equal("no overlay", hint.of({ "fsconfig" }, "EINVAL"))
    assert.equal("masked: unmask", hint.of({ "fsmount" }, "EPERM"))
  end)

  it("prefers what a step brings, for any errno or for those that it names", function()
    with { userns = { ok = false, why = "they are off" } }
    assert.equal("mine", hint.of({ "clone", hint = "mine" }, "EPERM"))
    local step = { "clone", hint = { EACCES = "mine", EPERM = false } }
    assert.same({ "mine", "they are off" }, { hint.of(step, "EACCES"), hint.of(step, "EPERM") })
    assert.is_nil(hint.of(step, nil))
  end)

  it("is silent when the probe finds nothing wrong", function()
    with { userns = { ok = true } }
    assert.is_nil(hint.of({ "clone" }, "EPERM"))
  end)

  it("falls back to what an errno says in general", function()
    with { userns = { ok = true } }
    assert.matches("no space, or a limit", hint.of({ "clone" }, "ENOSPC"))
    assert.matches("memory", hint.of({ "mkdirat" }, "ENOMEM"))
    assert.matches("ulimit %-n", hint.of({ "open" }, "EMFILE"))
    assert.matches("needs root", hint.of({ "setns" }, "EPERM"))
  end)

  it("names the kind of namespaces of which there may be none", function()
    with { userns = { ok = true } }
    local facts = require "nsbox.probe.facts"
    local look = facts.look
    facts.look = function() return { zero_limit = "user.max_net_namespaces" } end
    helper.cleanup(function() facts.look = look end)
    for _, call in ipairs { "clone", "namespaces", "unshare" } do
      assert.equal("user.max_net_namespaces is 0: sysctl -w user.max_net_namespaces=10000", hint.of({ call }, "ENOSPC"))
    end
    assert.matches("no space", hint.of({ "mkdirat" }, "ENOSPC"))
  end)

  it("has none for what it does not know", function()
    assert.is_nil(hint.of({ "mkdirat" }, "EROFS"))
    assert.is_nil(hint.of({ "mkdirat" }, nil))
  end)

  it("names features that the probe knows", function()
    local asked = {}
    with(setmetatable({}, { __index = function(_, name)
      asked[name] = true
      return { ok = false, why = name }
    end }))
    for _, call in ipairs { "clone", "write_file", "namespaces", "fsconfig", "fsopen", "fsmount", "mount_setattr",
      "move_mount" } do
      for _, name in ipairs { "EPERM", "EACCES", "EINVAL", "ENODEV", "ENOSPC", "ENOSYS" } do
        hint.of({ call }, name)
      end
    end
    local known = table.concat(probe.names, " ")
    for name in pairs(asked) do
      assert.is_truthy(known:find("%f[%w_]" .. name .. "%f[^%w_]"), name)
    end
  end)
end)
