-- cgroup/limit.lua: limits are written and read back; those of a box that runs are changed, all or none. A group here
-- is the one of cgroup.lua.

local choice = require "nsbox.cgroup.choice"
local core = require "nsbox.core"
local devices = require "nsbox.cgroup.device_rules"
local file = require "nsbox.cgroup.file"
local leaf = require "nsbox.cgroup.leaf"
local proc = require "nsbox.probe.file"
local same = require("nsbox.cgroup.value").same
local sys = require "nsbox.sys"

local row_of, v1, v2 = choice.row_of, choice.v1, choice.v2

-- ---- what is told of them ----

-- One option may be several files: each has its part.
local function tell(group, option, by, value)
  local told = group.told[option] or {}
  group.told[option] = told
  local i = 1
  while told[i] and told[i].by ~= by do
    i = i + 1
  end
  told[i] = { by = by, value = value }
  local all = told[1]
  for j = 2, #told do
    all = { by = all.by .. ", " .. told[j].by, value = tostring(all.value) .. "; " .. tostring(told[j].value) }
  end
  group.limits[option] = { value = all.value, by = all.by }
end

local function noted(group, write, row, read)
  local folder = group.at[write.where]
  if row.untold then
    return
  end
  local value = read
  if row.value then
    value = row.value(read, folder)
  elseif row.beyond then
    value = math.tointeger(tonumber(read)) - file.number(folder, row.beyond)
  elseif row.raw then
    value = row.file .. " = " .. read
  elseif not row.text then
    value = read == "max" and math.huge or math.tointeger(tonumber(read)) or read
  end
  tell(group, write.option, ("cgroup %s %s"):format(write.where == "v2" and "v2" or "v1", row.read or row.file), value)
end

-- ---- one of them ----

local function no_swap()
  return not (proc.read "/proc/swaps" or ""):find "\n%S"
end

-- The row that this kernel has, which may have another file for it, and its text; nil where there is nothing to limit.
local function fitting(group, write)
  local row, folder = row_of(write), group.at[write.where]
  if row.program or file.exists(folder, row.file) then
    return row, write.text
  elseif row.or_else then
    local other = setmetatable(row.or_else, { __index = row })
    return other, other.of(write.text)
  elseif write.option == "swap" and no_swap() then
    return nil
  end
  return row, write.text
end

-- Once: the kernel keeps each that is attached, and a start may be begun anew.
local function attach_program(group, write)
  if group.attached then
    return true
  end
  local folder <close>, message, errno = sys.open(group.at.v2, "rdonly,directory")
  if not folder then
    return nil, message, errno
  end
  local program <close>, why, number = core.bpf_device(devices.program(group.resources.devices))
  if not program then
    return nil, why, number
  end
  local ok
  ok, message, errno = core.bpf_attach(folder, program)
  if not ok then
    return nil, message, errno
  elseif core.bpf_attached(folder) ~= 1 then
    return nil, "read back: the kernel did not attach the program", sys.EPROTO
  end
  group.attached = true
  tell(group, write.option, "cgroup v2 " .. write.file, write.text)
  return true
end

local function refused(row, text, message)
  return ("write '%s' to %s%s"):format(text, row.file, message:match ": [^:]*$")
end

local NOT_UNDONE = ", and could not be undone: "

-- Puts back what those below had, which were `count`, and then what is above: nil | what is wrong.
local function put_back(folder, row, names, count, old)
  for i = 1, count do
    file.write(folder .. "/" .. names[i], row.file, old)
  end
  local ok, message = file.write(folder, row.file, old)
  return not ok and NOT_UNDONE .. refused(row, old, message) or nil
end

-- What is below is the caller's own, see leaf.lua. At no time may it have a CPU that what is above has not.
local function write_below(folder, row, text)
  local names = file.children(folder)
  local old = names[1] and row.same == same.list and file.read(folder, row.file)
  if old then
    file.write(folder, row.file, old .. "," .. text)
  end
  for i, name in ipairs(names) do
    local ok, message, errno = file.write(folder .. "/" .. name, row.file, text)
    if not ok then
      return nil, message, errno, old and put_back(folder, row, names, i - 1, old)
    end
  end
  return true
end

local function write_to(folder, row, text)
  if row.below then
    local ok, message, errno, more = write_below(folder, row, text)
    if not ok then
      return nil, message, errno, more
    end
  end
  return file.write(folder, row.file, text)
end

-- A raw key may be the other version's.
local function no_file(row)
  local why = "the kernel has no " .. row.file
  if not row.raw or row.controller == "cgroup" then
    return why
  end
  return ("%s: the controller %s is on cgroup %s here, and %s names its files otherwise"):format(why, row.controller,
    row.version, row.version == "v1" and "v2" or "v1")
end

-- What the kernel's answer leaves open.
local function there_are(row)
  local cpus = row.file == "cpuset.cpus" and proc.line "/sys/devices/system/cpu/online"
  return cpus and ": this machine has the CPUs " .. cpus or ""
end

-- What it says then | nil, message, errno.
local function put(folder, row, text)
  local ok, message, errno, more = write_to(folder, row, text)
  if errno == sys.ENOENT then
    return nil, no_file(row), errno
  elseif not ok then
    return nil, refused(row, text, message) .. there_are(row) .. (more or ""), errno
  end
  local read
  read, message, errno = file.read(folder, row.read or row.file)
  if not read then
    return nil, ("read %s%s"):format(row.read or row.file, message:match ": [^:]*$"), errno
  elseif not (row.same or row.raw and same.text or same.number)(read, text, row.file) then
    return nil, ("%s/%s: read back: it is %s, not %s%s"):format(folder, row.read or row.file, read, text,
      there_are(row)), sys.EPROTO
  end
  return read
end

-- Whether what has no file here may stay unenforced, which is noted then. Swap comes with memory.
local function may_lack(group, option, why)
  if not group.degrade[option] and not (option == "swap" and group.degrade.memory) then
    return false
  end
  why = "not enforced: " .. why
  for _, note in ipairs(group.notes) do
    if note.what == option and note.why == why then -- by a start that is begun anew
      return true
    end
  end
  table.insert(group.notes, { what = option, why = why })
  return true
end

--- One write, read back, and told of: true | nil, message, errno (ENOENT: the kernel has no such file).
local function apply(group, write)
  local row, text = fitting(group, write)
  if not row then
    return true
  elseif row.program then
    return attach_program(group, write)
  end
  local read, message, errno = put(group.at[write.where], row, text)
  if not read and errno == sys.ENOENT and may_lack(group, write.option, message) then
    return true
  elseif not read then
    return nil, message, errno
  end
  noted(group, write, row, read)
  return true
end

-- ---- changes ----

local function missing(group, option)
  return { kind = "unsupported", hint = ("start it with %s"):format(option),
    message = ("option '%s' cannot be changed: %s"):format(option, group.counts
      and "the box has no cgroup of its controller" or "the box has no cgroup") }
end

-- here: v2's controllers. A limit that the box could change itself is none.
local function has(group, version, write, here)
  if not group.counts or not leaf.holds(group, write.where) then
    return false
  end
  return version == v1 and group.at[write.where] ~= nil or version == v2 and here[row_of(write).controller]
end

-- The writes that change these: v1's where the box is in the controller, else v2's | nil, problem.
local function placed(group, resources)
  local here = group.at.v2 and file.words(group.at.v2, "cgroup.controllers") or {}
  local list, options, where = {}, {}, {}
  for _, version in ipairs { v1, v2 } do
    for _, write in ipairs(choice.writes_of(version, resources)) do
      local option = write.option
      options[#options + 1] = option
      if (where[option] or version) == version and has(group, version, write, here) then
        where[option] = version
        list[#list + 1] = write
      end
    end
  end
  for _, option in ipairs(options) do
    if not where[option] then
      return nil, missing(group, option)
    end
  end
  return list
end

local no_limits = { v2 = "rbps=max wbps=max riops=max wiops=max" }

-- v1's kernel refuses by itself what v2's takes, and enforces by ending processes.
local function above(group, resources)
  local wanted = resources.memory or {}
  local used = wanted.checkBeforeUpdate and group.at.v2 and file.number(group.at.v2, "memory.current")
  if used and wanted.limit and wanted.limit >= 0 and used > wanted.limit then
    return { kind = "limit", errno = sys.EBUSY, name = "EBUSY",
      message = ("option 'memory': the box uses %d bytes, more than that"):format(used) }
  end
end

-- What makes a file say again what it said: of what it says by device, of this one.
local function former(write, row, text, old)
  if row.same == same.line then
    local device = text:match "^%S+"
    for line in old:gmatch "[^\n]+" do
      if line:match "^%S+" == device then
        return line
      end
    end
    return device .. " " .. (no_limits[write.where] or "0")
  end
  return old ~= "" and old:match "^[^\n]*" or "\n"
end

-- What of it failed, or nil; what is in force then is told.
local function undo(group, done)
  local failed
  for i = #done, 1, -1 do
    local write, row = done[i].write, done[i].row
    local folder = group.at[write.where]
    local ok, message = write_to(folder, row, done[i].old)
    local read = not ok and file.read(folder, row.read or row.file)
    if read then
      noted(group, write, row, read)
    end
    failed = failed or not ok and refused(row, done[i].old, message) or nil
  end
  return failed
end

local function change(group, write, done)
  local row, text = fitting(group, write)
  if not row then
    return true
  end
  local folder = group.at[write.where]
  local old = file.read(folder, row.file)
  local read, message, errno = put(folder, row, text)
  if not read and errno ~= sys.EPROTO then
    return nil, { kind = errno == sys.ENOENT and "unsupported" or "limit", errno = errno,
      name = core.errno_name(errno), message = ("option '%s': %s"):format(write.option, message),
      hint = errno == sys.EBUSY and "the box uses more than that, and the kernel could not take it away" or nil }
  end
  done[#done + 1] = { write = write, row = row, old = former(write, row, text, old or "") }
  if not read then
    return nil, { kind = "limit", errno = errno, name = core.errno_name(errno),
      message = ("option '%s': %s"):format(write.option, message) }
  end
  return true
end

--- Changes limits of a box that runs: true | nil, { kind =, message =, errno =, name =, hint = }, and all are as they
-- were, or the message says that they are not. kind "unsupported": the box is in no cgroup that has the limit; "limit":
-- the kernel refuses.
local function update(group, resources)
  local waiting, problem = placed(group, resources)
  problem = problem or above(group, resources)
  if problem then
    return nil, problem
  end
  local done = {}
  for _ = 1, 2 do -- memory and swap bound each other: what is refused may be possible after the rest
    local again = {}
    problem = nil
    for _, write in ipairs(waiting) do
      local ok, why = change(group, write, done)
      if not ok then
        again[#again + 1] = write
        problem = problem or why
      end
    end
    waiting = again
  end
  if waiting[1] then
    local failed = undo(group, done)
    problem.message = problem.message .. (failed and NOT_UNDONE .. failed or "")
    return nil, problem
  end
  for _, made in ipairs(done) do
    local folder = group.at[made.write.where]
    noted(group, made.write, made.row, file.read(folder, made.row.read or made.row.file))
  end
  return true
end

return { apply = apply, update = update }
