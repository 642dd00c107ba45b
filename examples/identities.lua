#!/usr/bin/env lua5.4
-- Root inside looks like root outside, and is somebody else: who it is, and whose the files are that it makes.
local nsbox = require "nsbox"
local sys = nsbox.sys

local folder = os.tmpname()
os.remove(folder)
assert(sys.mkdir(folder, "0777"))
assert(sys.chmod(folder, "0777")) -- for whom the box's root is outside, too

local function owner(path)
  return ("%d"):format(assert(sys.lstat(path)).uid)
end

-- In here: 0. Out there: a number of the box's own, or the caller's. In uid_map stand inside, outside, count.
local box <close> = assert(nsbox.start("busybox", false, { mounts = { folder .. ":/out" } }))
print("inside, id says:      " .. assert(box:exec("id -u")).stdout:match "%d+")
print("outside, it is:       " .. owner("/proc/" .. box.pid))
print("its map:              " .. io.open("/proc/" .. box.pid .. "/uid_map"):read "l":gsub("%s+", " "):gsub("^ ", ""))

-- A file of the box's root, and what the host's root has nothing to do with.
assert(box:exec("echo hello >/out/file")):check()
print("its file belongs to:  " .. owner(folder .. "/file"))
local r = assert(nsbox.run("busybox", "kill -0 1 && echo it may || echo it may not", { namespaces = { pid = false } }))
io.write("signal the host's 1?  " .. r.stdout)

-- keep-id: the caller's own number inside, and files that are the caller's.
local opts = { userns = "keep-id", mounts = { folder .. ":/out" } }
r = assert(nsbox.run("busybox", "id -u; echo mine >/out/mine", opts))
print("keep-id, inside:      " .. r.stdout:match "%d+")
print("keep-id, its file:    " .. owner(folder .. "/mine"))

for _, name in ipairs { "/file", "/mine" } do assert(sys.unlink(folder .. name)) end
assert(sys.rmdir(folder))
