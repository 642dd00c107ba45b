-- plan/fresh.lua: a new file system by the mount calls of Linux 5.2, as one list of steps.

local sorted = require "nsbox.sorted"

--- Adds the steps that make file system row[1] and leave its mount in slot row.slot, not attached yet.
-- row: source (what `mount` lists it as), options (name -> string), flags (names), attr (mount attributes), why.
local function mount(box, row)
  local fs = row.slot .. "_fs"
  box.add { "fsopen", row[1], out = fs, why = row.why }
  box.add { "fsconfig", "@" .. fs, "set_string", "source", row.source, why = "its name in lists of mounts" }
  for _, key in ipairs(sorted(row.options)) do
    box.add { "fsconfig", "@" .. fs, "set_string", key, row.options[key], why = key .. "=" .. row.options[key] }
  end
  for _, flag in ipairs(row.flags or {}) do
    box.add { "fsconfig", "@" .. fs, "set_flag", flag, why = flag }
  end
  box.add { "fsconfig", "@" .. fs, "cmd_create", why = "make the " .. row[1] }
  box.add { "fsmount", "@" .. fs, 0, row.attr, out = row.slot,
    why = "as a mount" .. (row.attr and ", " .. row.attr or "") }
end

return { mount = mount }
