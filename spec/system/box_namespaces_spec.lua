-- Namespaces that are another box's: named by its handle.
local helper = require "spec.helper"
local nsbox = require "nsbox"
helper.leakcheck { settle = true }

local start = nsbox.start

describe("a namespace of another box", function()
  it("is joined by its handle, and by what is added to the box that has joined it", function()
    for _, kind in ipairs { "net", "ipc", "uts" } do
      local first <close> = assert(start("busybox", { "sleep", "100" }))
      local p <close> = assert(first:spawn { "sleep", "100" })
      for _, handle in ipairs { first, p } do
        local second <close> = assert(start("busybox", { "sleep", "100" }, { namespaces = { [kind] = handle } }))
        local where = "readlink /proc/self/ns/" .. kind
        assert.equal(first:exec(where).stdout, second:exec(where):check().stdout)
        local other = "readlink /proc/self/ns/mnt"
        assert.not_equal(first:exec(other).stdout, second:exec(other).stdout)
      end
    end
  end)

  it("of the network has what listens there", function()
    local server <close> = assert(start("busybox", "nc -ll -p 80 -e echo hello"))
    local client <close> = assert(start("busybox", "until nc 127.0.0.1 80; do sleep 0.05; done; sleep 100",
      { network = server }))
    assert(client:expect("hello", 30))
    assert(server:connect(80, 30)):close()
    local s <close> = assert(client:connect(80, 30))
    assert.equal("hello", s:read())
  end)

  it("is refused of a handle that is closed, or has ended", function()
    local b = assert(start("busybox", { "true" }))
    assert(b:wait(30))
    for _ = 1, 2 do
      local ok, raised = pcall(nsbox.run, "busybox", { "true" }, { network = b })
      assert.is_false(ok)
      assert.matches("option 'network' must be a Box or Process that runs, got nsbox.box", raised)
      b:close()
    end
  end)
end)
