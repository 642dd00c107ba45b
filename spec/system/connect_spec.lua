local assert_misuse = require "spec.misuse"
local box = require "spec.box"
local helper = require "spec.helper"
local nsbox = require "nsbox"
local sys = require "nsbox.sys"
helper.leakcheck { settle = true, outside = true }
setup(box.warm_shared)

local start = nsbox.start

describe("box:connect", function()
  it("reaches a port once something listens there, many times, without a network of the host's", function()
    local b <close> = assert(start("busybox", "sleep 0.1; while :; do nc -l -p 80 -e cat; done"))
    for i = 1, 5 do
      local s <close> = assert(b:connect(80, 30))
      assert(s:write("ping ", i, "\n"))
      assert.equal("ping " .. i, s:read())
    end
    local data = ("x"):rep(1 << 20)
    local s <close> = assert(b:connect(80))
    local got
    assert(nsbox.gather({ 1, 2 }, function(i)
      if i == 1 then return s:write(data) end
      got = s:read(#data)
      return true
    end))
    assert.is_true(got == data)
  end)

  it("reaches a path of the box, and leaves the box by no link", function()
    local image = box.image()
    box.program("listener", image)
    local b <close> = assert(start(image, "busybox mkdir /tmp /tmp/folder; busybox ln -s /tmp/real /tmp/link; "
      .. "echo x > /tmp/file; /listener unix /tmp/real"))
    local s <close> = assert(b:connect("/tmp/link", 30))
    assert.equal("hello", s:read())
    assert(s:write "over\n")
    assert.equal("over", s:read())
    for _, path in ipairs { "/tmp/folder", "/tmp/file" } do
      local _, err = b:connect(path, 5)
      assert.same({ path, "setup" }, { path, err.kind })
    end
  end)

  it("fails at once when the box ends, with its last words", function()
    local b <close> = assert(start("busybox", "sleep 0.1; echo no config >&2; exit 3"))
    local began = nsbox.clock()
    local s, err = b:connect(80, 60)
    assert.is_true(nsbox.clock() - began < 30)
    assert.same({ nil, "exit", 3, "no config\n" }, { s, err.kind, err.result.code, err.log })
  end)

  it("is tried again when who listened goes before it was taken", function()
    local b <close> = assert(start("busybox", "while :; do nc -l -p 80 </dev/null; done"))
    for _ = 1, helper.rounds(60) do assert(b:connect(80, 60)):close() end
  end)

  it("fails so at every moment of the box's end", function()
    for i = 1, helper.rounds(40) do
      local b <close> = assert(start("busybox", "sleep 0.03; echo no config >&2; exit 3"))
      nsbox.sleep(0.03 + i / 5000)
      local s, err = b:connect(80, 60)
      assert.same({ nil, "exit", "no config\n" }, { s, err.kind, err.log }, tostring(err))
    end
  end)

  it("fails when its time is over, and works beside", function()
    local b <close> = assert(start("busybox", { "sleep", "100" }))
    for _, where in ipairs { 80, "/tmp/none" } do
      local s, err, errno = b:connect(where, 0.1)
      assert.same({ nil, "timeout", sys.ETIMEDOUT }, { s, err.kind, errno })
    end
    for _, where in ipairs { 0, 65536, "tmp/x", "", {}, true } do
      assert_misuse("the first argument must be a port", b.connect, b, where)
    end
  end)

  it("works in boxes that share pids or the network", function()
    for _, namespaces in ipairs { { pid = false }, { time = true } } do
      local b <close> = assert(start("busybox", "nc -l -p 80 -e cat; sleep 100", { namespaces = namespaces }))
      local s <close> = assert(b:connect(80, 30))
      assert(s:write "a\n")
      assert.equal("a", s:read())
    end
    local port = 20000 + sys.getpid() % 10000
    local image = box.image()
    box.program("listener", image)
    local b <close> = assert(start(image, { "/listener", "inet", tostring(port) }, { network = "host" }))
    local s <close> = assert(b:connect(port, 30))
    assert.equal("hello", s:read())
  end)
end)
