#!/usr/bin/env lua5.4
-- A second program enters a running box: it sees what the first one sees, and is seen by it.
local nsbox = require "nsbox"

-- A box that lives until it is closed, which happens at the end of this block, come what may.
local box <close> = assert(nsbox.start("busybox", "echo up; while sleep 1; do :; done", { hostname = "inhabited" }))
assert(box:expect("up", 10))
print("outside, process 1 of the box is " .. box.pid)

-- exec waits for the end of its command, as run does.
io.write(assert(box:exec("hostname; ps; true")):check().stdout)

-- spawn gives a handle: here a shell, with a pipe to write to and one to read from.
local shell <close> = assert(box:spawn({ "sh" }, { stdin = "pipe", stdout = "pipe" }))
assert(shell:send "echo I am process $$, and there are $(ls -d /proc/[0-9]* | wc -l) of us\n")
print("the shell: " .. assert(shell.stdout:read()))
print("the box ends by " .. assert(box:stop(1)).reason .. ", and the shell with it: " .. tostring(shell:wait().signal))
