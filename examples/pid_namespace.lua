#!/usr/bin/env lua5.4
-- The trick of a container's process 1, by hand: clone with CLONE_NEWPID. Inside it is 1, outside it keeps its number;
-- done twice there are two such worlds at once, and neither sees the other.
local sys = require("nsbox").sys

-- Without root the right to make namespaces comes with one more of them.
local flags = sys.CLONE_NEWPID | sys.SIGCHLD
if sys.geteuid() ~= 0 then
  flags = flags | sys.CLONE_NEWUSER
end

local both_are_here, here = sys.pipe2()

local function main(name)
  here:close()
  sys.read(both_are_here) -- until the caller has closed its end, too
  print(("%s: inside I am process %d, my parent is %d"):format(name, sys.getpid(), sys.getppid()))
  local other = sys.kill(2, 0) and "I see a process 2" or "there is no process 2 here"
  print(("%s: %s"):format(name, other))
end

local pids = {}
for i, name in ipairs { "first", "second" } do
  pids[i] = assert(sys.clone(flags, function() main(name) end))
  print(("%s: outside it is process %d"):format(name, pids[i]))
end
here:close()
for _, pid in ipairs(pids) do
  assert(sys.waitid(pid))
end
