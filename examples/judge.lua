#!/usr/bin/env lua5.4
-- A judge of C programs by people one does not know: each is compiled in a box and run in another, within limits.
local nsbox = require "nsbox"
local sys = nsbox.sys

local programs = { -- each is to add two numbers
  { "adds", 'int a, b; scanf("%d %d", &a, &b); printf("%d\\n", a + b);' },
  { "subtracts", 'int a, b; scanf("%d %d", &a, &b); printf("%d\\n", a - b);' },
  { "thinks", "for (volatile int i = 0;; i++);" }, { "babbles", 'for (;;) puts("41, no, 42, no,");' },
  { "hoards", 'memset(malloc(100 << 20), 1, 100 << 20); puts("42");' },
  { "crashes", "abort();" }, { "is no C", "LET A = 1" },
}
local words = { cpu = "TLE", timeout = "TLE", oom = "MLE", output = "OLE" }
local folder = os.tmpname()
assert(os.remove(folder) and sys.mkdir(folder, "0755"))

local function compile(code) -- the program leaves the box as its output: no folder is open to the compiler
  local source = ("#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\nint main(void) { %s }\n"):format(code)
  return assert(nsbox.run("host", "gcc -w -x c -o /tmp/a - && cat /tmp/a", { input = source, timeout = 60 }))
end

-- As process 1 a program would ignore what it does to itself, abort too: init is that instead, one more of the pids.
local limits = { memory = "32M", pids = 9, init = true, cpu_time = 0.5, timeout = 5, max_output = "64K",
  overflow = "kill", input = "20 22\n", mounts = { folder .. ":/mnt:ro" }, degrade = { "memory", "pids", "cpu_time" } }
local unenforced = {} -- by the kernel, for this caller

for _, row in ipairs(programs) do
  local made, r = compile(row[2]), nil
  if made.ok then
    assert(io.open(folder .. "/a", "w")):write(made.stdout):close()
    assert(sys.chmod(folder .. "/a", "0755"))
    r = assert(nsbox.run("host", { "/mnt/a" }, limits))
  end
  local verdict = not r and "CE" or words[r.reason] or not r.ok and "RE" or r.stdout == "42\n" and "AC" or "WA"
  print(("%-4s %-10s %s"):format(verdict, row[1], tostring(r or made):match ": ([^:]*)$"))
  for _, note in ipairs(r and r.notes or {}) do unenforced[note.what] = note.why end
end
for what, why in pairs(unenforced) do print(("note %-10s %s"):format(what, why)) end
assert(sys.unlink(folder .. "/a") and sys.rmdir(folder))
