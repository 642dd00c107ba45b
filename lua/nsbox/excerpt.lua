-- excerpt.lua: what a program wrote, as a part of a message.

local TAIL_LINES, TAIL_BYTES = 10, 2000

local function hex(c)
  return ("\\x%02x"):format(c:byte())
end

--- What a program wrote must not drive the terminal on which the error is shown: control characters are escaped.
local function printable(text)
  text = text:gsub("%c", hex)
  if not utf8.len(text) then
    return (text:gsub("[\x80-\xff]", hex))
  end
  return (text:gsub("\xc2([\x80-\x9f])", function(c)
    return hex("\xc2") .. hex(c)
  end))
end

--- The last lines of a text, at most 2000 bytes, indented and marked.
local function tail(text)
  local lines = {}
  if #text > TAIL_BYTES then
    text = text:sub(-TAIL_BYTES)
  end
  for line in text:gsub("\n$", ""):gmatch("[^\n]*") do
    lines[#lines + 1] = "  | " .. printable(line:gsub("\r$", ""))
  end
  return table.concat(lines, "\n", math.max(1, #lines - TAIL_LINES + 1))
end

return {
  printable = printable,
  tail = tail,
}
