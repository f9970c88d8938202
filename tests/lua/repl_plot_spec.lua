-- SPDX-License-Identifier: MIT
--
-- repl_plot_spec.lua: plots of characters, to the character, and values as the prompt shows them.

local helper = require "tests.helper"
local format = require "moonbow.report.format"
local mb = require "moonbow"
local plot = require "moonbow.repl.plot"
local show = require "moonbow.repl.show"

local function lines(...) return table.concat({ ... }, "\n") end

describe("plots", function()
  it("draw bars on a logarithmic axis, with marks", function()
    assert.are.equal(lines(
      "three",
      " 10 ┤████",
      "    │████",
      "  1 ┤████▅▅▅▅",
      "    │████████┄┄┄┄┄┄┄┄ τ 0.3",
      "0.1 ┤████████▁▁▁▁",
      "     1      n       4"),
      plot.bars({ 10, 1, 0.1, 0 }, { width = 30, height = 5, title = "three", x_label = "n",
        marks = { { value = 0.3, name = "τ" } } }))
    assert.are.equal("nothing is above 0", plot.bars({ 0, 0 }, { width = 20 }))
  end)

  it("draw lines of dots", function()
    assert.are.equal(lines(
      "loss",
      "  4 ┤⠙⣆",
      "    │ ⠈⢧⡀",
      "2.5 ┤   ⠳⡄   ⢀⣠⠤⣄⣀⣀",
      "  1 ┤    ⠙⣦⠴⠚⠉    ⠈⠉",
      "     1    step     4"),
      plot.lines({ 1, 2, 3, 4 }, { 4, 1, 2, 1.5 }, { width = 20, height = 4, title = "loss", x_label = "step" }))
  end)

  it("shade strips", function()
    assert.are.equal(lines(
      "t",
      "a         ·▒█",
      "long name █ !",
      "          1 3",
      "          1 ·░▒▓█ 100 (log)"),
      plot.heat({ { name = "a", values = { 1, 10, 100 } }, { name = "long name", values = { 100, [3] = 0 / 0 } } },
        { width = 30, columns = 3, title = "t", from = "1", to = "3" }))
  end)

  it("stay within their width, whatever the numbers", function()
    math.randomseed(helper.seed)
    for _ = 1, 60 do
      local n, width, x, y = math.random(1, 300), math.random(30, 120), {}, {}
      for i = 1, n do x[i], y[i] = i, 10 ^ math.random(-8, 8) * (math.random() < 0.1 and 0 or math.random()) end
      for _, text in ipairs { plot.bars(y, { width = width, marks = { { value = 0.5, name = "τ" } } }),
                              plot.lines(x, y, { width = width }) } do
        for line in text:gmatch "[^\n]+" do
          assert(format.width(line) <= width, ("%d > %d: %s (MB_SEED=%d)"):format(format.width(line), width, line, helper.seed))
        end
      end
    end
  end)

  it("label axes in few characters", function()
    for x, text in pairs { [1e-5] = "1e-5", [123456] = "123456", [0] = "0", [-2.5e7] = "-2.5e7", [48.1234] = "48.1" } do
      assert.are.equal(text, plot.label(x))
    end
    assert.are.equal("äöü…", plot.cut("äöü abc", 4))
  end)
end)

describe("values", function()
  it("of tensors have shape, dtype, device and aligned corners", function()
    assert.are.equal("tensor () f32 cpu: 2.5", show.text(mb.tensor(2.5, { device = "cpu" }), 80))
    assert.are.equal(lines("tensor (2, 3) f32 cpu", "   1.0000  -2.5000  10.0000", "   0.1250      nan     -inf"),
      show.text(mb.tensor({ { 1, -2.5, 10 }, { 0.125, 0 / 0, -math.huge } }, { device = "cpu" }), 80))
    assert.are.equal(lines("tensor (100) i32 cpu", "   0   1   2  …  97  98  99"),
      show.text(mb.arange(0, 100, { dtype = "i32", device = "cpu" }), 80))
    local text = show.text(mb.zeros(50, 1000, { device = "cpu" }), 60)
    assert(text:find("⋮", 1, true) and text:find("…", 1, true), text)
    for line in text:gmatch "[^\n]+" do assert(format.width(line) <= 60, line) end
    text = show.text(mb.ones(4, 5, 2, 2, { device = "cpu" }), 80)
    assert(text:find("[1, 1, :, :]", 1, true) and text:find("[4, 5, :, :]", 1, true), text)
    local t = mb.ones(2)
    local view = mb.tensor({ { 1, 2 }, { 3, 4 } }, { device = "cpu" }):transpose(1, 2)
    assert.are.equal(lines("tensor (2, 2) f32 cpu", "  1  3", "  2  4"), show.text(view, 80))
    assert.are.equal("tensor (2) f32 " .. t.device, show.cell(t))
  end)

  it("of tables are nested, cut, or columns", function()
    assert.are.equal("{ 1, 2, x = { 3 } }", show.text({ 1, 2, x = { 3 } }, 80))
    assert.are.equal("{}", show.text({}, 80))
    assert.are.equal(lines("name  sigma", "a       1.5", "b         2"),
      show.text({ { name = "a", sigma = 1.5 }, { name = "b", sigma = 2 } }, 80))
    local loop = { list = {} }
    for i = 1, 1000 do loop.list[i] = { i, { i } } end
    loop.again = loop
    local _, count = show.text(loop, 80):gsub("\n", "")
    assert(count < 40, count)
    assert.are.equal('"a\\nb"', show.text("a\nb", 80))
    assert(show.text(function(a, b, ...) return a, b, ... end, 80):find("^function%(a, b, %.%.%.%)  .*repl_plot_spec.lua:%d+$"))
    assert.are.equal("ema(0.9)", show.text(mb.threshold.ema(), 80))
  end)
end)
