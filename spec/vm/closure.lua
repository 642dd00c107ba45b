-- Prints the installed packages that the named ones need, themselves included.
-- Alternatives ("a | b") and virtual packages give every installed choice: it is what the host has.

local depends, providers = {}, {}

local function add_provider(name, package)
  providers[name] = providers[name] or {}
  table.insert(providers[name], package)
end

-- "libc6:any (>= 2.34) | libc-dev, tar" → "libc6", "libc-dev", "tar"
local function names(list)
  return list:gsub("%b()", ""):gsub(":[%w-]+", ""):gmatch("[%w.+-]+")
end

local function read_installed()
  local format = "${db:Status-Status}\\t${Package}\\t${Pre-Depends}, ${Depends}\\t${Provides}\\n"
  local query <close> = assert(io.popen("dpkg-query -W -f '" .. format .. "'"))
  for line in query:lines() do
    local status, package, needs, provides = line:match("^(%S+)\t(%S+)\t(.-)\t(.*)$")
    if status == "installed" then
      depends[package] = needs
      add_provider(package, package)
      for name in names(provides) do add_provider(name, package) end
    end
  end
end

local seen = {}

local function visit(name)
  for _, package in ipairs(providers[name] or {}) do
    if not seen[package] then
      seen[package] = true
      for needed in names(depends[package]) do visit(needed) end
    end
  end
end

local function sorted_keys(set)
  local keys = {}
  for key in pairs(set) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

read_installed()
for _, name in ipairs(arg) do visit(name) end
for _, package in ipairs(sorted_keys(seen)) do print(package) end
