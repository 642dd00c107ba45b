-- idrows.lua: rows of a user namespace's id map, {inside, outside, count}: whether the kernel would take them.

local MAX_ROWS = 340 -- user_namespaces(7)
local MAX_ID = 4294967295 -- itself no id: (uid_t) -1

local columns = { { "inside", 0 }, { "outside", 0 }, { "count", 1 } }

local function check_row(row)
  if type(row) ~= "table" or #row ~= #columns then
    return nil, "{inside, outside, count} expected"
  end
  for i, column in ipairs(columns) do
    local name, least = table.unpack(column)
    if math.type(row[i]) ~= "integer" or row[i] < least or row[i] > MAX_ID then
      return nil, ("%s: an integer from %d to %d expected"):format(name, least, MAX_ID)
    end
  end
  for i = 1, 2 do
    if row[i] + row[3] > MAX_ID then
      return nil, ("reaches beyond the last id, %d"):format(MAX_ID - 1)
    end
  end
  return true
end

-- The rows in the order of a column: each must end before the next begins.
local function check_overlap(rows, column)
  local order = {}
  for i = 1, #rows do
    order[i] = i
  end
  table.sort(order, function(a, b) return rows[a][column] < rows[b][column] end)
  for i = 2, #order do
    local before, after = order[i - 1], order[i]
    if rows[before][column] + rows[before][3] > rows[after][column] then
      return nil, ("rows %d and %d overlap %s"):format(math.min(before, after), math.max(before, after),
        columns[column][1])
    end
  end
  return true
end

--- true | nil, problem, which names the row.
local function check(rows)
  if type(rows) ~= "table" or #rows == 0 then
    return nil, "rows {inside, outside, count} expected"
  elseif #rows > MAX_ROWS then
    return nil, ("at most %d rows, not %d"):format(MAX_ROWS, #rows)
  end
  for i, row in ipairs(rows) do
    local ok, problem = check_row(row)
    if not ok then
      return nil, ("row %d: %s"):format(i, problem)
    end
  end
  for column = 1, 2 do
    local ok, problem = check_overlap(rows, column)
    if not ok then
      return nil, problem
    end
  end
  return true
end

--- The text that the kernel takes.
local function text(rows)
  local lines = {}
  for i, row in ipairs(rows) do
    lines[i] = ("%d %d %d\n"):format(row[1], row[2], row[3])
  end
  return table.concat(lines)
end

--- The id inside that an id outside is; nil when it is not mapped.
local function inside(rows, id)
  for _, row in ipairs(rows) do
    if id >= row[2] and id < row[2] + row[3] then
      return id - row[2] + row[1]
    end
  end
end

--- The id outside that an id inside is; nil when it is not mapped.
local function outside(rows, id)
  for _, row in ipairs(rows) do
    if id >= row[1] and id < row[1] + row[3] then
      return id - row[1] + row[2]
    end
  end
end

-- What one row is by those of the namespace around it, maybe in several parts.
local function translate_row(rows, row, list)
  local at, id, left = table.unpack(row)
  while left > 0 do
    local part
    for _, r in ipairs(rows) do
      if id >= r[2] and id < r[2] + r[3] then
        part = { at, id - r[2] + r[1], math.min(left, r[2] + r[3] - id) }
      end
    end
    if not part then
      return nil, id
    end
    list[#list + 1] = part
    at, id, left = at + part[3], id + part[3], left - part[3]
  end
  return true
end

--- Rows whose outside ids are the host's, as they are in a user namespace of these rows | nil, the first id that it
-- does not have, the number of its row.
local function below(around, rows)
  local list = {}
  for i, row in ipairs(rows) do
    local ok, id = translate_row(around, row, list)
    if not ok then
      return nil, id, i
    end
  end
  return list
end

--- In OCI's terms, and back.
local function to_oci(rows)
  local list = {}
  for i, row in ipairs(rows) do
    list[i] = { containerID = row[1], hostID = row[2], size = row[3] }
  end
  return list
end

local function of_oci(mappings)
  local rows = {}
  for i, m in ipairs(mappings or {}) do
    rows[i] = { m.containerID, m.hostID, m.size }
  end
  return rows
end

return {
  check = check,
  text = text,
  inside = inside,
  outside = outside,
  below = below,
  to_oci = to_oci,
  of_oci = of_oci,
  MAX_ROWS = MAX_ROWS,
}
