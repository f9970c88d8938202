-- SPDX-License-Identifier: MIT
--
-- clip_refused_spec.lua: states that do not fit a clipper, options that a method would ignore, and functions that fail: each
-- is refused in one line that names what it is about, before anything changes. What verify says of a result.

local helper = require "tests.helper"
local mb = require "moonbow"
local spectral = require "bindings.spectral"

local function said(fn, ...)
  local got = helper.error_of(fn, ...)
  assert.is_nil(got:find("\n", 1, true), got)
  assert.are.equal(1, select(2, got:gsub("%.lua:%d+: ", "")), got) -- one place, not two
  return got
end

local function says(text, fn, ...)
  local got = said(fn, ...)
  assert.is_truthy(got:find(text, 1, true), got)
end

local Model = mb.models.define {
  name = "pair",
  parameters = function(add)
    add("a", { 40, 90 }, { role = "matrix" })
    add("b", { 60, 50 }, { role = "matrix" })
  end,
  forward = function(p) return p.a:sum() + p.b:sum() end,
}

local function with_gradients(model)
  for _, p in ipairs(model:parameters()) do p.grad:randn_() end
  return model
end

before_each(function() mb.seed(helper.seed) end)

describe("a state", function()
  local function refused(text, clip, change)
    local before, state = clip:state_dict(), clip:state_dict()
    change(state)
    says(text, clip.load_state_dict, clip, state)
    local after = clip:state_dict()
    before.bases, after.bases = nil, nil
    assert.are.same(before, after)
  end

  it("is checked before anything changes", function()
    for name, threshold in pairs { ema = mb.threshold.ema(), quantile = mb.threshold.quantile(), zscore = mb.threshold.zscore(),
      autoclip = mb.threshold.autoclip() } do
      local clip = mb.clip.spectral { threshold = threshold, rank = 3, warm_start = true }
      clip(with_gradients(Model {}))
      refused("the state's step is the number -5, an integer of at least 0", clip, function(s) s.step = -5 end)
      refused("the state's states are nil, a table", clip, function(s) s.states = nil end)
      refused("the state of 'a' for " .. name, clip, function(s) s.states = { a = 3 } end)
      refused("has the number 3, a table was expected", clip, function(s) s.states = { a = 3 } end)
      refused("expected", clip, function(s) s.states = { a = { m = "much" } } end)
      refused("go by name, and one has the number 1", clip, function(s) s.states = { {} } end)
      refused("the state's basis of 'a' is the number 3", clip, function(s) s.bases = { a = 3 } end)
      refused("the state's basis of 'a' is a f32 tensor of shape (8, 12)", clip, function(s) s.bases.a = mb.zeros { 8, 12 } end)
      clip(with_gradients(Model {}))
    end
  end)

  it("of an array in a history is one of numbers", function()
    local clip = mb.clip.norm { threshold = mb.threshold.quantile() }
    for _, wrong in ipairs { { 1, "2" }, { 1, nil, 3 }, { x = 1 }, "1" } do
      refused("has history = ", clip, function(s) s.states["*"] = { history = wrong } end)
    end
  end)

  it("of sketches of another rank or dtype is another one's", function()
    local function new(o)
      o.threshold, o.warm_start = 1, true
      return mb.clip.spectral(o)
    end
    local three, two = new { rank = 3 }, new { rank = 2 }
    three(with_gradients(Model {}))
    says("the state has rank '3', this clipper '2'", two.load_state_dict, two, three:state_dict())
    local wide = new { rank = 3, dtype = "f64" }
    local state = three:state_dict()
    says("the state has dtype 'of the matrices', this clipper 'f64'", wide.load_state_dict, wide, state)
    state.dtype = "f64"
    says("the state's basis of 'a' is a f32 tensor of shape (3, 90), a tensor of f64 with 3 rows at most was expected",
      wide.load_state_dict, wide, state)
    wide(with_gradients(Model {}))
  end)

  it("knows all numbers of a policy apart", function()
    for _, pair in ipairs { { mb.threshold.ema { beta = 0.9999999 }, mb.threshold.ema { beta = 0.99999995 } },
      { 1, 1 + 2 ^ -52 }, { mb.threshold.quantile { q = 0.1 }, mb.threshold.quantile { q = 0.1 + 1e-12 } },
      { mb.threshold.zscore(), mb.threshold.zscore { epsilon = 1e-5 } } } do
      local one, other = mb.clip.norm { threshold = pair[1] }, mb.clip.norm { threshold = pair[2] }
      says("the state has threshold '", other.load_state_dict, other, one:state_dict())
    end
    assert.are.equal("ema(0.9)", tostring(mb.threshold.ema { beta = 0.9 }))
    assert.are.equal("ema(0.99999995)", tostring(mb.threshold.ema { beta = 0.99999995 }))
  end)
end)

describe("options that a method has no use for", function()
  it("are refused where they are given", function()
    for _, method in ipairs { "exact", "polar", "soft" } do
      for name, value in pairs { rank = 8, oversample = 5, power_iters = 1 } do
        local o = { threshold = 1, method = method, [name] = value }
        local text = ("option '%s' is for method 'randomized'; method '%s' does not use it"):format(name, method)
        says("mb.clip.spectral: " .. text, mb.clip.spectral, o)
        says("mb.clip.matrix: " .. text, mb.clip.matrix, mb.ones { 2, 2 }, o)
      end
      says("option 'rank' is for method", mb.clip.spectral, { threshold = 1, method = method, rank = "auto" })
    end
    says("mb.clip.matrix: warm_start goes on from call to call", mb.clip.matrix, mb.ones { 2, 2 },
      { threshold = 1, warm_start = true })
  end)
end)

describe("a function that fails", function()
  local function broken() error { "a table" } end

  it("is named with the parameter, and an answer with what it is", function()
    local model = with_gradients(Model {})
    for _, name in ipairs { "where", "scope", "view" } do
      local clip = mb.clip.spectral { threshold = 1, [name] = broken }
      says(("mb.clip.spectral: %s failed for 'a': a table"):format(name), clip, model)
    end
    local clip = mb.clip.spectral { threshold = 1, where = broken }
    says("where failed for 'a'", clip.describe, clip, model:parameter "a")
    says("returned the string '2' for 'a'", mb.clip.spectral { threshold = function() return "2" end }, model)
    says("returned a table for 'a'", mb.clip.spectral { threshold = 1, rule = function() return {} end }, model)
    says("returned a table, a finite number", mb.clip.matrix, mb.ones { 2, 2 }, {
      threshold = 1, rule = function() return {} end,
    })
    says("failed: a table", mb.clip.matrix, mb.ones { 2, 2 }, { threshold = broken })
  end)

  it("is named where the engine refuses a matrix", function()
    local bad = mb.full({ 2, 2 }, 0 / 0)
    says("mb.clip.matrix: the matrix of shape (2, 2) holds NaN or Inf", mb.clip.matrix, bad, { threshold = 1 })
    local model, other = with_gradients(Model {}), with_gradients(Model { dtype = "f64" })
    local clip = mb.clip.spectral { threshold = 1, rank = 2, warm_start = true }
    clip(model)
    local state = clip:state_dict()
    local fresh = mb.clip.spectral { threshold = 1, rank = 2, warm_start = true }
    fresh:load_state_dict(state)
    says("mb.clip.spectral: a basis (2, 90) of f64 was expected for 'a', not (2, 90) of f32", fresh, other)
    fresh(model)
  end)

  it("is told from a call with the wrong thing", function()
    local model = with_gradients(Model {})
    local opt, clip = mb.optim.sgd(model), mb.clip.spectral { threshold = 1 }
    says("opt:step: a clipper or a function(model) was expected, not a model", opt.step, opt, model)
    says("a model was expected, not an optimizer: write opt:step(clip), or clip(model)", clip, opt)
  end)
end)

describe("verify", function()
  it("tells not finite from not changed", function()
    local g = mb.randn { 6, 5 }
    local plan = spectral.plan
    finally(function() spectral.plan = plan end)
    for _, measured in ipairs { 0 / 0, math.huge } do
      function spectral.plan(...)
        local made = plan(...)
        function made.verify() return { [0] = measured } end
        return made
      end
      local _, info = mb.clip.matrix(g, { threshold = 1, method = "exact", verify = true })
      assert.is_true(info.clipped and info.exceeds)
      assert.are.equal(tostring(measured), tostring(info.after))
    end
    spectral.plan = plan
    local _, same = mb.clip.matrix(g, { threshold = 100, method = "exact", verify = true })
    assert.are.same({ same.sigma, false, false }, { same.after, same.exceeds, same.clipped })
  end)

  it("holds the result against tau, and what the dtype can hold", function()
    local g = mb.randn { 40, 30 }
    local _, info = mb.clip.matrix(g, { threshold = 1e-9, method = "exact", verify = true })
    assert.are.equal(1e-6 * info.sigma, info.rounding)
    assert.is_true(info.after > info.tau and info.after < info.tau + info.rounding)
    assert.is_false(info.exceeds)
    local _, wide = mb.clip.matrix(g:to "f64", { threshold = 1e-9, method = "exact", verify = true })
    assert.is_true(wide.after < 1.001e-9 + 1e-8 * wide.sigma and wide.rounding == 1e-8 * wide.sigma)
    local _, off = mb.clip.matrix(g, { threshold = 1, method = "exact", verify = true, rule = function(s, tau)
      return math.min(s, tau * (1 + 5e-5))
    end })
    assert.is_true(off.exceeds)
  end)
end)
