-- SPDX-License-Identifier: MIT
--
-- axes.lua: the axes of a chart: bounds from values, ticks, numbers as people read them, and how they are drawn.

local base = require "moonbow.report.svg.base"
local format = require "moonbow.report.format"
local options = require "moonbow.options"

local M = {}

M.spec = {
  label = { type = "string", default = "" }, log = { type = "boolean", default = false },
  min = { type = "number" }, max = { type = "number" }, tight = { type = "boolean", default = false },
  unit = { choices = { "number", "count", "percent" }, default = "number" },
}

local LARGEST = 1e300 -- beyond it, or below its inverse on a logarithmic axis, bounds cannot be rounded outwards

---Whether an axis has a place for a value.
function M.usable(axis, value)
  return type(value) == "number" and value == value and math.abs(value) < LARGEST and (not axis.log or value > 1 / LARGEST)
end

---Whether that place is between the axis' bounds.
function M.inside(axis, value)
  return M.usable(axis, value) and value >= axis.min and value <= axis.max
end

-- 1, 2 or 5 times a power of ten: the step of about `count` ticks over `span`.
local function nice_step(span, count)
  local power = 10 ^ math.floor(math.log10(span / count))
  for _, factor in ipairs { 1, 2, 5 } do
    if factor * power * count >= span * 0.999 then return factor * power end
  end
  return 10 * power
end

local function linear_ticks(low, high, count, step)
  local ticks = {}
  step = step or nice_step(high - low, count)
  if step < 1e-12 * math.max(math.abs(low), math.abs(high)) then return { low, high } end
  for k = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6) do
    ticks[#ticks + 1] = k == 0 and 0 or k * step -- not -0
  end
  return ticks
end

-- Powers of ten, every so many decades that about `count` are left; 1, 2 and 5 of them where there are few.
local function log_ticks(low, high, count)
  local first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
  local ticks, every = {}, math.ceil((last - first) / math.max(count, 2))
  local factors = { 1 }
  if (math.log10(high) - math.log10(low)) * 3 <= count + 1 then factors = { 1, 2, 5 } end
  for k = first, last, math.max(every, 1) do
    for _, factor in ipairs(factors) do
      local value = factor * 10 ^ k
      if value >= low * 0.999 and value <= high * 1.001 then ticks[#ticks + 1] = value end
    end
  end
  if #ticks < 2 then return linear_ticks(low, high, count) end
  return ticks
end

-- The nearest of 1, 2, 5 times a power of ten that lies outwards; whole powers where there are many decades of values.
local function round_outwards(low, high)
  local down, up = 10 ^ math.floor(math.log10(low) + 1e-9), 10 ^ math.ceil(math.log10(high) - 1e-9)
  if up / down > 1e5 then return down, up end
  for _, factor in ipairs { 5, 2 } do
    if down * factor <= low * 1.000001 then down = down * factor break end
  end
  for _, factor in ipairs { 5, 2 } do
    if up / factor >= high * 0.999999 then up = up / factor break end
  end
  if down >= up then return down / 2, up * 2 end
  return down, up
end

-- Bounds far enough apart, by their size, for ticks between them to be different numbers.
local function apart(low, high)
  local size = math.max(math.abs(low), math.abs(high))
  if high - low > 1e-9 * size then return low, high end
  local reach = size > 0 and 0.1 * size or 0.5
  return low - reach, high + reach
end

---Completes an axis by the values that are drawn along it, and adds where(value) -> 0..1 and ticks.
---@param axis table as M.spec has it
---@param values number[]
---@param bars boolean whether bars stand on it
---@param count? integer of ticks, about
function M.complete(axis, values, bars, count)
  count = count or 6
  local low, high, rounded_by = math.huge, -math.huge, nil
  for _, value in ipairs(values) do
    if M.usable(axis, value) then low, high = math.min(low, value), math.max(high, value) end
  end
  if low > high then low, high = 1, 10 end
  if axis.log then
    if low == high then low, high = low / 2, high * 2 end
    if bars then low = low / 1.5 end -- the lowest bar is to be seen too
    if not axis.tight then low, high = round_outwards(low, high) end
  else
    if bars then low, high = math.min(low, 0), math.max(high, 0) end
    low, high = apart(low, high)
    local step = nice_step(high - low, count)
    if not axis.tight then
      if not axis.min and not axis.max then rounded_by = step end
      low, high = math.floor(low / step + 1e-6) * step, math.ceil(high / step - 1e-6) * step
    end
  end
  axis.min, axis.max = M.usable(axis, axis.min) and axis.min or low, M.usable(axis, axis.max) and axis.max or high
  if axis.min >= axis.max then options.fail("svg: an axis from %g to %g has no length", axis.min, axis.max) end
  axis.ticks = axis.log and log_ticks(axis.min, axis.max, count + 2) or linear_ticks(axis.min, axis.max, count, rounded_by)
  local function on(value) return axis.log and math.log10(value) or value end
  function axis.where(value)
    return (on(value) - on(axis.min)) / (on(axis.max) - on(axis.min))
  end
end

---A number beside a tick: short, and with a power of ten where it is far from 1.
---@param value number
---@param unit? "number"|"count"|"percent"
---@return string
function M.tick_text(value, unit)
  local size = math.abs(value)
  if unit == "percent" then return ("%.4g %%"):format(value * 100) end
  if unit == "count" and size >= 1e4 then return format.count(value) end
  if size ~= 0 and (size >= 1e5 or size < 1e-3) then
    return (("%.2e"):format(value):gsub("%.?0*e", "e"):gsub("e([+-])0*", "e%1"):gsub("e%+", "e"))
  end
  return ("%.6g"):format(value)
end

---The width of the widest number of an axis.
function M.widest(axis, size)
  local widest = 0
  for _, value in ipairs(axis.ticks) do widest = math.max(widest, base.width(M.tick_text(value, axis.unit), size)) end
  return widest
end

---The y axis: lines across, numbers at the left, what it is of.
function M.draw_y(out, c)
  for _, value in ipairs(c.y.ticks) do
    local y = c.place_y(value)
    base.element(out, '<line class="grid" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#ddd"/>', c.left, y, c.right, y)
    base.label(out, c.left - 6, y + c.size / 3, M.tick_text(value, c.y.unit), 'text-anchor="end"')
  end
  if c.y.label == "" then return end
  local middle = (c.top + c.bottom) / 2
  base.label(out, 0, 0, c.y.label, ('text-anchor="middle" transform="translate(%.1f %.1f) rotate(-90)"'):format(
    c.size + 4, middle))
end

---The x axis: lines upwards and numbers below. Those that would stand in their neighbour's place are left out.
function M.draw_x(out, c)
  local free_from = -math.huge
  for _, value in ipairs(c.x.ticks) do
    local x, text = c.place_x(value), M.tick_text(value, c.x.unit)
    local half = base.width(text, c.size) / 2
    base.element(out, '<line class="grid" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#ddd"/>', x, c.top, x, c.bottom)
    if x - half >= free_from then
      base.label(out, x, c.bottom + c.size + 6, text, 'text-anchor="middle"')
      free_from = x + half + 6
    end
  end
end

---What the x axis is of, and the frame.
function M.draw_frame(out, c)
  base.element(out, '<rect class="frame" x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="none" stroke="#444"/>',
    c.left, c.top, c.right - c.left, c.bottom - c.top)
  if c.x.label == "" then return end
  base.label(out, (c.left + c.right) / 2, c.bottom + 2 * c.size + 12, c.x.label, 'text-anchor="middle"')
end

return M
