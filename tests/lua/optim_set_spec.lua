-- SPDX-License-Identifier: MIT
--
-- optim_set_spec.lua: numbers of an optimizer set by hand between steps: opt.lr = 1e-4. Against optimizers that were given the
-- same course as a function of the step, bit by bit.

local helper = require "tests.helper"
local mb = require "moonbow"

local says = helper.says

local function new_model()
  return mb.models.gpt2 { vocab_size = 11, block_size = 6, n_layer = 1, n_head = 2, n_embd = 8, dropout = 0, seed = 3 }
end

local function step(model, opt)
  opt:zero_grad()
  model:loss({ inputs = { { 1, 2, 3, 4, 5, 6 } }, targets = { { 2, 3, 4, 5, 6, 7 } } }):backward()
  opt:step()
end

local function weights(model)
  local list = {}
  for i, p in ipairs(model:parameters()) do list[i] = p.value:reshape(-1):totable() end
  return list
end

-- The weights after `steps` steps; before(opt, k) is called before each.
local function trained(name, given, steps, before)
  local model = new_model()
  local opt = mb.optim[name](model, given)
  for k = 1, steps do
    if before then before(opt, k) end
    step(model, opt)
  end
  return weights(model), opt
end

local function turns(a, b)
  return function(k) return k < 3 and a or b end
end

describe("numbers of an optimizer", function()
  it("take effect at the next step, of elements and of matrices", function()
    for _, case in ipairs {
      { "adamw", { lr = 1e-2, weight_decay = 0.1 }, "lr", 1e-3 },
      { "adamw", { lr = 1e-2, weight_decay = 0.1 }, "weight_decay", 0.5 },
      { "sgd", { lr = 1e-2, momentum = 0.9 }, "momentum", 0.5 },
      { "scion", { lr = 1e-2 }, "lr", 3e-3 },
      { "scion", { lr = 1e-2, momentum = 0.1 }, "momentum", 0.7 },
    } do
      local name, given, key, value = unpack(case)
      local course = {}
      for k, v in pairs(given) do course[k] = v end
      course[key] = turns(given[key] or 0.1, value)
      local wanted = trained(name, course, 4)
      local got, opt = trained(name, given, 4, function(opt, k)
        if k == 3 then opt[key] = value end
      end)
      assert.are.same(wanted, got)
      assert.are.equal(value, opt[key])
      assert.are_not.same(trained(name, given, 4), got)
    end
  end)

  it("are schedules, functions and elements of arrays too", function()
    local wanted = trained("adamw", { lr = turns(1e-2, 1e-3), betas = { 0.9, turns(0.99, 0.9) } }, 4)
    local got, opt = trained("adamw", { lr = 1e-2, betas = { 0.9, 0.99 } }, 4, function(o, k)
      if k == 2 then o.lr = turns(1e-2, 1e-3) end
      if k == 3 then o.betas[2] = 0.9 end
    end)
    assert.are.same(wanted, got)
    opt.betas = { 0.8, 0.95 }
    assert.are.same({ 0.8, 0.95 }, opt.betas)
    opt.lr = mb.schedule.const { value = 0.25 }
    assert.are.equal(0.25, opt:learning_rate())
    assert(tostring(opt):find("betas = {0.8, 0.95}", 1, true), tostring(opt))
    assert.are.equal(opt.lr, opt.groups[1].lr)
  end)

  it("are refused where they are wrong, and other fields where they are unknown", function()
    local opt = mb.optim.adamw(new_model(), { lr = 1e-2 })
    local function set(key, value)
      return function() opt[key] = value end
    end
    says("optimizer 'adamw': 'lrr' cannot be set, did you mean 'lr'?", set("lrr", 3))
    says("optimizer 'adamw': 'lr' must be a number or a function, not the string 'fast'", set("lr", "fast"))
    says("optimizer 'adamw': 'lr' must be at least 0, not the number -1", set("lr", -1))
    says("optimizer 'adamw': 'lr' must be a number or a function, not nil", set("lr", nil))
    says("optimizer 'adamw': 'betas' must be an array of 2 numbers", set("betas", { 0.9 }))
    says("optimizer 'adamw': 'step' cannot be set", set("step", 3))
    says("'lrr' cannot be set", function() opt.groups[1].lrr = 3 end)
    says("'lr' must be at least 0", function() opt.groups[1].lr = -1 end)
    assert.are.equal(1e-2, opt.lr)
    assert.is_nil(opt.lrr)
    opt.betas[1] = "x"
    says("option 'betas[1]'", opt.step, opt)
    says("'nesterov' was settled when the optimizer was made; lr, momentum", function()
      mb.optim.sgd(new_model()).nesterov = true
    end)
    says("'momentum' cannot become 0.9, its states were made for another one", function()
      mb.optim.sgd(new_model()).momentum = 0.9
    end)
    says("'steps' cannot become 7", function() mb.optim.scion(new_model(), { steps = 5 }).steps = 7 end)
  end)

  it("are of the groups that the optimizer was made with", function()
    local model = new_model()
    local opt = mb.optim.sgd(model, { lr = 1 })
    says("opt.groups: a group cannot be added to an optimizer; make a new one", function()
      opt.groups[2] = { where = "rest", name = "sgd", lr = 2 }
    end)
    assert.are.equal(1, #opt.groups)
    opt:step()
  end)

  it("go to all groups that agree, and to groups[i]", function()
    local model = new_model()
    local opt = mb.optim.groups(model, {
      { where = "vector", name = "adamw", lr = 1e-2, weight_decay = 0 },
      { where = "rest", name = "adamw", lr = 1e-2, weight_decay = 0.1 },
    })
    opt.lr = 1e-3
    assert.are.equal(1e-3, opt.groups[1].lr)
    assert.are.equal(1e-3, opt.groups[2].lr)
    says("its groups differ in 'weight_decay': groups[1].weight_decay, groups[2].weight_decay are apart",
      function() opt.weight_decay = 0.2 end)
    says("are apart", function() return opt.weight_decay end)
    opt.groups[2].weight_decay = 0.2
    assert.are.equal(0, opt.groups[1].weight_decay)
    assert.are.same({ "groups[1].lr", "groups[2].lr", "groups[2].weight_decay" },
      require("moonbow.optim.settable").changed(opt))
    opt = mb.optim.muon(model, { lr = 0.01, rest = { name = "adamw", lr = 1e-3 } })
    says("groups[1].lr, groups[2].lr are apart", function() opt.lr = 1 end)
    opt.betas = { 0.8, 0.9 } -- of one group only
    assert.are.equal(0.8, opt.groups[2].betas[1])
    step(model, opt)
  end)

  it("allocate and compile nothing, and are no part of a state", function()
    local traced = 0
    local Counted = mb.optim.define { name = "counted", defaults = { lr = 1 }, update = function(p, h)
      traced = traced + 1
      p.w = p.w - h.lr * p.g
    end }
    local model = new_model()
    local opt = Counted(model)
    opt:step()
    local before = mb.memory()
    for k = 1, 20 do
      opt.lr = 1 / k
      opt:step()
    end
    assert.are.equal(before.allocations, mb.memory().allocations)
    assert.are.equal(1, traced)
    opt:load_state_dict(opt:state_dict())
    assert.are.equal(1 / 20, opt.lr)
    assert.are.equal(1, Counted(model, {}).lr)
  end)
end)
