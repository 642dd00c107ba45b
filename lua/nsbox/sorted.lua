-- sorted.lua: the keys of a map in order.

--- The keys of a table, or of nil none, as a sorted list.
local function sorted(map)
  local keys = {}
  for key in pairs(map or {}) do
    keys[#keys + 1] = key
  end
  table.sort(keys)
  return keys
end

return sorted
