-- SPDX-License-Identifier: MIT
--
-- bars.lua: values as bars, one of each series in every group.

local axes = require "moonbow.report.svg.axes"
local base = require "moonbow.report.svg.base"

local M = {}

local SMALL = 11 -- size of the numbers above bars

function M.draw(out, c)
  local slot = (c.right - c.left) / #c.groups
  local width = slot * 0.8 / #c.series
  local from_value = (c.y.log or c.y.min > 0) and c.y.min or c.y.max < 0 and c.y.max or 0
  local foot = c.place_y(from_value)
  for g, name in ipairs(c.groups) do
    local from = c.left + (g - 1) * slot
    base.label(out, from + slot / 2, c.bottom + 18, name, 'text-anchor="middle"')
    for i, series in ipairs(c.series) do
      local value = series.values[g]
      if axes.usable(c.y, value) then
        local y = c.place_y(math.max(c.y.min, math.min(c.y.max, value)))
        base.element(out, '<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" %s><title>%s</title></rect>',
          from + slot * 0.1 + (i - 1) * width, math.min(y, foot), width * 0.94, math.abs(foot - y),
          base.paint("fill", series.colour), base.escape(series.notes[g] or ("%s, %s: %.4g"):format(name, series.name, value)))
        local text = axes.tick_text(tonumber(("%.3g"):format(value)), c.y.unit)
        if width >= base.width(text, SMALL) then
          base.label(out, from + slot * 0.1 + (i - 0.53) * width, y - 4, text,
            ('text-anchor="middle" font-size="%d"'):format(SMALL))
        end
      end
    end
  end
end

return M
