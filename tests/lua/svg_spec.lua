-- SPDX-License-Identifier: MIT
--
-- svg_spec.lua: charts are well-formed pages, values stand where they belong, and what cannot be drawn is a gap.

local helper = require "tests.helper"
local svg = require "moonbow.report.svg"
local xml = require "tests.xml"

local NAN = 0 / 0

-- Elements of a page of charts: those with this tag, or all.
local function drawn(charts, tag)
  local list = {}
  for _, element in ipairs(xml.elements(svg.page(charts))) do
    if not tag or element.tag == tag then list[#list + 1] = element end
  end
  return list
end

-- text -> x, y of the first label that says so.
local function label(charts, text)
  for _, element in ipairs(drawn(charts, "text")) do
    if element.text == text then return tonumber(element.attributes.x), tonumber(element.attributes.y) end
  end
  error("no label says " .. text)
end

-- Titles of the shapes that people can point at, in order.
local function notes(charts)
  local list = {}
  for _, element in ipairs(drawn(charts, "title")) do list[#list + 1] = element.text end
  return list
end

-- Places of a chart's first polyline: { { x, y } }.
local function places(charts, number)
  local list = {}
  for x, y in drawn(charts, "polyline")[number or 1].attributes.points:gmatch "([%d.-]+),([%d.-]+)" do
    list[#list + 1] = { tonumber(x), tonumber(y) }
  end
  return list
end

local function near(a, b) assert(math.abs(a - b) < 0.11, ("%g is not %g"):format(a, b)) end

describe("the reader of XML", function()
  it("refuses what is not well-formed", function()
    for _, bad in ipairs { "<a>", "<a></b>", "<a/><b/>", "<a b=c/>", '<a b="1" b="2"/>', "<a>&</a>", "<a>&x;</a>", "x<a/>",
      '<a b="<"/>', "<a>\1</a>", "<a", "" } do
      assert.is_false(pcall(xml.elements, bad), bad)
    end
    assert.are.equal("1 < 2", xml.elements('<?xml version="1.0"?>\n<a b="&quot;"><c/>1 &lt; 2</a>')[1].text)
  end)
end)

describe("a page of charts", function()
  it("is one well-formed SVG document of the charts' height", function()
    local line = { title = "first", series = { { name = "a", points = { { 1, 1 }, { 2, 3 } } } } }
    local bars = { title = "second", height = 300, width = 900, groups = { "x" }, series = { { name = "b", values = { 4 } } } }
    local root = drawn({ line, bars })[1]
    assert.are.equal("svg", root.tag)
    assert.are.equal("http://www.w3.org/2000/svg", root.attributes.xmlns)
    assert.are.equal("900", root.attributes.width)
    assert.are.equal("700", root.attributes.height)
    assert.are.same({ "translate(0 0)", "translate(0 400)" },
      { drawn({ line, bars }, "g")[1].attributes.transform, drawn({ line, bars }, "g")[2].attributes.transform })
    label({ line, bars }, "first")
    label({ line, bars }, "second")
  end)

  it("takes any text", function()
    local name = "a<b> & \"c\" 'd' \1 \255 τ"
    local page = { { title = name, x = { label = name }, y = { label = name }, rules = { { y = 1, name = name } },
      series = { { name = name, points = { { 1, 1, name }, { 2, 2 } } } } } }
    local shown = "a<b> & \"c\" 'd' \239\191\189 \239\191\189 τ"
    label(page, shown)
    assert.are.equal(shown, notes(page)[1])
  end)
end)

describe("lines", function()
  it("stand where their values are", function()
    local page = { { series = { { name = "a", points = { { 0, 0 }, { 5, 5 }, { 10, 10 } } } } } }
    local at = places(page)
    near(at[2][1], (at[1][1] + at[3][1]) / 2)
    near(at[2][2], (at[1][2] + at[3][2]) / 2)
    assert.is_true(at[3][1] > at[1][1] and at[3][2] < at[1][2]) -- y goes up
    near(at[1][1], (label(page, "0")) + 6) -- both axes begin at 0: the first label is the y axis's, left of the corner
    near((label(page, "10")) + 6, at[1][1])
  end)

  it("stand by their logarithms where asked", function()
    local page = { { x = { log = true }, y = { log = true },
      series = { { name = "a", points = { { 1, 1e-6 }, { 10, 1e-4 }, { 1000, 1 } } } } } }
    local at = places(page)
    near((at[2][1] - at[1][1]) * 3, at[3][1] - at[1][1])
    near((at[2][2] - at[1][2]) * 3, at[3][2] - at[1][2])
    near(select(2, label(page, "1e-4")) - 4, at[2][2])
    near((label(page, "100")), at[2][1] + (at[3][1] - at[2][1]) / 2)
  end)

  it("have gaps for what is not there", function()
    for _, gap in ipairs { { 3, NAN }, { 3, 1 / 0 }, { 3 }, { NAN, 3 } } do
      local page = { { series = { { name = "a", points = { { 1, 1 }, { 2, 2 }, gap, { 4, 4 }, { 5, 5 } } } } } }
      assert.are.equal(2, #drawn(page, "polyline"))
      assert.are.equal(2, #places(page, 1))
      assert.are.equal(5, #notes(page)) -- four values and the legend
    end
    local below = { { y = { log = true }, series = { { name = "a", points = { { 1, 0 }, { 2, -2 }, { 3, 1 }, { 4, 2 } } } } } }
    assert.are.equal(2, #places(below))
    local bounded = { { y = { max = 3 }, series = { { name = "a", points = { { 1, 1 }, { 2, 2 }, { 3, 9 } } } } } }
    assert.are.equal(2, #places(bounded))
  end)

  it("have labels that people read", function()
    local series = { { name = "a", points = { { 1, 1e-4 } } } }
    local page = { { y = { min = 0, max = 3e-4 }, x = { min = 0, max = 5e6 }, series = series } }
    for _, text in ipairs { "1e-4", "2.5e-4", "0", "1e6", "5e6" } do label(page, text) end
  end)

  it("are drawn for one value, equal values and none", function()
    for _, points in ipairs { {}, { { 1, 1 } }, { { 1, 0 }, { 2, 0 } }, { { 3, 7 }, { 3, 7 } }, { { NAN, NAN } } } do
      for _, log in ipairs { true, false } do
        drawn { { x = { log = log }, y = { log = log }, series = { { name = "a", points = points } } } }
      end
    end
  end)

  it("can be markers alone, or lines alone", function()
    local points = { { 1, 1 }, { 2, 2 } }
    assert.are.equal(0, #drawn({ { series = { { name = "a", points = points, line = false } } } }, "polyline"))
    assert.are.equal(0, #notes { { series = { { name = "a", points = points, marker = false } } } })
  end)
end)

describe("bars", function()
  -- Bars of a page: { x, y, width, height } by their note.
  local function bars(page)
    local list = {}
    for _, element in ipairs(drawn(page, "title")) do
      local a = element.parent.attributes
      list[element.text] = { x = tonumber(a.x), y = tonumber(a.y), width = tonumber(a.width), height = tonumber(a.height) }
    end
    return list
  end

  it("are as long as their values, from zero", function()
    local all = bars { { groups = { "g", "h" },
      series = { { name = "a", values = { 10, 20 } }, { name = "b", values = { 5, -5 } } } } }
    local ten, twenty, five, minus = all["g, a: 10"], all["h, a: 20"], all["g, b: 5"], all["h, b: -5"]
    near(twenty.height, 2 * ten.height)
    near(five.height, ten.height / 2)
    near(minus.height, five.height)
    near(ten.y + ten.height, twenty.y + twenty.height)
    near(minus.y, ten.y + ten.height)
    assert.is_true(five.x > ten.x and twenty.x > five.x + five.width)
  end)

  it("rise by the logarithm above the lowest, which is seen too; gaps stay empty; bounds cut", function()
    local chart = { y = { log = true }, groups = { "g", "h", "i" }, series = { { name = "a", values = { 1, 10, 100 } },
      { name = "b", values = { 0, NAN }, notes = { "none" } } } }
    local all = bars { chart }
    near(all["i, a: 100"].height - all["h, a: 10"].height, all["h, a: 10"].height - all["g, a: 1"].height)
    assert.is_true(all["g, a: 1"].height > 5)
    assert.are.equal(3, #notes { chart })
    local cut = bars { { y = { max = 10 }, groups = { "g" },
      series = { { name = "a", values = { 40 } }, { name = "b", values = { 10 } } } } }
    near(cut["g, a: 40"].height, cut["g, b: 10"].height)
  end)
end)

it("says what is wrong with a chart", function()
  local function says(text, charts)
    local got = helper.error_of(svg.page, charts)
    assert.is_truthy(got:find(text, 1, true), got)
  end
  local series = { { name = "a", points = { { 1, 1 } } } }
  says("an array of charts was expected", {})
  says("there is no series", { { title = "t", series = {} } })
  says("series 'a' has no values", { { groups = { "g" }, series = series } })
  says("series 'b' has no points", { { series = { { name = "b", values = { 1 } } } } })
  says("did you mean 'label'?", { { x = { lable = "x" }, series = series } })
  says("an axis from 3 to 2 has no length", { { x = { min = 3, max = 2 }, series = series } })
end)
