-- plan/cgroup.lua: the box's cgroup is made and limited by the caller, and its first process is born in it, or joins it
-- before anything of the box is made.

local function of(box)
  return box.config.nsbox.cgroup
end

local function slot(where)
  return "cgroup_" .. where
end

local function named(where)
  return where == "v2" and "cgroup v2" or "cgroup v1, " .. where
end

-- ---- of the caller ----

-- A file that this kernel, or this version of cgroups, has not.
local lacking = { ENOENT = "unsupported" }

local function instead(write)
  return { ENOENT = ('leave it out, or degrade = { "%s" }'):format(write.option) }
end

-- A box that asks for no limit has a cgroup so that it sees no other.
local function unhidden(c)
  return not c.counts and 'degrade = { "cgroup" } starts it where it can reach the caller\'s cgroups' or nil
end

local function make(box)
  local c = of(box)
  for _, where in ipairs(c and c.joins or {}) do
    box.add { "cgroup", where, out = slot(where), side = "parent", kind = "limit", hint = unhidden(c),
      why = named(where) .. ": the box's own" }
  end
  for _, write in ipairs(c and c.writes or {}) do
    box.add { "cgroup_limit", write.where, write.file, write.text, side = "parent", kind = "limit",
      kinds = lacking, hint = instead(write), why = write.option .. ": written, and read back" }
  end
end

-- Of a box that runs.
local function open(box)
  local c = of(box)
  for _, where in ipairs(c and c.joins or {}) do
    local path = { param = slot(where) }
    local step = c.leaf and { "cgroup_added", where, path } or { "open", path, "path,directory" }
    step.out, step.side, step.why = slot(where), "parent", named(where) .. ": the box's"
    box.add(step)
  end
end

-- ---- of the box's process ----

--- The slot of the cgroup that a clone is into.
local function into(box)
  local c = of(box)
  for _, where in ipairs(c and c.joins or {}) do
    if where == "v2" then
      return "@" .. slot(where)
    end
  end
end

-- What the kernel asks for of cgroups, and not of namespaces.
local hints = {
  EACCES = "the cgroup in which the caller's own and the box's meet is not the caller's: cgroup_parent names another",
  ENOENT = "the caller's cgroup namespace does not reach to where its own cgroup and the box's meet",
  EOPNOTSUPP = "a cgroup above the box's has processes, or is threaded",
  EBUSY = "the box's cgroup hands controllers on, and can have no processes",
}

--- For a clone into it.
local function hint(box)
  return into(box) and hints
end

--- Whether its cgroup namespace is made after it has joined, not by the clone.
local function joins_later(box)
  local c = of(box)
  return c ~= nil and #c.joins > (into(box) and 1 or 0)
end

-- "0" is whoever writes it; a number, or cgroup.procs, would wait for a grace period.
local function join(box)
  for _, where in ipairs(of(box) and of(box).joins or {}) do
    if where ~= "v2" then
      box.add { "write_file", "@" .. slot(where), "tasks", "0", hint = unhidden(of(box)),
        why = named(where) .. ": join it" }
    end
  end
  if joins_later(box) and box.ns.cgroup == true and not box.joining then
    box.add { "unshare", "newcgroup", why = "a cgroup tree that starts at the box" }
  end
end

--- What of it a plan depends on.
local function kind(config)
  local c = config.nsbox.cgroup
  if not c then
    return "-"
  end
  local parts = table.move(c.joins, 1, #c.joins, 3, { c.leaf or "-", c.counts and "limits" or "-" })
  for _, write in ipairs(c.writes) do
    parts[#parts + 1] = write.file .. "=" .. write.text
  end
  return table.concat(parts, " ")
end

return { make = make, open = open, into = into, hint = hint, joins_later = joins_later, join = join, kind = kind }
