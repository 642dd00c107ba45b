-- cgroup/value.lua: what is written to the files of cgroups, of either version, and how what is read back compares.

local core = require "nsbox.core"
local sorted = require "nsbox.sorted"

local PAGE = core.PAGE_SIZE -- the kernel counts memory in pages, and rounds down
local HIGHEST = math.maxinteger - (16 << 30) -- and more: the kernel rounds what has no limit down to a (huge) page

-- Of CPUs, what a cgroup has of which nothing is said: in v2, and in v1, whose shares OCI has.
local WEIGHT, SHARES, MAX_WEIGHT = 100, 1024, 10000

local value, same = {}, {}

--- A number as it is written, or nil.
function value.text(n)
  return n and ("%d"):format(n)
end

--- The same, where a negative one is no limit.
function value.or_max(n)
  return n and n < 0 and "max" or value.text(n)
end

--- No two weights have the same shares, so that `weight` leads back.
function value.shares(weight)
  return weight and (weight * SHARES + WEIGHT // 2) // WEIGHT
end

--- Shares have a wider range.
function value.weight(shares)
  return shares and math.max(1, math.min(MAX_WEIGHT, (shares * WEIGHT + SHARES // 2) // SHARES))
end

--- The files of page sizes: a list of { name = page size, text = bytes }.
function value.huge_pages(resources)
  local list = {}
  for i, limit in ipairs(resources.hugepageLimits or {}) do
    list[i] = { name = limit.pageSize, text = value.text(limit.limit) }
  end
  return list
end

--- The lines of block devices that have `field` in this list of blockIO, and nil where there is none of it.
function value.of_devices(key, field)
  return function(resources)
    local list = {}
    for _, row in ipairs(resources.blockIO and resources.blockIO[key] or {}) do
      list[#list + 1] = row[field] and ("%d:%d %d"):format(row.major, row.minor, row[field]) or nil
    end
    return list
  end
end

--- A line a device of RDMA.
function value.rdma(resources)
  local list = {}
  for i, name in ipairs(sorted(resources.rdma)) do
    local words, of = { name }, resources.rdma[name]
    words[#words + 1] = of.hcaHandles and ("hca_handle=%d"):format(of.hcaHandles)
    words[#words + 1] = of.hcaObjects and ("hca_object=%d"):format(of.hcaObjects)
    list[i] = table.concat(words, " ")
  end
  return list
end

--- useHierarchy, which cannot be false: see `lacks` in v1.lua.
function value.flat(resources)
  return resources.memory and resources.memory.useHierarchy == false
    and "what a cgroup uses counts in all above it, always" or nil
end

-- ---- read back ----

function same.number(read, written)
  return read == written or read == "max" and written == "max" or tonumber(read) == tonumber(written)
    and tonumber(read) ~= nil
end

-- "max" and -1 are the highest number that there is.
function same.pages(read, written)
  local n, wanted = tonumber(read), tonumber(written)
  if not n or not wanted then
    return read == written
  elseif wanted < 0 then
    return n > HIGHEST
  end
  return n == wanted or n == math.min(wanted, math.maxinteger) // PAGE * PAGE
end

local function numbers_of(list)
  local set, n = {}, 0
  for first, last in (list .. ","):gmatch "(%d+)%-?(%d*)," do
    for i = tonumber(first), tonumber(last) or tonumber(first) do
      n = n + (set[i] and 0 or 1)
      set[i] = true
    end
  end
  return set, n
end

--- Of lists such as "0-1,4".
function same.list(read, written)
  local a, n = numbers_of(read)
  local b, m = numbers_of(written)
  for i in pairs(a) do
    if not b[i] then
      return false
    end
  end
  return n == m
end

-- Several keys a line, the first word says of what: "8:0 rbps=1 wbps=max".
function same.line(read, written)
  local key = written:match "^%S+"
  for line in (read .. "\n"):gmatch "([^\n]*)\n" do
    if line:match "^%S+" == key then
      local has = {}
      for word in line:gmatch "%S+" do
        has[word] = true
      end
      for word in written:gmatch "%S+" do
        if not has[word] then
          return false
        end
      end
      return true
    end
  end
  return written:match "^%d+:%d+ 0$" ~= nil -- of v1: no limit is no line
end

local function plain(text)
  return (text:gsub("%s+", " "):gsub("^ ", ""):gsub(" $", ""))
end

local function is_list(text)
  return text:find "^%d[%d,-]*$" ~= nil
end

-- Raw keys: the kernel may write a number, a size, a list, spaces, or what is for all devices, in another way.
function same.text(read, written)
  local said = plain(read)
  if said == plain(written) or same.number(said, written) or is_list(said) and is_list(written)
    and same.list(said, written) or written == "-1" and same.pages(said, written)
    or said:match "^oom_kill_disable (%d)" == written then
    return true
  end
  local size, unit = written:match "^(%d+)([KMGkmg]?)$"
  local shift = size and ({ k = 10, m = 20, g = 30 })[unit:lower()] or 0
  return size ~= nil and (same.pages(said, tostring(tonumber(size) << shift))
    or same.line(read, "default " .. written)) or same.line(read, written)
end

value.same = same

return value
