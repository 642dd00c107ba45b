#!/usr/bin/env lua5.4
-- A program on disk, then a process, then a process in a box. The program adds the numbers of a file.
local nsbox = require "nsbox"
local sys = nsbox.sys

local folder = ("%s/adder-%d"):format(os.getenv "HOME" or ".", sys.getpid()) -- not /tmp: a box has its own
assert(sys.mkdir(folder, "0755"))

local function write(name, text, mode)
  assert(io.open(folder .. "/" .. name, "w")):write(text):close()
  assert(sys.chmod(folder .. "/" .. name, mode))
end
local function output()
  local f = io.open(folder .. "/output")
  return f and f:read("a"):gsub("\n", "") or "no output file"
end

-- 1. A program: an image at rest.
write("input", "1\n2\n39\n", "0644")
write("adder", "#!/bin/sh\ns=0\nwhile read n; do s=$((s + n)); done < input\necho $s > output\n", "0755")
print("program:  " .. sys.stat(folder .. "/adder").size .. " bytes on disk, and " .. output())

-- 2. A process: the program in motion, with the whole machine in view.
local pid = assert(sys.clone("", function()
  assert(sys.chdir(folder))
  return sys.execve("./adder", { "adder" }, {})
end))
assert(sys.waitid(pid))
print("process:  it ran as " .. pid .. " and wrote " .. output())

-- 3. A process in a box, on the same files: its view, and what it writes, end at the box.
os.remove(folder .. "/output")
local r = assert(nsbox.run("host", "./adder; echo it ran as $$ and wrote $(cat output)", { workdir = folder }))
print("in a box: " .. r:check().stdout:gsub("\n", "") .. "; outside there is " .. output())

os.remove(folder .. "/adder")
os.remove(folder .. "/input")
sys.rmdir(folder)
