-- plan/ids.lua: the caller becomes root of the box; and the box's clocks, which are set before that.

-- How far they are off is said before the first process runs by them.
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

local function guard(box)
  box.add { "prctl", "set_pdeathsig", "kill", why = "again: changing ids has cleared it" }
end

-- Full rights in the user namespace are there already, but files that are made would have no owner in it.
local function become(box)
  if not box.config.nsbox.become or box.ns.mount ~= true and not box.joining then
    return
  end
  box.add { "setresgid", 0, 0, 0, why = "the box's own root group",
    unsupported = "the user namespace maps no group to 0: a box needs its root", refused = "EINVAL" }
  box.add { "setresuid", 0, 0, 0, why = "the box's own root: what is made from here on is its",
    unsupported = "the user namespace maps no id to 0: a box needs its root", refused = "EINVAL" }
  guard(box)
end

--- What a Result has to note: why there is one id alone.
local function notes(box)
  local why = box.config.nsbox.why_single
  local text = why and "one id is mapped, the caller's own, and its groups stay: " .. why
  return { text and { what = "userns", why = text } or nil }
end

return { clocks = clocks, become = become, notes = notes }
