local assert = require "luassert"
local step = require "nsbox.step"

describe("nsbox.step", function()
  local rows = {
    { "names the call and its arguments", "mount(proc, /proc, proc, nosuid)",
      { "mount", "proc", "/proc", "proc", "nosuid" } },
    { "leaves out what is absent at the end", "umount2(.)", { "umount2", "." } },
    { "marks what is absent between", "mount(/a, /b, -, bind)", { "mount", "/a", "/b", nil, "bind" } },
    { "keeps zeros: they are ids and numbers", "setresuid(0, 0, 0)", { "setresuid", 0, 0, 0 } },
    { "shows an empty path", 'move_mount(@a, "", cwd, /)', { "move_mount", "@a", "", "cwd", "/" } },
    { "has the slot in front", "root = fsmount(@fs, 0)", { "fsmount", "@fs", 0, out = "root" } },
    { "shows lists", "setgroups({1 2 3})", { "setgroups", { 1, 2, 3 } } },
    { "shows lists in lists", "uid_map(child, {{0 1000 1}})", { "uid_map", "child", { { 0, 1000, 1 } } } },
    { "knows the loop's own steps", "clone(vm,newpid)", { "clone", "vm,newpid" } },
    { "tells where a process begins", "clone(vm) into @cgroup", { "clone", "vm", into = "@cgroup" } },
    { "tells what a barrier hands up", "barrier(terminal) gives master",
      { "barrier", "terminal", give = { "master" } } },
    { "keeps to one line", "write_file(cwd, /x, a\\10b)", { "write_file", "cwd", "/x", "a\nb" } },
    { "has no arguments where there are none", "setsid()", { "setsid" } },
  }
  for _, row in ipairs(rows) do
    it(row[1], function()
      assert.equal(row[2], step.text(row[3]))
    end)
  end

  it("knows the path a step is about", function()
    assert.equal("/proc", step.subject { "mount", "proc", "/proc", "proc" })
    assert.equal("/dev/pts", step.subject { "mkpath", "@root", "/dev/pts", "dir", "0755" })
    assert.equal("overlay", step.subject { "fsopen", "overlay" })
  end)

  it("knows of no path where there is none", function()
    assert.is_nil(step.subject { "setsid" })
    assert.is_nil(step.subject { "clone", "vm" })
    assert.is_nil(step.subject { "mount_setattr", "@x", "", "empty_path" })
  end)
end)
