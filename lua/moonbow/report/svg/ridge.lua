-- SPDX-License-Identifier: MIT
--
-- ridge.lua: a ridgeline: curves along one x axis, each on a foot of its own, the last in front.
--
--   ridges = { { name = "step 1", points = { { 0.01, 0.2 }, { 0.1, 0.9 } }, marks = { { x = 0.3, name = "τ" } } } }
-- Heights are of any unit; the highest of all curves takes `overlap` times the distance of two feet. A mark is a short line
-- upwards from the foot.

local axes = require "moonbow.report.svg.axes"
local base = require "moonbow.report.svg.base"
local options = require "moonbow.options"

local M = {}

local spec = {
  name = { type = "string", required = true }, points = { type = "table", required = true },
  marks = { type = "table", default = {} },
}

local OVERLAP = 2.1

---Checks the ridges of a chart; returns all x values and the highest point.
function M.prepare(who, ridges)
  local xs, highest = {}, 0
  for i, given in ipairs(ridges) do
    local ridge = options.check(("%s: ridge %d"):format(who, i), given, spec)
    for _, point in ipairs(ridge.points) do
      xs[#xs + 1], highest = point[1], math.max(highest, point[2])
    end
    for _, mark in ipairs(ridge.marks) do xs[#xs + 1] = mark.x end
    ridges[i] = ridge
  end
  return xs, highest > 0 and highest or 1
end

local function draw_ridge(out, c, ridge, foot, scale, t)
  local line = {}
  for _, point in ipairs(ridge.points) do
    if axes.inside(c.x, point[1]) then
      line[#line + 1] = ("%.1f %.1f"):format(c.place_x(point[1]), foot - point[2] * scale)
    end
  end
  if #line > 1 then
    local first, last = line[1]:match "^%S+", line[#line]:match "^%S+"
    base.element(out, '<path class="ridge" d="M%s %.1fL%sL%s %.1fz" fill="%s" fill-opacity="0.85" stroke="#fff">', first, foot,
      table.concat(line, "L"), last, foot, base.map(t))
    base.element(out, "<title>%s</title></path>", base.escape(ridge.name))
  end
  for k, mark in ipairs(ridge.marks) do
    if axes.inside(c.x, mark.x) then
      local x = c.place_x(mark.x)
      base.element(out, '<path d="M%.1f %.1fv%.1f" %s stroke-width="2"><title>%s</title></path>', x, foot + 1, -9,
        base.paint("line", k), base.escape(("%s, %s: %.4g"):format(ridge.name, mark.name or "mark", mark.x)))
    end
  end
end

---The ridges from the top to the bottom, their names at the left.
function M.draw(out, c)
  local slot = (c.bottom - c.top) / (#c.ridges + OVERLAP - 1)
  local scale = OVERLAP * slot / c.highest * 0.96
  local every = math.ceil((c.size + 1) / slot)
  for i, ridge in ipairs(c.ridges) do
    local foot = c.top + (i + OVERLAP - 1) * slot - 1
    draw_ridge(out, c, ridge, foot, scale, #c.ridges > 1 and 0.2 + 0.65 * (i - 1) / (#c.ridges - 1) or 0.4)
    if (#c.ridges - i) % every == 0 then
      base.label(out, c.left - 6, foot, base.shorten(ridge.name, c.left - 8, c.size), 'text-anchor="end"')
    end
  end
end

return M
