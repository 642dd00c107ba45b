-- Rules of devices: what they say, by a picture of the machine that the kernel has for them, and by the kernel.
local assert = require "luassert"
local core = require "nsbox.core"
local devices = require "nsbox.cgroup.device_rules"
local helper = require "spec.helper"
local hierarchy = require "spec.hierarchy"
local process = require "spec.process"
local sys = require "nsbox.sys"

helper.leakcheck { cold = true, settle = true }

local function rule(allow, type, major, minor, access)
  return { allow = allow, type = type, major = major, minor = minor, access = access or "rwm" }
end

local NONE, ANY = rule(false), rule(true)

-- Requests: type, major, minor, access. Numbers that no driver has: that nobody is in the way but the rules.
local requests = { "c 1:3 r", "c 1:3 w", "c 1:3 rw", "c 1:3 m", "c 1:5 r", "c 1:5 rw", "c 240:77 r", "c 240:77 m",
  "b 240:77 r", "b 240:77 w", "b 240:77 m", "b 240:78 r" }

-- What the rules are, the requests that they allow, and the writes of v1 (false: not to be said there).
local rows = {
  { "nothing at all", {}, {}, { "deny a" } },
  { "nothing", { NONE }, {}, { "deny a" } },
  { "everything", { NONE, ANY }, requests, { "allow a" } },
  { "one device", { NONE, rule(true, "c", 1, 3) }, { "c 1:3 r", "c 1:3 w", "c 1:3 rw", "c 1:3 m" },
    { "deny a", "allow c 1:3 rwm" } },
  { "one device for reading", { NONE, rule(true, "c", 1, 3, "r") }, { "c 1:3 r" }, { "deny a", "allow c 1:3 r" } },
  { "an access in two rules", { NONE, rule(true, "c", 1, 3, "r"), rule(true, "c", 1, 3, "w") },
    { "c 1:3 r", "c 1:3 w", "c 1:3 rw" }, { "deny a", "allow c 1:3 rw" } },
  { "an access of which a wider rule has a part", { NONE, rule(true, "c", 1, nil, "r"), rule(true, "c", 1, 3, "w") },
    { "c 1:3 r", "c 1:3 w", "c 1:3 rw", "c 1:5 r" }, { "deny a", "allow c 1:* r", "allow c 1:3 rw" } },
  { "all of a number", { NONE, rule(true, "c", 1, nil, "rw") },
    { "c 1:3 r", "c 1:3 w", "c 1:3 rw", "c 1:5 r", "c 1:5 rw" }, { "deny a", "allow c 1:* rw" } },
  { "mknod of every device", { NONE, rule(true, "c", nil, nil, "m"), rule(true, "b", nil, nil, "m") },
    { "c 1:3 m", "c 240:77 m", "b 240:77 m" }, { "deny a", "allow c *:* m", "allow b *:* m" } },
  { "both types at once", { NONE, rule(true, "a", 240, 77, "r") }, { "c 240:77 r", "b 240:77 r" },
    { "deny a", "allow c 240:77 r", "allow b 240:77 r" } },
  { "negative numbers as all", { NONE, rule(true, "b", 240, -1, "r") }, { "b 240:77 r", "b 240:78 r" },
    { "deny a", "allow b 240:* r" } },
  { "what a later rule takes back", { NONE, rule(true, "c", 1, 3), rule(false, "c", 1, 3, "w") },
    { "c 1:3 r", "c 1:3 m" }, { "deny a", "allow c 1:3 rm" } },
  { "what a later, wider rule takes back",
    { NONE, rule(true, "c", 1, 3), rule(true, "c", 240, 77), rule(false, "c", 1) },
    { "c 240:77 r", "c 240:77 m" }, { "deny a", "allow c 240:77 rwm" } },
  { "a part of what an earlier rule allows", { NONE, rule(true, "c", 1), rule(false, "c", 1, 3, "w") },
    { "c 1:3 r", "c 1:3 m", "c 1:5 r", "c 1:5 rw" }, false },
  { "all but one", { ANY, rule(false, "b", 240, 77, "w"), rule(false, "c", 1) },
    { "c 240:77 r", "c 240:77 m", "b 240:77 r", "b 240:77 m", "b 240:78 r" },
    { "allow a", "deny b 240:77 w", "deny c 1:* rwm" } },
  { "nothing again", { ANY, rule(true, "c", 1, 3), NONE }, {}, { "deny a" } },
}

local function parts(request)
  local type, major, minor, access = request:match "(%a) (%d+):(%d+) (%a+)"
  return type, tonumber(major), tonumber(minor), access
end

-- What each instruction does to registers and context: by its code. Answers how many instructions are left out.
local machine = {
  [0x61] = function(r, to, _, offset, _, context) r[to] = context[offset] end,
  [0xbf] = function(r, to, from) r[to] = r[from] end,
  [0xb7] = function(r, to, _, _, value) r[to] = value end,
  [0x57] = function(r, to, _, _, value) r[to] = r[to] & value end,
  [0x77] = function(r, to, _, _, value) r[to] = r[to] >> value end,
  [0x55] = function(r, to, _, offset, value) return r[to] ~= value and offset end,
  [0x45] = function(r, to, _, offset, value) return r[to] & value ~= 0 and offset end,
  [0x05] = function(_, _, _, offset) return offset end,
}

-- Runs the program for a request, as the kernel does.
local function decide(code, request)
  local type, major, minor, access = parts(request)
  local bits = (access:find "m" and 1 or 0) | (access:find "r" and 2 or 0) | (access:find "w" and 4 or 0)
  local context = { [0] = bits << 16 | (type == "b" and 1 or 2), [4] = major, [8] = minor }
  local r, at, op, registers, offset, value = {}, 1
  while true do
    op, registers, offset, value, at = string.unpack("=I1I1i2i4", code, at)
    if op == 0x95 then return r[0] == 1 end
    at = at + 8 * (machine[op](r, registers & 15, registers >> 4, offset, value, context) or 0)
  end
end

local function attach(path, code)
  local cgroup <close> = assert(sys.open(path, "rdonly,directory"))
  local program <close> = assert(core.bpf_device(code))
  assert(core.bpf_attach(cgroup, program))
  return core.bpf_attached(cgroup)
end

local modes = { r = "rdonly", w = "wronly", rw = "rdwr" }

-- What a process in the cgroup is allowed: its rules alone answer EPERM.
local function allowed_in(path)
  local folder = helper.tmpdir()
  for _, request in ipairs(requests) do
    local type, major, minor, access = parts(request)
    local node = ("%s/%s%d:%d"):format(folder, type, major, minor)
    if access ~= "m" and not sys.stat(node) then
      local made, why = sys.mknod(node, type == "c" and "ifchr,0600" or "ifblk,0600", major << 8 | minor)
      if not made then helper.skip("needs the right to make devices: " .. why) end
    end
  end
  local seen = process.child("", function(say)
    assert(sys.write_file("cwd", path .. "/cgroup.procs", "0"))
    for i, request in ipairs(requests) do
      local type, major, minor, access = parts(request)
      local device, ok, _, errno = major << 8 | minor
      if access == "m" then
        ok, _, errno = sys.mknod(folder .. "/new" .. i, type == "c" and "ifchr,0600" or "ifblk,0600", device)
      else
        ok, _, errno = sys.open(("%s/%s%d:%d"):format(folder, type, major, minor), modes[access] .. ",nonblock")
      end
      if ok or errno ~= sys.EPERM then say(request) end
    end
    return 0
  end)
  return seen[3]
end

describe("rules of devices", function()
  for _, row in ipairs(rows) do
    it("allow " .. row[1], function()
      local code, allowed = devices.program(row[2]), {}
      for _, request in ipairs(requests) do
        if decide(code, request) then allowed[#allowed + 1] = request end
      end
      assert.same(row[3], allowed)
    end)

    it("allow " .. row[1] .. ", in writes of v1", function()
      local list, why = devices.writes(row[2])
      if not row[4] then
        assert.is_nil(list)
        assert.equal("cgroup v1 cannot except c 1:3 w from c 1:* rwm", why)
        return
      end
      for i, write in ipairs(list) do list[i] = write.name .. " " .. write.text end
      assert.same(row[4], list)
    end)

    it("allow " .. row[1] .. ", says the kernel by v2", function()
      process.needs_root()
      local path = hierarchy.make ""
      assert.equal(1, attach(path, devices.program(row[2])))
      assert.same(row[3], allowed_in(path))
    end)

    it("allow " .. row[1] .. ", says the kernel by v1", function()
      process.needs_root()
      local path = hierarchy.make "devices"
      for _, write in ipairs(devices.writes(row[2]) or {}) do
        assert(sys.write_file("cwd", path .. "/devices." .. write.name, write.text))
      end
      if row[4] then assert.same(row[3], allowed_in(path)) end
    end)
  end
end)

describe("a device program", function()
  local function answering(n)
    return string.pack("=I1I1i2i4", 0xb7, 0, 0, n) .. string.pack("=I1I1i2i4", 0x95, 0, 0, 0)
  end

  it("decides for a cgroup, with those that are attached already", function()
    process.needs_root()
    local path = hierarchy.make ""
    local function opens()
      return process.child("", function(say)
        assert(sys.write_file("cwd", path .. "/cgroup.procs", "0"))
        say((sys.open("/dev/null", "rdonly")) ~= nil)
        return 0
      end)[3][1]
    end
    assert.equal("true", opens())
    assert.equal(1, attach(path, answering(1)))
    assert.equal("true", opens())
    assert.equal(2, attach(path, answering(0)))
    assert.equal("false", opens())
  end)

  it("is refused with the reason of the kernel's", function()
    process.needs_root()
    local program, why, errno = core.bpf_device(answering(1):sub(9)) -- register 0 was never set
    assert.same({ nil, "bpf: R0 !read_ok", sys.EACCES }, { program, why, errno })
  end)

  it("needs whole instructions, and a cgroup of v2", function()
    assert.error_matches(function() core.bpf_device "" end, "instructions of 8 bytes expected")
    assert.error_matches(function() core.bpf_device "1234567" end, "instructions of 8 bytes expected")
    local folder <close> = assert(sys.open("/", "path"))
    local attached, why, errno = core.bpf_attached(folder)
    assert.is_nil(attached)
    assert.equal("string", type(why))
    assert.equal("integer", math.type(errno))
  end)
end)
