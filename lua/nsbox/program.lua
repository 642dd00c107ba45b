-- program.lua: why a program could not be run. Looks at it through the box's root, and never beyond.

local core = require "nsbox.core"
local sys = require "nsbox.sys"

local HEAD = 4096 -- enough for a shebang line, the ELF header and, in practice, the program headers

-- ELF machines by number (elf.h), as uname calls them.
local machines = { [3] = "i386", [40] = "arm", [62] = "x86_64", [183] = "aarch64", [243] = "riscv64", [22] = "s390x",
  [21] = "ppc64" }

local function open(root, path)
  return sys.openat2(root, path, "rdonly,nonblock", nil, "in_root,no_magiclinks")
end

local function head_of(root, path)
  local fd <close> = open(root, path)
  if not fd then
    return nil
  end
  local stat = sys.fstat(fd)
  if not stat or stat.type ~= "file" then
    return nil
  end
  return sys.read(fd, HEAD)
end

local function exists(root, path)
  local fd <close>, _, errno = sys.openat2(root, path, "path", nil, "in_root,no_magiclinks")
  return fd ~= nil, errno
end

-- Names that come out of a file of the image must not drive the terminal on which the error is shown.
local function shown(name)
  return (name:gsub("[%c\x80-\xff]", function(c) return ("\\x%02x"):format(c:byte()) end))
end

local function interpreter_of(head)
  return head:match "^#![ \t]*([^ \t\n]+)"
end

local function shebang(root, head)
  local interpreter = interpreter_of(head)
  if not interpreter or exists(root, interpreter) then
    return nil
  elseif interpreter:find "\r$" then
    return ("its first line ends in a carriage return, as on Windows, and %s is not in the box"):format(
      shown(interpreter))
  end
  return ("its interpreter %s is not in the box"):format(shown(interpreter))
end

-- ELF, 64 bit little endian: e_machine at 18, e_phoff at 32, e_phentsize at 54, e_phnum at 56; elf(5).
local function elf_loader(head)
  if #head < 64 or head:byte(5) ~= 2 or head:byte(6) ~= 1 then
    return nil
  end
  local phoff = string.unpack("<I8", head, 33)
  local phentsize, phnum = string.unpack("<I2I2", head, 55)
  for i = 0, phnum - 1 do
    local at = phoff + i * phentsize
    if at + 56 > #head then
      return nil
    end
    if string.unpack("<I4", head, at + 1) == 3 then -- PT_INTERP
      local offset, size = string.unpack("<I8", head, at + 9), string.unpack("<I8", head, at + 33)
      return offset + size <= #head and head:sub(offset + 1, offset + size - 1) or nil
    end
  end
end

local function elf(root, head)
  if head:sub(1, 4) ~= "\127ELF" or #head < 20 then
    return nil
  end
  local machine = string.unpack(head:byte(6) == 2 and ">I2" or "<I2", head, 19)
  local _, own = core.uname()
  if machines[machine] ~= own and not (machines[machine] == "i386" and own == "x86_64") then
    return ("it is a program for %s, and this machine is %s"):format(machines[machine] or "machine " .. machine, own)
  end
  local loader = elf_loader(head)
  if loader and not exists(root, loader) then
    return ("its loader %s is not in the box"):format(shown(loader))
  end
end

-- What a file itself has against being run by anybody; nil if it has nothing.
local function no_program(root, path)
  local fd <close> = sys.openat2(root, path, "path", nil, "in_root,no_magiclinks")
  local stat = fd and sys.fstat(fd)
  if not stat then
    return "a folder on the way to it may not be searched"
  elseif stat.type ~= "file" then
    return ("it is a %s, not a program"):format(stat.type == "dir" and "folder" or stat.type)
  elseif tonumber(stat.mode, 8) & 73 == 0 then -- 0111
    return "it has no x bit: chmod +x"
  end
end

local function no_permission(root, path)
  local why = no_program(root, path)
  if why then
    return why
  end
  local interpreter = interpreter_of(head_of(root, path) or "")
  why = interpreter and no_program(root, interpreter)
  if why then
    return ("its interpreter %s cannot be run, %s"):format(shown(interpreter), why)
  end
  return "its mode or owner, or a noexec mount, forbids it"
end

local function reason(root, path, name)
  if not root then
    return nil
  end
  if name == "EACCES" then
    return no_permission(root, path)
  end
  local head = head_of(root, path)
  if not head then
    return nil
  end
  return shebang(root, head) or elf(root, head)
    or (name == "ENOEXEC" and "it is neither a script with #! nor a program")
end

-- The candidate that made the difference: the first that is there.
local function found_path(root, paths, cwd)
  for _, path in ipairs(paths) do
    local full = path:sub(1, 1) == "/" and path or cwd .. "/" .. path
    if root and exists(root, full) then
      return full
    end
  end
end

--- Fields of an Error of kind exec for a start whose program could not be run, for `errno`, in the step of this number;
-- `root` is a descriptor of the box's root, or nil.
local function explain(start, number, errno, root)
  local process = start.config.process
  local name = core.errno_name(errno)
  local fields = { kind = "exec", verb = start.verb, step = number, errno = errno, name = name,
    path = process.args[1], message = core.strerror(errno) }
  local path = found_path(root, start.params.paths, process.cwd)
  if not path then
    fields.hint = not process.args[1]:find("/", 1, true) and "no folder of PATH in the box has it" or nil
    return fields
  end
  local why = reason(root, path, name)
  if why then
    fields.message = ("%s: %s: %s"):format(path, why, fields.message)
  end
  if name == "E2BIG" then
    fields.hint = "arguments and environment together are beyond the kernel's limit: pass data by input or a file"
  end
  return fields
end

return { explain = explain }
