-- nsbox: Linux containers as a Lua library. What is here is public; nothing else is, but nsbox.sys.

-- name -> { module, field }: loaded when it is first used.
local public = {
  run = { "nsbox.box", "run" },
  start = { "nsbox.box", "start" },
  call = { "nsbox.call", "call" },
  box = { "nsbox.box", "box" },
  boxes = { "nsbox.box", "boxes" },
  wait_any = { "nsbox.box", "wait_any" },
  gather = { "nsbox.gather", "gather" },
  use = { "nsbox.wait", "use" },
  sleep = { "nsbox.wait", "sleep" },
  explain = { "nsbox.explain", "explain" },
  probe = { "nsbox.probe", "probe" },
  sys = { "nsbox.sys" },
  clock = { "nsbox.sys", "clock" },
}

-- Known, and not built yet: refused with a name instead of "attempt to call a nil value".
local later = { "load", "save", "images",
  "image", "tag", "remove_image", "gc", "verify", "build" }

local nsbox = { _VERSION = "nsbox 0.1.0" }

for _, name in ipairs(later) do
  nsbox[name] = function()
    return require("nsbox.error").fail { kind = "unsupported", verb = name, message = "not built yet" }
  end
end

return setmetatable(nsbox, {
  __index = function(module, name)
    local at = public[name]
    if not at then
      return nil
    end
    local value = require(at[1])
    if at[2] then
      value = value[at[2]]
    end
    rawset(module, name, value)
    return value
  end,
})
