-- cli/usage.lua: what a box uses, as a row for people.

local UNKNOWN = "-"

local units = { "B", "KiB", "MiB", "GiB", "TiB" }

local function size(n)
  if not n then
    return UNKNOWN
  end
  local i = 1
  while n >= 1024 and units[i + 1] do
    n, i = n / 1024, i + 1
  end
  return ("%.4g%s"):format(n, units[i])
end

local function limit_of(box, option)
  local limit = box.limits[option]
  return limit and math.type(limit.value) and limit.value
end

local function percent(n, of)
  return n and of and ("%.2f%%"):format(n / of * 100) or UNKNOWN
end

local head = { "ID", "NAME", "CPU TIME", "MEM USAGE / LIMIT", "MEM %", "BLOCK I/O", "PIDS" }

--- A row below `head`, of what box:stats() says.
local function row(box, usage)
  local most = limit_of(box, "memory")
  local cpu = usage.user and ("%.2fs"):format(usage.user + usage.sys) or UNKNOWN
  return { box.id, box.name or "", cpu, size(usage.memory) .. " / " .. size(most), percent(usage.memory, most),
    size(usage.io_read) .. " / " .. size(usage.io_write), usage.pids and ("%d"):format(usage.pids) or UNKNOWN }
end

return { head = head, row = row }
