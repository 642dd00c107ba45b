-- Shared by the specs of limits: boxes with limits, or a skip that says why not; what their cgroups say.
local assert = require "luassert"
local box = require "spec.box"
local helper = require "spec.helper"
local nsbox = require "nsbox"
local process = require "nsbox.process"

local limited = {}

local function check(value, err)
  if not value and err.kind == "unsupported" then helper.skip("needs a cgroup of the caller's: " .. err.message) end
  return assert(value, tostring(err))
end

--- The Result of a box (of busybox).
function limited.run(cmd, opts, image)
  return check(nsbox.run(image or "busybox", cmd, opts))
end

--- A box of busybox that runs, closed at the end of the test.
function limited.started(cmd, opts)
  local b = check(nsbox.start("busybox", cmd, opts))
  helper.cleanup(function()
    if b.detached and b.state ~= "closed" then b:destroy() end
    b:close()
  end)
  return b
end

--- The Error of a start that fails, or fields of it; skips where no limit can be had at all.
function limited.refused(opts, ...)
  check(nsbox.run("busybox", { "true" }, { pids = 100 }))
  local r, err = nsbox.run("busybox", { "true" }, opts)
  assert.is_nil(r)
  local fields = {}
  for i, name in ipairs { ... } do fields[i] = err[name] end
  if #fields > 0 then return table.unpack(fields) end
  return err
end

--- What is noted of limits, as words.
function limited.notes(r)
  return table.concat(box.notes(r), " ")
end

--- The folders of its cgroups: "v2", or a controller of v1 -> folder.
function limited.folders(b)
  return process.task_of(b).config.nsbox.cgroup.at
end

--- The folder of the box's cgroups, of a version or of both, that has a file, or nil.
function limited.folder_with(b, name, version)
  for where, folder in pairs(limited.folders(b)) do
    local fits = not version or (where == "v2") == (version == "v2")
    if fits and helper.read(folder .. "/" .. name) then return folder end
  end
end

--- What the first of these files says that a cgroup of the box has, in which the box is.
function limited.says(b, ...)
  for _, name in ipairs { ... } do
    local folder = limited.folder_with(b, name)
    if folder then
      local members = "\n" .. helper.read(folder .. "/cgroup.procs")
        .. (helper.read(folder .. "/box/cgroup.procs") or "")
      assert.truthy(members:find(("\n%d\n"):format(b.pid), 1, true), "the box is not in " .. folder)
      return (helper.read(folder .. "/" .. name):gsub("\n$", ""))
    end
  end
  error("no cgroup of the box has " .. table.concat({ ... }, " or "))
end

--- What all cgroups of the box have counted of an event: of v1 each counts its own.
function limited.count(b, event, ...)
  local sum = 0
  for _, name in ipairs { ... } do
    local folder = limited.folder_with(b, name)
    for _, below in ipairs { "/", "/box/", "/added/" } do
      local text = folder and helper.read(folder .. below .. name) or ""
      sum = sum + (tonumber(("\n" .. text):match("\n" .. event .. " (%d+)")) or 0)
    end
  end
  return sum
end

--- The CPU seconds of a box, as its cgroup counts.
function limited.cpu_count(b)
  local v2 = limited.folders(b).v2 and limited.says(b, "cpu.stat"):match "usage_usec (%d+)"
  return v2 and v2 / 1e6 or limited.says(b, "cpuacct.usage") / 1e9
end

--- A CPU that this process may use, as text.
function limited.first_cpu()
  return box.status("self", "Cpus_allowed_list"):match "^%d+"
end

--- The numbers of a whole disk, "8:0"; where there is none it skips, or answers nil.
function limited.disk(optional)
  for _, name in ipairs(helper.names "/sys/block") do
    local numbers = helper.read("/sys/block/" .. name .. "/dev")
    if numbers then return numbers:match "%d+:%d+" end
  end
  return not optional and helper.skip "needs a disk" or nil
end

--- For a file's setup: what the first box with a limit makes, and stays, of each controller.
function limited.warm()
  box.warm_cgroup()
  nsbox.run("busybox", { "true" }, { io = { [limited.disk(true) or "8:0"] = { rbps = "1M" } }, degrade = { "io" } })
end

return limited
