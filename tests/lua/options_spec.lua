-- Checks of option tables: defaults, nearest names, bounds, and the place of errors.
local helper = require "tests.helper"
local options = require "moonbow.options"

local spec = {
  lr = { type = "number|function", default = 0.1, min = 0 },
  betas = { type = "table", default = { 0.9, 0.999 } },
  method = { choices = { "exact", "randomized" }, default = "exact" },
  rank = { type = "integer", min = 1, max = 64 },
  momentum = { type = "number", default = 0, min = 0, below = 1 },
  rate = { type = "number", above = 0 },
  name = { type = "string", required = true },
  even = { type = "integer", check = function(x) if x % 2 == 1 then return "an even number" end end },
}

local function error_with(given)
  local text = helper.error_of(function()
    local o = options.check("mb.thing", given, spec)
    return o
  end)
  return (text:gsub("^.*options_spec.lua:", "options_spec.lua:"))
end

describe("options", function()
  it("are a new table with defaults filled in", function()
    local given = { name = "x", lr = 1 }
    local o = options.check("mb.thing", given, spec)
    assert.are.same({ name = "x", lr = 1, betas = { 0.9, 0.999 }, method = "exact", momentum = 0 }, o)
    assert.are.same({ name = "x", lr = 1 }, given)
    o.betas[1] = 0
    assert.are.same({ 0.9, 0.999 }, options.check("mb.thing", given, spec).betas)
  end)

  it("take every value that fits", function()
    for _, given in ipairs {
      { lr = function() return 1 end }, { lr = 0 }, { method = "randomized" }, { rank = 64 }, { momentum = 0.99 },
      { lr = setmetatable({}, { __call = function() return 1 end }) }, { even = 4 },
    } do
      given.name = "x"
      assert.has_no.errors(function() options.check("mb.thing", given, spec) end)
    end
  end)

  it("are refused with the option, what was found and what was expected", function()
    local cases = {
      { { name = "x", mometum = 1 }, "mb.thing: unknown option 'mometum', did you mean 'momentum'?" },
      { { name = "x", LR = 1 }, "mb.thing: unknown option 'LR', did you mean 'lr'?" },
      { { name = "x", zzzzzz = 1 }, "unknown option 'zzzzzz'; there are betas, even, lr, method, momentum" },
      { { name = "x", lr = "fast" }, "option 'lr' must be a number or a function, not the string 'fast'" },
      { { name = "x", lr = -1 }, "option 'lr' must be at least 0, not the number -1" },
      { { name = "x", lr = 0 / 0 }, "option 'lr' must be a number that is not NaN" },
      { { name = "x", lr = {} }, "option 'lr' must be a number or a function, not a table" },
      { { name = "x", rank = 1.5 }, "option 'rank' must be an integer, not the number 1.5" },
      { { name = "x", rank = 65 }, "option 'rank' must be at most 64, not the number 65" },
      { { name = "x", momentum = 1 }, "option 'momentum' must be less than 1, not the number 1" },
      { { name = "x", rate = 0 }, "option 'rate' must be more than 0, not the number 0" },
      { { name = "x", even = 3 }, "option 'even' must be an even number, not the number 3" },
      { { name = "x", method = "exakt" }, "must be one of 'exact', 'randomized' (did you mean 'exact'?), not" },
      { {}, "option 'name' is missing, a string is needed" },
      { { name = "x", 7 }, "options have names, but the table holds the unnamed value the number 7" },
      { "x", "mb.thing: a table of options was expected, not the string 'x'" },
    }
    for _, case in ipairs(cases) do
      local text = error_with(case[1])
      assert.matches(case[2], text, 1, true)
      assert.matches("^options_spec.lua:%d+: ", text)
    end
  end)
end)

describe("the nearest name", function()
  local names = { "adamw", "adam", "sgd", "muon", "clipped_scion" }

  it("is found for slips of the finger", function()
    assert.are.equal("adamw", options.nearest("adamv", names))
    assert.are.equal("adam", options.nearest("aadm", names))
    assert.are.equal("sgd", options.nearest("SGD", names))
    assert.are.equal("clipped_scion", options.nearest("scion", names))
    assert.is_nil(options.nearest("lbfgs", names))
  end)
end)
