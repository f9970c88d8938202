-- SPDX-License-Identifier: MIT
--
-- clip_where_spec.lua: opt:step(clip), with the gradient, the momentum or the update clipped, against the formulas of
-- the optimizers in tensor arithmetic; what must not change; and states. What is refused, and how exact an update is:
-- clip_where_refused_spec.lua.

local arena = require "tests.arena_model"
local helper = require "tests.helper"
local mb = require "moonbow"

local says = helper.says

local Plain, set_gradients, weights = arena.Plain, arena.set_gradients, arena.weights
local assert_equal_states = arena.assert_equal_states

local function half(p) return p.sigma / 2 end

-- ----- formulas -------------------------------------------------------------------------------------------
-- step(w, g, s, t, momentum, update) -> w, with the functions that clip; s keeps states by the optimizer's names.

local function sgd(lr, mu, nesterov, decay)
  return function(w, g, s, _, momentum, update)
    local d = g + decay * w
    if mu ~= 0 then
      s.buf = s.buf and mu * s.buf + d or d
      local clipped = momentum(s.buf)
      d = nesterov and d + mu * clipped or clipped
    end
    return w - lr * update(d)
  end
end

local function adam(lr, b1, b2, eps, decay, decoupled)
  return function(w, g, s, t, momentum, update)
    if not decoupled then g = g + decay * w end
    s.m = s.m and b1 * s.m + (1 - b1) * g or (1 - b1) * g
    s.v = s.v and b2 * s.v + (1 - b2) * g:square() or (1 - b2) * g:square()
    local u = momentum(s.m) / (1 - b1 ^ t) / (mb.sqrt(s.v / (1 - b2 ^ t)) + eps)
    return w - lr * (update(u) + (decoupled and decay or 0) * w)
  end
end

-- Its momentum is assigned in two steps, its weight too: the decay first.
local Slow = mb.optim.define {
  name = "slow", defaults = { lr = 0.1, beta = 0.8, decay = 0.3 }, state = { "m", drift = 1 },
  momentum = "m", decoupled_decay = "decay",
  update = function(p, h)
    p.m = h.beta * p.m
    p.m = p.m + (1 - h.beta) * p.g
    p.w = p.w * (1 - h.lr * h.decay)
    p.w = p.w - h.lr * (p.m + 0.1 * p.drift)
    p.drift = 0.5 * p.drift
  end,
}

local function slow(w, g, s, _, momentum, update)
  s.m = s.m and 0.8 * s.m + 0.2 * g or 0.2 * g
  s.drift = s.drift or mb.ones_like(w)
  local u = update(momentum(s.m) + 0.1 * s.drift)
  s.drift = 0.5 * s.drift
  return w - 0.1 * (u + 0.3 * w)
end

local cases = {
  { "sgd", function(m) return mb.optim.sgd(m, { lr = 0.05, weight_decay = 0.1 }) end, sgd(0.05, 0, false, 0.1),
    no_momentum = true },
  { "sgd with momentum", function(m) return mb.optim.sgd(m, { lr = 0.05, momentum = 0.9 }) end, sgd(0.05, 0.9, false, 0) },
  { "sgd with nesterov", function(m)
    return mb.optim.sgd(m, { lr = 0.02, momentum = 0.8, nesterov = true, weight_decay = 0.3 })
  end, sgd(0.02, 0.8, true, 0.3) },
  { "adam", function(m) return mb.optim.adam(m, { lr = 0.02, betas = { 0.7, 0.95 }, eps = 1e-3, weight_decay = 0.2 }) end,
    adam(0.02, 0.7, 0.95, 1e-3, 0.2, false) },
  { "adamw", function(m) return mb.optim.adamw(m, { lr = 0.02, betas = { 0.7, 0.95 }, eps = 1e-3, weight_decay = 0.2 }) end,
    adam(0.02, 0.7, 0.95, 1e-3, 0.2, true) },
  { "a defined one", function(m) return Slow(m) end, slow },
}

local function same(x) return x end

-- Applies clip_all(list of tensors) -> list in the place that `on` names to a step of all parameters. The formula runs
-- twice: once to see what is to be clipped, on copies of the states, once with the clipped values.
local function formula_step(model, formula, on, w, states, t, clip_all)
  local seen, names = {}, {}
  local function run(name, s, hook)
    local g = model:parameter(name).grad:clone()
    if on == "grad" then g = hook(g) end
    return formula(w[name], g, s, t, on == "momentum" and hook or same, on == "update" and hook or same)
  end
  for i, p in ipairs(model:parameters()) do
    local copy = {}
    for key, value in pairs(states[p.name]) do copy[key] = value end
    names[i] = p.name
    run(p.name, copy, function(x)
      seen[i] = x
      return x
    end)
  end
  local clipped = clip_all(seen, model:parameters())
  for i, name in ipairs(names) do w[name] = run(name, states[name], function() return clipped[i] end) end
end

local function spectral_formula(tensors, list)
  local result = {}
  for i, t in ipairs(tensors) do
    result[i] = list[i].role == "embedding" and t or mb.clip.matrix(t, { threshold = half, method = "exact" })
  end
  return result
end

local function norm_formula(tensors)
  local sum, result = 0, {}
  for _, t in ipairs(tensors) do sum = sum + t:square():sum():item() end
  for i, t in ipairs(tensors) do result[i] = t * math.min(1, 0.2 / (math.sqrt(sum) + 1e-6)) end
  return result
end

local function each_norm_formula(tensors)
  local result = {}
  for i, t in ipairs(tensors) do result[i] = norm_formula({ t })[1] end
  return result
end

local clippers = {
  { "spectral", function(on) return mb.clip.spectral { threshold = half, method = "exact", on = on } end, spectral_formula },
  { "norm", function(on) return mb.clip.norm { max_norm = 0.2, on = on } end, norm_formula },
  { "norm of each", function(on) return mb.clip.norm { max_norm = 0.2, scope = "matrix", on = on } end, each_norm_formula },
}

local function check_case(case, clipper, on, dtype, tolerance)
  local model = Plain { seed = 5, dtype = dtype }
  local opt, clip = case[2](model), clipper[2](on)
  local w, states = weights(model), {}
  for name in pairs(w) do states[name] = {} end
  for t = 1, 5 do
    set_gradients(model, t)
    formula_step(model, case[3], on, w, states, t, clipper[3])
    local report = opt:step(clip)
    assert.is_true(report.clipped or report[1] ~= nil and report[1].clipped)
    for _, p in ipairs(model:parameters()) do
      local gap = (p.value - w[p.name]):abs():max():item()
      assert(gap <= tolerance, ("%s, %s, %s of %s in %s, step %d: %g apart"):format(case[1], clipper[1], on, p.name,
        dtype, t, gap))
      for name, value in pairs(states[p.name]) do
        gap = (opt:state_dict()[p.name .. "/" .. name] - value):abs():max():item()
        assert(gap <= tolerance, ("%s: state %s is %g off"):format(case[1], name, gap))
      end
    end
  end
end

-- ----- specs ----------------------------------------------------------------------------------------------

-- The first, as it wants no tensors of others about.
describe("memory", function()
  it("allocates no more in a step than clipping gradients does, and leaves nothing behind", function()
    -- In 20 steps, the first two left out: allocations, and bytes that stay.
    local function cost(model, opt, clip)
      set_gradients(model, 1)
      mb.scope(function() opt:step(clip) end)
      opt:step(clip)
      mb.collect()
      local before = mb.memory()
      for _ = 1, 20 do opt:step(clip) end
      local after = mb.memory()
      return after.allocations - before.allocations, after.bytes_live - before.bytes_live
    end
    helper.no_leaks(function()
      for _, make in ipairs { function(on) return mb.clip.spectral { threshold = half, on = on } end,
          function(on) return mb.clip.norm { max_norm = 0.1, on = on } end } do
        local allowed
        for _, on in ipairs { "grad", "momentum", "update" } do
          local model, opt = mb.models.mlp { n_input = 5, n_hidden = 7, n_layer = 2, n_output = 3 }, nil
          mb.scope(function() opt = mb.optim.adamw(model) end)
          local allocations, bytes = cost(model, opt, make(on))
          allowed = allowed or allocations
          assert.is_true(allocations <= allowed, ("%d allocations, %d with gradients"):format(allocations, allowed))
          assert.are.equal(0, bytes)
        end
      end
    end)
  end)
end)

describe("opt:step(clip)", function()
  for _, on in ipairs { "grad", "momentum", "update" } do
    for _, clipper in ipairs(clippers) do
      it(("follows the formulas: %s, %s"):format(on, clipper[1]), function()
        for _, case in ipairs(cases) do
          if on ~= "momentum" or not case.no_momentum then
            check_case(case, clipper, on, "f64", 1e-12)
            check_case(case, clipper, on, "f32", 1e-5)
          end
        end
      end)
    end
  end

  it("is clip(model) and step for gradients, and takes a function", function()
    local one, two, three = Plain { seed = 4 }, Plain { seed = 4 }, Plain { seed = 4 }
    local function new() return mb.clip.spectral { threshold = mb.threshold.ema(), method = "exact" } end
    local a, b, c = new(), new(), new()
    local first, second, third = mb.optim.adamw(one), mb.optim.adamw(two), mb.optim.adamw(three)
    for t = 1, 4 do
      for _, model in ipairs { one, two, three } do set_gradients(model, t) end
      local expected = a(one)
      assert.is_nil(first:step())
      assert.are.same(expected, second:step(b))
      assert.are.same(expected, third:step(function(model) return c(model) end))
    end
    assert_equal_states(weights(one), weights(two), "two")
    assert_equal_states(weights(one), weights(three), "three")
    assert.are.same(a:state_dict(), b:state_dict())
  end)

  it("gives the bits of the plain step where nothing is clipped", function()
    local huge = {
      function(on) return mb.clip.spectral { threshold = 1e30, method = "exact", on = on } end,
      function(on) return mb.clip.spectral { threshold = function() end, on = on } end,
      function(on) return mb.clip.norm { max_norm = 1e30, on = on } end,
      function(on) return mb.clip.norm { max_norm = 1e30, on = on, scope = "matrix" } end,
    }
    for _, case in ipairs(cases) do
      for _, on in ipairs { "momentum", "update" } do
        for i, make in ipairs(case.no_momentum and on == "momentum" and {} or huge) do
          local plain, clipped = Plain { seed = 3 }, Plain { seed = 3 }
          local a, b, clip = case[2](plain), case[2](clipped), make(on)
          for t = 1, 4 do
            set_gradients(plain, t)
            set_gradients(clipped, t)
            a:step()
            b:step(clip)
          end
          local what = ("%s, %s, clipper %d"):format(case[1], on, i)
          assert_equal_states(weights(plain), weights(clipped), what)
          assert_equal_states(a:state_dict(), b:state_dict(), what)
        end
      end
    end
  end)

  it("gives those bits to the parameters that are left alone among others", function()
    for _, on in ipairs { "momentum", "update" } do
      local plain, clipped = Plain { seed = 3 }, Plain { seed = 3 }
      local a, b = mb.optim.adamw(plain, { lr = 0.1 }), mb.optim.adamw(clipped, { lr = 0.1 })
      local clip = mb.clip.spectral { method = "exact", on = on, threshold = function(p)
        return p.name == "h.0.bias" and p.sigma / 3 or p.name == "filter" and p.sigma or nil
      end, where = function(p) return p.name ~= "scale" end }
      for t = 1, 3 do
        set_gradients(plain, t)
        set_gradients(clipped, t)
        a:step()
        b:step(clip)
      end
      for name, value in pairs(weights(plain)) do
        assert.are.equal(name ~= "h.0.bias", value:equal(clipped:parameter(name).value), name)
      end
      -- With gradients that do not depend on the weights the states are the plain ones to rounding, and unclipped.
      local kept, expected = b:state_dict()["h.0.bias/m"], a:state_dict()["h.0.bias/m"]
      assert.is_true((kept - expected):abs():max():item() <= 1e-6)
    end
  end)

  it("keeps the momentum unclipped and takes the step along the clipped one", function()
    local model = Plain { seed = 1, dtype = "f64" }
    local before = weights(model)
    local opt = mb.optim.sgd(model, { lr = 1, momentum = 0.5 })
    set_gradients(model, 1)
    local report = opt:step(mb.clip.spectral { threshold = 0.25, method = "exact", on = "momentum" })
    for _, row in ipairs(report) do
      local p = model:parameter(row.name)
      assert.is_true(opt:state_dict()[row.name .. "/buf"]:equal(p.grad))
      local _, info = mb.clip.matrix(before[row.name] - p.value, { threshold = 1, method = "exact" })
      assert.near(math.min(row.sigma, 0.25), info.sigma, 1e-12)
    end
    assert.is_true((before.embed - model:parameter("embed").value - model:parameter("embed").grad):abs():max():item() < 1e-12)
  end)

  it("clips the momentum in groups, with other optimizers beside", function()
    local model, plain = Plain { seed = 2 }, Plain { seed = 2 }
    local function make(m)
      return mb.optim.groups(m, {
        { where = "vector", name = "sgd", lr = 0.1 },
        { where = "matrix", name = "sgd", momentum = 0.9, lr = 0.1 },
        { where = "rest", name = "adamw", lr = 0.1 },
      })
    end
    local a, b = make(model), make(plain)
    local clip = mb.clip.spectral { threshold = half, method = "exact", on = "momentum",
      where = function(p) return p.role ~= "vector" and p.role ~= "embedding" end }
    for t = 1, 3 do
      set_gradients(model, t)
      set_gradients(plain, t)
      assert.are.equal(3, #a:step(clip))
      b:step()
    end
    local changed = {}
    for _, p in ipairs(model:parameters()) do
      if not p.value:equal(plain:parameter(p.name).value) then changed[#changed + 1] = p.name end
    end
    assert.are.same({ "h.0.weight", "h.1.weight", "filter" }, changed)
  end)

  it("clips the parts of a parameter that a view makes of it", function()
    for _, on in ipairs { "momentum", "update" } do
      local function new()
        return mb.models.gpt2 { vocab_size = 11, block_size = 6, n_layer = 1, n_head = 2, n_embd = 8, seed = 5 }
      end
      local name = "h.0.attn.c_attn.weight"
      local plain, clipped = new(), new()
      local before = weights(clipped)
      local a, b = mb.optim.sgd(plain, { lr = 1, momentum = 0.9 }), mb.optim.sgd(clipped, { lr = 1, momentum = 0.9 })
      local clip = mb.clip.spectral { method = "exact", on = on, view = "heads", threshold = function(p)
        return p.name == name .. "[k.1]" and 0.5 or nil
      end }
      set_gradients(plain, 1)
      set_gradients(clipped, 1)
      a:step()
      b:step(clip)
      for _, p in ipairs(plain:parameters()) do
        local got = clipped:parameter(p.name).value
        if p.name ~= name then assert.is_true(got:equal(p.value), p.name) end
      end
      local function rows(t, from, to) return t:detach():slice(1, from, to):clone() end -- [k.1] is rows 13 to 16
      local step = before[name] - clipped:parameter(name).value
      local whole = before[name] - plain:parameter(name).value
      for _, ends in ipairs { { 1, 12 }, { 17, 24 } } do
        assert.is_true((rows(step, unpack(ends)) - rows(whole, unpack(ends))):abs():max():item() < 1e-6)
      end
      local want = mb.clip.matrix(rows(whole, 13, 16), { threshold = 0.5, method = "exact" })
      assert.is_true((rows(step, 13, 16) - want):abs():max():item() < 1e-5)
    end
  end)

  it("evaluates options once a step", function()
    for _, on in ipairs { "grad", "momentum", "update" } do
      local steps, model = {}, Plain {}
      local opt = mb.optim.sgd(model, { momentum = 0.9, lr = function(step)
        steps[#steps + 1] = step
        return 0.1
      end })
      local clip = mb.clip.spectral { threshold = half, on = on }
      for t = 1, 3 do
        set_gradients(model, t)
        opt:step(clip)
      end
      assert.are.same({ 1, 2, 3 }, steps)
    end
  end)

  it("with lr = 0 leaves the weights, advances the states, and clips what lr = 1 would make", function()
    for _, case in ipairs { { "sgd", { momentum = 0.9 } }, { "adamw", {} } } do
      local reports = {}
      for i, lr in ipairs { 0, 0.5 } do
        local model = Plain { seed = 6, dtype = "f64" }
        local before = weights(model)
        case[2].lr = lr
        local opt = mb.optim[case[1]](model, case[2])
        set_gradients(model, 1)
        reports[i] = opt:step(mb.clip.spectral { threshold = half, method = "exact", on = "update" })
        local state = opt:state_dict()["h.0.weight/" .. (case[1] == "sgd" and "buf" or "m")]
        assert.is_true(state:abs():max():item() > 0)
        assert.are.equal(1, opt.updates)
        for name, value in pairs(before) do
          assert.are.equal(lr == 0, value:equal(model:parameter(name).value), name)
        end
      end
      for i, row in ipairs(reports[1]) do
        assert.near(reports[2][i].sigma, row.sigma, 1e-12)
        assert.is_true(row.clipped)
      end
    end
  end)

  it("refuses what is not finite before anything changes, and goes on", function()
    for _, on in ipairs { "momentum", "update" } do
      for _, clip in ipairs { mb.clip.spectral { threshold = mb.threshold.ema(), on = on },
          mb.clip.norm { max_norm = 1, on = on }, mb.clip.norm { max_norm = 1, on = on, scope = "matrix" } } do
        local model = Plain { seed = 7 }
        local opt = mb.optim.adamw(model)
        set_gradients(model, 1)
        opt:step(clip)
        local before, states, memory = weights(model), {}, clip:state_dict()
        for key, value in pairs(opt:state_dict()) do states[key] = mb.is_tensor(value) and value:clone() or value end
        for _, wrong in ipairs { 0 / 0, math.huge } do
          set_gradients(model, 2)
          model:parameter("h.1.bias").grad:fill_(wrong)
          says(("%s: the %s of h.1.bias is not finite; nothing was changed"):format(clip.who, on), opt.step, opt, clip)
          assert_equal_states(before, weights(model), "weights")
          assert_equal_states(states, opt:state_dict(), "states")
          assert.are.same(memory, clip:state_dict())
        end
        set_gradients(model, 2)
        opt:step(clip)
        assert.are.equal(2, opt.updates)
      end
    end
  end)

  it("names the right one after another clipper has seen another", function()
    local model = Plain { seed = 7 }
    local opt = mb.optim.adamw(model)
    set_gradients(model, 1)
    model:parameter("embed").grad:fill_(0 / 0)
    says("the update of embed is not finite", opt.step, opt, mb.clip.norm { max_norm = 1, on = "update" })
    model:parameter("embed").grad:fill_(0)
    model:parameter("filter").grad:fill_(0 / 0)
    says("the update of filter is not finite", opt.step, opt,
      mb.clip.spectral { threshold = 1, on = "update", where = function(p) return p.role == "conv" end })
  end)

  it("changes nothing when a threshold goes wrong", function()
    local model = Plain {}
    local opt = mb.optim.adamw(model)
    set_gradients(model, 1)
    local before = weights(model)
    says("no threshold today", function()
      opt:step(mb.clip.spectral { on = "update", threshold = function() error("no threshold today", 0) end })
    end)
    assert_equal_states(before, weights(model), "weights")
    assert.are.equal(0, opt:state_dict()["embed/m"]:abs():max():item())
    assert.are.equal(0, opt.updates)
  end)

  it("goes on from states in the middle as if it had not stopped", function()
    for _, on in ipairs { "momentum", "update" } do
      local function make(model)
        return mb.optim.groups(model, {
          { where = "vector", name = "sgd", momentum = 0.9, lr = mb.schedule.linear { peak = 0.1, steps = 12, warmup = 3 } },
          { where = "rest", name = "adamw", lr = 0.01 },
        }), mb.clip.spectral { threshold = mb.threshold.quantile { q = 0.5, window = 4 }, method = "exact", on = on }
      end
      local function train(model, opt, clip, from, to)
        for t = from, to do
          set_gradients(model, t)
          opt:step(clip)
        end
      end
      local whole, part, resumed = Plain { seed = 8 }, Plain { seed = 8 }, Plain { seed = 9 }
      local a, a_clip = make(whole)
      local b, b_clip = make(part)
      local c, c_clip = make(resumed)
      train(whole, a, a_clip, 1, 12)
      train(part, b, b_clip, 1, 7)
      resumed:load_state(part:state())
      c:load_state_dict(b:state_dict())
      c_clip:load_state_dict(b_clip:state_dict())
      train(resumed, c, c_clip, 8, 12)
      assert_equal_states(weights(whole), weights(resumed), on)
      assert_equal_states(a:state_dict(), c:state_dict(), on)
      assert.are.same(a_clip:state_dict(), c_clip:state_dict())
    end
  end)

  it("keeps the states of clippers of different things apart", function()
    local state = mb.clip.spectral({ threshold = 1, on = "update" }):state_dict()
    assert.are.equal("update", state.on)
    local plain = mb.clip.spectral { threshold = 1 }
    says("the state has on 'update', this clipper 'grad'", plain.load_state_dict, plain, state)
  end)

  it("takes a clipper from optimizer to optimizer", function()
    for _, on in ipairs { "momentum", "update" } do
      local function new() return mb.clip.spectral { threshold = half, method = "exact", on = on } end
      local models, apart, shared = {}, {}, {}
      for i = 1, 4 do models[i] = Plain { seed = i % 2 } end
      for i = 1, 2 do apart[i], shared[i] = mb.optim.adamw(models[i]), mb.optim.adamw(models[i + 2]) end
      local first, second, both = new(), new(), new()
      for t = 1, 4 do
        for _, model in ipairs(models) do set_gradients(model, t) end
        apart[1]:step(first)
        apart[2]:step(second)
        for i = 1, 2 do shared[i]:step(both) end
      end
      for i = 1, 2 do assert_equal_states(weights(models[i]), weights(models[i + 2]), on) end
    end
  end)

  it("goes from clipper to clipper, with a clean buffer", function()
    local one, two = Plain { seed = 2 }, Plain { seed = 2 }
    local a, b = mb.optim.adamw(one, { lr = 0.1 }), mb.optim.adamw(two, { lr = 0.1 })
    local function all() return mb.clip.norm { max_norm = 0.5, on = "update" } end
    local function some(on)
      return mb.clip.spectral { threshold = half, on = on, method = "exact", where = function(p) return p.role == "conv" end }
    end
    local wide, narrow, momentum = all(), some "update", some "momentum"
    for t = 1, 6 do
      set_gradients(one, t)
      set_gradients(two, t)
      local kind = t % 3
      a:step(kind == 0 and wide or kind == 1 and narrow or momentum)
      b:step(kind == 0 and all() or some(kind == 1 and "update" or "momentum"))
    end
    assert_equal_states(weights(one), weights(two), "weights")
  end)
end)
