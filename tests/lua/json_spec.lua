-- SPDX-License-Identifier: MIT
--
-- json_spec.lua: strict reading, exact writing.

local helper = require "tests.helper"
local json = require "moonbow.io.json"

describe("json", function()
  local function round_trip(value)
    return json.decode(assert(json.encode(value)))
  end

  it("reads values of every kind", function()
    local v = assert(json.decode ' {"a": [1, -2.5e3, true, false, null], "b": {"c": "x"}, "d": [], "e": {}} ')
    assert.are.equal(1, v.a[1])
    assert.are.equal(-2500, v.a[2])
    assert.is_true(v.a[3])
    assert.is_false(v.a[4])
    assert.are.equal(json.null, v.a[5])
    assert.are.equal("x", v.b.c)
    assert.are.equal(json.array, getmetatable(v.d))
    assert.is_nil(getmetatable(v.e))
    assert.are.equal(7, json.decode "7")
  end)

  it("reads escapes and surrogate pairs", function()
    assert.are.equal('a"\\/\b\f\n\r\t\195\169\240\157\132\158', json.decode [["a\"\\\/\b\f\n\r\t\u00e9\ud834\udd1e"]])
  end)

  local bad = {
    ["{"] = "key", ["[1,]"] = "value", ["[1 2]"] = "','", ['{"a":1,"a":2}'] = "twice", ['{"a":null,"a":2}'] = "twice",
    ["{a:1}"] = "key", ["01"] = "zero", ["1 2"] = "after the value", ["NaN"] = "value", ["Infinity"] = "value",
    ["0x10"] = "after", ["1e999"] = "too large", ['"\\q"'] = "escape", ['"\\u12g4"'] = "hexadecimal",
    ['"\\ud834"'] = "surrogate", ['"\\udd1e"'] = "surrogate", ['"a\nb"'] = "0x0A", ['"abc'] = "the end",
    ["\255"] = "UTF-8", ['"\192\128"'] = "UTF-8", ['"\237\160\128"'] = "UTF-8", [""] = "the end", ["tru"] = "'t'",
    ["1."] = "after", [".5"] = "value", ["+1"] = "value", ["[1"] = "the end", ['{"a" 1}'] = "':'",
  }
  for text, part in pairs(bad) do
    it(("refuses %q"):format(text), function()
      local value, problem = json.decode(text)
      assert.is_nil(value)
      assert.is_truthy(problem:find(part, 1, true), problem)
      assert.is_truthy(problem:find "^at byte %d+: ", problem)
    end)
  end

  it("limits nesting instead of running out of stack", function()
    local value, problem = json.decode(("["):rep(100000))
    assert.is_nil(value)
    assert.is_truthy(problem:find "nested deeper")
    local deep = {}
    deep.deep = deep
    value, problem = json.encode(deep)
    assert.is_nil(value)
    assert.is_truthy(problem:find "nested deeper")
  end)

  it("gives every number back exactly", function()
    math.randomseed(helper.seed)
    for _ = 1, 20000 do
      local x = (math.random() - 0.5) * 2 ^ math.random(-1070, 1000)
      assert(round_trip(x) == x, ("MB_SEED=%d: %.17g"):format(helper.seed, x))
    end
    for _, x in ipairs { 0, 1, -1, 2 ^ 53, -2 ^ 53, 2 ^ 53 - 1, 1e308, 5e-324, 0.1, 1 / 3, 123456789012345680 } do
      assert.are.equal(x, round_trip(x))
    end
    assert.are.equal(-math.huge, 1 / round_trip(-0.0))
    assert.are.equal("0.1", json.encode(0.1))
    assert.are.equal("100", json.encode(100))
    assert.are.equal("0.333333333", json.encode(1 / 3, { digits = 9 }))
  end)

  it("writes keys in order, and strings that can be read again", function()
    assert.are.equal('{"a":1,"b":{},"c":[1,2]}', json.encode { c = { 1, 2 }, a = 1, b = {} })
    assert.are.equal("[]", json.encode(setmetatable({}, json.array)))
    local all = {}
    for i = 0, 127 do all[i + 1] = string.char(i) end
    local text = table.concat(all) .. "\195\169\240\157\132\158"
    assert.are.equal(text, round_trip(text))
  end)

  it("says what has no JSON", function()
    for part, value in pairs { ["NaN"] = 0 / 0, ["-Infinity"] = -math.huge, ["a function"] = print, ["UTF-8"] = "\255",
                               ["a number"] = { [1] = 1, a = 2 } } do
      local text, problem = json.encode { value }
      assert.is_nil(text)
      assert.is_truthy(problem:find(part, 1, true), problem)
    end
    assert.are.equal('["NaN","Infinity","-Infinity"]', json.encode({ 0 / 0, 1 / 0, -1 / 0 }, { nonfinite = true }))
  end)
end)
