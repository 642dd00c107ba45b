-- Signal names and numbers of Linux on x86 and arm (and all other architectures that share the generic table).
-- nsbox writes names without SIG; it reads them in any spelling.

local names = {
  "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
  "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
  "PWR", "SYS",
}

local synonyms = { IOT = 6, CLD = 17, POLL = 29 }

-- RTMIN as programs see it: libc keeps 32 and 33 for its own threads.
local RTMIN, RTMAX = 34, 64

local numbers = {}
for n, name in ipairs(names) do
  numbers[name] = n
end
for name, n in pairs(synonyms) do
  numbers[name] = n
end

--- The name of a signal number: "TERM", "RTMIN", "RTMIN+3"; the two that libc hides are "32" and "33".
-- Returns nil for what is not a signal number.
local function name(n)
  n = math.type(n) and math.tointeger(n)
  if not n or n < 1 or n > RTMAX then
    return nil
  elseif n < RTMIN then
    return names[n] or tostring(n)
  end
  return n == RTMIN and "RTMIN" or ("RTMIN+%d"):format(n - RTMIN)
end

local function realtime(text)
  local base, sign, offset = text:match("^(RTM%u%u)([+-]?)(%d*)$")
  if (base ~= "RTMIN" and base ~= "RTMAX") or (sign == "") ~= (offset == "") or #offset > 2 then
    return nil
  end
  local n = base == "RTMIN" and RTMIN or RTMAX
  if offset ~= "" then
    n = sign == "+" and n + tonumber(offset) or n - tonumber(offset)
  end
  return n >= RTMIN and n <= RTMAX and n or nil
end

--- The number of a signal given as "TERM", "SIGTERM", "term", "RTMIN+1", "RTMAX-2", "15" or 15.
-- Returns nil for what is not a signal.
local function number(signal)
  if math.type(signal) then
    local n = math.tointeger(signal)
    return n and name(n) and n or nil
  elseif type(signal) ~= "string" then
    return nil
  elseif signal:find("^%d%d?$") then
    return number(tonumber(signal))
  end
  local text = signal:upper():gsub("^SIG", "")
  return numbers[text] or realtime(text)
end

return {
  name = name,
  number = number,
}
