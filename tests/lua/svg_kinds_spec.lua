-- SPDX-License-Identifier: MIT
--
-- svg_kinds_spec.lua: bands, strips of colours, ridgelines, small multiples and legends of charts; the colour map.

local base = require "moonbow.report.svg.base"
local helper = require "tests.helper"
local svg = require "moonbow.report.svg"
local xml = require "tests.xml"

local NAN = 0 / 0

local function drawn(chart, tag, class)
  local list = {}
  for _, element in ipairs(xml.elements(svg.page { chart })) do
    local classes = " " .. (element.attributes.class or "") .. " "
    if element.tag == tag and (not class or classes:find(" " .. class .. " ", 1, true)) then list[#list + 1] = element end
  end
  return list
end

local function near(a, b, by) assert(math.abs(a - b) < (by or 0.11), ("%g is not %g"):format(a, b)) end

-- Lightness of a colour in CIELAB (CIE 15:2004, from sRGB), a formula apart from the one that made it.
local function lightness(colour)
  local light = {}
  for i, hex in ipairs { colour:match "^#(%x%x)(%x%x)(%x%x)$" } do
    local v = tonumber(hex, 16) / 255
    light[i] = v <= 0.04045 and v / 12.92 or ((v + 0.055) / 1.055) ^ 2.4
  end
  local y = 0.2126 * light[1] + 0.7152 * light[2] + 0.0722 * light[3]
  return y > 0.008856 and 116 * y ^ (1 / 3) - 16 or 903.3 * y
end

describe("the colour map", function()
  it("rises evenly in lightness", function()
    local steps, last = {}, lightness(base.map(0))
    for k = 1, 20 do
      local now = lightness(base.map(k / 20))
      steps[k], last = now - last, now
    end
    local total = lightness(base.map(1)) - lightness(base.map(0))
    assert.is_true(total > 75, "from dark to light")
    for k, step in ipairs(steps) do
      assert(step > 0.6 * total / 20 and step < 1.6 * total / 20, ("step %d: %g"):format(k, step))
    end
  end)

  it("holds values within its ends", function()
    assert.are.equal(base.map(0), base.map(-3))
    assert.are.equal(base.map(1), base.map(7))
  end)
end)

describe("bands", function()
  local function band(points, y)
    return { y = y, series = { { name = "a", marker = false, points = { { 0, 0 }, { 10, 10 } }, band = points } } }
  end

  it("lie between their lows and highs, behind the lines", function()
    local chart = band { { 0, 0, 5 }, { 10, 0, 10 } }
    local shape = drawn(chart, "path", "band")[1]
    local pattern = ("Mn nLn nLn nLn nz"):gsub("n", "([%%d.]+)")
    local x1, y1, x2, y2, x3, y3, x4, y4 = shape.attributes.d:match(pattern)
    local frame = drawn(chart, "rect", "frame")[1].attributes
    near(tonumber(x1), tonumber(frame.x))
    near(tonumber(x2), frame.x + frame.width)
    near(tonumber(y2), tonumber(frame.y))
    near(tonumber(y1), frame.y + frame.height / 2)
    near(tonumber(y3), frame.y + frame.height)
    assert.are.same({ x2, x1, y3 }, { x3, x4, y4 })
    local order = {}
    for _, element in ipairs(xml.elements(svg.page { chart })) do order[#order + 1] = element.tag end
    local text = table.concat(order, " ")
    assert.is_true(text:find "path" < text:find "polyline")
  end)

  it("have gaps, and end where the chart does", function()
    assert.are.equal(2, #drawn(band { { 0, 0, 1 }, { 1, 0, 1 }, { 2, NAN, 1 }, { 3, 0, 1 }, { 4, 0, 1 } }, "path", "band"))
    local cut = drawn(band({ { 0, -90, 1 }, { 10, 0, 90 } }, { min = 0, max = 10 }), "path", "band")[1].attributes.d
    local whole = drawn(band({ { 0, 0, 1 }, { 10, 0, 10 } }, { min = 0, max = 10 }), "path", "band")[1].attributes.d
    assert.are.equal(whole, cut)
  end)
end)

describe("strips of colours", function()
  local function strip(values, more)
    local h = { rows = { "first", "second" }, edges = { 0, 10, 20, 40 }, values = values, label = "v", height = 20 }
    for key, value in pairs(more or {}) do h[key] = value end
    return { title = "t", x = { label = "step" }, heat = h }
  end

  it("have a stroke for each run of a colour, as long as its columns", function()
    local chart = strip { { 1, 1, 2 }, { NAN, 2, 2 } }
    local cells, all = drawn(chart, "path", "cells"), {}
    for _, element in ipairs(cells) do
      for x, y, length in element.attributes.d:gmatch "M([%d.]+) ([%d.]+)h([%d.]+)" do
        all[#all + 1] = { tonumber(x), tonumber(y), tonumber(length), element.attributes.stroke }
      end
    end
    local frame = drawn(chart, "rect", "frame")[2].attributes -- the first is the bar's
    table.sort(all, function(a, b) return a[2] < b[2] or a[2] == b[2] and a[1] < b[1] end)
    assert.are.equal(3, #all)
    near(all[1][3], frame.width / 2)
    near(all[2][3], frame.width / 2)
    near(all[3][3], frame.width * 3 / 4)
    near(all[3][1], frame.x + frame.width / 4)
    assert.are.same({ 10, 10, 30 }, { all[1][2], all[2][2], all[3][2] })
    assert.are.same({ base.map(0), base.map(1), base.map(1) }, { all[1][4], all[2][4], all[3][4] })
    near(tonumber(frame.height), 40)
  end)

  it("are drawn for no value, one value and zeros", function()
    for _, log in ipairs { true, false } do
      for _, values in ipairs { {}, { { 3, 3, 3 }, { 3, 3, 3 } }, { { 0, 0, 0 }, { 0, NAN, 1 / 0 } } } do
        drawn(strip(values, { log = log }), "path")
      end
    end
  end)

  it("name only the rows that have room", function()
    local rows, values = {}, {}
    for r = 1, 100 do rows[r], values[r] = "row" .. r, { 1, 2, 3 } end
    local seen = 0
    for _, element in ipairs(drawn(strip(values, { rows = rows, height = 4 }), "text")) do
      seen = seen + (element.text:find "^row" and 1 or 0)
    end
    assert.are.equal(34, seen)
  end)

  it("stay small: many columns of few colours are few strokes", function()
    local edges, values = {}, { {}, {} }
    for k = 1, 2001 do edges[k] = k end
    for k = 1, 2000 do values[1][k], values[2][k] = k > 1000 and 1 or 0, 0.5 end
    assert.is_true(#svg.page { strip(values, { edges = edges }) } < 12000)
  end)
end)

describe("ridgelines", function()
  local function chart()
    return { title = "t", x = { label = "v", log = true }, ridges = {
      { name = "a", points = { { 0.1, 0 }, { 1, 2 }, { 10, 0 } }, marks = { { x = 1, name = "m" } } },
      { name = "b", points = { { 0.1, 0 }, { 1, 1 }, { 10, 0 } } } } }
  end

  it("stand one below the other, as high as their values", function()
    local ridges = drawn(chart(), "path", "ridge")
    local function heights(d)
      local ys = {}
      for _, y in d:gmatch "([%d.]+) ([%d.]+)" do ys[#ys + 1] = tonumber(y) end
      return ys[1], ys[3] -- the foot and the top
    end
    local foot_a, top_a = heights(ridges[1].attributes.d)
    local foot_b, top_b = heights(ridges[2].attributes.d)
    assert.is_true(foot_b > foot_a)
    near(foot_a - top_a, 2 * (foot_b - top_b), 0.2)
    local frame = drawn(chart(), "rect", "frame")[1].attributes
    local mark = drawn(chart(), "path", "line")[1].attributes.d
    near(tonumber(mark:match "M([%d.]+)"), frame.x + frame.width / 2)
  end)

  it("says what is wrong with a ridge", function()
    local wrong = chart()
    wrong.ridges[2].colour = 3
    assert.is_truthy(helper.error_of(svg.page, { wrong }):find("ridge 2: unknown option 'colour'", 1, true))
  end)
end)

describe("small multiples", function()
  it("stand side by side with one legend", function()
    local panels = {}
    for i = 1, 5 do
      panels[i] = { title = "p" .. i, series = { { name = "n", points = { { 1, i }, { 2, i } } } } }
    end
    local chart = { title = "t", width = 600, columns = 2, panels = panels }
    assert.are.equal(5, #drawn(chart, "rect", "frame"))
    local places = {}
    for i, element in ipairs(drawn(chart, "g")) do
      places[i] = { element.attributes.transform:match "translate%(([%d.]+) ([%d.]+)%)" }
    end
    assert.are.same({ "300.0", places[2][2] }, places[3]) -- the first is the chart's own
    assert.are.equal(places[2][1], places[4][1])
    near(places[4][2] - places[2][2], 170)
    local names = 0
    for _, element in ipairs(drawn(chart, "text")) do names = names + (element.text == "n" and 1 or 0) end
    assert.are.equal(1, names)
    assert.is_truthy(helper.error_of(svg.page, { { panels = {} } }):find("there is no panel", 1, true))
  end)
end)

describe("legends on top", function()
  it("flow into rows without overlap, whatever their names", function()
    local series = {}
    for i = 1, 9 do
      series[i] = { name = ("name "):rep(i * i), points = { { 1, i }, { 2, i } }, marker = false }
    end
    local chart = { title = "t", legend = "top", series = series }
    local frame, rows = drawn(chart, "rect", "frame")[1].attributes, {}
    for _, element in ipairs(drawn(chart, "text")) do
      if element.text:find "^name" then
        local a = element.attributes
        assert.is_true(tonumber(a.y) < tonumber(frame.y))
        assert.is_true(a.x + base.width(element.text) < 720)
        rows[a.y] = rows[a.y] or 0
        assert.is_true(tonumber(a.x) > rows[a.y], element.text)
        rows[a.y] = a.x + base.width(element.text)
      end
    end
    for _, element in ipairs(drawn({ legend = "none", series = { series[1] } }, "text")) do
      assert.is_nil(element.text:find "^name")
    end
  end)
end)

describe("numbers on axes", function()
  local function labels(axis, chart)
    local list = {}
    chart.x = axis
    for _, element in ipairs(drawn(chart, "text")) do
      if element.attributes["text-anchor"] == "middle" then list[#list + 1] = element.text end
    end
    return list
  end

  it("count in thousands, end where values do, and never touch", function()
    local chart = { width = 300, height = 120, series = { { name = "a", marker = false, points = { { 1, 1 }, { 120000, 2 } } } },
      legend = "none" }
    assert.are.same({ "50k", "100k" }, labels({ unit = "count", tight = true }, chart))
    assert.are.same({ "50 %", "100 %" }, labels({ unit = "percent", min = 0.2, max = 1.1 }, chart))
  end)

  it("are there for values of any size and any distance", function()
    for _, pair in ipairs { { 1e308, 1e308 }, { 2 ^ 53 - 1, 2 ^ 53 - 1 }, { 1, 1 + 2 ^ -52 }, { -1e-320, 1e-320 },
      { 1e-310, 1 }, { 1e299, -1e299 }, { 1e-5, 1e-5 } } do
      for _, log in ipairs { true, false } do
        local chart = { y = { log = log }, series = { { name = "a", points = { { 1, pair[1] }, { 2, pair[2] } } } } }
        local labels_seen = 0
        for _, element in ipairs(drawn(chart, "text")) do
          assert.is_nil(element.text:find "nan")
          labels_seen = labels_seen + 1
        end
        assert.is_true(labels_seen > 4 and labels_seen < 40)
      end
    end
  end)
end)
