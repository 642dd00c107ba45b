-- The nsbox command: a thin skin over the library.

local E = require "nsbox.error"
local boxes = require "nsbox.cli.boxes"
local flags = require "nsbox.cli.flags"
local signal = require "nsbox.signal"

-- Exit statuses that are not the command's own; the same as docker's and timeout's.
local TIMEOUT, FAILED, CANNOT_RUN, NOT_FOUND, SIGNALLED, OOM, INTERRUPTED = 124, 125, 126, 127, 128, 137, 130

local ENOENT = 2

local later = {
  "pause", "resume", "cp", "inspect", "images", "load", "save", "tag", "rmi", "build", "commit", "gc",
  "verify",
}

local usage = [[
usage: nsbox run [FLAGS] IMAGE [COMMAND ...]       run a command in a new box
       nsbox explain [FLAGS] IMAGE [COMMAND ...]   show every kernel call that run would make, and why
       nsbox ps [-a] [-q]                          list the boxes that run detached (-a: and have ended)
       nsbox stats [BOX ...]                       what they use now
       nsbox update FLAGS BOX ...                  other limits for a box that runs
       nsbox exec [FLAGS] BOX COMMAND ...          run one more command in a box
       nsbox logs [-f] [--tail N] BOX              what it wrote
       nsbox stop [-t SECONDS] BOX ...             the stop signal, then KILL
       nsbox kill [-s SIGNAL] BOX ...              a signal
       nsbox wait BOX ...                          its end; prints the status
       nsbox rm [-f] BOX ...                       forget a box that has ended (-f: end it)
       nsbox probe                                 show what this host can do
       nsbox help | --version

The status of run and exec is the command's, 128+n when signal n ended it; 124 when it ran longer than --timeout or
used more than --cpu-time, 137 when it ran out of memory (these three with a line on stderr); 125 when nsbox failed,
126 when the program could not be run, 127 when it was not found. wait prints that status and ends with 0, as all others
do; a command for boxes, exec too, ends with 1 when there is no such box, or one refuses.

nsbox COMMAND --help (or -h) shows this. Flags of run and explain, which end at IMAGE; with * of exec too,
with + of update too, which end at BOX:
]]

local commands = setmetatable({}, { __index = boxes })

local function say(cli, ...)
  cli.err:write("nsbox: ", table.concat({ ... }), "\n")
end

local function fail(cli, err)
  local text = flags.spelled(tostring(err))
  cli.err:write(text:find("^nsbox: ") and "" or "nsbox: ", text, "\n")
  if E.is(err) and err.kind == "exec" then
    return err.errno == ENOENT and NOT_FOUND or CANNOT_RUN
  end
  return FAILED
end

local function set_streams(opts)
  if opts.detach then
    opts.stdin = nil -- -i: nobody is there to type; the output goes to the log
  elseif opts.tty and opts.stdin then
    opts.stdin = nil -- -it: streams that nobody names are relayed to the caller's terminal
  else
    opts.stdin = opts.stdin or "null"
    opts.stdout = "inherit"
    opts.stderr = not opts.tty and "inherit" or nil
  end
end

-- The three arguments of run and explain, or nil and the status.
local function box_arguments(cli, argv)
  local opts, i = flags.parse(argv, 2)
  if not opts then
    say(cli, argv[1], ": ", i)
    return nil, FAILED
  elseif not argv[i] then
    say(cli, argv[1], ": an IMAGE is needed; see nsbox help")
    return nil, FAILED
  end
  local cmd = #argv > i and table.move(argv, i + 1, #argv, 1, {}) or nil
  set_streams(opts)
  return { image = argv[i], cmd = cmd, opts = opts }
end

local function status(cli, result)
  if result.reason == "timeout" then
    say(cli, "the command ran longer than its timeout")
    return TIMEOUT
  elseif result.reason == "cpu" then
    say(cli, "the box used up its CPU time")
    return TIMEOUT
  elseif result.reason == "oom" then
    say(cli, "the box ran out of memory")
    return OOM
  elseif result.code then
    return result.code
  elseif result.signal then
    return SIGNALLED + signal.number(result.signal)
  end
  say(cli, "the exit status was lost")
  return FAILED
end

-- Of all notes these alone: what the user asked for, and does without.
local function tell_left_out(cli, notes)
  for _, note in ipairs(notes or {}) do
    if note.why:find "^not enforced: " then
      say(cli, "note: ", note.what, ": ", note.why)
    end
  end
end

local function run_detached(cli, box)
  local started <close>, err = cli.nsbox.start(box.image, box.cmd, box.opts)
  if not started then
    return fail(cli, err)
  end
  cli.out:write(started.id, "\n")
  tell_left_out(cli, started.notes)
  return 0
end

function commands.run(cli, argv)
  local box, failed = box_arguments(cli, argv)
  if not box then
    return failed
  end
  if box.opts.detach then
    return run_detached(cli, box)
  end
  local run = cli.forwards and not box.opts.tty and require("nsbox.cli.forward").run or cli.nsbox.run
  local result, err = run(box.image, box.cmd, box.opts)
  if not result then
    return fail(cli, err)
  end
  -- With -it and no terminal there was nothing to relay to: the output was captured.
  cli.out:write(result.stdout or "")
  cli.err:write(result.stderr or "")
  tell_left_out(cli, result.notes)
  return status(cli, result)
end

function commands.explain(cli, argv)
  local box, failed = box_arguments(cli, argv)
  if not box then
    return failed
  end
  local explained, err = cli.nsbox.explain(box.image, box.cmd, box.opts)
  if not explained then
    return fail(cli, err)
  end
  cli.out:write(tostring(explained), "\n")
  return 0
end

function commands.probe(cli, argv)
  if argv[2] then
    say(cli, "probe takes no arguments, got '", argv[2], "'")
    return FAILED
  end
  cli.out:write(tostring(cli.nsbox.probe()), "\n")
  return 0
end

function commands.help(cli)
  cli.out:write(usage, table.concat(flags.help(), "\n"), "\n\nnot built yet: ", table.concat(later, " "), "\n")
  return 0
end

commands["--help"], commands["-h"] = commands.help, commands.help

commands["--version"] = function(cli)
  cli.out:write(tostring(cli.nsbox._VERSION), "\n")
  return 0
end

-- Names of docker's for what goes another way here.
local answers = {
  start = "a box that has ended is not started again: nsbox run -d makes a new one",
  restart = "a box that has ended is not started again: nsbox run -d makes a new one",
  create = "nsbox run makes a box and starts it",
  attach = "nsbox logs -f shows what it writes, nsbox exec -it is a terminal in it",
  top = "nsbox exec BOX ps",
  port = "nsbox maps no ports: box:connect(port) of the library reaches the box from outside",
  pull = "nsbox pulls no images",
  ls = "use ps", list = "use ps", unpause = "use resume",
}

local function unknown_command(cli, name)
  if not name then
    cli.err:write(usage, table.concat(flags.help(), "\n"), "\n")
    return FAILED
  end
  local names = { "run", "explain", "probe", "help", "ps", "stats", "update", "exec", "logs", "stop", "kill", "wait",
    "rm" }
  for _, other in ipairs(later) do
    if other == name then
      say(cli, name, " is not built yet")
      return FAILED
    end
    names[#names + 1] = other
  end
  if answers[name] then
    say(cli, "unknown command '", name, "': ", answers[name])
    return FAILED
  end
  local near = E.nearest(name, names)
  say(cli, "unknown command '", name, "'", near and ("; did you mean %s?"):format(near) or "; see nsbox help")
  return FAILED
end

-- The library is loaded when a command first needs it: help and refusals work where its C part does not.
local lazy = {
  __index = function(_, key)
    return key == "nsbox" and require "nsbox" or nil
  end,
}

-- Misuse is raised at the line of a script; here the user wrote a command line, so the position is cut off.
-- Other raised strings are faults of nsbox: they keep their traceback.
local function handler(err)
  if type(err) == "string" and not err:find("interrupted!$") then
    local misuse = err:match("nsbox%.([%l:]+: .*)$")
    return misuse and "nsbox: " .. misuse or debug.traceback(err, 2)
  end
  return err
end

--- Runs the nsbox command with its arguments (a list, as the interpreter's `arg`) and returns its exit status.
-- nsbox: the library (required when left out); streams = { out =, err = }: where to write (default io.stdout,
-- io.stderr). Nothing is raised: what fails in nsbox itself is written to err and gives 125.
local function main(argv, nsbox, streams)
  streams = streams or {}
  local cli = setmetatable({ nsbox = nsbox, out = streams.out or io.stdout, err = streams.err or io.stderr,
    forwards = nsbox == nil, FAILED = FAILED, streams = set_streams, fail = fail, status = status }, lazy)
  local command = commands[argv[1]] or function()
    return unknown_command(cli, argv[1])
  end
  if commands[argv[1]] and #argv == 2 and (argv[2] == "--help" or argv[2] == "-h") then
    command = commands.help
  end
  local ran, answer = xpcall(command, handler, cli, argv)
  if ran then
    return answer
  elseif type(answer) == "string" and answer:find("interrupted!$") then
    return INTERRUPTED
  end
  return fail(cli, answer)
end

return {
  main = main,
}
