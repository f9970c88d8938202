-- SPDX-License-Identifier: MIT
--
-- heat.lua: a strip of rows whose colours are values along x, and the bar that says which colour is which value.
--
--   heat = { rows = { "h.0", "h.1" }, edges = { 1, 11, 21 }, values = { { 0.3, 0.2 }, { NAN, 0.5 } },
--            label = "σ₁", log = true, min = 0, max = 1, unit = "percent", missing = "not clipped" }
-- Column k lies between edges[k] and edges[k + 1]; what has no value stays empty. A column is at least a pixel wide only
-- if the caller makes them few. Cells of a colour are one path, each row's neighbours one stroke: a page stays small.

local axes = require "moonbow.report.svg.axes"
local base = require "moonbow.report.svg.base"
local options = require "moonbow.options"

local M = {}

M.spec = {
  rows = { type = "table", required = true }, edges = { type = "table", required = true },
  values = { type = "table", required = true }, label = { type = "string", default = "" },
  log = { type = "boolean", default = false }, min = { type = "number" }, max = { type = "number" },
  unit = axes.spec.unit, height = { type = "number", default = 13, min = 2 },
}

local LEVELS = 48 -- colours
local BAR = 14 -- width of the bar of colours
local SMALL = 10.5 -- size of the rows' names

---Checks a heat map and completes its scale of values; says how much room its names and its bar of colours take.
---@return table heat, number left, number right, number height
function M.prepare(who, given)
  local h = options.check(who, given, M.spec)
  local all, widest = {}, 0
  for r, name in ipairs(h.rows) do
    widest = math.max(widest, base.width(name, SMALL))
    for _, value in ipairs(h.values[r] or {}) do all[#all + 1] = value end
  end
  h.scale = { log = h.log, min = h.min, max = h.max, unit = h.unit, tight = true, label = h.label }
  axes.complete(h.scale, all, false, 4)
  return h, widest + 8, 3 * base.size + BAR + 12 + axes.widest(h.scale, SMALL), #h.rows * h.height
end

local function tenth(x) return math.floor(x * 10 + 0.5) / 10 end

-- Strokes of each colour: level -> texts "Mx yhlength", in units of columns and rows.
local function strokes_of(h, place_x)
  local levels = {}
  for r = 1, #h.rows do
    local values, from, last = h.values[r] or {}, nil, nil
    for k = 1, #h.edges do -- one beyond the last column, which ends the row
      local value, level = values[k], nil
      if k < #h.edges and axes.usable(h.scale, value) then
        level = math.floor(math.max(0, math.min(1, h.scale.where(value))) * (LEVELS - 1) + 0.5)
      end
      if level ~= last then
        if last then
          levels[last] = levels[last] or {}
          local a, b = tenth(place_x(h.edges[from])), tenth(place_x(h.edges[k])) -- so that neighbours meet
          table.insert(levels[last], ("M%.5g %gh%.5g"):format(a, (r - 0.5) * h.height, b - a))
        end
        from, last = k, level
      end
    end
  end
  return levels
end

local function draw_bar(out, c, h)
  local x, top, bottom = c.right + 14, c.top, c.bottom
  if bottom - top < 90 then bottom = math.min(top + 90, c.height - 8) end
  local step = (bottom - top) / LEVELS
  for level = 0, LEVELS - 1 do
    base.element(out, '<rect x="%.1f" y="%.2f" width="%d" height="%.2f" fill="%s"/>', x, bottom - (level + 1) * step, BAR,
      step + 0.3, base.map(level / (LEVELS - 1)))
  end
  base.element(out, '<rect class="frame" x="%.1f" y="%.1f" width="%d" height="%.1f" fill="none" stroke="#444"/>', x, top, BAR,
    bottom - top)
  for _, value in ipairs(h.scale.ticks) do
    local y = bottom - (bottom - top) * h.scale.where(value)
    base.label(out, x + BAR + 5, y + 3.5, axes.tick_text(value, h.unit), ('font-size="%g"'):format(SMALL))
  end
  base.label(out, 0, 0, h.label, ('text-anchor="middle" transform="translate(%.1f %.1f) rotate(-90)"'):format(
    c.width - 5, (top + bottom) / 2))
end

---The map with names at the left and its bar of colours at the right.
function M.draw(out, c)
  local h = c.heat
  local every = math.ceil((SMALL + 1) / h.height) -- names that have room
  for r, name in ipairs(h.rows) do
    if (r - 1) % every == 0 then
      base.label(out, c.left - 6, c.top + (r - 0.5) * h.height + SMALL / 3, name,
        ('text-anchor="end" font-size="%g"'):format(SMALL))
    end
  end
  local levels = strokes_of(h, function(x) return c.place_x(math.max(c.x.min, math.min(c.x.max, x))) end)
  for level = 0, LEVELS - 1 do
    if levels[level] then
      base.element(out, '<path class="cells" transform="translate(0 %.1f)" d="%s" stroke="%s" stroke-width="%g" fill="none"/>',
        c.top, table.concat(levels[level]), base.map(level / (LEVELS - 1)), h.height)
    end
  end
  draw_bar(out, c, h)
end

return M
