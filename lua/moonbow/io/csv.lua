-- SPDX-License-Identifier: MIT
--
-- csv.lua: tables of comma-separated values (RFC 4180): lines end with CR LF; a field that holds a comma, a quote or a line
-- break stands in quotes, where a quote is two. Numbers have the digits that give the same double back; what is not finite is
-- NaN, Infinity or -Infinity; a field that is missing is empty.

local json = require "moonbow.io.json"
local status = require "bindings.status"

local M = {}

---@param value any number, string, boolean or nil
---@return string
function M.field(value)
  if value == nil then return "" end
  if type(value) == "number" then return value - value == 0 and json.number(value) or json.nonfinite(value) end
  local text = tostring(value)
  if not text:find '[,"\r\n]' then return text end
  return '"' .. text:gsub('"', '""') .. '"'
end

---@param values table by column, holes are missing values
---@param count integer columns
---@return string
function M.row(values, count)
  local fields = {}
  for i = 1, count do fields[i] = M.field(values[i]) end
  return table.concat(fields, ",") .. "\r\n"
end

--- Writes a table through put(text): its head, then the rows that next_row() gives until nil.
---@param put fun(text: string)
---@param columns string[]
---@param next_row fun(): table?
---@return integer rows
function M.write(put, columns, next_row)
  put(M.row(columns, #columns))
  local rows = 0
  for values in next_row do
    put(M.row(values, #columns))
    rows = rows + 1
  end
  return rows
end

-- ----- reading ------------------------------------------------------------------------------------------

-- The field at `at`, and the position of what follows it.
local function read_field(text, at)
  if text:byte(at) ~= 34 then return text:match("^([^,\r\n]*)()", at) end
  local parts, from = {}, at + 1
  while true do
    local stop = text:find('"', from, true)
    if not stop then status.fail("csv: the quote at byte %d has no end", at - 1) end
    parts[#parts + 1] = text:sub(from, stop - 1)
    if text:byte(stop + 1) ~= 34 then return table.concat(parts), stop + 1 end
    parts[#parts + 1], from = '"', stop + 2
  end
end

--- Rows of a text, each an array of strings.
---@param text string
---@return string[][]
function M.read(text)
  local rows, row, at = {}, {}, 1
  while at <= #text do
    local field, after = read_field(text, at)
    row[#row + 1] = field
    local stop = text:match("^\r?\n()", after)
    if text:byte(after) == 44 then
      at = after + 1
      if at > #text then row[#row + 1] = "" end
    elseif stop or after > #text then
      rows[#rows + 1], row, at = row, {}, stop or after
    else
      status.fail("csv: a comma or the end of the line was expected at byte %d", after - 1)
    end
  end
  if #row > 0 then rows[#rows + 1] = row end
  return rows
end

return M
