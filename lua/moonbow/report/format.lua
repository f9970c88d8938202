-- SPDX-License-Identifier: MIT
--
-- format.lua: numbers as people read them, and tables of text.

local utf8 = require "moonbow.io.utf8"

local M = {}

local REPLACEMENT = utf8.char(0xFFFD)

---Text of any origin as a terminal may show it: U+FFFD for what is not UTF-8 and for control characters, which could
---move the cursor or worse. Line breaks and tabs stay.
---@param s string
---@return string
function M.printable(s)
  s = utf8.mend(s):gsub("\r\n", "\n")
  return (s:gsub("[%z\1-\8\11-\31\127]", REPLACEMENT):gsub("\194[\128-\159]", REPLACEMENT))
end

---1234567 -> "1.23M"
---@param n number
---@return string
function M.count(n)
  for _, unit in ipairs { { 1e12, "T" }, { 1e9, "G" }, { 1e6, "M" }, { 1e3, "k" } } do
    if math.abs(n) >= unit[1] then return ("%.3g%s"):format(n / unit[1], unit[2]) end
  end
  return ("%.4g"):format(n)
end

---Bytes in binary units: "2.31 GiB".
---@param n number
---@return string
function M.bytes(n)
  local units, k = { "B", "KiB", "MiB", "GiB", "TiB" }, 1
  while n >= 1024 and k < #units do n, k = n / 1024, k + 1 end
  return (k == 1 and "%d %s" or "%.2f %s"):format(n, units[k])
end

---Seconds as "1h02m", "3m07s" or "12s".
---@param seconds number
---@return string
function M.duration(seconds)
  if seconds ~= seconds or seconds == math.huge then return "?" end
  local s = math.floor(seconds + 0.5)
  if s >= 3600 then return ("%dh%02dm"):format(s / 3600, s % 3600 / 60) end
  if s >= 60 then return ("%dm%02ds"):format(s / 60, s % 60) end
  return ("%ds"):format(s)
end

---@param shape integer[]
---@return string
function M.shape(shape)
  return "(" .. table.concat(shape, ", ") .. ")"
end

---Columns that UTF-8 text takes: bytes but for continuation bytes.
---@param s string
---@return integer
function M.width(s)
  return #s - select(2, s:gsub("[\128-\191]", ""))
end
local width_of = M.width

---Text cut to a number of columns, the last being "…" where it is cut.
---@param text string
---@param width integer
---@return string
function M.cut(text, width)
  if M.width(text) <= width then return text end
  local kept, n, i = {}, 0, 1
  while n < math.max(0, width - 1) do
    local _, next_i = utf8.next_code(utf8.of_string, text, i - 1, #text)
    next_i = next_i or i
    kept[#kept + 1] = text:sub(i, next_i)
    i, n = next_i + 1, n + 1
  end
  return table.concat(kept) .. (width > 0 and "…" or "")
end

---Columns of text, the first row the headings; columns named in `right` are right-aligned.
---@param rows string[][]
---@param right? table<integer, boolean>
---@return string
function M.columns(rows, right)
  local widths = {}
  for _, row in ipairs(rows) do
    for c, cell in ipairs(row) do widths[c] = math.max(widths[c] or 0, width_of(cell)) end
  end
  local lines = {}
  for _, row in ipairs(rows) do
    local cells = {}
    for c, cell in ipairs(row) do
      local pad = (" "):rep(widths[c] - width_of(cell))
      cells[c] = right and right[c] and pad .. cell or cell .. pad
    end
    lines[#lines + 1] = (table.concat(cells, "  "):gsub("%s+$", ""))
  end
  return table.concat(lines, "\n")
end

local blocks = { "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" }

---A row of blocks, the smallest value lowest; non-finite values are gaps. With bounds, values are held within them.
---@param values number[]
---@param low? number of the lowest block
---@param high? number of the highest
---@return string
function M.sparkline(values, low, high)
  if not low then
    low, high = math.huge, -math.huge
    for _, v in ipairs(values) do
      if v == v and math.abs(v) < math.huge then low, high = math.min(low, v), math.max(high, v) end
    end
  end
  local cells = {}
  for i, v in ipairs(values) do
    if v ~= v or math.abs(v) == math.huge then
      cells[i] = " "
    else
      local level = high > low and (v - low) / (high - low) or 0
      cells[i] = blocks[math.max(1, math.min(8, 1 + math.floor(level * 8)))]
    end
  end
  return table.concat(cells)
end

return M
