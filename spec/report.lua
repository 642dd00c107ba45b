-- busted's output handler for spec/run: failures and skips as they come, and the counts into the file named by
-- NSBOX_SPEC_COUNTS when, and only when, the suite came to its end (a crashed run leaves no counts). With
-- NSBOX_SPEC_TIMES=SECONDS also each test that takes as long, its before_each and after_each not counted.
local pretty = require "pl.pretty"

local function text(message)
  if type(message) == "string" then return message end
  return message == nil and "nil error" or pretty.write(message)
end

local function indent(s)
  return "    " .. s:gsub("\n", "\n    ")
end

local function where(entry)
  local trace = entry.element.trace or entry.trace
  return trace and trace.short_src and ("%s:%s"):format(trace.short_src, trace.currentline) or "?"
end

local function say(...)
  io.write(...)
  io.flush()
end

return function(options)
  local busted = require "busted"
  local handler = require "busted.outputHandlers.base"()

  local shown = {}

  local function failed(entry)
    shown[entry] = true
    say("FAIL ", where(entry), ": ", entry.name, "\n", indent(text(entry.message)), "\n")
    local traceback = entry.trace and entry.trace.traceback
    if traceback and (options.verbose or entry.isError) then say(indent(traceback), "\n") end
  end

  local slow, test_began = tonumber(os.getenv "NSBOX_SPEC_TIMES" or "") or math.huge, nil

  function handler.testStart()
    test_began = busted.monotime()
    return nil, true
  end

  function handler.testEnd(element, _, status)
    local took = busted.monotime() - test_began
    if took >= slow then say(("%7.2f s  %s\n"):format(took, handler.getFullName(element))) end
    if status == "pending" then
      local entry = handler.pendings[#handler.pendings]
      local reason = entry.message and text(entry.message):gsub("^%S+:%d+: ", "") or "not written yet"
      say("skip ", where(entry), ": ", entry.name, ": ", reason, "\n")
    elseif status == "failure" then
      failed(handler.failures[#handler.failures])
    elseif status == "error" then
      failed(handler.errors[#handler.errors])
    end
    return nil, true
  end

  -- Where the time goes, and where a run was that did not come to its end.
  local began
  function handler.fileStart()
    began = busted.monotime()
    return nil, true
  end

  function handler.fileEnd(file)
    say(("%7.1f s  %s\n"):format(busted.monotime() - began, file.name))
    return nil, true
  end

  -- A file that does not load, a before_each or after_each that fails: counted by the base handler as errors.
  function handler.error(element)
    if element.descriptor ~= "it" then failed(handler.errors[#handler.errors]) end
    return nil, true
  end

  -- What fails when a test has ended, its cleanup, is no status of it.
  local function failed_after()
    for _, entry in ipairs(handler.errors) do
      if not shown[entry] then failed(entry) end
    end
  end

  function handler.suiteEnd()
    failed_after()
    local path = os.getenv("NSBOX_SPEC_COUNTS")
    if path then
      local file = assert(io.open(path, "w"))
      file:write(("%d %d %d %.1f\n"):format(handler.successesCount, handler.failuresCount + handler.errorsCount,
        handler.pendingsCount, handler.getDuration()))
      file:close()
    end
    return nil, true
  end

  busted.subscribe({ "file", "start" }, handler.fileStart)
  busted.subscribe({ "file", "end" }, handler.fileEnd)
  busted.subscribe({ "test", "start" }, handler.testStart)
  busted.subscribe({ "test", "end" }, handler.testEnd)
  busted.subscribe({ "suite", "end" }, handler.suiteEnd)
  busted.subscribe({ "error" }, handler.error)
  busted.subscribe({ "failure" }, handler.error)
  return handler
end
