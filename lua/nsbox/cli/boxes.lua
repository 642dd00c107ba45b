-- The nsbox commands for boxes that are there already: ps stats exec update logs stop kill wait rm.

local E = require "nsbox.error"
local flags = require "nsbox.cli.flags"
local usage = require "nsbox.cli.usage"

local commands = {}

local NO_BOX = 1 -- docker's status of a command that some box refused

local SLICE = 0.1 -- seconds: how soon `logs -f` shows what was written

-- ---- flags of these commands ----

local function wrong(cli, argv, text)
  cli.err:write("nsbox: ", argv[1], ": ", text, "\n")
  return nil, cli.FAILED
end

-- The flag at argv[i] goes into `found`, by its first letter: the index behind it | nil, what is wrong.
local function parse_flag(argv, i, known, found)
  local flag, text = argv[i]:match "^(%-%-[^=]+)=(.*)$"
  local short, rest = argv[i]:match "^(%-[^-])(.+)$" -- -t5, -aq
  flag = flag or short or argv[i]
  local kind = known[flag]
  if short and kind == true then
    found[short:sub(2)] = true
    return parse_flag({ [i] = "-" .. rest, [i + 1] = argv[i + 1] }, i, known, found)
  end
  text = text or rest and rest:gsub("^=", "")
  if not kind then
    return nil, "unknown flag " .. flag
  elseif kind == true and text then
    return nil, ("flag %s takes no value"):format(flag)
  elseif kind ~= true and not text then
    i = i + 1
    text = argv[i]
  end
  local value = kind == true or kind == "number" and tonumber(text) or kind == "text" and text
  if not value then
    return nil, ("flag %s needs a %s"):format(flag, kind == "number" and "number" or "value")
  end
  found[flag:match "^%-+(%w)"] = value
  return i + 1
end

-- `known`: flag -> true for a switch, "number" or "text" for one with a value. Returns the flags by their first letter
-- and the list of the other arguments, of which there must be one at least (how_many: "none", "any") | nil, status.
local function parse(cli, argv, known, how_many)
  local found, i = {}, 2
  while argv[i] and argv[i]:find "^%-." and argv[i] ~= "--" do
    local after, problem = parse_flag(argv, i, known, found)
    if not after then
      return wrong(cli, argv, problem)
    end
    i = after
  end
  local rest = table.move(argv, argv[i] == "--" and i + 1 or i, #argv, 1, {})
  if how_many == "none" and rest[1] then
    return wrong(cli, argv, ("takes no arguments, got '%s'"):format(rest[1]))
  elseif not how_many and not rest[1] then
    return wrong(cli, argv, "a BOX is needed; see nsbox help")
  end
  return found, rest
end

local function complain(cli, err)
  cli.err:write(flags.spelled(tostring(err)), "\n")
  return NO_BOX
end

-- Does something with each box that is named; one that fails does not keep the others.
local function each(cli, names, fn)
  local status = 0
  for _, name in ipairs(names) do
    local box <close>, err = cli.nsbox.box(name)
    local ok
    if box then
      ok, err = fn(box, name)
    end
    if not ok then
      status = complain(cli, err)
    end
  end
  return status
end

-- ---- ps ----

local units = { { 86400, "day" }, { 3600, "hour" }, { 60, "minute" }, { 1, "second" } }

local function ago(seconds)
  for _, unit in ipairs(units) do
    local n = seconds // unit[1]
    if n >= 1 then
      return ("%d %s%s ago"):format(n, unit[2], n == 1 and "" or "s")
    end
  end
  return "now"
end

local function printable(text)
  return (text:gsub("%c", " "))
end

local function cut(text, most)
  return #text > most and text:sub(1, most - 3) .. "..." or text
end

local function status_of(box)
  if box.state ~= "ended" then
    return box.state
  end
  local r, err = box:wait()
  r = r or err.result
  return ("ended (%s)"):format(r.reason == "exit" and r.code or r.reason == "signal" and r.signal or r.reason)
end

local function row_of(box)
  return { box.id, box.name or "", cut(printable(box.image), 30), cut(printable(table.concat(box.command, " ")), 30),
    status_of(box), ago(os.time() - box.created) }
end

local function print_table(cli, rows)
  local widths = {}
  for _, row in ipairs(rows) do
    for i, cell in ipairs(row) do
      widths[i] = math.max(widths[i] or 0, #cell)
    end
  end
  for _, row in ipairs(rows) do
    local cells = {}
    for i, cell in ipairs(row) do
      cells[i] = i == #row and cell or cell .. (" "):rep(widths[i] - #cell)
    end
    cli.out:write(table.concat(cells, "  "), "\n")
  end
end

function commands.ps(cli, argv)
  local opts, status = parse(cli, argv, { ["-a"] = true, ["--all"] = true, ["-q"] = true, ["--quiet"] = true },
    "none")
  if not opts then
    return status
  end
  local rows = { { "ID", "NAME", "IMAGE", "COMMAND", "STATUS", "CREATED" } }
  for _, box in ipairs(cli.nsbox.boxes()) do
    local shown <close> = box
    if opts.a or shown.state ~= "ended" then
      rows[#rows + 1] = opts.q and { shown.id } or row_of(shown)
    end
  end
  if opts.q then
    table.remove(rows, 1)
  end
  print_table(cli, rows)
  return 0
end

-- ---- stats, update ----

local function running(cli)
  local ids = {}
  for _, box in ipairs(cli.nsbox.boxes()) do
    local one <close> = box
    ids[#ids + 1] = one.state ~= "ended" and one.id or nil
  end
  return ids
end

-- docker's without its loop: what there is now.
function commands.stats(cli, argv)
  local opts, names = parse(cli, argv, { ["--no-stream"] = true }, "any")
  if not opts then
    return names
  end
  local rows = { usage.head }
  local status = each(cli, names[1] and names or running(cli), function(box)
    local found, err = box:stats()
    rows[#rows + 1] = found and usage.row(box, found)
    return found, err
  end)
  print_table(cli, rows)
  return status
end

function commands.update(cli, argv)
  local opts, i = flags.parse(argv, 2)
  if not opts then
    return select(2, wrong(cli, argv, i))
  elseif not next(opts) then
    return select(2, wrong(cli, argv, "a limit is needed, such as --memory 64M; see nsbox help"))
  elseif not argv[i] then
    return select(2, wrong(cli, argv, "a BOX is needed; see nsbox help"))
  end
  return each(cli, table.move(argv, i, #argv, 1, {}), function(box, name)
    local ok, err = box:update(opts)
    return ok and cli.out:write(name, "\n"), err
  end)
end

-- ---- exec ----

function commands.exec(cli, argv)
  local opts, i = flags.parse(argv, 2)
  if not opts then
    return select(2, wrong(cli, argv, i))
  elseif not argv[i + 1] then
    return select(2, wrong(cli, argv, "a BOX and a COMMAND are needed; see nsbox help"))
  end
  cli.streams(opts)
  local box <close>, err = cli.nsbox.box(argv[i])
  if not box then
    return complain(cli, err)
  end
  local result
  result, err = box:exec(table.move(argv, i + 1, #argv, 1, {}), opts)
  if not result and err.kind == "closed" then -- it has ended, or is paused
    return complain(cli, err)
  elseif not result then
    return cli.fail(cli, err)
  end
  cli.out:write(result.stdout or "")
  cli.err:write(result.stderr or "")
  return cli.status(cli, result)
end

-- ---- logs ----

local names = { stdout = "out", stderr = "err" }

-- What is kept of a stream from a position on, and the position of its end.
local function output(box, name, from)
  local streams = require("nsbox.process").task_of(box).streams
  local stream = streams[name]
  if not stream then
    return "", 0
  end
  return stream.buffer:contents(from)
end

-- Writes what came since the last look.
local function show_new(cli, box, seen)
  for name, stream in pairs(names) do
    local text, total = output(box, name, seen[name])
    seen[name] = total
    cli[stream]:write(text)
    if cli[stream].flush then
      cli[stream]:flush()
    end
  end
end

local function show_tail(cli, box, lines, seen)
  for name, stream in pairs(names) do
    seen[name] = select(2, output(box, name, math.maxinteger))
    cli[stream]:write(box:logs(lines, name))
  end
end

function commands.logs(cli, argv)
  local opts, rest = parse(cli, argv, { ["-f"] = true, ["--follow"] = true, ["--tail"] = "number", ["-n"] = "number" })
  if not opts then
    return rest
  elseif rest[2] then
    return select(2, wrong(cli, argv, "takes one BOX"))
  end
  local lines = math.tointeger(opts.t or opts.n)
  return each(cli, rest, function(box)
    local seen = {}
    if lines then
      show_tail(cli, box, math.max(0, lines), seen)
    else
      show_new(cli, box, seen)
    end
    while opts.f do
      local ended = box.state == "ended"
      show_new(cli, box, seen)
      if ended then
        break
      end
      cli.nsbox.sleep(SLICE)
    end
    return true
  end)
end

-- ---- the end ----

function commands.stop(cli, argv)
  local opts, rest = parse(cli, argv, { ["-t"] = "number", ["--time"] = "number", ["--timeout"] = "number" })
  if not opts then
    return rest
  end
  return each(cli, rest, function(box, name)
    local r, err = box:stop(opts.t)
    if not r and err.kind ~= "exit" then
      return nil, err
    end
    return cli.out:write(name, "\n")
  end)
end

function commands.kill(cli, argv)
  local signo = argv[2] and argv[2]:match "^%-([%u%d]+)$" -- as of kill(1)
  if signo then
    argv = table.move(argv, 3, #argv, 4, { argv[1], "-s", signo })
  end
  local opts, rest = parse(cli, argv, { ["-s"] = "text", ["--signal"] = "text" })
  if not opts then
    return rest
  end
  return each(cli, rest, function(box, name)
    local ok, err = box:kill(opts.s)
    return ok and cli.out:write(name, "\n"), err
  end)
end

function commands.wait(cli, argv)
  local opts, rest = parse(cli, argv, {})
  if not opts then
    return rest
  end
  return each(cli, rest, function(box)
    local r, err = box:wait()
    r = r or err.result
    return r and cli.out:write(tostring(cli.status(cli, r)), "\n"), err
  end)
end

function commands.rm(cli, argv)
  local opts, rest = parse(cli, argv, { ["-f"] = true, ["--force"] = true })
  if not opts then
    return rest
  end
  return each(cli, rest, function(box, name)
    if not opts.f and box.state ~= "ended" then
      return nil, E.new { kind = "setup", verb = "rm", message = ("box %s is running"):format(name),
        hint = "stop it first, or rm -f" }
    end
    local ok, err = box:destroy()
    return ok and cli.out:write(name, "\n"), err
  end)
end

return commands
