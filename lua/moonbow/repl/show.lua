-- SPDX-License-Identifier: MIT
--
-- show.lua: values as a prompt shows them: tensors with their corners, tables of records as columns, other tables nested
-- and cut, functions with their parameters, and whatever has a __tostring by that.
--
--   show.text(value, 80) -> text, lines no wider than that where they are this file's own
--   show.cell(value)     -> what it is in a few characters, for lists

local format = require "moonbow.report.format"
local options = require "moonbow.options"
local types = require "bindings.types"

local M = {}

local ENTRIES = 24 -- of a table, a level
local LINES = 60   -- of a table altogether
local DEPTH = 3
local EDGE = 3     -- rows, columns and slices at either end of a tensor that is cut

-- ----- numbers ------------------------------------------------------------------------------------------------

-- A number with so many digits at most; integers whole up to 2^53, beyond which not all are numbers.
local function digits(x, pattern)
  if x ~= x then return "nan" end
  if x == 0 then return 1 / x < 0 and "-0" or "0" end
  if x == math.floor(x) and math.abs(x) <= 2 ^ 53 then return ("%.0f"):format(x) end
  return (pattern:format(x))
end

---A measured number: six digits at most.
---@param x number
---@return string
function M.number(x) return digits(x, "%.6g") end

---A number as what was typed has it: fourteen digits at most, so that 0.1 + 0.2 is 0.3.
---@param x number
---@return string
function M.exact(x) return digits(x, "%.14g") end

-- How the elements of a tensor are written, all alike.
local function number_format(values)
  local most, least, is_whole = 0, math.huge, true
  for _, x in ipairs(values) do
    local size = math.abs(x)
    if x == x and size < math.huge then
      most = math.max(most, size)
      if size > 0 then least = math.min(least, size) end
      is_whole = is_whole and x == math.floor(x)
    end
  end
  if is_whole and most < 1e9 then return "%.0f" end
  if most >= 1e5 or most < 1e-2 or least < most * 1e-5 then return "%.3e" end
  return "%.4f"
end

-- ----- tensors ------------------------------------------------------------------------------------------------

-- The indices of a dimension that are shown: all, or EDGE at either end with 0, a gap, between.
local function shown_indices(size, room)
  local list = {}
  if size <= room then
    for i = 1, size do list[i] = i end
    return list
  end
  local edge = math.max(1, math.min(EDGE, math.floor(room / 2)))
  for i = 1, edge do list[i] = i end
  list[edge + 1] = 0
  for i = size - edge + 1, size do list[#list + 1] = i end
  return list
end

-- Elements along the last dimension of a vector, with false for the gap.
local function read_row(t, indices)
  local row, k = {}, 1
  while k <= #indices do
    local first = k
    while indices[k + 1] and indices[k + 1] == indices[k] + 1 do k = k + 1 end
    if indices[first] == 0 then
      row[#row + 1] = false
    else
      for _, x in ipairs(t:slice(1, indices[first], indices[k]):totable()) do row[#row + 1] = x end
    end
    k = k + 1
  end
  return row
end

-- Rows of a matrix, nil for the gap: only what is shown leaves the device.
local function read_rows(t, columns, room)
  local rows = {}
  for _, i in ipairs(shown_indices(t.shape[1], room)) do
    rows[#rows + 1] = i > 0 and read_row(t:select(1, i), columns)
  end
  return rows
end

local function number_text(x, pattern)
  if x == false then return "…" end
  if x ~= x then return "nan" end
  if math.abs(x) == math.huge then return x > 0 and "inf" or "-inf" end
  return pattern:format(x)
end

local function pad(text, width) return (" "):rep(width - format.width(text)) .. text end

-- Columns that fit: numbers take 11 at most.
local function room_of(width) return math.max(2, math.floor((width - 4) / 11)) end

-- A matrix, or a vector as one row, as lines.
local function matrix_lines(t, width, room)
  local is_vector = #t.shape == 1
  local columns = shown_indices(t.shape[#t.shape], room_of(width))
  local rows = is_vector and { read_row(t, columns) } or read_rows(t, columns, room)
  local all, widest, lines = {}, 1, {}
  for _, row in ipairs(rows) do
    for _, x in ipairs(row or {}) do
      if x then all[#all + 1] = x end
    end
  end
  local pattern = number_format(all)
  for _, x in ipairs(all) do widest = math.max(widest, #number_text(x, pattern)) end
  for r, row in ipairs(rows) do
    local cells = {}
    for c, x in ipairs(row or {}) do cells[c] = x and pad(number_text(x, pattern), widest) or "…" end
    lines[r] = row and "  " .. table.concat(cells, "  ") or "  " .. pad("⋮", widest)
  end
  return lines
end

local function release_text(t) return t.is_live and "" or "tensor (released)" end

-- Lines for the last two dimensions at every shown place of the others.
local function slices(lines, t, place, width)
  if #t.shape <= 2 then
    if #place > 0 then lines[#lines + 1] = ("[%s, :, :]"):format(table.concat(place, ", ")) end
    for _, line in ipairs(matrix_lines(t, width, #place > 0 and 2 * EDGE or 16)) do lines[#lines + 1] = line end
    return
  end
  for _, i in ipairs(shown_indices(t.shape[1], 2)) do
    if i == 0 then
      lines[#lines + 1] = "  ⋮"
    else
      place[#place + 1] = i
      slices(lines, t:select(1, i), place, width)
      place[#place] = nil
    end
  end
end

---A tensor: shape, dtype and device, then its elements, or the corners of what is larger than a screen.
---@param t moonbow.Tensor
---@param width integer
---@return string
function M.tensor(t, width)
  if not t.is_live then return release_text(t) end
  local head = ("tensor %s %s %s%s"):format(types.shape_text(t.shape), t.dtype, t.device,
    t.requires_grad and " requires_grad" or "")
  if #t.shape == 0 then return ("%s: %s"):format(head, M.number(t:item())) end
  local lines = { head }
  slices(lines, t:detach(), {}, width)
  return table.concat(lines, "\n")
end

-- ----- functions and strings ------------------------------------------------------------------------------------

---A function with its parameters and where it is from: "function(model, options)  clip/norm.lua:12".
---@param fn function
---@return string
function M.fn(fn)
  local info = debug.getinfo(fn, "Su")
  if info.what == "C" then return tostring(fn):gsub("^(function: builtin).*$", "%1 function") end
  local names = {}
  for i = 1, info.nparams do names[i] = debug.getlocal(fn, i) or "?" end
  if info.isvararg then names[#names + 1] = "..." end
  local place = info.source:match "^@.*/(lua/moonbow/.*)$" or info.source:match "^@.*/(bindings/.*)$" or info.short_src
  return ("function(%s)  %s:%d"):format(table.concat(names, ", "), place, info.linedefined)
end

-- A string as it may be typed, cut to `most` bytes.
local function quoted(s, most)
  local cut = #s > most and s:sub(1, most):gsub("[\128-\191]*$", "") or s
  local text = ("%q"):format(cut):gsub("\\\n", "\\n"):gsub("\t", "\\t")
  return format.printable(text) .. (cut ~= s and ("… (%d bytes)"):format(#s) or "")
end

-- ----- tables -----------------------------------------------------------------------------------------------

local function has_text(value)
  local meta = getmetatable(value)
  return type(meta) == "table" and rawget(meta, "__tostring") ~= nil
end

-- The first line of an object's text.
local function headline(value) return (tostring(value):match "^[^\n]*") end

---What a value is, in a few characters.
---@param value any
---@return string
function M.cell(value)
  if types.is_tensor(value) then
    if not value.is_live then return release_text(value) end
    local text = ("tensor %s %s %s"):format(types.shape_text(value.shape), value.dtype, value.device)
    return #value.shape == 0 and ("%s: %s"):format(text, M.number(value:item())) or text
  end
  local kind = type(value)
  if kind == "number" then return M.exact(value) end
  if kind == "string" then return quoted(value, 60) end
  if kind == "function" then return M.fn(value) end
  if kind == "table" then
    if has_text(value) then return headline(value) end
    local n = 0
    for _ in pairs(value) do n = n + 1 end
    return n == 0 and "{}" or ("{ … %d %s }"):format(n, n == 1 and "entry" or "entries")
  end
  return tostring(value)
end

local scalars = { number = true, string = true, boolean = true, ["nil"] = true }

-- The columns of an array of records: tables with the same few fields, all plain values. nil if it is none.
local function columns_of(list)
  if #list < 2 or type(list[1]) ~= "table" then return nil end
  local seen = {}
  for _, row in ipairs(list) do
    if type(row) ~= "table" or has_text(row) or #row > 0 then return nil end
    for key, value in pairs(row) do
      if type(key) ~= "string" or not scalars[type(value)] then return nil end
      seen[key] = true
    end
  end
  local names = options.keys(seen)
  table.sort(names, function(a, b) -- what it is called comes first
    if (a == "name") ~= (b == "name") then return a == "name" end
    return a < b
  end)
  return #names > 0 and #names <= 12 and names or nil
end

local function records(list, names)
  local rows, right = { names }, {}
  for c, name in ipairs(names) do right[c] = type(list[1][name]) == "number" end
  for i, row in ipairs(list) do
    if i > ENTRIES and #list > ENTRIES + 2 then
      rows[#rows + 1] = { ("… %d more"):format(#list - ENTRIES) }
      break
    end
    local cells = {}
    for c, name in ipairs(names) do
      local value = row[name]
      cells[c] = value == nil and "-" or type(value) == "string" and format.printable(value)
        or type(value) == "number" and M.number(value) or tostring(value)
    end
    rows[#rows + 1] = cells
  end
  return format.columns(rows, right)
end

local function key_text(key)
  if type(key) == "string" then return key:find "^[%a_][%w_]*$" and key or ("[%s]"):format(quoted(key, 40)) end
  return ("[%s]"):format(M.cell(key))
end

-- Keys in an order: numbers, strings, the rest.
local function sorted_keys(t)
  local keys, rank = {}, { number = 1, string = 2 }
  for key in pairs(t) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b)
    local x, y = rank[type(a)] or 3, rank[type(b)] or 3
    if x ~= y then return x < y end
    if x == 3 then return tostring(a) < tostring(b) end
    return a < b
  end)
  return keys
end

-- "{ 1, 2, { 3 } }" of a table of plain values that fits into a line.
local function one_line(t, width, depth)
  local parts, n = {}, #t
  if (depth or 1) > DEPTH then return nil end
  for _, key in ipairs(sorted_keys(t)) do
    local value = t[key]
    local is_plain = type(value) == "table" and not has_text(value)
    local text = is_plain and one_line(value, width, (depth or 1) + 1) or scalars[type(value)] and M.cell(value)
    if not text or #parts >= 2 * ENTRIES then return nil end
    local is_item = type(key) == "number" and key >= 1 and key <= n
    parts[#parts + 1] = (is_item and "" or key_text(key) .. " = ") .. text
  end
  local line = #parts == 0 and "{}" or "{ " .. table.concat(parts, ", ") .. " }"
  return format.width(line) <= width and line or nil
end

local function nested(lines, t, indent, depth, width, seen)
  seen[t] = true
  local keys, n, left = sorted_keys(t), #t, ("  "):rep(indent)
  for k, key in ipairs(keys) do
    if k > ENTRIES and #keys > ENTRIES + 2 or #lines >= LINES then
      lines[#lines + 1] = ("%s… %d more"):format(left, #keys - k + 1)
      break
    end
    local value = t[key]
    local is_item = type(key) == "number" and key >= 1 and key <= n
    local head = left .. (is_item and ("[%d] "):format(key) or key_text(key) .. " = ")
    local is_plain = type(value) == "table" and not has_text(value)
    local short = is_plain and one_line(value, width - format.width(head))
    if not is_plain or short then
      lines[#lines + 1] = head .. (short or format.cut(M.cell(value), math.max(20, width - format.width(head))))
    elseif seen[value] then
      lines[#lines + 1] = head .. "{ … again }"
    elseif depth >= DEPTH then
      lines[#lines + 1] = head .. M.cell(value)
    else
      lines[#lines + 1] = head .. "{"
      nested(lines, value, indent + 1, depth + 1, width, seen)
      lines[#lines + 1] = left .. "}"
    end
  end
  seen[t] = nil
end

---A table: records as columns, others nested to a depth of three and cut.
---@param t table
---@param width integer
---@return string
function M.table(t, width)
  local names = columns_of(t)
  if names then return records(t, names) end
  local short = one_line(t, width)
  if short then return short end
  local lines = { "{" }
  nested(lines, t, 1, 1, width, {})
  lines[#lines + 1] = "}"
  return table.concat(lines, "\n")
end

-- The members of a table of the library's that loads them when they are named: __names of its metatable; or nil.
local function members_of(t)
  local meta = getmetatable(t)
  local names = type(meta) == "table" and rawget(meta, "__names")
  if not names then return nil end
  local seen = {}
  for key in pairs(t) do
    if type(key) == "string" then seen[key] = true end
  end
  for _, name in ipairs(names()) do seen[name] = true end
  return options.keys(seen)
end

-- Names in lines that are no wider than that.
local function members_text(names, width)
  local lines, line = {}, ""
  for _, name in ipairs(names) do
    if line ~= "" and #line + 2 + #name > width - 2 then
      lines[#lines + 1] = line
      line = ""
    end
    line = line == "" and name or line .. "  " .. name
  end
  lines[#lines + 1] = line
  return table.concat(lines, "\n")
end

-- A report whose numbers are still on the device: __fetch of its metatable, or of its rows'. One that was refused, or is too old,
-- is shown without them.
local function fetch(t)
  for _, part in ipairs { t, rawget(t, 1) } do
    local meta = getmetatable(part)
    if type(meta) == "table" and rawget(meta, "__fetch") then
      pcall(meta.__fetch)
      return
    end
  end
end

---A value as the prompt shows it.
---@param value any
---@param width integer
---@return string
function M.text(value, width)
  if types.is_tensor(value) then return M.tensor(value, width) end
  if type(value) == "table" and not has_text(value) then
    fetch(value)
    local members = members_of(value)
    return members and members_text(members, width) or M.table(value, width)
  end
  if type(value) == "table" then return tostring(value) end
  if type(value) == "string" then return quoted(value, 2000) end
  return M.cell(value)
end

return M
