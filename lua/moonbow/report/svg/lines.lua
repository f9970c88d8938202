-- SPDX-License-Identifier: MIT
--
-- lines.lua: series as lines with markers, bands between two values, and rules across a chart.

local axes = require "moonbow.report.svg.axes"
local base = require "moonbow.report.svg.base"

local M = {}

-- Markers by the number of their series, so that colour is not all that tells them apart.
local markers = {
  function(x, y) return ('<path d="M%.1f %.1fa4 4 0 1 0 8 0a4 4 0 1 0 -8 0z"'):format(x - 4, y) end,
  function(x, y) return ('<path d="M%.1f %.1fh7v7h-7z"'):format(x - 3.5, y - 3.5) end,
  function(x, y) return ('<path d="M%.1f %.1fl4.5 8h-9z"'):format(x, y - 5) end,
  function(x, y) return ('<path d="M%.1f %.1fl5 5l-5 5l-5 -5z"'):format(x, y - 5) end,
  function(x, y) return ('<path d="M%.1f %.1fl4.5 -8h-9z"'):format(x, y + 5) end,
}

---@param i integer number of the series, or of its colour
function M.draw_marker(out, i, x, y, note)
  local marker = markers[(i - 1) % #markers + 1](x, y)
  base.element(out, '%s %s><title>%s</title></path>', marker, base.paint("fill", i), base.escape(note))
end

-- Dashes by the number of a line's style; the first is none.
local dashes = { "", ' stroke-dasharray="6 3"', ' stroke-dasharray="2 3"', ' stroke-dasharray="8 3 2 3"' }

---The attributes of a series' line.
function M.stroke(series)
  return ('fill="none" %s stroke-width="%.1f"%s%s'):format(base.paint("line", series.colour), series.faint and 0.8 or 1.8,
    series.faint and ' stroke-opacity="0.35"' or "", dashes[(series.dash - 1) % #dashes + 1])
end

---The line of a series, with gaps where it has no place, and its markers.
function M.draw_points(out, c, series)
  local run, shapes = {}, {}
  local function end_run()
    if series.line and #run > 1 then
      base.element(out, '<polyline points="%s" %s/>', table.concat(run, " "), M.stroke(series))
    end
    run = {}
  end
  for _, point in ipairs(series.points) do
    if axes.inside(c.x, point[1]) and axes.inside(c.y, point[2]) then
      local x, y = c.place_x(point[1]), c.place_y(point[2])
      run[#run + 1] = ("%.1f,%.1f"):format(x, y)
      if series.marker then
        shapes[#shapes + 1] = { x, y, point[3] or ("%s: %.4g, %.4g"):format(series.name, point[1], point[2]) }
      end
    else
      end_run()
    end
  end
  end_run()
  for _, shape in ipairs(shapes) do M.draw_marker(out, series.colour, shape[1], shape[2], shape[3]) end
end

-- A value held between the bounds of an axis.
local function held(axis, value)
  return math.max(axis.min, math.min(axis.max, value))
end

---The area between the lows and the highs of a series' band, { x, low, high } each; it ends at the chart's bounds.
function M.draw_band(out, c, series)
  local lows, highs = {}, {}
  local function end_run()
    if #highs > 1 then
      local path = { "M" .. table.concat(highs, "L") }
      for i = #lows, 1, -1 do path[#path + 1] = "L" .. lows[i] end
      base.element(out, '<path d="%sz" %s fill-opacity="0.22" stroke="none"/>', table.concat(path),
        base.paint("band", series.colour))
    end
    lows, highs = {}, {}
  end
  for _, point in ipairs(series.band or {}) do
    local x, low, high = point[1], point[2], point[3]
    if axes.inside(c.x, x) and axes.usable(c.y, low) and axes.usable(c.y, high) then
      lows[#lows + 1] = ("%.1f %.1f"):format(c.place_x(x), c.place_y(held(c.y, low)))
      highs[#highs + 1] = ("%.1f %.1f"):format(c.place_x(x), c.place_y(held(c.y, high)))
    else
      end_run()
    end
  end
  end_run()
end

---Values marked by a line across.
function M.draw_rules(out, c)
  for _, rule in ipairs(c.rules) do
    if axes.inside(c.y, rule.y) then
      local y = c.place_y(rule.y)
      base.element(out, '<line class="rule" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#555" stroke-dasharray="5 4"/>',
        c.left, y, c.right, y)
      base.label(out, c.right - 4, y - 5, rule.name or "", 'text-anchor="end" class="rule-name" fill="#555"')
    end
  end
end

return M
