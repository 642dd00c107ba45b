-- Twenty boxes at once in one luv loop: each has a coroutine, in which the verbs of nsbox wait without blocking it.
local nsbox = require "nsbox"
local uv = require "luv"

local N = 20
local ticks, running, failed = 0, N, 0

assert(nsbox.use "luv")

-- Whatever else the loop does goes on meanwhile.
local timer = uv.new_timer()
timer:start(10, 10, function() ticks = ticks + 1 end)

local function work(i)
  local result = assert(nsbox.run("busybox", "echo begins; sleep 0.$(($RANDOM % 5)); echo ends", {
    hostname = "box" .. i,
    timeout = 60,
    stdout = function(line) print(("box %2d %s"):format(i, line)) end, -- called as each line comes
  }))
  failed = failed + (result.ok and 0 or 1)
  running = running - 1
  if running == 0 then
    timer:close() -- nothing is left in the loop: uv.run returns
  end
end

local began = nsbox.clock()
for i = 1, N do
  coroutine.wrap(work)(i)
end
uv.run()
print(("%d boxes, %d failed, in %.1f s; the loop ticked %d times"):format(N, failed, nsbox.clock() - began, ticks))
