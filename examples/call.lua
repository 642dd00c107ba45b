#!/usr/bin/env lua5.4
-- Tests that each run as root of a world of their own: whatever they do to it, the next one and the host see nothing.
local nsbox = require "nsbox"
local sys = nsbox.sys

local function write(path, text)
  assert(io.open(path, "w")):write(text):close()
end

local tests = {
  { "is process 1, as root", function()
    assert(sys.getpid() == 1 and sys.getuid() == 0)
  end },
  { "writes where only root may", function()
    write("/etc/motd", "mine")
    assert(sys.chmod("/etc/motd", "0600"))
  end },
  { "does not see what the test before it wrote", function()
    assert(sys.stat "/etc/motd" == nil)
  end },
  { "fails", function()
    assert(1 + 1 == 3, "arithmetic")
  end },
  { "never ends", function()
    while true do end
  end },
}

for _, test in ipairs(tests) do
  local name, body = test[1], test[2]
  local ok, err = nsbox.call("busybox", body, { timeout = 3 })
  print((ok and "ok      " or "not ok  ") .. name .. (ok and "" or ": " .. err.message))
end
