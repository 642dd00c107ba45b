-- cgroup/file.lua: the files of a cgroup. Their contents are lines of words; one write is one request.

local sys = require "nsbox.sys"

local LIMIT = 65536 -- bytes at a time

local file = {}

--- What a file of the folder says, without the newline at its end | nil, message, errno.
function file.read(folder, name)
  local fd <close>, message, errno = sys.open(folder .. "/" .. name, "rdonly")
  if not fd then
    return nil, message, errno
  end
  local all = ""
  while true do
    local text, why, number = sys.read(fd, LIMIT)
    if not text then
      return nil, why, number
    elseif text == "" then
      return (all:gsub("\n$", ""))
    end
    all = all .. text
  end
end

--- true | nil, message, errno. The file is not made: the kernel has, or has not.
function file.write(folder, name, text)
  return sys.write_file("cwd", folder .. "/" .. name, text)
end

function file.exists(folder, name)
  return sys.stat(folder .. "/" .. name) ~= nil
end

--- The number that a file holds; "max" is math.huge; nil where there is none.
function file.number(folder, name)
  local text = file.read(folder, name)
  return text == "max" and math.huge or math.tointeger(tonumber(text or ""))
end

--- The number behind a word, a pair a line as in memory.events; nil where there is none.
function file.field(folder, name, word)
  local text = file.read(folder, name)
  return text and math.tointeger(tonumber(("\n" .. text):match("\n" .. word .. " (%d+)")))
end

--- Its words as a set.
function file.words(folder, name)
  local set = {}
  for word in (file.read(folder, name) or ""):gmatch "%S+" do
    set[word] = true
  end
  return set
end

--- Whether there are cgroups below one: each is a link to it, of which two are its own.
function file.has_children(folder)
  local stat = sys.stat(folder)
  return stat ~= nil and stat.nlink > 2
end

--- The cgroups right below one, by name.
function file.children(folder)
  local list = {}
  for _, name in ipairs(file.has_children(folder) and sys.readdir(folder) or {}) do
    local stat = sys.lstat(folder .. "/" .. name)
    if stat and stat.type == "dir" then
      list[#list + 1] = name
    end
  end
  return list
end

return file
