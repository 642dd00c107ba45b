#!/usr/bin/env lua5.4
-- docker run -it busybox /bin/sh. On a terminal: that shell. Elsewhere: what one would look at in it.
local nsbox = require "nsbox"
local sys = nsbox.sys

if sys.isatty(0) and sys.isatty(1) then
  local r = assert(nsbox.run("busybox", { "/bin/sh" }, { tty = true }))
  os.exit(r.code or 128, true)
end

local function number_outside() -- the process that has our mark in its environment
  for _, name in ipairs(sys.readdir "/proc") do
    local f = name:match "^%d+$" and io.open("/proc/" .. name .. "/environ")
    if f and (f:read("a") or ""):find("MARK=" .. sys.getpid(), 1, true) then return name end
  end
end

local commands = {
  { "echo $$", "the shell is process 1" }, { "ps", "it sees two processes" }, { "hostname", "a name of its own" },
  { "ip -o link | cut -d' ' -f2,3", "network devices of its own" },
  { "mount | cut -d' ' -f1-5", "mount points of its own" },
}
local i, outside = 0, nil
local function input() -- asked for each next line of input, while the shell runs
  i = i + 1
  for _ = 1, outside and 0 or 500 do -- until the shell has started
    outside = number_outside()
    if outside then break end
    sys.nanosleep(0.01)
  end
  local c = commands[i]
  return c and ("echo; echo '# %s'; echo '/ # %s'; %s\n"):format(c[2], c[1]:gsub("'", '"'), c[1])
end

local r = assert(nsbox.run("busybox", { "/bin/sh" }, { env = { MARK = sys.getpid() }, input = input }))
io.write(r.stdout, r.stderr, "\n# outside, the shell is process ", outside or "?", "\n")
os.exit(r.ok, true)
