-- plan/ids.lua: the box's clocks: how far they are off is said before the first process runs by them.

local function clocks(box)
  local offsets = box.config.linux.timeOffsets
  if box.ns.time ~= true then
    return
  end
  box.add { "unshare", "newtime", why = "its own clocks, for its children or from exec on" }
  for _, clock in ipairs { "monotonic", "boottime" } do
    local o = offsets and offsets[clock]
    if o then
      box.add { "write_file", "cwd", "/proc/self/timens_offsets",
        ("%s %d %d\n"):format(clock, o.secs, o.nanosecs), why = "how far the " .. clock .. " clock is off" }
    end
  end
  if not box.host.exec_clocks.ok or box.config.nsbox.call then
    box.add { "open", "/proc/self/ns/time_for_children", "rdonly", out = "clocks", why = "these clocks" }
    box.add { "setns", "@clocks", "newtime",
      why = "enter them now, since " .. (box.config.nsbox.call and "no exec does" or "this kernel's exec does not") }
  end
end

return { clocks = clocks }
