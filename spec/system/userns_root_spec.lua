-- Root of a user namespace that somebody made (unshare -r, rootless containers), and root without root's capabilities
-- (a container's): boxes start as for a user.
local assert = require "luassert"
local box = require "spec.box"
local helper = require "spec.helper"
local process = require "spec.process"
local script = require "spec.script"
local sys = require "nsbox.sys"
helper.leakcheck { settle = true }

local unshare = "/usr/bin/unshare"

local kinds = {
  { "in the host's pid namespace", { unshare, "-U", "-r" } },
  { "in a pid namespace of its own", { unshare, "-U", "-r", "-p", "-f", "--mount-proc", "--kill-child" } },
  { "without CAP_SYS_ADMIN", { unshare, "-U", "-r", "/usr/bin/setpriv", "--bounding-set=-sys_admin" } },
}

describe("root of a user namespace", function()
  for _, kind in ipairs(kinds) do
    describe(kind[1], function()
      local function inside(text)
        process.needs_userns()
        script.succeeds(text, { wrapper = kind[2] })
      end

      it("starts boxes of every kind", function()
        inside(script.CHECK .. [[
          check({}, 3)
          for _, opts in ipairs { { network = "host" }, { namespaces = { pid = false } }, { read_only = true },
              { namespaces = { time = { boottime = 1 } } }, { timeout = 60 } } do check(opts) end
          assert(assert(nsbox.run("busybox", { "true" }, { tty = true })).ok)
          assert(assert(nsbox.run("host", "touch /usr/x")).ok)
          assert(assert(nsbox.run("host", { "true" }, { namespaces = { mount = false } })).ok)]])
      end)

      it("is root there, alone and with the capabilities of any box", function()
        inside [[
          local r = assert(nsbox.run("busybox", "id -u; echo $$; cat /proc/self/uid_map; grep Cap /proc/self/status"))
          local uid, pid, map = r.stdout:match "^(%d+)\n(%d+)\n%s*(%d+%s+%d+%s+%d+)"
          assert(uid == "0" and pid == "1" and map:gsub("%s+", " ") == "0 0 1", r.stdout)
          assert(r.stdout:find "CapBnd:%s*00000000a80425fb", r.stdout)]]
      end)

      it("is told what it cannot have", function()
        inside [[
          local row = nsbox.probe().root
          assert(not row.ok and row.why:find("root of a user namespace", 1, true), row.why)
          for text, opts in pairs { ["user 1000 does not exist in the box, whose ids are 0"] = { user = 1000 },
              ["as root without its rights"] = { namespaces = { user = false } } } do
            local r, err = nsbox.run("busybox", { "true" }, opts)
            assert(r == nil and err.kind == "unsupported", tostring(err or r))
            assert(err.message:find(text, 1, true), err.message)
          end]]
      end)

      it("takes its boxes with it", function()
        process.needs_userns()
        local marker = box.marker()
        local s <close> = script.start([[
          require("nsbox").run("busybox", { "sh", "-c", "echo up; sleep 100; true", arg[1] }, { stdout = "inherit" })]],
          { marker = marker, wrapper = kind[2] })
        assert.equal("up", s:line()) -- before, the wrapper may not have said what is to die with it
        s:signal "kill"
        s:wait()
        local deadline = sys.clock() + helper.PATIENCE
        while #box.pids(marker) > 0 and sys.clock() < deadline do sys.nanosleep(0.01) end
        assert.same({}, box.pids(marker))
      end)
    end)
  end

  for _, cap in ipairs { "sys_admin", "setuid", "setgid" } do
    it("of the host without CAP_" .. cap:upper() .. " starts boxes, too", function()
      if not helper.root() then helper.skip "needs root" end
      script.succeeds(script.CHECK .. ([[
        check({}, 3)
        assert(assert(nsbox.run("host", "touch /usr/x")).ok)
        local row = nsbox.probe().root
        assert(not row.ok and row.why:find("without CAP_%s", 1, true), row.why)]]):format(cap:upper()),
        { wrapper = { "/usr/bin/setpriv", "--bounding-set=-" .. cap } })
    end)
  end

  it("with a range of ids starts boxes, too", function()
    if not helper.root() then helper.skip "needs root: it maps the range" end
    local r, w = sys.pipe2()
    local text = "local nsbox = require 'nsbox'\n" .. script.CHECK .. "check({}, 3) print 'done'"
    local s <close> = script.start(text, { before = function()
      w:close()
      assert(sys.unshare "newuser")
      sys.read(r, 1)
    end })
    r:close()
    local deadline = sys.clock() + helper.PATIENCE
    while sys.readlink(("/proc/%d/ns/user"):format(s.pid)) == sys.readlink "/proc/self/ns/user" do
      assert(sys.clock() < deadline)
      sys.nanosleep(0.005)
    end
    assert(sys.uid_map(s.pid, { { 0, 0, 65536 } }))
    assert(sys.gid_map(s.pid, { { 0, 0, 65536 } }))
    w:close()
    assert.equal("done", s:line())
    assert.same({ "exit", 0 }, { s:wait() })
  end)
end)
