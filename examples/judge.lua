#!/usr/bin/env lua5.4
-- A judge: compiles C programs of strangers in one box, and runs each in another, with a verdict. They are to add.
local nsbox = require "nsbox"
local sys = nsbox.sys

local MAIN = "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n"
  .. 'int main(void) { int a, b; if (scanf("%d %d", &a, &b) != 2) return 9; '
local programs = {
  { "right", 'printf("%d\\n", a + b);' },
  { "wrong", 'printf("%d\\n", a - b);' },
  { "for ever", "for (;;) a++;" },
  { "greedy", "for (;;) memset(malloc(1 << 20), 1, 1 << 20);" },
  { "talkative", "for (;;) puts(\"no end of it\");" },
  { "crashing", "abort();" },
}
local verdicts = { timeout = "TLE", cpu = "TLE", oom = "MLE", output = "OLE" }

local function verdict(r)
  return verdicts[r.reason] or not r.ok and "RE" or r.stdout == "5\n" and "AC" or "WA"
end

local folder = os.tmpname()
os.remove(folder)
assert(sys.mkdir(folder, "0700"))
local OURS = { userns = "keep-id", mounts = { folder .. ":/judge" }, timeout = 20, check = true } -- gcc is the host's
local LIMITS = { input = "2 3\n", memory = "32M", cpu_time = 0.5, timeout = 5, pids = 10, max_output = "4K",
  overflow = "kill", userns = "keep-id", mounts = { folder .. ":/judge:ro" } }

for _, program in ipairs(programs) do
  local file <close> = assert(io.open(folder .. "/main.c", "w"))
  file:write(MAIN, program[2], " return 0; }\n")
  file:close()
  assert(nsbox.run("host", "gcc -O1 -w -static -o /judge/main /judge/main.c", OURS))
  local r, err = nsbox.run("busybox", { "/judge/main" }, LIMITS)
  print(("%-10s %s"):format(program[1], r and verdict(r) or err.message))
end
for _, name in ipairs { "/main.c", "/main" } do sys.unlink(folder .. name) end
assert(sys.rmdir(folder))
