-- plan/io.lua: descriptors, the terminal, and the last step.

local placeholder = require("nsbox.plan.param").placeholder

local streams = { { "stdin", 0 }, { "stdout", 1 }, { "stderr", 2 } }

-- After close_fds and before anything is opened: a number that the program gets is free then, but for slots.
local function numbered(box)
  for _, n in ipairs(box.config.nsbox.fds or {}) do
    box.add { "vacate", n, why = "no descriptor of the plan's is lost by the next step" }
    box.add { "dup3", "@fd_" .. n, n, why = "a descriptor of the caller's, for the program" }
  end
end

local function descriptors(box)
  box.add { "close_fds", why = "nothing of the caller's stays open but what the plan needs" }
  for _, s in ipairs(streams) do
    box.add { "dup3", "@" .. s[1], s[2], why = s[1] }
  end
  numbered(box)
  box.add { "umask", "0000", why = "modes of what is made below are as given" }
end

local function terminal(box)
  local p = box.config.process
  if not p.terminal then
    return
  end
  box.add { "openat", "@dev_pts", "ptmx", "rdwr,noctty,nofollow", out = "master",
    why = "a terminal of the box's own devpts" }
  box.add { "ioctl_unlockpt", "@master", why = "allow its other side to be opened" }
  box.add { "ioctl_ptpeer", "@master", out = "terminal", why = "the box's side, by descriptor: no path to trust" }
  if p.consoleSize then
    box.add { "ioctl_winsize", "@master", p.consoleSize.height, p.consoleSize.width, why = "its size, before exec" }
  end
  if p.user.uid ~= 0 then
    box.add { "fchown", "@terminal", p.user.uid, -1, why = "it belongs to the box's user" }
  end
  box.add { "barrier", "terminal", give = { "master" }, why = "the caller takes its side" }
end

-- With an init the session that the terminal belongs to is the command's: init makes it.
local function session(box)
  local init = box.config.nsbox.init
  box.add { "setsid", why = "its own session: keys of the caller's terminal do not reach it" }
  if init or box.config.nsbox.sealed then
    box.add { "ioctl_nclex", "@status", why = init and "exec leaves it to init, which tells there how the command ends"
      or "exec leaves it to a program of nsbox's, which tells there why the command cannot be run" }
  end
  if not box.config.process.terminal then
    return
  end
  if not init then
    box.add { "ioctl_sctty", "@terminal", why = "the session's terminal" }
  end
  for _, s in ipairs(streams) do
    box.add { "dup3", "@terminal", s[2], why = s[1] .. " is the terminal" }
  end
end

local function created(box)
  if box.config.nsbox.on_created then
    box.add { "barrier", "created", why = "the caller's on_created" }
  end
end

-- Init is exec'ed with the rights of the command, which are read back by then, and execs that in a child. Without an
-- init, where the box has an id that may write to the caller's program, the same program execs the command at once:
-- from the caller's memory a path such as /proc/self/exe leads to the caller's, and it stays open to the box.
local function exec(box)
  local nsbox = box.config.nsbox
  if not nsbox.init and not nsbox.sealed then
    box.add { "execve", placeholder.paths, placeholder.argv, placeholder.env,
      give = { "root" }, why = "become the program" }
    return
  end
  local why = "become a sealed program of nsbox's, which becomes the command"
  if nsbox.init then
    why = nsbox.idle and "become the init, all that is in the box"
      or "become the init that starts the program"
  end
  box.add { "execve", "@program", placeholder.init_argv, placeholder.env, give = { "root" }, why = why }
end

-- The kernel takes a copy that has changed its ids for one with secrets, and gives its files in /proc to root. So it
-- stays where others are in the box; alone, it is a process like any that was exec'ed.
local function come_back(box)
  if not box.joining and type(box.ns.pid) ~= "string" then
    box.add { "prctl", "set_dumpable", 1, 0, 0, 0, why = "its files in /proc are its own, as after exec" }
  end
  box.add { "return", "@result", "@none", give = { "root" }, -- as exec: a plan uses what it opens
    why = "go on as a copy of the caller's program, and call the function" }
end

local function last(box)
  if box.config.nsbox.call then
    come_back(box)
  else
    exec(box)
  end
end

-- For a process that is added: what is on /dev/pts. The box's root can have put a folder of its own in that place (the
-- mount goes when its folder is removed from within a mount namespace below), and nothing in there is followed.
local function find_terminals(box)
  if box.config.process.terminal then
    box.add { "openat2", "@root", "dev/pts", "path,directory", nil, "in_root,no_magiclinks", out = "dev_pts",
      why = "the box's own devpts" }
  end
end

return {
  descriptors = descriptors,
  find_terminals = find_terminals,
  terminal = terminal,
  session = session,
  created = created,
  last = last,
}
