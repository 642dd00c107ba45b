-- The option `mounts`: its forms, and what is wrong with others.
local assert = require "luassert"
local assert_misuse = require "spec.misuse"
local options = require "nsbox.options"

local function check(list)
  local o, err = options.check("run", { mounts = list })
  return assert(o, tostring(err)).mounts
end

describe("the option mounts", function()
  local DEFAULT = { "rbind", "nosuid", "nodev" }

  it("is a text, a path for the same place, or a row", function()
    assert.same({
      { source = "./a", target = "/b", options = DEFAULT },
      { source = "/c", target = "/c", options = DEFAULT },
      { source = "d", target = "/e/f", options = { "rbind", "ro", "nosuid", "nodev" } },
      { source = "/g:h", target = "/i", options = { "rbind", "noexec" }, idmap = true, optional = true },
      { source = "/j", target = "/k", options = DEFAULT },
      { source = "/l", target = "/m", options = { "rbind", "ro", "nosuid", "nodev" }, idmap = true },
    }, check { "./a:/b", "/c", "d://e/./f/:ro,nosuid",
      { source = "/g:h", target = "/i", options = "suid,dev,noexec", idmap = true, optional = true },
      { type = "bind", source = "/j", target = "/k", options = { "ro", "rw", "rprivate" }, idmap = false },
      "/l:/m:ro,idmap" })
    assert.same({}, check {})
  end)

  local rows = {
    { "text", "must be a list of rows" }, { { 5 }, "[1] must be a row or text" },
    { { "a" }, "must have an absolute path in the box as target, got 'a'" },
    { { "a:b" }, "[1] must have an absolute path" }, { { "a:/b:c:d" }, "(a path with a colon takes a row)" },
    { { ":/b" }, "must be a path as source" }, { { "/a:" }, "must be a path as target" },
    { { "/a:/" }, "cannot have / as target" }, { { "/a:/." }, "cannot have / as target" },
    { { "/a:/b/../c" }, "must have a target without '..'" }, { { "/a:/proc/x" }, "cannot have a target in /proc" },
    { { "/a://sys" }, "cannot have a target in /sys" }, { { "/a:/b\0" }, "NUL byte" },
    { { "/a:/b:r0" }, "has the mount option 'r0'; did you mean 'ro'?" },
    { { "/a:/b:sharedly" }, "and knows only: bind dev exec idmap" },
    { { "/a:/b", "/c:/b/" }, "[2] has the target of [1]: /b" },
    { { { source = "/a", target = "/b", option = "ro" } }, "has no key 'option'; did you mean options?" },
    { { { source = "/a", dst = "/b" } }, "has no key 'dst': use target" },
    { { { target = "/b" } }, "must be a path as source, got nil" },
    { { { source = "/a", target = "/b", idmap = 1 } }, "idmap must be a boolean" },
    { { { source = "/a", target = "/b", type = 1 } }, "must be a type such as" },
    { { { source = "/a", target = "/b", options = 1 } }, "must be a list or text of mount options" },
    { { "/a", [3] = "/b" }, "has a hole" }, { { ("/x"):rep(2100) }, "of more than 4095 bytes" },
  }
  for i, row in ipairs(rows) do
    it(("is misuse (%d): %s"):format(i, row[2]), function()
      assert_misuse("option 'mounts' ", options.check, "run", { mounts = row[1] })
      assert_misuse(row[2], options.check, "run", { mounts = row[1] })
    end)
  end

  it("is misuse without a mount namespace of the box's own, of another type not built yet", function()
    assert_misuse("needs a mount namespace of the box's own", options.check, "run",
      { mounts = { "/a" }, namespaces = { mount = false } })
    local o, err = options.check("run", { mounts = { { type = "tmpfs", target = "/a" } } })
    assert.same({ nil, "unsupported" }, { o, err.kind })
    assert.matches("with the type 'tmpfs' is not built yet", err.message)
    local many = {}
    for i = 1, 101 do many[i] = "/" .. i end
    assert_misuse("at most 100 mounts, got 101", options.check, "run", { mounts = many })
  end)
end)
