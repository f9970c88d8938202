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
-- A chart with `groups` has bars, one of each series in every group; else its series are lines with markers.
--   title, width (720), height (400)
--   x, y      { label, log = false, min, max }   bounds, where not given, are the values' own, rounded outwards
--   groups    names of the groups of bars
--   series    { name, points = { { x, y, note } }, line = true, marker = true }   note: shown on pointing at it
--             { name, values = { y }, notes = { text } }                          for bars
--   rules     { { y = 1, name = "copy" } }       horizontal lines to compare with
-- A value that is missing, NaN, infinite, beyond a bound that was given, or not positive on a logarithmic axis, is a
-- gap; a bar that goes beyond a bound ends there.

local format = require "moonbow.report.format"
local options = require "moonbow.options"

local M = {}

-- Colours that stay apart for colour-blind eyes (Okabe and Ito 2008), without the yellow.
local COLOURS = { "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000" }
local FONT = 'font-family="Helvetica, Arial, DejaVu Sans, sans-serif"'
local LETTER = 6.4 -- width of a letter at size 12, about
local NAN = 0 / 0
local TOP, BOTTOM, LEFT, GAP = 44, 56, 76, 16

local axis_spec = {
  label = { type = "string", default = "" }, log = { type = "boolean", default = false },
  min = { type = "number" }, max = { type = "number" },
}
local chart_spec = {
  title = { type = "string", default = "" }, width = { type = "number", default = 720, min = 200 },
  height = { type = "number", default = 400, min = 150 }, x = { type = "table", default = {} },
  y = { type = "table", default = {} }, groups = { type = "table" }, series = { type = "table", required = true },
  rules = { type = "table", default = {} },
}
local series_spec = {
  name = { type = "string", required = true }, points = { type = "table" }, values = { type = "table" },
  notes = { type = "table", default = {} }, line = { type = "boolean", default = true },
  marker = { type = "boolean", default = true },
}

---Text as XML holds it, between tags or in quotes.
---@param text string
---@return string
function M.escape(text)
  local entities = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }
  return (format.printable(text):gsub('[&<>"]', entities))
end

local function element(out, text, ...)
  out[#out + 1] = select("#", ...) > 0 and text:format(...) or text
end

local function label(out, x, y, text, more)
  element(out, '<text x="%.1f" y="%.1f" %s>%s</text>', x, y, more or "", M.escape(text))
end

-- ----- axes ---------------------------------------------------------------------------------------------

local function usable(axis, value)
  return type(value) == "number" and value == value and math.abs(value) < math.huge and (not axis.log or value > 0)
end

local function inside(axis, value)
  return usable(axis, value) and value >= axis.min and value <= axis.max
end

-- 1, 2 or 5 times a power of ten: the step of about `count` ticks over `span`.
local function nice_step(span, count)
  local power = 10 ^ math.floor(math.log10(span / count))
  for _, factor in ipairs { 1, 2, 5 } do
    if factor * power * count >= span * 0.999 then return factor * power end
  end
  return 10 * power
end

local function linear_ticks(low, high)
  local step, ticks = nice_step(high - low, 6), {}
  for k = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6) do
    ticks[#ticks + 1] = k == 0 and 0 or k * step -- not -0
  end
  return ticks
end

-- Powers of ten, every so many decades that about eight are left; 1, 2 and 5 of them where there are few.
local function log_ticks(low, high)
  local first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
  local ticks, every = {}, math.ceil((last - first) / 8)
  for k = first, last, math.max(every, 1) do
    for _, factor in ipairs(last - first <= 2 and { 1, 2, 5 } or { 1 }) do
      local value = factor * 10 ^ k
      if value >= low * 0.999 and value <= high * 1.001 then ticks[#ticks + 1] = value end
    end
  end
  return ticks
end

-- Completes an axis by the values that are drawn along it, and adds where(value) -> 0..1 and ticks.
local function complete(axis, values, bars)
  local low, high = math.huge, -math.huge
  for _, value in ipairs(values) do
    if usable(axis, value) then low, high = math.min(low, value), math.max(high, value) end
  end
  if low > high then low, high = 1, 10 end
  if axis.log then
    if low == high then low, high = low / 2, high * 2 end
    if bars then low = low / 1.5 end -- the lowest bar is to be seen too
    low, high = 10 ^ math.floor(math.log10(low) + 1e-9), 10 ^ math.ceil(math.log10(high) - 1e-9)
  else
    if bars then low, high = math.min(low, 0), math.max(high, 0) end
    if low == high then low, high = low - 0.5, high + 0.5 end
    local step = nice_step(high - low, 6)
    low, high = math.floor(low / step + 1e-6) * step, math.ceil(high / step - 1e-6) * step
  end
  axis.min, axis.max = usable(axis, axis.min) and axis.min or low, usable(axis, axis.max) and axis.max or high
  if axis.min >= axis.max then options.fail("svg: an axis from %g to %g has no length", axis.min, axis.max) end
  axis.ticks = (axis.log and log_ticks or linear_ticks)(axis.min, axis.max)
  local function on(value) return axis.log and math.log10(value) or value end
  function axis.where(value)
    return (on(value) - on(axis.min)) / (on(axis.max) - on(axis.min))
  end
end

local function tick_text(value)
  local size = math.abs(value)
  if size ~= 0 and (size >= 1e5 or size < 1e-3) then
    return (("%.2e"):format(value):gsub("%.?0*e", "e"):gsub("e([+-])0*", "e%1"):gsub("e%+", "e"))
  end
  return ("%.6g"):format(value)
end

-- ----- the parts of a chart -----------------------------------------------------------------------------

local function draw_y_axis(out, c)
  for _, value in ipairs(c.y.ticks) do
    local y = c.place_y(value)
    element(out, '<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#ddd"/>', c.left, y, c.right, y)
    label(out, c.left - 6, y + 4, tick_text(value), 'text-anchor="end"')
  end
  local middle = (c.top + c.bottom) / 2
  label(out, 0, 0, c.y.label, ('text-anchor="middle" transform="translate(18 %.1f) rotate(-90)"'):format(middle))
end

local function draw_x_axis(out, c)
  for _, value in ipairs(c.x.ticks) do
    local x = c.place_x(value)
    element(out, '<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#ddd"/>', x, c.top, x, c.bottom)
    label(out, x, c.bottom + 18, tick_text(value), 'text-anchor="middle"')
  end
end

local function draw_rules(out, c)
  for _, rule in ipairs(c.rules) do
    if inside(c.y, rule.y) then
      local y = c.place_y(rule.y)
      element(out, '<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#555" stroke-dasharray="5 4"/>', c.left, y,
        c.right, y)
      label(out, c.right - 4, y - 5, rule.name or "", 'text-anchor="end" fill="#555"')
    end
  end
end

-- Markers by the number of their series, so that colour is not all that tells them apart.
local markers = {
  function(x, y) return ('<path d="M%.1f %.1fa4 4 0 1 0 8 0a4 4 0 1 0 -8 0z"'):format(x - 4, y) end,
  function(x, y) return ('<path d="M%.1f %.1fh7v7h-7z"'):format(x - 3.5, y - 3.5) end,
  function(x, y) return ('<path d="M%.1f %.1fl4.5 8h-9z"'):format(x, y - 5) end,
  function(x, y) return ('<path d="M%.1f %.1fl5 5l-5 5l-5 -5z"'):format(x, y - 5) end,
  function(x, y) return ('<path d="M%.1f %.1fl4.5 -8h-9z"'):format(x, y + 5) end,
}

local function colour_of(i) return COLOURS[(i - 1) % #COLOURS + 1] end

local function draw_marker(out, i, x, y, note)
  local marker = markers[(i - 1) % #markers + 1](x, y)
  element(out, '%s fill="%s"><title>%s</title></path>', marker, colour_of(i), M.escape(note))
end

local function draw_points(out, c, i, series)
  local run, shapes = {}, {}
  local function end_run()
    if series.line and #run > 1 then
      element(out, '<polyline points="%s" fill="none" stroke="%s" stroke-width="1.8"/>', table.concat(run, " "),
        colour_of(i))
    end
    run = {}
  end
  for _, point in ipairs(series.points) do
    if inside(c.x, point[1]) and inside(c.y, point[2]) then
      local x, y = c.place_x(point[1]), c.place_y(point[2])
      run[#run + 1] = ("%.1f,%.1f"):format(x, y)
      shapes[#shapes + 1] = { x, y, point[3] or ("%s: %.4g, %.4g"):format(series.name, point[1], point[2]) }
    else
      end_run()
    end
  end
  end_run()
  for _, shape in ipairs(series.marker and shapes or {}) do draw_marker(out, i, shape[1], shape[2], shape[3]) end
end

local function draw_bars(out, c)
  local slot = (c.right - c.left) / #c.groups
  local width = slot * 0.8 / #c.series
  local base = c.place_y((c.y.log or c.y.min > 0) and c.y.min or c.y.max < 0 and c.y.max or 0)
  for g, name in ipairs(c.groups) do
    local from = c.left + (g - 1) * slot
    label(out, from + slot / 2, c.bottom + 18, name, 'text-anchor="middle"')
    for i, series in ipairs(c.series) do
      local value = series.values[g]
      if usable(c.y, value) then
        local y = c.place_y(math.max(c.y.min, math.min(c.y.max, value)))
        element(out, '<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"><title>%s</title></rect>',
          from + slot * 0.1 + (i - 1) * width, math.min(y, base), width * 0.94, math.abs(base - y), colour_of(i),
          M.escape(series.notes[g] or ("%s, %s: %.4g"):format(name, series.name, value)))
        if width >= 5 * LETTER then
          label(out, from + slot * 0.1 + (i - 0.53) * width, y - 4, tick_text(tonumber(("%.3g"):format(value))),
            'text-anchor="middle" font-size="11"')
        end
      end
    end
  end
end

local function draw_legend(out, c)
  for i, series in ipairs(c.series) do
    local y = c.top + 8 + (i - 1) * 20
    local x = c.right + GAP + 6
    if c.groups then
      element(out, '<rect x="%.1f" y="%.1f" width="12" height="12" fill="%s"/>', x - 6, y - 6, colour_of(i))
    else
      if series.line then
        element(out, '<path d="M%.1f %.1fh16" stroke="%s" stroke-width="1.8"/>', x - 8, y, colour_of(i))
      end
      if series.marker then draw_marker(out, i, x, y, series.name) end
    end
    label(out, c.right + GAP + 22, y + 4, series.name)
  end
end

-- ----- charts and pages ---------------------------------------------------------------------------------

-- The chart with its options checked, its axes complete, and place_x, place_y from values to where they are drawn.
local function prepare(given)
  local who = "svg: chart"
  local c = options.check(who, given, chart_spec)
  c.x, c.y = options.check(who .. ": x", c.x, axis_spec), options.check(who .. ": y", c.y, axis_spec)
  if #c.series == 0 then options.fail("%s '%s': there is no series", who, c.title) end
  local xs, ys, longest = {}, {}, 0
  for i, row in ipairs(c.series) do
    local series = options.check(("%s '%s': series %d"):format(who, c.title, i), row, series_spec)
    local needed = c.groups and "values" or "points"
    if not series[needed] then
      options.fail("%s '%s': series '%s' has no %s", who, c.title, series.name, needed)
    end
    for _, point in ipairs(c.groups and {} or series.points) do
      xs[#xs + 1], ys[#ys + 1] = point[1] or NAN, point[2] or NAN
    end
    for g = 1, c.groups and #c.groups or 0 do ys[#ys + 1] = series.values[g] or NAN end
    longest = math.max(longest, #series.name)
    c.series[i] = series
  end
  for _, rule in ipairs(c.rules) do ys[#ys + 1] = rule.y end
  complete(c.y, ys, c.groups ~= nil)
  if not c.groups then complete(c.x, xs, false) end
  c.left, c.right = LEFT, c.width - GAP - 30 - longest * LETTER
  c.top, c.bottom = TOP, c.height - BOTTOM
  function c.place_x(value) return c.left + (c.right - c.left) * c.x.where(value) end
  function c.place_y(value) return c.bottom - (c.bottom - c.top) * c.y.where(value) end
  return c
end

local function draw(out, c)
  label(out, c.left, 24, c.title, 'font-size="15" font-weight="bold"')
  draw_y_axis(out, c)
  if not c.groups then draw_x_axis(out, c) end
  if c.groups then draw_bars(out, c) end
  for i, series in ipairs(c.groups and {} or c.series) do draw_points(out, c, i, series) end
  draw_rules(out, c)
  element(out, '<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="none" stroke="#444"/>', c.left, c.top,
    c.right - c.left, c.bottom - c.top)
  label(out, (c.left + c.right) / 2, c.height - 14, c.x.label, 'text-anchor="middle"')
  draw_legend(out, c)
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
    element(body, '<g transform="translate(0 %g)">', height)
    draw(body, c)
    element(body, "</g>")
    width, height = math.max(width, c.width), height + c.height
  end
  return ('<?xml version="1.0" encoding="UTF-8"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="%g" height="%g" '
    .. 'viewBox="0 0 %g %g" %s font-size="12">\n<rect width="%g" height="%g" fill="#fff"/>\n%s\n</svg>\n'):format(
    width, height, width, height, FONT, width, height, table.concat(body, "\n"))
end

return M
