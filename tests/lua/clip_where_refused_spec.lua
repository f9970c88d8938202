-- SPDX-License-Identifier: MIT
--
-- clip_where_refused_spec.lua: opt:step(clip) where the momentum or the update cannot be clipped, with the texts; how
-- exactly an update is seen; names and options.

local fuse = require "moonbow.fuse"
local arena = require "tests.arena_model"
local helper = require "tests.helper"
local linear = require "moonbow.optim.linear"
local mb = require "moonbow"

local says = helper.says

local Plain, set_gradients, weights = arena.Plain, arena.set_gradients, arena.weights
local assert_equal_states = arena.assert_equal_states

local function half(p) return p.sigma / 2 end

before_each(function() mb.seed(helper.seed) end)

describe("clipping the momentum is refused", function()
  local function refused(text, opt, given)
    local o = { threshold = 1, on = "momentum" }
    for key, value in pairs(given or {}) do o[key] = value end
    local before = weights(opt.model)
    set_gradients(opt.model, 1)
    says(text, function() opt:step(mb.clip.spectral(o)) end)
    assert_equal_states(before, weights(opt.model), "weights")
    assert.are.equal(0, opt.updates)
  end

  local function defined(name, update, momentum)
    return mb.optim.define { name = name, defaults = { lr = 0.1, b = 0.9 }, state = { "m" }, momentum = momentum,
                             update = update }(Plain {})
  end

  it("where there is none", function()
    refused("mb.clip.spectral: on = \"momentum\" takes 'h.0.weight', but optimizer 'sgd' keeps no 'buf' with these options: "
      .. "it has no momentum; or leave it out with `where`", mb.optim.sgd(Plain {}))
    refused("but optimizer 'unnamed' has no momentum that it names; momentum = \"<state>\" in its definition does",
      defined("unnamed", function(p, h)
        p.m = h.b * p.m + p.g
        p.w = p.w - h.lr * p.m
      end))
    refused("but optimizer 'still' never assigns its momentum, p.m", defined("still", function(p, h)
      p.w = p.w - h.lr * p.m
    end, "m"))
    local model = Plain {}
    refused("takes 'filter', but optimizer 'sgd' keeps no 'buf'", mb.optim.groups(model, {
      { where = "conv", name = "sgd" }, { where = "rest", name = "adamw" },
    }))
  end)

  it("by norm, which says so without `where`", function()
    local opt = mb.optim.sgd(Plain {})
    local got = helper.error_of(opt.step, opt, mb.clip.norm { max_norm = 1, on = "momentum" })
    assert.is_truthy(got:find("mb.clip.norm: on = \"momentum\" takes 'embed', but optimizer 'sgd' keeps no 'buf'", 1, true), got)
    assert.is_nil(got:find("where", 1, true))
  end)

  it("where the step does not use the new one", function()
    refused("but optimizer 'lion' moves w without reading the new p.m: clipping it would change nothing",
      defined("lion", function(p, h)
        p.w = p.w - h.lr * mb.sign(0.9 * p.m + (1 - 0.9) * p.g)
        p.m = h.b * p.m + (1 - h.b) * p.g
      end, "m"))
  end)

  it("where the step uses it past the state, wholly or in part", function()
    local text = "computes w from what it assigns to p.m without reading it there, so that clipping would miss it; assign p.m "
      .. "first, then read p.m where the new momentum is meant"
    refused("but optimizer 'around' " .. text, defined("around", function(p, h)
      local m = h.b * p.m + p.g
      p.m = m
      p.w = p.w - h.lr * m
    end, "m"))
    refused("but optimizer 'half' " .. text, defined("half", function(p, h)
      local m = h.b * p.m + p.g
      p.m = m
      p.w = p.w - h.lr * (p.g + mb.sqrt(mb.abs(m)) + p.m)
    end, "m"))
    refused("but optimizer 'again' " .. text, defined("again", function(p, h)
      p.m = h.b * p.m + p.g
      p.w = p.w - h.lr * (1 * (p.g + h.b * p.m) + p.m)
      p.m = p.m * 1
    end, "m"))
  end)
end)

describe("clipping the update", function()
  it("is refused without an lr, or without an update", function()
    local function refused(text, definition)
      local opt = mb.optim.define(definition)(Plain {})
      says(text, function() opt:step(mb.clip.spectral { threshold = 1, on = "update" }) end)
    end
    refused("takes 'h.0.weight', but optimizer 'rateless' has no number 'lr', by which its update is divided", {
      name = "rateless", defaults = { rate = 1 }, update = function(p, h) p.w = p.w - h.rate * p.g end })
    refused("takes 'h.0.weight', but optimizer 'watcher' never assigns p.w", {
      name = "watcher", defaults = { lr = 1 }, state = { "m" }, update = function(p) p.m = p.m + p.g end })
  end)

  it("shows states that follow the weight the clipped one", function()
    local Shadow = mb.optim.define { name = "shadow", defaults = { lr = 0.5 }, state = { "copy" }, update = function(p, h)
      p.w = p.w - h.lr * p.g
      p.copy = 2 * p.w
    end }
    local model = Plain { dtype = "f64" }
    local opt = Shadow(model)
    set_gradients(model, 1)
    opt:step(mb.clip.spectral { threshold = half, method = "exact", on = "update" })
    for _, p in ipairs(model:parameters()) do
      assert.is_true((opt:state_dict()[p.name .. "/copy"] - 2 * p.value):abs():max():item() <= 1e-15)
    end
  end)

  it("sees the update as exactly as the step makes it, however small lr is", function()
    local largest = {}
    for _, dtype in ipairs { "f64", "f32" } do
      for _, name in ipairs { "sgd", "adam", "adamw" } do
        local model = Plain { seed = 1, dtype = dtype }
        for _, p in ipairs(model:parameters()) do p.value:detach():fill_(1) end
        local opt = mb.optim[name](model, { lr = 1e-7, weight_decay = 0.25 })
        local clip = mb.clip.spectral { threshold = half, method = "exact", on = "update" }
        set_gradients(model, 1)
        for i, row in ipairs(opt:step(clip)) do
          local key = name .. i
          largest[key] = largest[key] or row.sigma
          assert(math.abs(row.sigma - largest[key]) <= 1e-6 * largest[key], ("%s, %s: %.9g instead of %.9g"):format(name,
            row.name, row.sigma, largest[key]))
        end
      end
    end
  end)

  it("takes sums apart where it can, and computes the same where it cannot", function()
    local expressions = {
      function(p, h) return p.w - h.lr * p.g end,
      function(p, h) return (1 - h.lr * h.decay) * p.w - h.lr * p.g end,
      function(p, h) return p.w - h.lr * (p.g + h.decay * p.w) end,
      function(p, h) return -(h.lr * p.g - p.w) end,
      function(p, h) return (p.w - h.lr * p.g) / (1 + h.lr) end,
      function(p, h) return h.lr / p.w + p.w end,
      function(p, h) return p.w - h.lr * p.g * p.w end,
      function(p, h) return p.w * p.w + h.lr end,
      function(p) return mb.where(mb.less(p.g, 0), p.w, 2 * p.w) end,
      function(p, h) return 0.5 * (p.w + 3) + h.lr end,
      function(p) return p.w * (1 - 0.5) end,
      function(p) return p.w * 1 end,
      function(p) return p.g end,
      function(p) return 2 - p.w end,
      function(p, h) return h.lr + 0 * p.g end,
    }
    local w, g = mb.randn({ 40 }, { dtype = "f64" }), mb.randn({ 40 }, { dtype = "f64" })
    for i, x in ipairs(expressions) do
      for _, decay in ipairs { false, 0.3 } do
        local u, expected = mb.zeros_like(w), mb.zeros_like(w)
        local numbers = { lr = 0.125, decay = 0.3 }
        mb.fuse(function(p, h) p.u = linear.change(p.w, x(p, h), h.lr, decay and h.decay) end)({ w = w, g = g, u = u }, numbers)
        mb.fuse(function(p, h) p.u = (p.w - x(p, h)) / h.lr end)({ w = w, g = g, u = expected }, numbers)
        if decay then expected = expected - decay * w end
        local gap = (u - expected):abs():max():item()
        assert(gap <= 1e-12 * math.max(1, expected:abs():max():item()), ("expression %d: %g apart"):format(i, gap))
      end
    end
    local slopes = {}
    mb.fuse(function(p, h)
      for i, x in ipairs(expressions) do
        local slope, rest = linear.split(x(p, h), p.w)
        slopes[i] = (slope and "w" or "") .. (rest and (fuse.contains(rest, p.w) and " and more of it" or " and more") or "")
      end
      p.u = p.w
    end)({ w = w, g = g, u = mb.zeros_like(w) }, { lr = 0.1, decay = 0.3 })
    assert.are.same({ "w and more", "w and more", "w and more", "w and more", "w and more", "w and more of it",
      "w and more of it", " and more of it", " and more of it", "w and more", "w", "w", " and more", "w and more", " and more" },
      slopes)
  end)
end)

describe("a clipper with `on`", function()
  it("cannot be called with the model unless it clips gradients", function()
    local model = Plain {}
    says('mb.clip.spectral: on = "update" clips inside the optimizer\'s step: write opt:step(clip), not clip(model)',
      mb.clip.spectral { threshold = 1, on = "update" }, model)
    says('mb.clip.norm: on = "momentum" clips inside the optimizer\'s step: write opt:step(clip), not clip(model)',
      mb.clip.norm { max_norm = 1, on = "momentum" }, model)
    says("did you mean 'momentum'?", mb.clip.spectral, { threshold = 1, on = "momentun" })
    says("must be one of 'grad', 'momentum', 'update'", mb.clip.norm, { max_norm = 1, on = "weights" })
  end)

  it("must be one", function()
    local opt = mb.optim.sgd(Plain {})
    says("opt:step: a clipper or a function(model) was expected, not the number 3", function() opt:step(3) end)
    says("opt:step: a clipper or a function(model) was expected, not a table", function() opt:step {} end)
    says("needs the methods parameters and change", function()
      opt:step(setmetatable({ on = "update" }, { __call = function() end }))
    end)
    says("mb.clip.spectral: `where` takes no parameter of model 'plain'", function()
      opt:step(mb.clip.spectral { threshold = 1, on = "update", where = function() end })
    end)
  end)

  it("says so", function()
    local p = Plain({}):parameter "h.0.weight"
    local clip = mb.clip.spectral { threshold = 0.5, method = "exact", on = "momentum" }
    assert.are.equal("momentum spectral const(0.5), exact", clip:describe(p))
    assert.is_truthy(tostring(clip):find(', scope = "matrix", on = "momentum" }', 1, true), tostring(clip))
    assert.are.equal("update norm(1) each", mb.clip.norm({ max_norm = 1, scope = "matrix", on = "update" }):describe(p))
    assert.are.equal('mb.clip.norm { max_norm = 1, scope = "global", on = "update" }',
      tostring(mb.clip.norm { max_norm = 1, on = "update" }))
  end)
end)

describe("mb.optim.define", function()
  it("checks the names that clippers need", function()
    local function update(p, h) p.w = p.w - h.lr * p.g end
    local function define(more)
      local d = { name = "x", defaults = { lr = 1, wd = 0, on = true }, state = { "mom" }, update = update }
      for key, value in pairs(more) do d[key] = value end
      return mb.optim.define(d)
    end
    says("optimizer 'x': momentum names 'mon', which is no state, did you mean 'mom'?", define, { momentum = "mon" })
    says("optimizer 'x': decoupled_decay names 'wdd', which is no option with a number as its default, did you mean 'wd'?",
      define, { decoupled_decay = "wdd" })
    says("decoupled_decay names 'on', which is no option with a number", define, { decoupled_decay = "on" })
    define { momentum = "mom", decoupled_decay = "wd" }
  end)
end)
