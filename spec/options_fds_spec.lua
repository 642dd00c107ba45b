-- The option fds as a value: which numbers, which handles, and what is said of all else.
local assert_misuse = require "spec.misuse"
local options = require "nsbox.options"

local file, closed = io.tmpfile(), io.tmpfile()
closed:close()
local object = { fileno = function() return 9 end }
local gone = { fileno = function() end } -- as a handle answers that was closed
local broken = { fileno = function() error "closed" end }

local function many(n)
  local fds = {}
  for i = 3, n + 2 do
    fds[i] = 0
  end
  return fds
end

describe("the option fds", function()
  teardown(function() file:close() end)

  it("is a map of numbers to handles, for each verb that starts a process", function()
    for _, given in ipairs { {}, { [3] = file, [7.0] = 5, [1023] = 0 }, { [9] = object, [10] = object }, many(256) } do
      for _, verb in ipairs { "run", "start", "exec", "spawn" } do
        local checked, err = options.check(verb, { fds = given })
        assert(checked, tostring(err))
        assert.same(given, checked.fds)
        assert.not_equal(given, checked.fds)
      end
    end
    assert.same({}, options.check("run").fds)
  end)

  -- as given, part of the text
  local rows = {
    { 3, "option 'fds' must be a map of numbers to open files or descriptors, got 3" },
    { file, "must be a map of numbers" }, { object, "must be a map of numbers" }, { "3", "got '3'" },
    { { [3] = closed }, "option 'fds' [3] is a closed file" }, { { [7] = gone }, "[7] is a closed descriptor" },
    { { [7] = broken }, "[7] is a closed descriptor" }, { { [7] = -1 }, "[7] must not be the descriptor -1" },
    { { [7] = "file" }, "[7] must be an open file or a descriptor, got 'file'" },
    { { [7] = {} }, "[7] must be an open file or a descriptor, got a table" }, { { [7] = true }, "got true" },
    { { [7] = 1.5 }, "got 1.5" }, { { 5 }, "option 'fds' has the number 1: that is stdout" },
    { { [0] = 5 }, "has the number 0: that is stdin" }, { { [2] = 5 }, "has the number 2: that is stderr" },
    { { [1024] = 5 }, "has the key 1024: a number from 3 to 1023 is expected" },
    { { [-1] = 5 }, "has the key -1: a number" }, { { [3.5] = 5 }, "has the key 3.5: a number" },
    { { ["3"] = 5 }, "has the key '3': a number" }, { { [true] = 5 }, "has the key true: a number" },
    { many(257), "must have at most 256 descriptors, got 257" },
  }
  for i, row in ipairs(rows) do
    it(("raises: %s (row %d)"):format(row[2], i), function()
      assert_misuse("nsbox.run: ", options.check, "run", { fds = row[1] })
      assert_misuse(row[2], options.check, "run", { fds = row[1] })
    end)
  end

  it("is what other tools call pass_fds and extra_files", function()
    for _, name in ipairs { "pass_fds", "extra_files" } do
      assert_misuse("use fds = { [n] = handle }", options.check, "run", { [name] = {} })
    end
  end)

  it("like a stream, refuses a handle that was closed", function()
    for _, name in ipairs { "stdin", "stdout", "stderr" } do
      assert_misuse(("option '%s' is a closed descriptor"):format(name), options.check, "run", { [name] = gone })
    end
  end)
end)
