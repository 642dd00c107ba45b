#!/usr/bin/env lua5.4
-- Three lines from a box: who, where, and what it sees.
local nsbox = require "nsbox"

local r = assert(nsbox.run("busybox", {
  "sh", "-c", "echo hello from process $$; echo on host $(hostname); echo as $(id -un), in $(pwd)",
}, { hostname = "box" }))

io.write(r:check().stdout)
