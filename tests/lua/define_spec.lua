-- Models written in Lua: mb.models.define and what every model offers (lua/moonbow/models/base.lua).
local helper = require "tests.helper"
local mb = require "moonbow"

mb.seed(helper.seed)

local Regression = mb.models.define {
  name = "regression",
  options = { width = 4 },
  parameters = function(add, o)
    for i = 0, 1 do
      add(("h.%d.weight"):format(i), { o.width, o.width }, { role = "matrix", init = "normal", std = 0.4 })
      add(("h.%d.bias"):format(i), { o.width }, { role = "vector" })
    end
    add("head.weight", { 1, o.width }, { role = "head", init = "uniform", width = 0.5 })
  end,
  forward = function(p, batch)
    local x = batch.inputs
    for i = 0, 1 do
      x = mb.tanh(mb.linear(x, p[("h.%d.weight"):format(i)], p[("h.%d.bias"):format(i)]))
    end
    return mb.linear(x, p["head.weight"])
  end,
  loss = function(prediction, batch) return mb.mean(mb.square(prediction - batch.targets)) end,
}

describe("a model written in Lua", function()
  it("learns by plain gradient descent", function()
    local model = Regression { seed = 3 }
    local batch = { inputs = mb.randn(16, 4), targets = mb.rand(16, 1) }
    local first, last
    for _ = 1, 60 do
      model:zero_grad()
      last = model:backward(batch):item()
      first = first or last
      for _, p in ipairs(model:parameters()) do p.value:add_(p.grad, -0.1) end
    end
    assert.is_true(last < 0.5 * first, ("loss went from %g to %g"):format(first, last))
  end)

  it("lists its parameters with names, roles, shapes and gradients", function()
    local model = Regression { width = 3 }
    local names = {}
    for i, p in ipairs(model:parameters()) do
      names[i] = p.name
      assert.are.equal(i, p.index)
      assert.are.same(p.shape, p.value.shape)
      assert.are.same(p.shape, p.grad.shape)
    end
    assert.are.same({ "h.0.weight", "h.0.bias", "h.1.weight", "h.1.bias", "head.weight" }, names)
    assert.are.equal("head", model:parameter("head.weight").role)
    assert.are.equal(3 * 3 * 2 + 3 * 2 + 3, model:count())
    assert.has_error(function() model:parameter("h.0.wieght") end)
    assert.matches("has no parameter 'h.0.wieght', did you mean 'h.0.weight'",
      helper.error_of(function() model:parameter("h.0.wieght") end), 1, true)
  end)

  it("is made the same by the same seed", function()
    local a, b, c = Regression { seed = 1 }, Regression { seed = 1 }, Regression { seed = 2 }
    local name = "h.1.weight"
    assert.is_true(a:parameter(name).value:equal(b:parameter(name).value))
    assert.is_false(a:parameter(name).value:equal(c:parameter(name).value))
  end)

  it("prints as a tree in which equal layers share a line", function()
    local text = tostring(Regression {})
    assert.matches("^regression: 44 parameters in 5 tensors, f32 on " .. helper.device .. "\n", text)
    assert.matches("0..1 +2 alike, each +40\n", text)
    assert.matches("head.weight +head +%(1, 4%) +4$", text)
  end)

  it("switches between training and evaluation", function()
    local model = Regression {}
    assert.is_true(model:is_training())
    assert.are.equal(7, model:eval(function()
      assert.is_false(model:is_training())
      return 7
    end))
    assert.is_true(model:is_training())
    assert.has_error(function() model:eval(function() error "inside" end) end)
    assert.is_true(model:is_training())
  end)

  it("names the parameter whose gradient is not finite", function()
    local model = Regression {}
    assert.is_nil(model:find_nonfinite_gradient())
    model:parameter("h.1.bias").grad:fill_(0 / 0)
    assert.are.equal("h.1.bias", model:find_nonfinite_gradient())
  end)
end)

describe("a model's state", function()
  local a, b = Regression { seed = 1 }, Regression { seed = 2 }

  local function copies(prefix)
    local state = {}
    for name, t in pairs(a:state()) do state[prefix .. name] = t:clone() end
    return state
  end

  it("is loaded by name, with and without a prefix", function()
    for _, prefix in ipairs { "", "param.", "state." } do
      for _, p in ipairs(b:parameters()) do p.value:zero_() end
      b:load_state(copies(prefix))
      for name, t in pairs(a:state()) do assert.is_true(t:equal(b:state()[name]), name) end
    end
  end)

  it("is refused whole when a tensor is missing, unknown or of another shape or dtype", function()
    local before = b:parameter("h.0.weight").value:clone()
    local function text_with(change)
      local state = copies ""
      state["h.0.weight"] = mb.ones(4, 4)
      change(state)
      return helper.error_of(function() b:load_state(state) end)
    end
    assert.matches("there is no 'head.weight', which model 'regression' has",
      text_with(function(s) s["head.weight"] = nil end), 1, true)
    assert.matches("'head.weight' has shape (4), model 'regression' expects (1, 4)",
      text_with(function(s) s["head.weight"] = mb.zeros(4) end), 1, true)
    assert.matches("'head.weight' is f64, model 'regression' expects f32",
      text_with(function(s) s["head.weight"] = mb.zeros(1, 4, { dtype = "f64" }) end), 1, true)
    assert.matches("has no 'haed.weight', did you mean 'head.weight'?",
      text_with(function(s) s["haed.weight"] = mb.zeros(1) end), 1, true)
    assert.is_true(before:equal(b:parameter("h.0.weight").value))
    b:load_state({ ["head.weight"] = mb.ones(1, 4), other = mb.zeros(1) }, { strict = false })
    assert.are.same({ { 1, 1, 1, 1 } }, b:parameter("head.weight").value:totable())
  end)
end)

describe("wrong definitions", function()
  local function error_with(change)
    local definition = {
      name = "wrong", parameters = function(add) add("w", { 2, 2 }, { role = "matrix" }) end,
      forward = function(p) return p.w end,
    }
    change(definition)
    return helper.error_of(function()
      local model = mb.models.define(definition) {}
      model:loss { targets = { 1 } }
    end)
  end

  it("say what is wrong", function()
    local cases = {
      { "unknown option 'foward', did you mean 'forward'?", function(d) d.foward = d.forward end },
      { "option 'parameters' is missing, a function is needed", function(d) d.parameters = nil end },
      { "forward must return a tensor, not nil", function(d) d.forward = function() end end },
      { "model 'wrong' has no parameter 'v'", function(d) d.forward = function(p) return p.v end end },
      { "option 'role' must be one of 'matrix'", function(d)
        d.parameters = function(add) add("w", { 2 }, { role = "matrx" }) end
      end },
      { "init 'normal' needs option 'std'", function(d)
        d.parameters = function(add) add("w", { 2, 2 }, { role = "matrix", init = "normal" }) end
      end },
      { "already has a parameter 'w'", function(d)
        d.parameters = function(add)
          add("w", { 2, 2 }, { role = "matrix" })
          add("w", { 2, 2 }, { role = "matrix" })
        end
      end },
    }
    for _, case in ipairs(cases) do
      assert.matches(case[1], error_with(case[2]), 1, true)
    end
  end)
end)
