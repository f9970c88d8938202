-- SPDX-License-Identifier: MIT
--
-- page_spec.lua: pages hold what they are given, as text, and need nothing from elsewhere.

local helper = require "tests.helper"
local json = require "moonbow.io.json"
local page = require "moonbow.report.page"
local scratch = require "tests.scratch"
local xml = require "tests.xml"

local function chart(title)
  return { title = title, series = { { name = "a", points = { { 1, 1 }, { 2, 0 / 0 }, { 3, 2 } } } } }
end

-- The body of a page as XML: elements that HTML leaves open are outside of it.
local function body(html)
  return xml.elements((html:match "<main>.*</main>"))
end

local function texts(html, tag)
  local list = {}
  for _, element in ipairs(body(html)) do
    if element.tag == tag then list[#list + 1] = element.text end
  end
  return list
end

describe("a page", function()
  after_each(scratch.clean)

  it("has its sections' blocks in their order", function()
    local html = page.html { title = "t", sections = {
      { title = "one", text = "a `b` c\n\nd", verdict = { { kind = "pass", text = "good" }, { kind = "open" } },
        { text = "e" }, { list = { "f", "g" } }, { formula = "x = y" }, { pre = "  raw\n" },
        { pre = "folded", summary = "more" }, { swatches = { { "h", 1 }, { "i", 9 } } } },
    } }
    assert.are.same({ "a  c", "d", "e", "x = y" }, { texts(html, "p")[3], texts(html, "p")[4], texts(html, "p")[5],
      texts(html, "p")[6] })
    assert.are.same({ "f", "g", "h", "i" }, texts(html, "li"))
    assert.are.same({ "b" }, texts(html, "code"))
    assert.are.same({ "  raw\n", "folded" }, texts(html, "pre"))
    assert.are.same({ "more" }, texts(html, "summary"))
    assert.are.same({ " good", " open" }, texts(html, "span"))
    assert.is_truthy(html:find('class="swatch s2"', 1, true)) -- of seven colours
  end)

  it("takes any text", function()
    local evil = "</script><script>alert(1)</script>\"'&<!-- \1\255"
    local html = page.html { title = evil, subtitle = evil, data = { [evil] = evil }, sections = { {
      title = evil, text = evil, caption = evil, svg = chart(evil), pre = evil, summary = evil,
      table = { columns = { evil }, rows = { { evil } }, caption = evil }, verdict = { kind = "fail", text = evil },
    } } }
    assert.is_nil(html:find("<script>alert", 1, true))
    assert.are.equal(3, select(2, html:gsub("</script>", "")))
    local shown = evil:gsub("[\1\255]", "\239\191\189")
    assert.are.equal(shown, texts(html, "h2")[1])
    assert.are.equal(shown, texts(html, "td")[1])
  end)

  it("shows numbers to people and the whole of them to programs", function()
    local html = page.html { title = "t", sections = { { title = "s", table = { columns = { "a", "b", "c", "d" }, rows = {
      { 1 / 3, -2, { text = "0.33", value = 1 / 3 }, { text = "ok", verdict = "pass" } }, { 0 / 0, 1 / 0, true, nil } } } } } }
    assert.are.same({ "0.333333", "−2", "0.33", "" }, { unpack(texts(html, "td"), 1, 4) })
    assert.are.same({ "NaN", "∞", "true", "" }, { unpack(texts(html, "td"), 5, 8) })
    for _, element in ipairs(body(html)) do
      if element.text == "0.33" then assert.are.equal(1 / 3, tonumber(element.attributes["data-value"])) end
    end
  end)

  it("embeds its data and the points of its lines as JSON", function()
    local html = page.html { title = "t", data = { a = 0 / 0, b = "<x>" }, sections = { { title = "s", svg = chart "c" } } }
    local function embedded(id)
      return json.decode((assert(html:match('<script type="application/json" id="' .. id .. '">(.-)</script>'))))
    end
    assert.are.same({ a = "NaN", b = "<x>" }, embedded "data")
    local plot = embedded("plots")[1][1]
    assert.are.equal("a", plot.series[1].name)
    assert.are.equal(2, plot.series[1].points[3][2])
    assert.are.equal("NaN", plot.series[1].points[2][2])
    assert.is_true(plot.left < plot.right and plot.top < plot.bottom and plot.xmin == 1 and plot.xmax == 3)
  end)

  it("asks for nothing from elsewhere", function()
    local html = page.html { title = "t", sections = { { title = "s", svg = chart "c" }, { title = "u",
      svg = require("moonbow.report.svg").page { chart "whole" }, caption = "as text" } } }
    local rest = html:gsub("http://www.w3.org/2000/svg", "")
    for _, sign in ipairs { "http:", "https:", "//[%a]+%.", "@import", "url%(", "<img", "<iframe", "src=" } do
      assert.is_nil(rest:find(sign), sign)
    end
    assert.is_nil(html:find("<?xml", 1, true))
  end)

  it("is written whole", function()
    local path = scratch.folder() .. "/p.html"
    page.write(path, { title = "t", sections = {} })
    assert.are.equal(page.html { title = "t", sections = {} }, scratch.read(path))
  end)

  it("says what is wrong with it", function()
    local function says(text, given)
      local got = helper.error_of(page.html, given)
      assert.is_truthy(got:find(text, 1, true), got)
    end
    says("option 'title' is missing", { sections = {} })
    says("did you mean 'sections'?", { title = "t", section = {} })
    says("section 1: a table with a title was expected", { title = "t", sections = { {} } })
    says("did you mean 'caption'?", { title = "t", sections = { { title = "s", captoin = "c" } } })
    says("verdict 'passed', did you mean 'pass'?", { title = "t", sections = { { title = "s", verdict = { kind = "passed" } } } })
  end)
end)
