-- plan/privileges.lua: ids, capabilities, no_new_privs, and reading them back.

local caps = require "nsbox.options.caps"

local none = {}
local RAISE = 2 -- PR_CAP_AMBIENT_RAISE

local flags_of = setmetatable({}, { __mode = "k" }) -- config's lists are constant

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

-- Of a user that is not root: what stays with it has to be kept beyond the change of ids, and raised again after it.
local function change_ids(box)
  local p = box.config.process
  local keeps = p.user.uid ~= 0 and #p.capabilities.permitted > 0
  if keeps then
    box.add { "prctl", "set_keepcaps", 1, 0, 0, 0, why = "capabilities outlast the change of ids" }
  end
  set_ids(box)
  if keeps then
    box.add { "prctl", "set_keepcaps", 0, 0, 0, 0, why = "and no later one" }
  end
end

local function drop(box)
  local p = box.config.process
  local sets = p.capabilities
  box.add { "prctl", "cap_ambient", 4, 0, 0, 0, why = "ambient capabilities: none (PR_CAP_AMBIENT_CLEAR_ALL)" }
  box.add { "cap_bound", cap_flags(sets.bounding), why = "what no program in the box can ever gain again" }
  change_ids(box)
  local shared = not box.ns.user
  box.add { "capset", cap_flags(sets.permitted), cap_flags(sets.effective), cap_flags(sets.inheritable or none),
    why = "capabilities from here on", refused = "EPERM",
    unsupported = shared and "the caller itself has not all the capabilities that the box is to have" or nil,
    hint = shared and "cap_drop those, or give the box a user namespace of its own" or nil }
  for _, name in ipairs(sets.ambient or none) do
    box.add { "prctl", "cap_ambient", RAISE, caps.number(name), 0, 0,
      why = ("ambient: programs that it runs have %s (PR_CAP_AMBIENT_RAISE)"):format(name) }
  end
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
    cap_flags(p.capabilities.inheritable or none), why = "read back: all five capability sets" }
  box.add { "check_ids", p.user.uid, p.user.gid, may_set_groups(box) and (p.user.additionalGids or {}) or nil,
    why = "read back: ids and groups" }
  box.add { "prctl", "get_no_new_privs", 0, 0, 0, 0, expect = p.noNewPrivileges and 1 or 0,
    why = "read back: no_new_privs",
    unsupported = not p.noNewPrivileges and "the caller itself has no_new_privs, which nobody can take back" or nil }
end

--- What a plan depends on, as text.
local function kind(process)
  local sets = process.capabilities
  return table.concat({ cap_flags(sets.bounding), cap_flags(sets.permitted), cap_flags(sets.effective),
    cap_flags(sets.inheritable or none), cap_flags(sets.ambient or none) }, " ")
end

return { drop = drop, read_back = read_back, kind = kind }
