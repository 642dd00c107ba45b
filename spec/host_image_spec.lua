-- The image "host": the layout for given mounts, and what a box sees of this host.
local assert = require "luassert"
local box = require "spec.box"
local helper = require "spec.helper"
local host = require "nsbox.image.host"
local lfs = require "lfs"
local nsbox = require "nsbox"
local process = require "spec.process"
local script = require "spec.script"

local sys = nsbox.sys

helper.leakcheck()

-- ---- the layout ----

-- A made-up host: path -> type or { link target }; everything else is a folder that holds what is named below it.
local function file_system(entries)
  local fs = {}
  function fs.lstat(path)
    local e = entries[path]
    if type(e) == "table" then
      return { type = "link", mode = "0777" }
    end
    return e ~= false and { type = e or "dir", mode = path == "/root" and "0700" or "0755" } or nil
  end
  fs.stat = fs.lstat
  function fs.readlink(path)
    return entries[path][1]
  end
  function fs.readdir(folder)
    local names, seen = {}, {}
    for path in pairs(entries) do
      local rest = folder == "/" and path:sub(2) or path:sub(1, #folder + 1) == folder .. "/" and path:sub(#folder + 2)
      local name = rest and rest:match "^[^/]+"
      if name and not seen[name] then
        seen[name] = true
        names[#names + 1] = name
      end
    end
    table.sort(names)
    return names
  end
  return fs
end

local function mountinfo(points)
  local lines = {}
  for i, point in ipairs(points) do
    lines[i] = ("%d 1 0:1 / %s rw,relatime shared:1 - ext4 /dev/x rw"):format(i, point)
  end
  return table.concat(lines, "\n") .. "\n"
end

local function layout(points, entries, cwd)
  local list = {}
  local parts = host.layout(mountinfo(points), cwd or "/home/me", file_system(entries))
  for i, part in ipairs(parts) do
    list[i] = part.how .. " " .. part.path .. (part.target and " " .. part.target or "")
  end
  return list, parts
end

local machine = {
  ["/bin"] = { "usr/bin" }, ["/usr"] = "dir", ["/etc"] = "dir", ["/home/me"] = "dir", ["/root"] = "dir",
  ["/proc"] = "dir", ["/sys"] = "dir", ["/dev"] = "dir", ["/run"] = "dir", ["/tmp"] = "dir", ["/var/tmp"] = "dir",
  ["/var/lib"] = "dir", ["/vmlinuz"] = "file", ["/socket"] = "socket", ["/lost+found"] = "dir",
}

describe("the host's layout", function()
  it("gives each folder at the top a private layer, keeps links, shows files, and leaves the rest out", function()
    assert.same({ "link bin usr/bin", "overlay etc", "overlay home", "overlay root", "overlay usr", "overlay var",
      "bind vmlinuz" }, (layout({ "/", "/proc", "/run" }, machine)))
  end)

  it("takes a folder with mounts below it apart, and shows the mounts only", function()
    local entries = { ["/home/me"] = "dir", ["/home/you"] = "dir", ["/var/lib/docker"] = "dir", ["/var/log"] = "dir" }
    assert.same({ "dir home", "bind home/me", "overlay home/you", "dir var", "dir var/lib", "bind var/lib/docker",
      "overlay var/log" }, (layout({ "/", "/home/me", "/var/lib/docker" }, entries, "/")))
  end)

  it("gives the mount that the working directory lies on a private layer, too", function()
    assert.same({ "link bin usr/bin", "overlay etc", "dir home", "overlay home/me", "overlay root", "overlay usr",
      "overlay var", "bind vmlinuz" }, (layout({ "/", "/home/me" }, machine, "/home/me/work")))
  end)

  it("does not take a folder for a mount because their names begin alike", function()
    local _, parts = layout({ "/", "/home/me" }, { ["/home/me"] = "dir", ["/home/me2"] = "dir" }, "/home/me2")
    assert.same({ "dir", "bind", "overlay" }, { parts[1].how, parts[2].how, parts[3].how })
  end)

  it("reads a mount table with blanks in its names", function()
    local list = layout({ "/", "/my\\040disk" }, { ["/my disk"] = "dir" })
    assert.same({ "bind my disk" }, list)
  end)

  it("shows a working directory in a place that is fresh in the box, alone", function()
    local _, parts = layout({ "/" }, { ["/tmp/job"] = "dir", ["/tmp/other"] = "dir" }, "/tmp/job")
    assert.same({ 0, "tmp/job" }, { #parts, parts.workdir.path })
    for _, cwd in ipairs { "/tmp", "/proc/1", "/dev/shm", "/home/me" } do
      _, parts = layout({ "/" }, { ["/home/me"] = "dir" }, cwd)
      assert.is_nil(parts.workdir)
    end
  end)

  describe("of a machine with more folders beside mounts than can be shown one by one", function()
    local entries, points = { ["/usr"] = "dir", ["/var/lib/docker/overlay2/1/merged"] = "dir", ["/srv"] = "dir" },
      { "/", "/var/lib/docker/overlay2/1/merged" }
    for i = 2, 1000 do entries["/var/lib/docker/overlay2/" .. i] = "dir" end

    it("shows the fullest whole", function()
      local list, parts = layout(points, entries, "/home")
      assert.same({ "overlay srv", "overlay usr", "dir var", "dir var/lib", "dir var/lib/docker",
        "bind var/lib/docker/overlay2" }, list)
      assert.same({ "dir", "/var/lib/docker/overlay2", true }, { parts[6].kind, parts[6].source, parts[6].whole })
    end)

    it("shows as many whole as it takes, and no more", function()
      local all = {}
      for path, kind in pairs(entries) do all[path] = kind end
      for i = 1, 190 do all[("/srv/%d"):format(i)] = "dir" end
      for i = 1, 100 do all[("/opt/%d"):format(i)] = "dir" end
      local list = layout({ points[1], points[2], "/srv/1", "/opt/1" }, all, "/home")
      assert.same({ "dir opt", "bind srv", "overlay usr" }, { list[1], list[#list - 5], list[#list - 4] })
    end)

    it("is nil when the working directory or a place that is fresh lies in each of them", function()
      assert.is_nil(host.layout(mountinfo(points), "/var/lib/docker/overlay2/7", file_system(entries)))
      local top = {}
      for i = 1, 300 do top["/" .. i] = "dir" end
      assert.is_nil(host.layout(mountinfo { "/" }, "/1", file_system(top)))
      local var = { ["/var/tmp"] = "dir" }
      for i = 1, 300 do var["/var/" .. i] = "dir" end
      assert.is_nil(host.layout(mountinfo { "/", "/var/1" }, "/home", file_system(var)))
    end)
  end)

  it("keeps the mode of what it covers", function()
    local _, parts = layout({ "/" }, { ["/root"] = "dir" })
    assert.equal("0700", parts[1].mode)
  end)

  it("goes on where a folder cannot be looked at", function()
    assert.same({ "overlay usr" }, (layout({ "/" }, { ["/usr"] = "dir", ["/gone"] = false })))
  end)
end)

-- ---- boxes ----

local function run(cmd, opts)
  return assert(nsbox.run("host", cmd, opts)):check().stdout
end

describe("a box of the host", function()
  it("has the host's programs and files", function()
    assert.equal(helper.read "/etc/hostname" or "", run "cat /etc/hostname 2>/dev/null || :")
    assert.matches("GNU bash", run { "bash", "--version" })
  end)

  it("begins where the caller is, or where it was told", function()
    assert.equal(sys.getcwd() .. "\n", run "pwd")
    assert.equal("/usr\n", run("pwd", { workdir = "/usr" }))
  end)

  it("has nothing in /tmp, /var/tmp and /run, all of which can be written", function()
    local cwd = { workdir = "/" }
    assert.equal("", run("ls -A /tmp /var/tmp /run | grep -v ':$' | grep . || :", cwd))
    assert.equal("1777 1777 755\n", run("echo $(stat -c %a /tmp /var/tmp /run)", cwd))
    run("for d in /tmp /var/tmp /run; do echo x >$d/x; done", cwd)
    assert.is_nil(helper.read "/tmp/x")
  end)

  it("sees no socket of the host's daemons", function()
    assert.equal("", run("ls -A /run; ls -d /run/* /var/run/docker.sock 2>/dev/null || :", { workdir = "/" }))
  end)

  it("writes to itself: the host stays as it is", function()
    local folder = helper.tmpdir()
    helper.write(folder .. "/kept", "old")
    assert.equal("new\n", run("echo new >kept; echo x >more; cat kept", { workdir = folder }))
    assert.equal("old", helper.read(folder .. "/kept"))
    assert.is_nil(helper.read(folder .. "/more"))
    if helper.root() then
      run "echo x >/etc/nsbox-spec && rm -f /etc/passwd"
      assert.is_nil(helper.read "/etc/nsbox-spec")
      assert.is_truthy(helper.read "/etc/passwd")
    end
  end)

  it("has the host's mounts read-only, nosuid and nodev, but that of its working directory", function()
    process.needs_root()
    local folder = "/nsbox-spec-" .. helper.pid -- at the top: elsewhere it could lie in a place that is fresh in a box
    assert(lfs.mkdir(folder))
    helper.cleanup(function() lfs.rmdir(folder) end)
    local tmpfs_idmaps = require("nsbox.probe").at_least(6, 3)
    local shell = "unshare -m sh <<'END'\nmount -t tmpfs none DIR && echo host >DIR/file\n"
      .. "(LUA </dev/null)\ncat DIR/file\nEND\n"
    local out = box.script((shell:gsub("DIR", folder)), ([[
      local run = require("nsbox").run
      local r = assert(run("host", "cat DIR/file; echo box >DIR/file", { workdir = "/" }))
      io.write(r.stdout, r.code, r.stderr:match "Read%-only file system" or r.stderr, "\n")
      local look = "grep ' DIR ' /proc/self/mountinfo | cut -d' ' -f6 | sed s/,idmapped//"
      r = assert(run("host", look, { workdir = "/" }))
      io.write(r.stdout)
      r = assert(run("host", "echo box >file; cat file", { workdir = "DIR", userns = "USERNS" }))
      io.write(r.stdout)]]):gsub("DIR", folder):gsub("USERNS", tmpfs_idmaps and "auto" or "keep-id"))
    assert.equal("host\n2Read-only file system\nro,nosuid,nodev,relatime\nbox\nhost\n", out)
  end)

  it("starts where the host has 300 mounts side by side, and notes what is shown whole", function()
    process.needs_userns()
    if #helper.names "/usr/share/doc" < 310 then helper.skip "needs 310 folders in /usr/share/doc to mount on" end
    script.succeeds([[
      assert(sys.mount(nil, "/", nil, "rec,private"))
      local mounts = 0
      for _, name in ipairs(sys.readdir "/usr/share/doc") do
        if mounts < 300 and sys.mount("none", "/usr/share/doc/" .. name, "tmpfs") then mounts = mounts + 1 end
      end
      assert(mounts == 300, mounts)
      local command = "echo x >/usr/share/new && ls /usr/share/doc | wc -l; echo x >/usr/share/doc/new"
      local r = assert(nsbox.run("host", command, { workdir = "/" }))
      assert(tonumber(r.stdout) >= 300, r.stdout)
      assert(r.stderr:find "Read%-only file system", r.stderr)
      local note = r.notes[#r.notes] -- before it may stand why there is one id
      assert(note and note.what == "/usr/share/doc", note and note.what)
      assert(nsbox.run("host", "true", { namespaces = { mount = false } }).ok)]],
      { wrapper = { "/usr/bin/unshare", table.unpack(helper.root() and { "-m" } or { "-Urm" }) } })
  end)

  it("is without power over the kernel's settings and devices", function()
    local out = run "echo 1 >/proc/sys/kernel/sysrq; echo x >/sys/power/state; mknod /tmp/d b 1 1; ls -A /dev/mem; :"
    assert.equal("", out)
  end)
end)
