-- plan/privileges.lua: ids, capabilities, no_new_privs, and reading them back.

local flags_of = setmetatable({}, { __mode = "k" }) -- config's lists are few, and constant

local function cap_flags(list)
  if flags_of[list] then
    return flags_of[list]
  end
  local names = {}
  for i, cap in ipairs(list) do
    names[i] = cap:lower():gsub("^cap_", "")
  end
  flags_of[list] = table.concat(names, ",")
  return flags_of[list]
end

-- Without subordinate ids setgroups is forbidden, for ever.
local function may_set_groups(box)
  return box.config.nsbox.setgroups
end

local function set_ids(box)
  local user = box.config.process.user
  if may_set_groups(box) then
    box.add { "setgroups", user.additionalGids or {}, why = "the user's groups, none of the caller's" }
  end
  box.add { "setresgid", user.gid, user.gid, user.gid, why = "real, effective and saved group" }
  box.add { "setresuid", user.uid, user.uid, user.uid, why = "real, effective and saved user" }
end

local function drop(box)
  local p = box.config.process
  local caps = p.capabilities
  box.add { "prctl", "cap_ambient", 4, 0, 0, 0, why = "ambient capabilities: none (PR_CAP_AMBIENT_CLEAR_ALL)" }
  box.add { "cap_bound", cap_flags(caps.bounding), why = "what no program in the box can ever gain again" }
  set_ids(box)
  box.add { "capset", cap_flags(caps.permitted), cap_flags(caps.effective), "", why = "capabilities from here on" }
  if p.noNewPrivileges then
    box.add { "prctl", "set_no_new_privs", 1, 0, 0, 0, why = "setuid and file capabilities give nothing" }
  end
  if box.nested then
    box.add { "prctl", "set_pdeathsig", 0, why = "the keeper holds the box from here on" }
  else
    box.add { "prctl", "set_pdeathsig", "kill", why = "again: changing ids has cleared it" }
  end
  box.add { "umask", ("%04o"):format(p.user.umask or 18), why = "the program's own file mode mask" }
end

local function read_back(box)
  local p = box.config.process
  box.add { "check_caps", cap_flags(p.capabilities.permitted), cap_flags(p.capabilities.bounding),
    why = "read back: all five capability sets" }
  box.add { "check_ids", p.user.uid, p.user.gid, may_set_groups(box) and (p.user.additionalGids or {}) or nil,
    why = "read back: ids and groups" }
  if p.noNewPrivileges then
    box.add { "prctl", "get_no_new_privs", 0, 0, 0, 0, expect = 1, why = "read back: no_new_privs" }
  end
end

return { drop = drop, read_back = read_back }
