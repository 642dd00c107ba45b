-- Every method of every handle, in every state, alone and by many coroutines at once: a defined answer, in time, and
-- nothing left. In scripts, which print what is wrong.
local helper = require "spec.helper"
local script = require "spec.script"
helper.leakcheck { settle = true, outside = true }

-- kinds: ways to make { box, process }; the subjects of the calls. states: what is done to them before.
local CAST = [[
  local verbs = require "spec.verbs"
  local SOME, SECONDS = %s, 0.02
  local LOOP = "trap '' USR1; echo up; while read x; do echo $x; done; while :; do usleep 20000; done"
  local PIPES = { stdin = "pipe", stdout = "pipe", stderr = "pipe" }
  local TTY = { stdin = "pipe", stdout = "pipe", tty = true }
  local function with(a, b)
    local all = {}
    for k, v in pairs(a) do all[k] = v end
    for k, v in pairs(b or {}) do all[k] = v end
    return all
  end
  local function pair(opts, streams)
    return function(more)
      local b = assert(nsbox.start("busybox", LOOP, with(with(opts, streams), more)))
      return b, assert(b:spawn(LOOP, streams))
    end
  end
  local kinds = {
    pipes = pair({}, PIPES),
    terminal = pair({}, TTY),
    log = pair({}, {}),
    init = pair({ init = true }, PIPES),
    shared = pair({ namespaces = { pid = false } }, PIPES),
    detached = function() return pair({ detach = true }, {})() end,
  }
  local function settle(b, p)
    for _, h in ipairs { b, p } do
      for _, s in ipairs { "stdin", "stdout", "stderr" } do
        if h[s] then h[s]:settimeout(SECONDS) end
      end
    end
  end
  local function kill_from_outside(h) -- by its pidfd: the number of one that is gone may be another's
    local fd = h:pidfd()
    if math.type(fd) then sys.pidfd_send_signal(fd, "KILL") end
  end
  local states = {
    running = function() end,
    paused = function(b) if not b.detached then assert(b:pause()) end end,
    ended = function(b)
      b:kill()
      b:wait()
    end,
    ["killed from outside"] = kill_from_outside,
    ["its added process killed"] = function(_, p) kill_from_outside(p) end,
    closed = function(b, p)
      p:close()
      b:close()
    end,
  }
  local function away(b)
    local d = b.detached and (b.state ~= "closed" and b or nsbox.box(b.id))
    if d then d:destroy() end
    b:close()
  end
  local function streams_of(h)
    local list = {}
    for _, s in ipairs { "stdin", "stdout", "stderr" } do list[#list + 1] = h[s] end
    return list
  end
  local function sorted(t)
    local names = {}
    for name in pairs(t) do names[#names + 1] = name end
    table.sort(names)
    return names
  end
  local function count()
    collectgarbage() collectgarbage()
    return #sys.readdir "/proc/self/fd"
  end
  -- What is done once, and then n times, holds no descriptor.
  local function keeps(what, n, fn)
    fn(1)
    local before = count()
    for i = 2, n do fn(i) end
    local after = count()
    if after ~= before then print(("%%s: %%d descriptors, and then %%d"):format(what, before, after)) end
  end
]]

local function checks(kinds, text, env)
  script.succeeds(CAST:format(kinds) .. text, { env = env })
end

-- One call, of a fresh box each.
local ALONE = [[
  for _, kind in ipairs(SOME) do
    for _, state in ipairs(STATES) do
      local where = kind .. ", " .. state
      local function each(list, subjects_of)
        for _, verb in ipairs(list) do
          local b, p = kinds[kind]()
          settle(b, p)
          states[state](b, p)
          for _, subject in ipairs(subjects_of(b, p)) do verbs.try(where, verb, subject, SECONDS) end
          away(b)
        end
      end
      keeps(where, PASSES, function()
        each(verbs.box, function(b) return { b } end)
        each(verbs.process, function(_, p) return { p } end)
        each(verbs.stream, function(b, p)
          return table.move(streams_of(p), 1, 3, #streams_of(b) + 1, streams_of(b))
        end)
      end)
    end
  end]]

local CREATED = [[
  for _, verb in ipairs(verbs.box) do
    local b <close>, why = nsbox.start("busybox", LOOP, with(PIPES, { on_created = function(b)
      local ok, a, err = pcall(verb[2], b, SECONDS)
      if ok then
        if verb[1] ~= "close" then verbs.try("created", verb, b, SECONDS) end
      elseif not tostring(a):find("on_created may neither start", 1, true) then
        print(verb[1] .. ": raised " .. tostring(a))
      end
      if ok and a == nil and not err and verb[1] ~= "poll" then print(verb[1] .. ": nil") end
    end }))
    assert(b and b.state == "running" or verb[1] == "close" and why.kind == "closed", verb[1])
  end]]

-- Fifty at once on the same handles, until one of them, or nobody, does away with the box.
local TOGETHER = [[
  local ends = {
    kill_from_outside,
    function(_, p) kill_from_outside(p) end,
    function(b) b:close() end,
    function(_, p) p:close() end,
    function(b) b:stop(0.05) end,
    function(b) b:pause() end,
    function() end,
  }
  local quiet = { close = true, kill = true, ["kill STOP"] = true, stop = true, destroy = true }
  local function some_verb(list)
    local verb
    repeat verb = list[math.random(#list)] until not quiet[verb[1] ] or math.random(10) == 1
    return verb
  end
  for _, kind in ipairs(SOME) do
    keeps(kind, ROUNDS, function(n)
      local b, p = kinds[kind]()
      settle(b, p)
      local list, finish = {}, ends[(n - 1) % #ends + 1]
      for i = 1, 50 do list[i] = i end
      local text = ("%s, together, round %d"):format(kind, n)
      assert(nsbox.gather(list, function(i)
        if i == 25 then
          nsbox.sleep(math.random() * 0.05)
          finish(b, p)
          return true
        end
        for _ = 1, 5 do
          local streams = math.random(2) == 1 and streams_of(b) or streams_of(p)
          local which = math.random(3)
          if which == 1 then
            verbs.try(text, some_verb(verbs.box), b, SECONDS)
          elseif which == 2 then
            verbs.try(text, some_verb(verbs.process), p, SECONDS)
          elseif #streams > 0 then
            verbs.try(text, some_verb(verbs.stream), streams[math.random(#streams)], SECONDS)
          end
          nsbox.sleep(0.001)
        end
        return true
      end))
      away(b)
    end)
  end]]

-- Each call that waits long, and what ends it meanwhile.
local AMID = [[
  for _, kind in ipairs(SOME) do
    for what, finish in pairs {
      ["killed from outside"] = function(b, p)
        kill_from_outside(b)
        kill_from_outside(p)
      end,
      closed = function(b, p)
        p:close()
        away(b) -- of a detached box close would let go only, and what was added to it goes on
      end,
    } do
      local function each(list, subject_of)
        for _, verb in ipairs(list) do
          local b, p = kinds[kind]()
          local subject = subject_of(b, p)
          if subject then
            assert(nsbox.gather({ 1, 2 }, function(i)
              if i == 1 then
                verbs.try(kind .. ", " .. what .. " in the middle", verb, subject, 100)
              else
                nsbox.sleep(0.01)
                finish(b, p)
              end
              return true
            end))
          end
          away(b)
        end
      end
      each(verbs.box, function(b) return b end)
      each(verbs.process, function(_, p) return p end)
      for _, name in ipairs { "stdin", "stdout", "stderr" } do
        each(verbs.stream, function(_, p) return p[name] end)
      end
    end
  end]]

local FEW, ALL = '{ "pipes" }', '{ "pipes", "terminal", "log", "init", "shared", "detached" }'

local STATES = { "running", "paused", "ended", "killed from outside", "its added process killed", "closed" }

local function alone(kinds, state, passes)
  checks(kinds, (ALONE:gsub("STATES", ("{ %q }"):format(state)):gsub("PASSES", passes)))
end

describe("every method", function()
  for _, state in ipairs { "paused", "ended", "closed" } do
    it("has an answer for a box that is " .. state, function() alone(FEW, state, 1) end)
  end
  it("has an answer in on_created, or may not be called there", function() checks(FEW, CREATED) end)
  it("has an answer when fifty call on the same handles", function()
    checks(FEW, (TOGETHER:gsub("ROUNDS", "15")))
  end)
end)

describe("every method, of every kind,", function()
  for kind in ALL:gmatch '"(%a+)"' do
    local only = ("{ %q }"):format(kind)
    for _, state in ipairs(STATES) do
      it(("has an answer: %s, %s #soak"):format(kind, state), function()
        if kind == "detached" then helper.warm_detached() end
        alone(only, state, 2)
      end)
    end
    it("has an answer when what it waits for is killed or closed: " .. kind .. " #soak", function()
      checks(only, AMID)
    end)
    it("has an answer when fifty call on the same handles: " .. kind .. " #soak", function()
      checks(only, (TOGETHER:gsub("ROUNDS", "100")))
    end)
  end
end)
