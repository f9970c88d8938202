-- SPDX-License-Identifier: MIT
--
-- The element-wise optimizers, each against its formula in plain Lua over 20 steps.
local formula = require "tests.formula"
local helper = require "tests.helper"
local mb = require "moonbow"

local function sign(x) return x > 0 and 1 or x < 0 and -1 or 0 end

describe("rmsprop", function()
  -- PyTorch's single-tensor form, with the root's eps outside.
  local function rmsprop(lr, alpha, eps, momentum, centered, decay)
    return function(w, g, s)
      g = g + decay * w
      s.v = alpha * (s.v or 0) + (1 - alpha) * g * g
      local v = s.v
      if centered then
        s.a = (s.a or 0) + (1 - alpha) * (g - (s.a or 0))
        v = s.v - s.a * s.a
      end
      local d = g / (math.sqrt(v) + eps)
      if momentum == 0 then return w - lr * d end
      s.buf = momentum * (s.buf or 0) + d
      return w - lr * s.buf
    end
  end

  it("divides by the root mean square", function()
    formula.elements(function(m) return mb.optim.rmsprop(m) end, rmsprop(1e-2, 0.99, 1e-8, 0, false, 0))
    formula.elements(function(m)
      return mb.optim.rmsprop(m, { lr = 0.02, alpha = 0.9, eps = 1e-3, momentum = 0.8, weight_decay = 0.1 })
    end, rmsprop(0.02, 0.9, 1e-3, 0.8, false, 0.1))
  end)

  it("centered subtracts the mean", function()
    formula.elements(function(m) return mb.optim.rmsprop(m, { alpha = 0.8, eps = 1e-2, centered = true, momentum = 0.5 }) end,
      rmsprop(1e-2, 0.8, 1e-2, 0.5, true, 0))
  end)
end)

describe("adagrad", function()
  local function adagrad(lr, lr_decay, initial, eps, decay)
    return function(w, g, s, step)
      g = g + decay * w
      s.sum = (s.sum or initial) + g * g
      return w - lr / (1 + (step - 1) * lr_decay) * g / (math.sqrt(s.sum) + eps)
    end
  end

  it("divides by the root of the sum of squares", function()
    formula.elements(function(m) return mb.optim.adagrad(m) end, adagrad(1e-2, 0, 0, 1e-10, 0))
    formula.elements(function(m)
      return mb.optim.adagrad(m, { lr = 0.1, lr_decay = 0.05, initial = 0.1, eps = 1e-4, weight_decay = 0.2 })
    end, adagrad(0.1, 0.05, 0.1, 1e-4, 0.2))
  end)

  it("refuses an initial value that changes", function()
    helper.says("option 'initial' is used once", mb.optim.adagrad, require("tests.arena_model").Plain {},
      { initial = function() return 1 end })
  end)
end)

describe("sign methods", function()
  it("signsgd", function()
    formula.elements(function(m) return mb.optim.signsgd(m, { lr = 0.01, weight_decay = 0.1 }) end,
      function(w, g) return w - 0.01 * (sign(g) + 0.1 * w) end)
  end)

  it("signum", function()
    formula.elements(function(m) return mb.optim.signum(m, { lr = 0.01, momentum = 0.8, weight_decay = 0.1 }) end,
      function(w, g, s)
        s.m = 0.8 * (s.m or 0) + (1 - 0.8) * g
        return w - 0.01 * (sign(s.m) + 0.1 * w)
      end)
  end)

  it("lion", function()
    formula.elements(function(m) return mb.optim.lion(m, { lr = 0.01, betas = { 0.8, 0.95 }, weight_decay = 0.1 }) end,
      function(w, g, s)
        local m = s.m or 0
        s.m = 0.95 * m + (1 - 0.95) * g
        return w - 0.01 * (sign(0.8 * m + (1 - 0.8) * g) + 0.1 * w)
      end)
  end)
end)

describe("methods that measure lengths", function()
  local function norm_of(list)
    local sum = 0
    for _, x in ipairs(list) do sum = sum + x * x end
    return math.sqrt(sum)
  end

  it("lars", function()
    formula.parameters(function(m)
      return mb.optim.lars(m, { lr = 0.5, momentum = 0.8, trust_coefficient = 0.02, weight_decay = 0.1 })
    end, function(_, w, g, s)
      local length, slope = norm_of(w), norm_of(g)
      local trust = 0.02 * length / (slope + 0.1 * length + 1e-8)
      for e in ipairs(w) do
        s[e] = 0.8 * (s[e] or 0) + 0.5 * trust * (g[e] + 0.1 * w[e])
        w[e] = w[e] - s[e]
      end
    end)
  end)

  it("lars takes the gradient itself where a parameter is zero", function()
    local arena = require "tests.arena_model"
    local model = arena.Plain { dtype = "f64" }
    local p = model:parameter "h.0.bias"
    p.value:fill_(0)
    arena.set_gradients(model, 1)
    mb.optim.lars(model, { lr = 0.5 }):step()
    assert.is_true(p.value:equal(p.grad * -0.5))
  end)

  it("lamb", function()
    formula.parameters(function(m)
      return mb.optim.lamb(m, { lr = 0.05, betas = { 0.8, 0.9 }, eps = 1e-4, weight_decay = 0.1 })
    end, function(_, w, g, s, step)
      s.m, s.v = s.m or {}, s.v or {}
      local u = {}
      for e in ipairs(w) do
        s.m[e] = 0.8 * (s.m[e] or 0) + (1 - 0.8) * g[e]
        s.v[e] = 0.9 * (s.v[e] or 0) + (1 - 0.9) * g[e] ^ 2
        u[e] = s.m[e] / (1 - 0.8 ^ step) / (math.sqrt(s.v[e] / (1 - 0.9 ^ step)) + 1e-4) + 0.1 * w[e]
      end
      local ratio = norm_of(w) / norm_of(u)
      for e in ipairs(w) do w[e] = w[e] - 0.05 * ratio * u[e] end
    end)
  end)

  it("normalized_gd, parameter by parameter", function()
    formula.parameters(function(m)
      return mb.optim.normalized_gd(m, { lr = 0.05, momentum = 0.7, weight_decay = 0.1, scope = "parameter" })
    end, function(_, w, g, s)
      for e in ipairs(w) do s[e] = 0.7 * (s[e] or 0) + (1 - 0.7) * g[e] end
      local length = norm_of(s)
      for e in ipairs(w) do w[e] = w[e] * (1 - 0.05 * 0.1) - 0.05 * s[e] / (length + 1e-8) end
    end)
  end)

  it("normalized_gd moves all weights together by lr", function()
    local arena = require "tests.arena_model"
    local model = arena.Plain { dtype = "f64" }
    local opt = mb.optim.normalized_gd(model, { lr = 0.25 })
    for step = 1, 3 do
      arena.set_gradients(model, step)
      local before, moved, slope = arena.weights(model), 0, 0
      for _, p in ipairs(model:parameters()) do slope = slope + mb.sum(mb.square(p.grad)):item() end
      opt:step()
      for _, p in ipairs(model:parameters()) do
        local change = p.value - before[p.name]
        moved = moved + mb.sum(mb.square(change)):item()
        local wanted = p.grad * (-0.25 / math.sqrt(slope))
        assert.is_true(mb.max(mb.abs(change - wanted)):item() < 1e-8)
      end
      assert.near(0.25, math.sqrt(moved), 1e-7)
    end
  end)
end)

describe("sizes, groups and clippers together", function()
  local arena = require "tests.arena_model"

  it("take an update that counts and reduces nothing", function()
    local Root = mb.optim.define { name = "root", defaults = { lr = 0.1 },
      update = function(p, h) p.w = p.w - h.lr * p.g * mb.sqrt(p.w:numel()) end }
    formula.parameters(function(m) return Root(m, { lr = 0.01 }) end, function(_, w, g)
      for e in ipairs(w) do w[e] = w[e] - 0.01 * g[e] * math.sqrt(#w) end
    end)
  end)

  it("find what goes over all parameters before any group moves, with a clipper that changes nothing too", function()
    local Far = mb.optim.define { name = "far", defaults = { lr = 0.1 }, state = { "m" }, momentum = "m",
      update = function(p, h)
        p.m = 0.5 * p.m + p.g
        p.w = p.w - h.lr * p.m * mb.norm(p.w, { over = "all" })
      end }
    for _, on in ipairs { "momentum", "update" } do
      local plain, clipped = arena.Plain { seed = 2 }, arena.Plain { seed = 2 }
      local function make(m) return mb.optim.groups(m, { { where = "matrix", name = Far }, { where = "rest", name = Far } }) end
      local a, b, clip = make(plain), make(clipped), mb.clip.norm { max_norm = 1e9, on = on }
      for step = 1, 3 do
        arena.set_gradients(plain, step)
        arena.set_gradients(clipped, step)
        a:step()
        b:step(clip)
      end
      arena.assert_equal_states(arena.weights(plain), arena.weights(clipped), on)
    end
  end)

  it("a gradient that scion_light keeps and cannot use can be given up", function()
    local model = arena.Plain { seed = 2 }
    local opt = mb.optim.scion_light(model, { radius = { matrix = 3 } })
    assert.is_truthy(tostring(opt):find("radius = {matrix = 3}", 1, true))
    arena.set_gradients(model, 1)
    model:parameter("h.0.weight").grad:fill_(0 / 0)
    helper.says("model:zero_grad() gives that up", function() opt:step() end)
    model:zero_grad()
    arena.set_gradients(model, 1)
    opt:step()
  end)

  it("soap's first step has a momentum to clip", function()
    local model = arena.Plain { seed = 2 }
    local opt = mb.optim.soap(model)
    for step = 1, 2 do
      arena.set_gradients(model, step)
      opt:step(mb.clip.norm { max_norm = 1e9, on = "momentum" })
    end
    assert.are.equal(2, opt:state_dict().step)
  end)
end)
