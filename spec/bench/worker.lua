-- worker.lua: nsbox.run on request, from a Lua process with a heap of a given size: worker.lua MIB ROOT PROGRAM
-- One byte on stdin is the milliseconds of rest before a start; the answer on stdout is its nanoseconds.

local nsbox = require "nsbox"
local sys = nsbox.sys

local CHUNK = 64 * 1024

local mib, root, program = tonumber(arg[1]), arg[2], arg[3]

-- Every page of it is written to.
local heap = {}
for i = 1, mib * 1024 * 1024 // CHUNK do
  heap[i] = ("%08d"):format(i):rep(CHUNK // 8)
end
collectgarbage()

local image, command = "dir:" .. root, { program }

local function start()
  local began = nsbox.clock()
  local result, err = nsbox.run(image, command)
  local took = nsbox.clock() - began
  if not result then
    error(err)
  end
  assert(result.ok and #heap >= 0, tostring(result))
  return took
end

while true do
  local byte = assert(sys.read(0, 1))
  if byte == "" then
    break
  end
  if byte ~= "\0" then
    sys.nanosleep(byte:byte() / 1000)
  end
  io.write(("%.0f\n"):format(start() * 1e9))
  io.flush()
end
