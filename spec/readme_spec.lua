-- README.md is true: its snippets run and print what it says, its tables are the schema's, its excerpts are real.
local box = require "spec.box"
local explain = require "nsbox.explain"
local helper = require "spec.helper"
local schema = require "nsbox.options.schema"
local stations = require "spec.stations"

local text = assert(helper.read "README.md")

local function snippets(kind)
  local list = {}
  for head, body in text:gmatch "\n```(%l+[^\n]*)\n(.-)\n```" do
    if head == kind then
      list[#list + 1] = body
    end
  end
  return list
end

-- Types `keys` at the prompt of a shell on a terminal, on which `command` runs; answers what is seen there, and the
-- status.
local function on_terminal(command, keys)
  local shown = helper.tmpdir() .. "/shown"
  local prompt = ("i=0; until grep -q '/ # ' %s || [ $((i+=1)) -gt 600 ]; do sleep 0.05; done"):format(shown)
  local pipe = assert(io.popen((": >%s; (%s; printf %s; sleep 0.5) | script -qfec %s %s 2>&1"):format(shown, prompt,
    helper.quote(keys), helper.quote(command), shown)))
  local seen = pipe:read "a"
  return seen, select(3, pipe:close())
end

local function with_paths(command)
  return ("LUA_PATH=%s LUA_CPATH=%s %s %s"):format(helper.quote(package.path), helper.quote(package.cpath), helper.lua,
    command)
end

helper.leakcheck { detached = true }

describe("README.md", function()
  setup(helper.warm_detached)
  local lua = snippets "lua"

  it("has snippets of each kind", function()
    assert.is_true(#lua >= 7)
    for _, kind in ipairs { "lua terminal", "sh terminal", "sh", "text explain", "text probe" } do
      assert.equal(1, #snippets(kind), kind)
    end
  end)

  for i, body in ipairs(lua) do
    it(("runs its Lua snippet %d, which prints what it says"):format(i), function()
      local out, _, _, status = box.script("LUA </dev/null 2>&1", body)
      assert.equal(0, status, out)
      for expected in body:gmatch "%-%-> ([^\n]*)" do
        for word in expected:gmatch "[%w/:]+" do
          assert.is_truthy(out:lower():find(word:lower(), 1, true), word .. " in: " .. out)
        end
      end
    end)
  end

  it("gets a shell on a terminal from Lua", function()
    local path = helper.tmpdir() .. "/script.lua"
    helper.write(path, snippets("lua terminal")[1])
    local seen, status = on_terminal(with_paths(path), "echo pid $$; exit\n")
    assert.same({ 0, true }, { status, seen:find("pid 1\r\n", 1, true) ~= nil }, seen)
  end)

  it("gets a shell on a terminal from the command line", function()
    local command = snippets("sh terminal")[1]:gsub("^nsbox", function() return with_paths "rockspec/nsbox" end)
    local seen, status = on_terminal(command, "echo pid $$; exit 7\n")
    assert.same({ 7, true }, { status, seen:find("pid 1\r\n", 1, true) ~= nil }, seen)
  end)

  it("gives two commands that the Makefile has", function()
    local makefile = assert(helper.read "Makefile")
    local n = 0
    for target in snippets("sh")[1]:gmatch "make (%l+)" do
      n = n + 1
      assert.is_truthy(makefile:find("\n" .. target .. ":", 1, true), target)
    end
    assert.equal(2, n)
  end)

  it("shows lines of explain that are real", function()
    local image = stations.folder()
    image.name, image.root = "busybox", "/var/lib/nsbox/busybox"
    local c, o = stations.config { image = image, cmd = { "sh" } }
    -- columns are narrower there, and the numbers of the steps are left to change
    local function plain(line)
      return "\n" .. line:gsub("^ *%d+", ""):gsub(" +", " ") .. "\n"
    end
    local shown = {}
    for line in tostring(explain.show(o, c, stations.root)):gmatch "[^\n]+" do
      shown[#shown + 1] = plain(line)
    end
    shown = table.concat(shown)
    for line in snippets("text explain")[1]:gmatch "[^\n]+" do
      assert.is_truthy(line == "…" or shown:find(plain(line), 1, true), line)
    end
  end)

  it("shows lines of the probe that are in its form", function()
    local names = " " .. table.concat(require("nsbox.probe").names, " ") .. " "
    for line in snippets("text probe")[1]:gmatch "[^\n]+" do
      local name, answer = line:match "^([%l_]+) +(%l+) +%S"
      assert.is_truthy(names:find(" " .. name .. " ", 1, true), line)
      assert.is_truthy(answer == "yes" or answer == "no", line)
    end
  end)
end)

describe("README's options", function()
  local rows = {} -- option -> { type =, default = }

  for cells in text:match("## Options\n(.-)\n\n[^|]"):gmatch "\n|([^\n]*)|%f[\n\0]" do
    local names, kind, default = cells:match "^(.-)|(.-)|(.-)|"
    for name in names:gmatch "`([%w_]+)`" do
      rows[name] = { type = kind, default = default }
    end
  end

  -- How the table calls the schema's types.
  local words = {
    boolean = "boolean", size = "size", seconds = "seconds", ["positive seconds"] = "seconds",
    signal = "name or number",
    namespaces = "map", network = "path", path = "folder", tty = "true", user = "uid", env = "map", hostname = "string",
    name = "string", labels = "map", userns = '"keep-id"', id_map = "rows", mounts = "list of",
    entrypoint = "list", ["absolute path"] = "path", input = "function", stdin = '"null"', stdout = '"capture"',
    stderr = '"stdout"', overflow = '"kill"', fds = "{ [n] =",
    groups = "list",
    ["function"] = "function",
    capabilities = "list", rlimits = "map", sysctls = "map", ["oom score"] = "integer", nice = "integer",
    ["memory size"] = "size", ["cpu count"] = "number", ["cpu weight"] = "integer",
    pids = "integer", io = "map", hugetlb = "map", ["device rules"] = "list", ["cgroup keys"] = "map",
    ["cgroup path"] = "path", degrade = "list",
    cpus = "text", personality = "list", mode = "octal text",
  }

  it("are those that are built, each with its type and default", function()
    for _, row in ipairs(schema.rows) do
      local built = not row.later and row.name ~= "layer"
      assert.equal(built, rows[row.name] ~= nil, row.name)
      if built then
        local word = assert(words[row.type], row.type .. " has no word in the table")
        assert.is_truthy(rows[row.name].type:find(word, 1, true), row.name .. ": " .. rows[row.name].type)
        local default = type(row.default) == "table" and "" or row.default
        assert.is_truthy(default == nil or rows[row.name].default:find(tostring(default), 1, true),
          row.name .. ": " .. rows[row.name].default)
      end
    end
  end)

  it("that are not built yet are all named as such", function()
    local later = text:match "Known and not built yet.-\n\n"
    local named = {}
    for name in later:match("%)%s*:(.*)"):gmatch "`([%w_]+)`" do
      named[name] = true
    end
    for _, row in ipairs(schema.rows) do
      assert.equal(row.later ~= nil, named[row.name] or false, row.name)
    end
  end)
end)
