-- SPDX-License-Identifier: MIT
--
-- plot.lua: plots of characters for a terminal: lines of dots (Braille, 2 x 4 a character), bars on a logarithmic axis,
-- strips of heat. Each returns text; none is wider than it is told.
--
--   plot.lines { { x = {...}, y = {...} } }, bars { values, ... }, heat { rows, ... }

local format = require "moonbow.report.format"
local utf8 = require "moonbow.io.utf8"

local M = {}

local blocks = { "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" }

local function is_finite(x) return x == x and math.abs(x) < math.huge end

---A number of an axis: three digits.
---@param x number
---@return string
function M.label(x)
  local size = math.abs(x)
  if size ~= 0 and (size < 1e-3 or size >= 1e6) then
    return (("%.1e"):format(x):gsub("%.0e", "e"):gsub("e([+-])0*", "e%1"):gsub("e%+", "e"))
  end
  return (("%.3g"):format(x):gsub("^(%d%.%d+)e%+05$", function() return ("%.0f"):format(x) end))
end

local function pad_left(text, width) return (" "):rep(width - format.width(text)) .. text end

M.cut = format.cut

-- ----- lines ------------------------------------------------------------------------------------------------

-- Bits of a Braille character's dots, by row from the top and column.
local dots = { [0] = { [0] = 0x01, 0x08 }, { [0] = 0x02, 0x10 }, { [0] = 0x04, 0x20 }, { [0] = 0x40, 0x80 } }

-- A canvas of columns x rows characters, its dots counted from the lower left.
local function canvas(columns, rows)
  local cells = {}
  return function(x, y)
    local row, column = math.floor((4 * rows - 1 - y) / 4), math.floor(x / 2)
    local bit_of = dots[(4 * rows - 1 - y) % 4][x % 2]
    local key = row * columns + column
    local before = cells[key] or 0
    if before % (2 * bit_of) < bit_of then cells[key] = before + bit_of end
  end, function(row)
    local line = {}
    for column = 0, columns - 1 do
      local bits = cells[row * columns + column]
      line[column + 1] = bits and utf8.char(0x2800 + bits) or " "
    end
    return table.concat(line)
  end
end

-- The mean of y in every column of dots that has a point, and nil elsewhere.
local function binned(x, y, from, to, columns)
  local sum, count = {}, {}
  for i = 1, #x do
    if is_finite(y[i]) then
      local c = to > from and math.floor((x[i] - from) / (to - from) * (columns - 1) + 0.5) or 0
      sum[c], count[c] = (sum[c] or 0) + y[i], (count[c] or 0) + 1
    end
  end
  for c, n in pairs(count) do sum[c] = sum[c] / n end
  return sum
end

local function bounds(list, low, high)
  for _, v in pairs(list) do
    if is_finite(v) then low, high = math.min(low, v), math.max(high, v) end
  end
  return low, high
end

---A curve through points, x ascending.
---@param x number[]
---@param y number[]
---@param o { width: integer, height?: integer, title?: string, x_label?: string }
---@return string
function M.lines(x, y, o)
  local height, from, to = o.height or 10, x[1], x[#x]
  local low, high = bounds(y, math.huge, -math.huge)
  if low > high then return (o.title and o.title .. "\n" or "") .. "nothing is finite" end
  local labels = { M.label(high), M.label((low + high) / 2), M.label(low) }
  local left = 0
  for _, text in ipairs(labels) do left = math.max(left, #text) end
  local columns = math.max(4, o.width - left - 2)
  local set, row_text = canvas(columns, height)
  local span = high > low and high - low or 1
  local last_x, last_y
  local values = binned(x, y, from, to, 2 * columns)
  for c = 0, 2 * columns - 1 do
    if values[c] then
      local at = math.floor((values[c] - low) / span * (4 * height - 1) + 0.5)
      -- From the last point: a line over the columns between.
      for k = (last_x or c - 1) + 1, c do
        local share = last_x and (k - last_x) / (c - last_x) or 1
        local goal = last_y and math.floor(last_y + share * (at - last_y) + 0.5) or at
        local start = last_y and math.floor(last_y + math.max(0, k - 1 - last_x) / (c - last_x) * (at - last_y) + 0.5) or goal
        for d = math.min(start, goal), math.max(start, goal) do set(k, d) end
      end
      last_x, last_y = c, at
    end
  end
  local lines = { o.title and M.cut(o.title, o.width) or nil }
  for row = 0, height - 1 do
    local label = row == 0 and labels[1] or row == math.floor(height / 2) and labels[2] or row == height - 1 and labels[3] or ""
    lines[#lines + 1] = (pad_left(label, left) .. (label ~= "" and " ┤" or " │") .. row_text(row)):gsub("%s+$", "")
  end
  local first, last = M.label(from), M.label(to)
  local name = o.x_label and o.x_label or ""
  local gap = columns - #first - #last
  local middle = gap > #name + 2 and (" "):rep(math.floor((gap - #name) / 2)) .. name or ""
  lines[#lines + 1] = (" "):rep(left + 2) .. first .. middle .. (" "):rep(math.max(1, gap - #middle)) .. last
  return table.concat(lines, "\n")
end

-- ----- bars -------------------------------------------------------------------------------------------------

-- Powers of ten, or of two within one, that label a logarithmic axis from low to high.
local function log_ticks(low, high)
  local ticks, from, to = {}, math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
  local every = math.max(1, math.ceil((to - from + 1) / 6))
  for e = from, to, every do ticks[#ticks + 1] = 10 ^ e end
  if #ticks >= 2 then return ticks end
  return { low, math.sqrt(low * high), high }
end

-- Values in at most n columns: the largest of those that share one; and how many columns a value takes.
local function columns_of(values, n)
  if #values <= n then return values, math.max(1, math.min(4, math.floor(n / #values))) end
  local result = {}
  for c = 1, n do
    local from, to = math.floor((c - 1) * #values / n) + 1, math.floor(c * #values / n)
    result[c] = bounds({ unpack(values, from, math.max(from, to)) }, math.huge, -math.huge) and values[from]
  end
  return result, 1
end

---Bars of positive values on a logarithmic axis, with horizontal marks such as a threshold.
---@param values number[] in the order of the columns; zeros and what is not finite have no bar
---@param o { width: integer, height?: integer, title?: string, x_label?: string, decades?: number,
---  marks?: { value: number, name: string }[] } decades: how far below the largest the axis goes at most
---@return string
function M.bars(values, o)
  local height = o.height or 12
  local positive = {}
  for _, v in ipairs(values) do
    if is_finite(v) and v > 0 then positive[#positive + 1] = v end
  end
  for _, mark in ipairs(o.marks or {}) do
    if is_finite(mark.value) and mark.value > 0 then positive[#positive + 1] = mark.value end
  end
  local title = o.title and M.cut(o.title, o.width) .. "\n" or ""
  if #positive == 0 then return title .. "nothing is above 0" end
  local low, high = bounds(positive, math.huge, 0)
  low = math.max(low, high / 10 ^ (o.decades or 6))
  if high / low < 1.5 then low = high / 10 end
  local bottom, top = math.log(low) - 0.02 * math.log(high / low), math.log(high)
  local function level(v) return (math.log(v) - bottom) / (top - bottom) * height end -- 0 at the foot, height at the top
  local labels, left, right = {}, 0, 0
  for _, tick in ipairs(log_ticks(low, high)) do
    local row = height - math.max(1, math.min(height, math.ceil(level(tick))))
    labels[row] = labels[row] or M.label(tick)
    left = math.max(left, #labels[row])
  end
  local marks = {}
  for _, mark in ipairs(o.marks or {}) do
    if is_finite(mark.value) and mark.value > 0 then
      local row = height - math.max(1, math.min(height, math.ceil(level(math.max(mark.value, low)))))
      marks[row] = (marks[row] and marks[row] .. ", " or "") .. ("%s %s"):format(mark.name, M.label(mark.value))
      right = math.max(right, format.width(marks[row]) + 1)
    end
  end
  local columns, each = columns_of(values, math.max(4, o.width - left - 2 - right))
  local lines = {}
  for row = 0, height - 1 do
    local cells, floor = {}, height - 1 - row
    for c, v in ipairs(columns) do
      local part = is_finite(v) and v > 0 and level(math.max(v, low)) - floor or 0
      local cell = part <= 0 and (marks[row] and "┄" or " ") or blocks[math.max(1, math.min(8, math.ceil(part * 8)))]
      cells[c] = cell:rep(each)
    end
    local line = pad_left(labels[row] or "", left) .. (labels[row] and " ┤" or " │") .. table.concat(cells)
    lines[#lines + 1] = marks[row] and line .. " " .. marks[row] or line:gsub("%s+$", "")
  end
  local last = tostring(#values)
  local room = #columns * each
  local name = o.x_label or ""
  local gap = room - 1 - #last
  local middle = gap > #name + 2 and (" "):rep(math.floor((gap - #name) / 2)) .. name or ""
  lines[#lines + 1] = (" "):rep(left + 2) .. "1" .. (gap > 0 and middle .. (" "):rep(gap - #middle) .. last or "")
  return title .. table.concat(lines, "\n")
end

-- ----- heat -------------------------------------------------------------------------------------------------

local shades = { "·", "░", "▒", "▓", "█" }
-- From dark to bright, of the 256 colours that terminals have (the order is viridis').
local colours = { 54, 55, 61, 25, 31, 37, 36, 35, 71, 77, 113, 149, 185, 227 }

---Rows of cells whose colour, or shade, is the logarithm of a value.
---@param rows { name: string, values: table<integer, number> }[] values by column, from 1; nil where there is none
---@param o { width: integer, columns: integer, title?: string, from?: string, to?: string, colours?: boolean }
---@return string
function M.heat(rows, o)
  local low, high, left = math.huge, 0, 0
  for _, row in ipairs(rows) do
    left = math.max(left, format.width(row.name))
    for _, v in pairs(row.values) do
      if is_finite(v) and v > 0 then low, high = math.min(low, v), math.max(high, v) end
    end
  end
  left = math.min(left, math.max(8, math.floor(o.width / 2)))
  local span = high > low and math.log(high / low) or 1
  local lines = { o.title and M.cut(o.title, o.width) or nil }
  for _, row in ipairs(rows) do
    local cells = {}
    for c = 1, o.columns do
      local v = row.values[c]
      if not v or not is_finite(v) or v <= 0 then
        cells[c] = v and not is_finite(v) and "!" or " "
      else
        local share = math.log(v / low) / span
        local k = math.min(#shades, 1 + math.floor(share * #shades))
        local colour = colours[math.min(#colours, 1 + math.floor(share * #colours))]
        cells[c] = o.colours and ("\27[38;5;%dm█"):format(colour) or shades[k]
      end
    end
    local name = M.cut(row.name, left)
    lines[#lines + 1] = (name .. (" "):rep(left - format.width(name)) .. " " .. table.concat(cells)
      .. (o.colours and "\27[0m" or "")):gsub("%s+$", "")
  end
  local from, to = o.from or "", o.to or ""
  lines[#lines + 1] = (" "):rep(left + 1) .. from .. (" "):rep(math.max(1, o.columns - #from - #to)) .. to
  if high > 0 then
    local scale = {}
    for k = 1, o.colours and #colours or #shades do
      scale[k] = o.colours and ("\27[38;5;%dm█"):format(colours[k]) or shades[k]
    end
    lines[#lines + 1] = ("%s%s %s%s %s (log)"):format((" "):rep(left + 1), M.label(low), table.concat(scale),
      o.colours and "\27[0m" or "", M.label(high))
  end
  return table.concat(lines, "\n")
end

return M
