-- SPDX-License-Identifier: MIT
--
-- svg.lua: charts as SVG text that needs nothing else: no scripts, no style sheets, no fonts but the viewer's.
--
--   local svg = require "moonbow.report.svg"
--   local text = svg.page {
--     { title = "loss", x = { label = "step" }, y = { label = "loss", log = true },
--       series = { { name = "sgd", points = { { 1, 3.2 }, { 2, 2.9 } } } } },
--     { title = "time", y = { label = "seconds" }, groups = { "100 x 100", "768 x 768" },
--       series = { { name = "ours", values = { 0.1, 2 } }, { name = "theirs", values = { 0.4, 9 } } } },
--   }
--
-- A chart with `groups` has bars, one of each series in every group; with `heat`, a strip of colours (heat.lua); with
-- `ridges`, curves one below the other (ridge.lua); with `panels`, small charts side by side. Else its series are lines.
--   title, width (720), height (400), size (12) of its letters
--   x, y      { label, log = false, min, max, tight = false, unit = "number"|"count"|"percent" }   bounds, where not given,
--             are the values' own, rounded outwards unless tight
--   groups    names of the groups of bars
--   series    { name, points = { { x, y, note }, ... } } of lines, or { name, values = { ... }, notes = { ... } } of bars,
--             one for each group; note: text shown when pointed at. Lines know also
--             line = true, marker = true, faint = false, dash = 1, colour = its number, legend = true, and
--             band = { { x, low, high }, ... }, an area behind all lines
--   rules     { { y = 1, name = "tau" }, ... }: lines across
--   legend    "right", "top" (below the title, in as many rows as needed) or "none"
--   panels    charts, `columns` (3) side by side, each of `panel_height` (170); their legend is that of the first
-- A value that is missing, NaN, infinite, beyond a bound that was given, or not positive on a logarithmic axis, is a
-- gap; a bar that goes beyond a bound ends there.

local axes = require "moonbow.report.svg.axes"
local bars = require "moonbow.report.svg.bars"
local base = require "moonbow.report.svg.base"
local heat = require "moonbow.report.svg.heat"
local lines = require "moonbow.report.svg.lines"
local options = require "moonbow.options"
local ridge = require "moonbow.report.svg.ridge"

local M = { escape = base.escape }

local NAN = 0 / 0
local GAP = 16
local SWATCH = 22 -- width of a series' sign in a legend, with what parts it from the name

local chart_spec = {
  title = { type = "string", default = "" }, width = { type = "number", default = 720, min = 120 },
  height = { type = "number", min = 80 }, size = { type = "number", default = base.size, min = 6 },
  x = { type = "table", default = {} }, y = { type = "table", default = {} }, groups = { type = "table" },
  series = { type = "table" }, rules = { type = "table", default = {} }, heat = { type = "table" },
  ridges = { type = "table" }, panels = { type = "table" }, columns = { type = "integer", default = 3, min = 1 },
  panel_height = { type = "number", default = 170, min = 80 },
  legend = { choices = { "right", "top", "none" }, default = "right" },
}
local series_spec = {
  name = { type = "string", required = true }, points = { type = "table" }, values = { type = "table" },
  notes = { type = "table", default = {} }, line = { type = "boolean", default = true },
  marker = { type = "boolean", default = true }, faint = { type = "boolean", default = false },
  dash = { type = "integer", default = 1, min = 1 }, colour = { type = "integer", min = 1 },
  legend = { type = "boolean", default = true }, band = { type = "table" },
}

-- ----- values ---------------------------------------------------------------------------------------------

-- Checks the series of a chart; returns what is drawn along x and y.
local function add_series(who, c)
  local xs, ys = {}, {}
  for i, row in ipairs(c.series) do
    local series = options.check(("%s '%s': series %d"):format(who, c.title, i), row, series_spec)
    local needed = c.groups and "values" or "points"
    if not series[needed] then
      options.fail("%s '%s': series '%s' has no %s", who, c.title, series.name, needed)
    end
    for _, point in ipairs(c.groups and {} or series.points) do
      xs[#xs + 1], ys[#ys + 1] = point[1] or NAN, point[2] or NAN
    end
    for _, point in ipairs(series.band or {}) do
      xs[#xs + 1], ys[#ys + 1] = point[1], point[2]
      ys[#ys + 1] = point[3]
    end
    for g = 1, c.groups and #c.groups or 0 do ys[#ys + 1] = series.values[g] or NAN end
    series.colour = series.colour or i
    c.series[i] = series
  end
  for _, rule in ipairs(c.rules) do ys[#ys + 1] = rule.y end
  return xs, ys
end

-- ----- the legend -----------------------------------------------------------------------------------------

local function named(c)
  local list = {}
  for _, series in ipairs(c.series or {}) do
    if series.legend then list[#list + 1] = series end
  end
  return list
end

-- Where each entry of a legend on top goes: { series, name, x, row }, and how many rows there are.
local function flow(c, entries, width)
  local placed, x, row = {}, 0, 1
  for i, series in ipairs(entries) do
    local name = base.shorten(series.name, width - SWATCH - 4, c.size)
    local needed = SWATCH + base.width(name, c.size) + GAP
    if x > 0 and x + needed > width + GAP then x, row = 0, row + 1 end
    placed[i] = { series = series, name = name, x = x, row = row }
    x = x + needed
  end
  return placed, #entries > 0 and row or 0
end

local function draw_entry(out, c, series, x, y, name)
  if c.groups then
    base.element(out, '<rect x="%.1f" y="%.1f" width="12" height="12" %s/>', x, y - 6, base.paint("fill", series.colour))
  else
    if series.band then
      base.element(out, '<rect x="%.1f" y="%.1f" width="16" height="10" %s fill-opacity="0.22"/>', x - 2, y - 5,
        base.paint("band", series.colour))
    end
    if series.line then base.element(out, '<path d="M%.1f %.1fh16" %s/>', x - 2, y, lines.stroke(series)) end
    if series.marker then lines.draw_marker(out, series.colour, x + 6, y, series.name) end
  end
  base.label(out, x + SWATCH, y + c.size / 3, name)
end

local function draw_legend(out, c)
  for i, series in ipairs(c.legend == "right" and not c.cells and named(c) or {}) do
    draw_entry(out, c, series, c.right + GAP, c.top + 8 + (i - 1) * 20, series.name)
  end
  for _, entry in ipairs(c.entries or {}) do
    draw_entry(out, c, entry.series, c.legend_left + entry.x, c.legend_top + (entry.row - 0.5) * (c.size + 7), entry.name)
  end
end

-- ----- charts ---------------------------------------------------------------------------------------------

local function title_room(c)
  return c.title ~= "" and math.floor(c.size * 2.9) or 12
end

-- Places of values, once the chart's sides are known.
local function add_places(c)
  function c.place_x(value) return c.left + (c.right - c.left) * c.x.where(value) end
  function c.place_y(value) return c.bottom - (c.bottom - c.top) * c.y.where(value) end
end

local function ticks_for(length, each) return math.max(2, math.min(6, math.floor(length / each))) end

-- Room at the left, at the right, the height of the inner chart if the kind says so, and what stands along x.
local function measure(who, c, foot)
  if c.heat then
    local h, left, right, height = heat.prepare(who, c.heat)
    c.heat, c.x.tight = h, true
    c.legend = "none"
    return left, right, height, { h.edges[1], h.edges[#h.edges] }
  end
  if c.ridges then
    local xs, highest = ridge.prepare(who, c.ridges)
    local widest = 0
    for _, one in ipairs(c.ridges) do widest = math.max(widest, base.width(one.name, c.size)) end
    c.highest = highest
    return math.min(widest, c.width * 0.3) + 10, GAP, nil, xs
  end
  local xs, ys = add_series(who, c)
  local length = c.height and c.height - title_room(c) - foot or 300
  axes.complete(c.y, ys, c.groups ~= nil, ticks_for(length, 2.8 * c.size))
  local longest = 0
  for _, series in ipairs(named(c)) do longest = math.max(longest, base.width(series.name, c.size)) end
  local left = axes.widest(c.y, c.size) + (c.y.label ~= "" and c.size + 8 or 0) + 12
  return left, c.legend == "right" and longest + SWATCH + GAP + 8 or GAP, nil, xs
end

-- The chart with its options checked, its axes complete, and place_x, place_y from values to where they are drawn.
local function prepare_one(who, c)
  c.x, c.y = options.check(who .. ": x", c.x, axes.spec), options.check(who .. ": y", c.y, axes.spec)
  if not c.heat and not c.ridges then
    if not c.series or #c.series == 0 then options.fail("%s '%s': there is no series", who, c.title) end
    c.height = c.height or 400
  end
  local foot = c.x.label ~= "" and 2 * c.size + 20 or c.size + 14
  local left, right, height, xs = measure(who, c, foot)
  c.left, c.right = left, c.width - right
  if c.legend == "top" then
    c.legend_left, c.legend_top = left, title_room(c) - 4
    c.entries, c.legend_rows = flow(c, named(c), c.width - left - GAP)
  end
  c.top = title_room(c) + (c.legend_rows or 0) * (c.size + 7) + (c.legend_rows and 2 or 0)
  c.height = height and math.max(c.top + height + foot, c.top + 100) or c.height or c.top + #c.ridges * 22 + 40 + foot
  c.bottom = height and c.top + height or c.height - foot
  if not c.groups then axes.complete(c.x, xs, false, ticks_for(c.right - c.left, 6 * c.size)) end
  add_places(c)
end

local function prepare_panels(c, prepare)
  local width = c.width / c.columns
  c.cells = {}
  for i, given in ipairs(c.panels) do
    local panel = {}
    for key, value in pairs(given) do panel[key] = value end
    panel.width, panel.size, panel.legend = width, panel.size or 10, "none"
    if not panel.heat then panel.height = c.panel_height end
    c.cells[i] = prepare(panel)
  end
  c.series, c.legend_left, c.legend_top = c.cells[1].series, 10, title_room(c) - 4
  c.entries, c.legend_rows = flow(c, named(c), c.width - 2 * GAP)
  c.top = title_room(c) + c.legend_rows * (c.size + 7)
  c.height = c.top + math.ceil(#c.panels / c.columns) * c.panel_height
  for i, cell in ipairs(c.cells) do
    cell.dx, cell.dy = (i - 1) % c.columns * width, c.top + math.floor((i - 1) / c.columns) * c.panel_height
  end
end

local function prepare(given)
  local who = "svg: chart"
  local c = options.check(who, given, chart_spec)
  if c.panels then
    if #c.panels == 0 then options.fail("%s '%s': there is no panel", who, c.title) end
    prepare_panels(c, prepare)
  else
    prepare_one(who, c)
  end
  return c
end

local function draw_title(out, c, left)
  local size = c.size > 11 and c.size + 3 or c.size + 0.5
  base.label(out, left, 2 * c.size, base.shorten(c.title, c.width - left, size * 1.06),
    ('font-size="%g" font-weight="bold"'):format(size))
end

local function draw(out, c)
  if c.cells then
    draw_title(out, c, 8)
    draw_legend(out, c)
    for _, cell in ipairs(c.cells) do
      base.element(out, '<g transform="translate(%.1f %.1f)" font-size="%g">', cell.dx, cell.dy, cell.size)
      draw(out, cell)
      base.element(out, "</g>")
    end
    return
  end
  draw_title(out, c, c.heat and 8 or c.left)
  if c.y.where then axes.draw_y(out, c) end
  if not c.groups then axes.draw_x(out, c) end
  if c.heat then heat.draw(out, c) elseif c.ridges then ridge.draw(out, c) elseif c.groups then bars.draw(out, c) end
  local is_lines = not (c.groups or c.heat or c.ridges)
  for _, series in ipairs(is_lines and c.series or {}) do lines.draw_band(out, c, series) end
  for _, faint in ipairs { true, false } do
    for _, series in ipairs(is_lines and c.series or {}) do
      if series.faint == faint then lines.draw_points(out, c, series) end
    end
  end
  if c.y.where then lines.draw_rules(out, c) end
  axes.draw_frame(out, c)
  draw_legend(out, c)
end

-- ----- pages ----------------------------------------------------------------------------------------------

-- Where the values of a chart's lines stand: what a page needs to show them when they are pointed at.
local function plots_of(c, dx, dy, list)
  for _, cell in ipairs(c.cells or {}) do plots_of(cell, dx + cell.dx, dy + cell.dy, list) end
  if c.cells or c.groups or c.heat or c.ridges then return list end
  local plot = { left = c.left + dx, right = c.right + dx, top = c.top + dy, bottom = c.bottom + dy, x = c.x.label,
    xmin = c.x.min, xmax = c.x.max, xlog = c.x.log, ymin = c.y.min, ymax = c.y.max, ylog = c.y.log, series = {} }
  for i, series in ipairs(c.series) do
    if not series.faint then
      plot.series[#plot.series + 1] = { name = series.name, colour = (series.colour - 1) % #base.colours + 1,
        points = c.series[i].points }
    end
  end
  list[#list + 1] = plot
  return list
end

---The SVG text of charts, one below the other.
---@param charts table[] see the head of this file
---@return string
function M.page(charts)
  if type(charts) ~= "table" or #charts == 0 then
    options.fail("svg: an array of charts was expected, not %s", options.describe(charts))
  end
  local body, width, height = {}, 0, 0
  for _, given in ipairs(charts) do
    local c = prepare(given)
    base.element(body, '<g transform="translate(0 %g)">', height)
    draw(body, c)
    base.element(body, "</g>")
    width, height = math.max(width, c.width), height + c.height
  end
  return ('<?xml version="1.0" encoding="UTF-8"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="%g" height="%g" '
    .. 'viewBox="0 0 %g %g" %s font-size="12">\n<rect class="paper" width="%g" height="%g" fill="#fff"/>\n%s\n</svg>\n'):format(
    width, height, width, height, base.font, width, height, table.concat(body, "\n"))
end

---A chart as an element of an HTML page, whose style sheet chooses its colours, and what stands where in it.
---@param chart table
---@param label string what it shows, for those who do not see it
---@return string svg
---@return table[] plots { left, right, top, bottom, xmin, xmax, xlog, ymin, ymax, ylog, series } of its lines
---@return number width
function M.inline(chart, label)
  local c = prepare(chart)
  local body = {}
  draw(body, c)
  local text = ('<svg class="chart" role="img" aria-label="%s" viewBox="0 0 %g %g" font-size="12">\n%s\n</svg>'):format(
    base.escape(label), c.width, c.height, table.concat(body, "\n"))
  return text, plots_of(c, 0, 0, {}), c.width
end

return M
