-- SPDX-License-Identifier: MIT
--
-- Optimizers: each against its formula in plain Lua, the door for one's own, groups, states, and wrong use.
-- Against PyTorch over whole runs: tests/golden/optim_runs_spec.lua.
local formula = require "tests.formula"
local helper = require "tests.helper"
local mb = require "moonbow"

local says = helper.says

-- Parameters of several roles, of sizes that do not fill a vector, with groups that leave gaps in the arena.
local Plain = mb.models.define {
  name = "plain",
  parameters = function(add)
    for i = 0, 2 do
      add(("h.%d.weight"):format(i), { 7, 5 }, { role = "matrix", init = "normal", std = 0.5 })
      add(("h.%d.bias"):format(i), { 3 }, { role = "vector", init = "uniform", width = 1 })
    end
    add("embed", { 11, 3 }, { role = "embedding", init = "normal", std = 1 })
    add("scale", { 1 }, { role = "vector", init = "ones" })
  end,
  forward = function(p) return p.scale * mb.sum(p["h.0.weight"]) end,
}

-- A gradient that depends on parameter, element and step only.
local function gradient_at(name, element, step)
  return math.sin(#name + 1.7 * element + 2.3 * step) * (element % 3 == 0 and 0.01 or 1)
end

local function set_gradients(model, step)
  for _, p in ipairs(model:parameters()) do
    local values = {}
    for e = 1, p.value.numel do values[e] = gradient_at(p.name, e, step) end
    p.grad:copy_(mb.tensor(values, { dtype = model.dtype }):reshape(p.shape))
  end
end

local function flat_values(t) return t:reshape(-1):totable() end

local check = formula.elements

describe("built-in optimizers follow their formulas:", function()
  local function sgd(lr, momentum, nesterov, decay)
    return function(w, g, s)
      g = g + decay * w
      if momentum ~= 0 then
        s.buf = s.buf and momentum * s.buf + g or g -- the first update takes the gradient itself
        g = nesterov and g + momentum * s.buf or s.buf
      end
      return w - lr * g
    end
  end

  it("sgd", function()
    check(function(m) return mb.optim.sgd(m, { lr = 0.05 }) end, sgd(0.05, 0, false, 0))
    check(function(m) return mb.optim.sgd(m, { lr = 0.05, weight_decay = 0.1 }) end, sgd(0.05, 0, false, 0.1))
    check(function(m) return mb.optim.sgd(m, { lr = 0.05, momentum = 0.9 }) end, sgd(0.05, 0.9, false, 0))
    check(function(m) return mb.optim.sgd(m, { lr = 0.02, momentum = 0.8, nesterov = true, weight_decay = 0.3 }) end,
      sgd(0.02, 0.8, true, 0.3))
  end)

  -- Bias corrections by products, not powers, so that the formula is another one than the optimizer's.
  local function adam(lr, b1, b2, eps, decay, decoupled)
    return function(w, g, s)
      if decoupled then w = w - lr * decay * w else g = g + decay * w end
      s.m, s.v = b1 * (s.m or 0) + (1 - b1) * g, b2 * (s.v or 0) + (1 - b2) * g * g
      s.p1, s.p2 = (s.p1 or 1) * b1, (s.p2 or 1) * b2
      return w - lr * (s.m / (1 - s.p1)) / (math.sqrt(s.v / (1 - s.p2)) + eps)
    end
  end

  it("adam", function()
    check(function(m) return mb.optim.adam(m) end, adam(1e-3, 0.9, 0.999, 1e-8, 0, false))
    check(function(m) return mb.optim.adam(m, { lr = 0.02, betas = { 0.7, 0.95 }, eps = 1e-3, weight_decay = 0.2 }) end,
      adam(0.02, 0.7, 0.95, 1e-3, 0.2, false))
  end)

  it("adamw", function()
    check(function(m) return mb.optim.adamw(m) end, adam(1e-3, 0.9, 0.999, 1e-8, 0.01, true))
    check(function(m) return mb.optim.adamw(m, { lr = 0.02, betas = { 0.7, 0.95 }, eps = 1e-3, weight_decay = 0.2 }) end,
      adam(0.02, 0.7, 0.95, 1e-3, 0.2, true))
  end)

  it("with options that are functions of the step, counted from 1", function()
    local steps = {}
    check(function(m)
      return mb.optim.adamw(m, {
        lr = function(step)
          steps[#steps + 1] = step
          return 0.1 / step
        end,
        betas = { function(step) return 1 - 1 / (step + 1) end, 0.9 }, eps = 1e-2, weight_decay = 0,
      })
    end, function(w, g, s, step)
      local lr, b1, b2 = 0.1 / step, 1 - 1 / (step + 1), 0.9
      s.m, s.v = b1 * (s.m or 0) + (1 - b1) * g, b2 * (s.v or 0) + (1 - b2) * g * g
      return w - lr / (1 - b1 ^ step) * s.m / (math.sqrt(s.v / (1 - b2 ^ step)) + 1e-2)
    end)
    assert.are.equal(2 * 20, #steps) -- in both dtypes
    assert.are.equal(1, steps[1])
  end)
end)

local function lion()
  return mb.optim.define {
    name = "lion", defaults = { lr = 1e-4, b1 = 0.9, b2 = 0.99, wd = 0 }, state = { "m" },
    update = function(p, h)
      p.w = p.w - h.lr * (mb.sign(h.b1 * p.m + (1 - h.b1) * p.g) + h.wd * p.w)
      p.m = h.b2 * p.m + (1 - h.b2) * p.g
    end,
  }
end

describe("mb.optim.define", function()
  it("makes an optimizer of ten lines that runs as its formula says", function()
    local Lion = lion()
    check(function(m) return Lion(m, { lr = 0.01, wd = 0.1 }) end, function(w, g, s)
      local m = s.m or 0
      local c = 0.9 * m + (1 - 0.9) * g
      s.m = 0.99 * m + (1 - 0.99) * g
      return w - 0.01 * ((c > 0 and 1 or c < 0 and -1 or 0) + 0.1 * w)
    end)
    assert.are.equal("optimizer 'lion'", tostring(Lion))
  end)

  it("gives the update options as they are, arrays, flags and texts, and states that begin with a number", function()
    local Odd = mb.optim.define {
      name = "odd", defaults = { lr = 0.1, mix = { 0.25, 0.75 }, flip = false, kind = "plus" },
      limits = { kind = { choices = { "plus", "minus" } } },
      state = { "a", c = 2 },
      update = function(p, h, o)
        assert(o.flip == h.flip)
        p.a = h.mix[1] * p.a + h.mix[2] * p.g
        p.c = p.c * 0.5
        local d = h.kind == "plus" and p.a + p.c or p.a - p.c
        p.w = h.flip and p.w + h.lr * d or p.w - h.lr * d
      end,
    }
    local function odd(sign, direction)
      return function(w, g, s)
        s.a, s.c = 0.25 * (s.a or 0) + 0.75 * g, 0.5 * (s.c or 2)
        return w + direction * 0.1 * (s.a + sign * s.c)
      end
    end
    check(function(m) return Odd(m) end, odd(1, -1))
    check(function(m) return Odd(m, { flip = true, kind = "minus" }) end, odd(-1, 1))
    says("must be one of 'plus', 'minus' (did you mean 'minus'?), not the string 'minu'", Odd, Plain {}, { kind = "minu" })
  end)

  it("runs fused as it runs on tensors, one operation after another", function()
    local constructors = { mb.optim.sgd, mb.optim.adam, mb.optim.adamw, lion() }
    for _, constructor in ipairs(constructors) do
      for _, dtype in ipairs { "f32", "f64" } do
        local model = Plain { seed = 2, dtype = dtype }
        local given = constructor == mb.optim.sgd and { momentum = 0.9, nesterov = true } or { lr = 0.01 }
        local o = constructor:options("test", given)
        local opt, plain = constructor(model, given), {}
        for _, p in ipairs(model:parameters()) do
          plain[p.name] = { w = p.value:clone():detach() }
          for _, state in ipairs(constructor:states(o)) do plain[p.name][state.name] = mb.zeros_like(p.value) end
        end
        for step = 1, 20 do
          set_gradients(model, step)
          opt:step()
          local h = { step = step }
          for name, value in pairs(o) do h[name] = value end
          for _, p in ipairs(model:parameters()) do
            plain[p.name].g = p.grad
            constructor.update(plain[p.name], h, o)
          end
        end
        for _, p in ipairs(model:parameters()) do
          local difference = mb.max(mb.abs(p.value - plain[p.name].w)):item()
          assert.is_true(difference <= (dtype == "f32" and 1e-6 or 1e-14),
            ("%s, %s, %s: %g"):format(tostring(constructor), dtype, p.name, difference))
        end
      end
    end
  end)

  it("says what is wrong with a definition", function()
    local define, update = mb.optim.define, function(p, h) p.w = p.w - h.lr * p.g end
    says("one of update and update_group is needed", define, { name = "x" })
    says("unknown option 'default', did you mean 'defaults'?", define, { name = "x", update = update, default = {} })
    says("option 'name' must be a name of letters", define, { name = "my opt", update = update })
    says("optimizer 'x': default of 'lr' must be a number, an array of numbers, a boolean or a string, not a function",
      define, { name = "x", update = update, defaults = { lr = function() end } })
    says("a state must be a name other than w and g, not the string 'g'", define,
      { name = "x", update = update, state = { "g" } })
    says("state 'm' is named twice", define, { name = "x", update = update, state = { "m", m = 1 } })
    says("'step' cannot be an option", define, { name = "x", update = update, defaults = { step = 1 } })
    says("limits name 'beta', which has no default", define, { name = "x", update = update, limits = { beta = {} } })
  end)

  it("points at the user's line when the update is wrong", function()
    local here
    local function broken(fn) return mb.optim.define { name = "x", defaults = { lr = 1 }, state = { "mom" }, update = fn } end
    local function says_here(text, fn)
      local got = helper.error_of(broken(fn), Plain {})
      assert.is_truthy(got:find(text, 1, true), got)
      assert.is_truthy(got:find(("optim_spec.lua:%d:"):format(here + 1), 1, true), got)
    end
    says_here("optimizer 'x': there is no number 'rate'; there are lr, step", function(p, h)
      here = debug.getinfo(1, "l").currentline
      p.w = p.w - h.rate * p.g
    end)
    says_here("optimizer 'x': there is no field 'mon', did you mean 'mom'?", function(p)
      here = debug.getinfo(1, "l").currentline
      p.mon = p.g
    end)
    says_here("optimizer 'x': field 'g' is read-only", function(p)
      here = debug.getinfo(1, "l").currentline
      p.g = 0 * p.g
    end)
    says_here("use mb.where", function(p)
      here = debug.getinfo(1, "l").currentline
      if p.w < p.g then p.w = p.g end
    end)
    says("stores nothing", function() broken(function() end)(Plain {}):step() end)
  end)
end)

describe("mb.optim.groups", function()
  it("sends each parameter to the first group that takes it", function()
    local model = Plain { seed = 1 }
    local seen = {}
    local opt = mb.optim.groups(model, {
      { where = "h.1.weight", name = lion(), lr = 0.25 },
      { where = { "^h%.%d%.bias$", "scale" }, name = "sgd", lr = 0.5 },
      { where = function(p)
        seen[#seen + 1] = p.name
        return p.shape[1] == 11
      end, name = "adam" },
      { where = "conv", name = "adamw" },
      { where = "rest", name = "sgd", lr = 2 },
    })
    local routes = {}
    for i, route in ipairs(opt:routing()) do routes[i] = ("%s %s %s"):format(route.name, route.role, route.optimizer) end
    assert.are.same({
      "h.0.weight matrix sgd", "h.0.bias vector sgd", "h.1.weight matrix lion", "h.1.bias vector sgd",
      "h.2.weight matrix sgd", "h.2.bias vector sgd", "embed embedding adam", "scale vector sgd",
    }, routes)
    assert.are.same({ "h.0.weight", "h.2.weight", "embed" }, seen)
    local before = {}
    for _, p in ipairs(model:parameters()) do before[p.name] = p.value:clone():detach() end
    for _, p in ipairs(model:parameters()) do p.grad:fill_(1) end
    opt:step()
    local function change(name)
      local d = flat_values(model:parameter(name).value - before[name])
      return math.floor(d[1] * 1e4 + 0.5) / 1e4, math.floor(d[#d] * 1e4 + 0.5) / 1e4
    end
    for name, by in pairs { ["h.0.weight"] = -2, ["h.1.weight"] = -0.25, ["h.2.weight"] = -2, ["h.0.bias"] = -0.5,
                            ["h.2.bias"] = -0.5, scale = -0.5, embed = -1e-3 } do
      assert.are.same({ by, by }, { change(name) }, name)
    end
    assert.are.equal(0.25, opt:learning_rate())
  end)

  it("agrees with one optimizer when all groups are alike", function()
    local one, two = Plain { seed = 3 }, Plain { seed = 3 }
    local a = mb.optim.adamw(one, { lr = 0.1 })
    local b = mb.optim.groups(two, {
      { where = "matrix", name = "adamw", lr = 0.1 }, { where = "rest", name = "adamw", lr = 0.1 },
    })
    for step = 1, 5 do
      set_gradients(one, step)
      set_gradients(two, step)
      a:step()
      b:step()
    end
    for _, p in ipairs(one:parameters()) do assert.is_true(p.value:equal(two:parameter(p.name).value)) end
  end)

  it("says what is wrong with the groups", function()
    local model = Plain {}
    local function groups(...) return mb.optim.groups(model, { ... }) end
    says("parameter 'h.0.bias' (vector) is in no group", groups, { where = "matrix", name = "sgd" })
    says("group 1: 'where' is missing", groups, { name = "sgd" })
    says("group 1: 'name' must be a string, not nil", groups, { where = "rest" })
    says("group 1: there is no optimizer 'adamv', did you mean 'adam", groups, { where = "rest", name = "adamv" })
    says("group 2 (adam): unknown option 'momentum'; there are betas, eps, lr, weight_decay", groups,
      { where = "matrix", name = "sgd" }, { where = "rest", name = "adam", momentum = 1 })
    says("group 1 (adam): where = 'h.%' is no Lua pattern: malformed pattern", groups, { where = "h.%", name = "adam" })
    says("where = 'matrx' is no role and fits no parameter of model 'plain', did you mean 'matrix'?", groups,
      { where = "matrx", name = "sgd" })
    says("where = 'h.0.wieght' is no role and fits no parameter of model 'plain', did you mean 'h.0.weight'?", groups,
      { where = "h.0.wieght", name = "sgd" })
    says("a list of groups was expected", mb.optim.groups, model, { where = "rest", name = "adam" })
    says("a model was expected as the first argument, not a table", mb.optim.groups, {}, {})
  end)
end)

describe("an optimizer", function()
  it("continues from its state as if nothing had happened", function()
    local function make(model)
      return mb.optim.groups(model, {
        { where = "matrix", name = "sgd", momentum = 0.9, lr = mb.schedule.linear { peak = 0.1, steps = 12, warmup = 3 } },
        { where = "rest", name = "adamw", lr = 0.01 },
      })
    end
    local whole, half, resumed = Plain { seed = 8 }, Plain { seed = 8 }, Plain { seed = 9 }
    local a, b, c = make(whole), make(half), make(resumed)
    local function train(model, opt, from, to)
      for step = from, to do
        set_gradients(model, step)
        opt:step()
      end
    end
    train(whole, a, 1, 12)
    train(half, b, 1, 7)
    resumed:load_state(half:state())
    c:load_state_dict(b:state_dict())
    assert.are.equal(7, c.updates)
    train(resumed, c, 8, 12)
    for _, p in ipairs(whole:parameters()) do
      assert.is_true(p.value:equal(resumed:parameter(p.name).value), p.name)
    end
    local one, two = a:state_dict(), c:state_dict()
    for key, value in pairs(one) do
      assert.is_true(mb.is_tensor(value) and value:equal(two[key]) or value == two[key], key)
    end
  end)

  it("gives its states as views by name", function()
    local model = Plain {}
    local opt = mb.optim.adamw(model)
    set_gradients(model, 1)
    local state = opt:state_dict()
    opt:step()
    assert.are.equal(0, state.step)
    assert.are.equal("adamw", state.optimizer)
    assert.are.same({ 11, 3 }, state["embed/v"].shape)
    assert.near(0.1 * gradient_at("embed", 2, 1), flat_values(state["embed/m"])[2], 1e-7)
    local count = 0
    for _ in pairs(state) do count = count + 1 end
    assert.are.equal(2 * 8 + 2, count)
  end)

  it("refuses a state that is not its own, and changes nothing then", function()
    local model = Plain {}
    local opt = mb.optim.adamw(model)
    local good = opt:state_dict()
    local function with(key, value)
      local state = {}
      for k, v in pairs(good) do state[k] = v end
      state["embed/m"] = mb.ones(11, 3)
      if key then state[key] = value end
      return state
    end
    local function load(state) opt:load_state_dict(state) end
    says("the state is of optimizer 'sgd', this is 'adamw'", load, with("optimizer", "sgd"))
    says("'scale/v' is a f32 tensor of shape (2), a f32 tensor of shape (1) is needed", load, with("scale/v", mb.ones(2)))
    says("'scale/v' is a f64 tensor of shape (1), a f32", load, with("scale/v", mb.ones(1):to "f64"))
    says("'scale/v' must be a tensor, not the number 1", load, with("scale/v", 1))
    says("the state has 'scale/u', which this optimizer does not keep", load, with("scale/u", mb.ones(1)))
    says("'step' of the state must be an integer", load, with("step", 0.5))
    local missing = with()
    missing["h.1.bias/v"] = nil
    says("there is no 'h.1.bias/v', which this optimizer keeps", load, missing)
    assert.are.same({ 0, 0, 0 }, good["embed/m"]:totable()[1])
    load(with())
    assert.are.same({ 1, 1, 1 }, good["embed/m"]:totable()[1])
  end)

  it("allocates and compiles nothing from step to step, whatever the options do", function()
    local traced = 0
    local Counted = mb.optim.define { name = "counted", defaults = { lr = 1, b = 0.5 }, state = { "m" },
      update = function(p, h)
        traced = traced + 1
        p.m = h.b * p.m + p.g
        p.w = p.w - h.lr / h.step * p.m
      end }
    local model = Plain {}
    local opt = Counted(model, { lr = function(step) return 1 / step end, b = mb.schedule.cosine { peak = 0.9, steps = 9 } })
    opt:step()
    local before = mb.memory()
    for _ = 1, 30 do
      opt:zero_grad()
      opt:step()
    end
    local after = mb.memory()
    assert.are.equal(before.allocations, after.allocations)
    assert.are.equal(before.bytes_live, after.bytes_live)
    assert.are.equal(1, traced)
  end)

  it("moves parameters that no backward has reached with gradient zero", function()
    local model = Plain {}
    local opt = mb.optim.sgd(model, { lr = 1, weight_decay = 0.5 })
    set_gradients(model, 1)
    opt:zero_grad()
    local before = model:parameter("embed").value:totable()[4][2]
    opt:step()
    assert.near(before / 2, model:parameter("embed").value:totable()[4][2], 1e-7)
  end)

  it("updates after a backward, and zero_grad starts again", function()
    local model = Plain {}
    local opt = mb.optim.sgd(model, { lr = 0.5 })
    for _ = 1, 2 do
      opt:zero_grad()
      model:logits({}):backward()
      local before = model:parameter("scale").value:item()
      local gradient = model:parameter("scale").grad:item()
      opt:step()
      assert.near(before - 0.5 * gradient, model:parameter("scale").value:item(), 1e-5)
    end
  end)

  it("finds the first gradient that is not finite", function()
    local model = Plain {}
    local opt = mb.optim.sgd(model)
    assert.is_nil(opt:find_nonfinite())
    model:parameter("embed").grad:fill_(0 / 0)
    model:parameter("h.1.bias").grad:fill_(math.huge)
    assert.are.equal("h.1.bias", opt:find_nonfinite())
    opt:zero_grad()
    assert.is_nil(opt:find_nonfinite())
  end)

  it("does not change anything when an option goes wrong", function()
    local model = Plain {}
    local lr = function(step) return step < 2 and 0.1 or nil end
    local opt = mb.optim.groups(model, { { where = "matrix", name = "sgd" }, { where = "rest", name = "sgd", lr = lr } })
    set_gradients(model, 1)
    opt:step()
    local before = model:parameter("h.0.weight").value:clone()
    says("option 'lr' is a function that returned nil at step 2", function() opt:step() end)
    assert.is_true(before:equal(model:parameter("h.0.weight").value))
    assert.are.equal(1, opt.updates)
    says("option 'lr' at step 1 must be at least 0, not the number -1", function()
      mb.optim.sgd(model, { lr = function() return -1 end }):step()
    end)
  end)

  it("prints its groups and options", function()
    local opt = mb.optim.groups(Plain {}, {
      { where = "vector", name = "adamw", lr = mb.schedule.const(0.1) },
      { where = "rest", name = "sgd", momentum = 0.5, lr = function() return 1 end },
    })
    assert.are.equal([[
adamw+sgd of model 'plain', 0 updates
  1: adamw for 4 tensors, 10 weights: betas = {0.9, 0.999}, eps = 1e-08, lr = const(0.1), weight_decay = 0.01
  2: sgd for 4 tensors, 138 weights: lr = function, momentum = 0.5, nesterov = false, weight_decay = 0]], tostring(opt))
  end)

  it("says what is wrong with its arguments", function()
    local model = Plain {}
    says("mb.optim has no 'adamm', did you mean 'adam'?", function() return mb.optim.adamm end)
    says("optimizer 'adamw': a model was expected as the first argument, not nil", mb.optim.adamw)
    says("optimizer 'adamw': unknown option 'weigth_decay', did you mean 'weight_decay'?", mb.optim.adamw, model,
      { weigth_decay = 1 })
    says("option 'lr' must be at least 0, not the number -1", mb.optim.sgd, model, { lr = -1 })
    says("option 'lr' must be a number or a function, not the string 'x'", mb.optim.sgd, model, { lr = "x" })
    says("element 2 of option 'betas' must be less than 1, not the number 1", mb.optim.adam, model, { betas = { 0, 1 } })
    says("option 'betas' must be an array of 2 numbers, not a table", mb.optim.adam, model, { betas = { 0.9 } })
    says("nesterov needs a momentum above 0", mb.optim.sgd, model, { nesterov = true })
  end)

  it("keeps its buffers when it is made in a scope, and leaves none behind", function()
    helper.no_leaks(function()
      local model = Plain {}
      local opt
      mb.scope(function() opt = mb.optim.adamw(model) end)
      set_gradients(model, 1)
      opt:step()
      assert.is_true(opt:state_dict()["embed/m"].is_live)
    end)
  end)
end)
