#!/usr/bin/env lua5.4
-- Driving a program that talks to a person: a shell on a terminal of its own, and one that waits for its lines.
local nsbox = require "nsbox"

local box <close> = assert(nsbox.start("busybox", { "sh" }, { tty = { rows = 24, cols = 80 }, stdin = "pipe" }))

local function ask(line, pattern)
  assert(box:send(line .. "\n"))
  return assert(box:expect(pattern, 10))
end

print("the terminal: " .. ask("tty", "/dev/pts/%d+"))
print("its size:     " .. ask("stty size", "24 80"))
print("a sum:        " .. ask("echo sum=$((6 * 7))", "sum=(%d+)"))

-- Job control works: what the key Ctrl-C ends is the program, not the shell.
assert(box:send "sleep 100; echo status=$?\n")
repeat -- until it runs
  nsbox.sleep(0.01)
  local last = box:processes()[2]
until last and last.name == "sleep"
assert(box:send "\3")
print("after Ctrl-C: " .. ask("echo status=$?", "status=(%d+)"))

assert(box:send "exit 7\n")
print("the shell:    exit " .. assert(box:wait(10)).code)
