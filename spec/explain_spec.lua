-- What explain shows, and that it does no more than that. The plans themselves: plan_spec.lua.
local assert = require "luassert"
local assert_misuse = require "spec.misuse"
local error_ = require "nsbox.error"
local helper = require "spec.helper"
local nsbox = require "nsbox"
local stations = require "spec.stations"

helper.leakcheck { cold = true } -- nothing is started: not even the keeper

local function explain(...)
  local e, err = nsbox.explain(...)
  return assert(e, tostring(err))
end

-- "/usr" is a folder on every machine; nothing in it is looked at.
local function sample(opts, host)
  return explain("/usr", { "sh" }, opts, host or stations.root)
end

describe("nsbox.explain", function()
  it("gives options, config and plan", function()
    local e = sample { hostname = "me" }
    assert.equal("me", e.options.hostname)
    assert.equal("me", e.config.hostname)
    assert.same({ "sh" }, e.config.process.args)
    assert.equal("/usr", e.config.root.path)
    assert.same({ "open", "/usr" }, { e.plan[1][1], e.plan[1][2] })
    assert.same({ "parent", "execve" }, { e.plan[1].side, e.plan[#e.plan][1] })
  end)

  it("says of each step its number, who makes it, the call and the reason", function()
    local e = sample()
    local lines, n = {}, 0
    for line in tostring(e):gmatch "([^\n]*)\n" do
      lines[#lines + 1] = line
    end
    local why = assert(lines[1]:find("why", 1, true))
    assert.matches("^step  who     call +why$", lines[1])
    for i = 2, #lines do
      local number, who = lines[i]:match "^ *(%d+)  (%l+) "
      if number then
        n = n + 1
        assert.equal(n, tonumber(number))
        assert.equal(e.plan[n].side, who)
        local out = e.plan[n].out
        out = type(out) == "table" and table.concat(out, ", ") or out
        assert.equal(15, lines[i]:find(out or e.plan[n][1], 1, true))
        assert.equal(e.plan[n].why, lines[i]:sub(why, why + #e.plan[n].why - 1))
      else
        assert.matches("^                %S", lines[i])
      end
      assert.is_nil(lines[i]:find "%s$")
    end
    assert.equal(#e.plan, n)
  end)

  it("breaks long calls into lines, and never within a character", function()
    for _, word in ipairs { ("x"):rep(300), ("é"):rep(150), ("a,"):rep(150), ("long word "):rep(30) } do
      local e = explain("/usr", { "echo", word }, nil, stations.root)
      for line in tostring(e):gmatch "[^\n]+" do
        assert.is_true(utf8.len(line) ~= nil and utf8.len(line) < 260, line)
      end
      local text = tostring(e):gsub("%s", "")
      assert.is_truthy(text:find(word:gsub("%s", ""):sub(-30), 1, true))
    end
  end)

  it("tells what a step may fail with, and what it must answer", function()
    local text = tostring(sample())
    assert.is_truthy(text:find("hide /proc/kcore (ENOENT is no failure)", 1, true))
    assert.is_truthy(text:find("read back: no_new_privs (must answer 1)", 1, true))
  end)

  it("never prints", function()
    local out = assert(io.popen(("LUA_PATH=%s LUA_CPATH=%s %s -e 'local n = require \"nsbox\" "
      .. "local _ = tostring(n.explain(\"/usr\", {\"sh\"}))' 2>&1"):format(helper.quote(package.path),
      helper.quote(package.cpath), helper.lua)))
    assert.equal("", out:read "a")
    out:close()
  end)

  it("is the same whoever asks, for the same host", function()
    assert.equal(tostring(sample()), tostring(sample()))
    local root = tostring(sample()):gsub("%s+", " ")
    assert.is_nil(tostring(sample(nil, stations.user)):find("524288", 1, true))
    assert.is_truthy(root:find("{{0 524288 65536}}", 1, true))
  end)

  it("takes what nsbox.probe found", function()
    local opts = { namespaces = { time = { boottime = 1 } } }
    assert.equal(tostring(explain("/usr", { "sh" }, opts)),
      tostring(explain("/usr", { "sh" }, opts, require("nsbox").probe())))
  end)

  it("asks this host when none is given", function()
    assert.equal(helper.root(), tostring(explain("/usr", { "sh" })):find("open_tree(@image", 1, true) ~= nil)
  end)

  -- Every value of every table in it, at any depth.
  local function spoil(t)
    for key, value in pairs(t) do
      if type(value) == "table" then spoil(value) else t[key] = "spoilt" end
    end
  end

  for _, host in ipairs { "root", "user" } do
    it("can be changed by who looks at it, without a trace in the next: as " .. host, function()
      local function one() return sample({ tty = true, namespaces = { time = { boottime = 1 } } }, stations[host]) end
      local before, first = tostring(one()), one()
      spoil(setmetatable(first, nil))
      assert.same({ "spoilt", "spoilt" }, { first.plan[3][2], first.config.mounts[1].options[1] })
      local after = one()
      assert.equal(before, tostring(after))
      assert.is_nil(require("dkjson").encode({ after.config, after.options }):find "spoilt")
    end)
  end

  it("refuses what run refuses, in its own name", function()
    local rows = {
      { "image", "/no/such/folder", { "sh" } },
      { "image", "/usr" }, -- no command, and a folder has none
      { "unsupported", "/usr", { "sh" }, { dns = {} } },
      { "unsupported", "/usr", { "sh" }, { namespaces = { mount = false } } },
    }
    for _, row in ipairs(rows) do
      local e, err, errno = nsbox.explain(table.unpack(row, 2, 4))
      assert.is_nil(e)
      assert.is_true(error_.is(err))
      assert.same({ row[1], "explain", err.errno }, { err.kind, err.verb, errno })
      assert.equal(1, tostring(err):find("nsbox: explain: ", 1, true))
    end
  end)

  it("raises on misuse at its caller's line", function()
    assert_misuse("nsbox.explain: unknown option 'hostnam'; did you mean 'hostname'?", nsbox.explain, "/usr", { "sh" },
      { hostnam = "x" })
    assert_misuse("nsbox.explain: the image must be a string", nsbox.explain, 5)
  end)
end)
