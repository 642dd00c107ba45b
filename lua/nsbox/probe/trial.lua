-- probe/trial.lua: features that are really tried, each by a tiny plan that ends in nsbox's own program of no effect.

local core = require "nsbox.core"
local facts = require "nsbox.probe.facts"
local fresh = require "nsbox.plan.fresh"
local reason = require "nsbox.probe.reason"
local sys = require "nsbox.sys"

local trying = false -- a trial that fails must not be explained by another trial

local function guard(add, why)
  add { "prctl", "set_pdeathsig", "kill", why = why }
end

-- As every start without privilege: one id, the caller's own.
local function map(add)
  local outside = { uid = sys.geteuid(), gid = sys.getegid() }
  add { "write_file", "cwd", "/proc/self/setgroups", "deny", why = "asked for by the kernel" }
  for _, kind in ipairs { "uid", "gid" } do
    local path, row = ("/proc/self/%s_map"):format(kind), ("0 %d 1\n"):format(outside[kind])
    add { "write_file", "cwd", path, row, why = "map one id" }
  end
end

-- The program ends at once: it finds its descriptors closed.
local function plan_of(flags, steps)
  local plan = {}
  local function add(step)
    plan[#plan + 1] = step
  end
  add { "clone", "vm,files", side = "parent", why = "a helper that shares the caller's memory" }
  guard(add, "die with the caller")
  add { "getppid", expect = "@owner", why = "the caller lived until this guard stood" }
  add { "clone", "vm,vfork,parent" .. flags, why = "the namespaces that are tried" }
  guard(add, "die with the caller")
  add { "close_fds", why = "nothing of the caller's stays open" }
  if flags:find("newuser", 1, true) then
    map(add)
  end
  steps(add)
  add { "execve", "@program", { "nsbox-trial" }, {}, why = "a tiny program: none of the caller's memory" }
  return plan
end

local function launch(flags, steps)
  local program <close>, message, errno = core.init_program()
  if not program then
    return nil, { call = "memfd_create", message = message, name = errno and core.errno_name(errno) }
  end
  return require("nsbox.launch").run {
    plan = plan_of(flags, steps), verb = "probe", inputs = { program = program },
  }
end

--- Starts a process in new namespaces (flags: ",newuser,newns"), in which the steps are made that steps(add) adds.
-- Returns the process | nil, err with call, name, message.
local function start(flags, steps)
  trying = true
  local ran, process, err = pcall(launch, flags, steps)
  trying = false
  if not ran then
    return nil, { message = tostring(process) }
  end
  return process, err
end

local function try(flags, steps, value)
  local process, err = start(flags, steps)
  if not process then
    local why, fix = reason.of(err, facts.look())
    return { ok = false, why = why, fix = fix }
  end
  process:close()
  return { ok = true, value = value }
end

local function nothing() end

-- A tmpfs in place: an overlay takes no layer that is attached nowhere.
local function tmpfs(add)
  add { "mount_setattr", "cwd", "/", "recursive", 0, 0, "private", why = "no mount reaches the host" }
  fresh.mount({ add = add },
    { "tmpfs", slot = "layer", source = "trial", options = { mode = "0755" }, why = "a tmpfs" })
  add { "move_mount", "@layer", "", "cwd", "/", "f_empty_path", why = "in the trial's own mount namespace" }
end

local trials = {}

function trials.userns()
  return try(",newuser,newuts", function(add)
    add { "sethostname", "trial", why = "root there has rights there" }
  end)
end

function trials.overlay()
  return try(",newuser,newns", function(add)
    tmpfs(add)
    for _, name in ipairs { "lower", "upper", "work" } do
      add { "mkdirat", "@layer", name, "0755", why = "a place for the overlay's parts" }
    end
    add { "fchdir", "@layer", why = "layers are named relative to it" }
    fresh.mount({ add = add }, { "overlay", slot = "root", source = "overlay", flags = { "userxattr" },
      options = { lowerdir = "lower", upperdir = "upper", workdir = "work" }, why = "an overlay" })
    add { "fchdir", "@root", why = "it can be entered" }
  end, "in a user namespace, with userxattr")
end

function trials.tmpfs_xattr()
  return try(",newuser,newns", function(add)
    tmpfs(add)
    add { "openat", "@layer", "file", "rdwr,creat", "0600", out = "file", why = "a file" }
    add { "fsetxattr", "@file", "user.nsbox", "1", why = "what an overlay's upper layer needs" }
  end, "layers lie in memory")
end

function trials.proc()
  return try(",newuser,newns,newpid", function(add)
    fresh.mount({ add = add }, { "proc", slot = "proc", source = "proc", why = "a fresh proc" })
    add { "fchdir", "@proc", why = "it can be entered" }
  end, "a fresh one in a user namespace")
end

function trials.net()
  return try(",newuser", function(add)
    add { "unshare", "newnet", why = "network devices of its own" }
    add { "if_up", "lo", why = "its loopback device" }
  end)
end

function trials.time()
  return try(",newuser", function(add)
    add { "unshare", "newtime", why = "clocks of its own" }
    add { "write_file", "cwd", "/proc/self/timens_offsets", "boottime 1 0\n", why = "set off by a second" }
  end)
end

function trials.keeper()
  return try(require("nsbox.probe").host().root.ok and ",newpid" or ",newpid,newuser", nothing)
end

--- A process that has done nothing and ends at once | nil, err.
function trials.process()
  return start("", nothing)
end

--- Whether a trial is under way.
function trials.busy()
  return trying
end

return trials
