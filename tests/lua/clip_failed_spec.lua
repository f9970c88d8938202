-- SPDX-License-Identifier: MIT
--
-- clip_failed_spec.lua: a call that fails changes nothing: gradients, what the thresholds and sketches remember, the step
-- and the generator are what they were, and the next call does what it would have done without the failure.

local create = require "bindings.create"
local helper = require "tests.helper"
local mb = require "moonbow"

local Model = mb.models.define {
  name = "several",
  parameters = function(add)
    for i = 1, 6 do add(("h.%d.w"):format(i), { 7, 5 + i }, { role = "matrix" }) end
    add("bias", { 9 }, { role = "vector" })
  end,
  forward = function(p) return p.bias:sum() end,
}

local function at_step(model, step)
  mb.seed(helper.seed + step)
  for _, p in ipairs(model:parameters()) do p.grad:randn_(0, step % 5 == 0 and 9 or 1 + step / 10) end
  return model
end

-- A tree with the numbers of its tensors.
local function numbers(tree)
  if mb.is_tensor(tree) then return tree:totable() end
  if type(tree) ~= "table" then return tree end
  local result = {}
  for key, value in pairs(tree) do result[key] = numbers(value) end
  return result
end

-- Everything that a call may change.
local function all_of(model, clip)
  local state = { memory = clip:state_dict(), rng = { create.rng_get() }, grads = {} }
  for _, p in ipairs(model:parameters()) do state.grads[p.name] = p.grad end
  return numbers(state)
end

-- Keeps numbers, tables in tables and a tensor, and is asked again by a policy of the library.
local function own_policy()
  local ema = mb.threshold.ema { beta = 0.5 }
  return function(p)
    local s = p.state
    s.seen = s.seen or { list = {} }
    s.seen.list[#s.seen.list + 1] = p.sigma
    s.t = (s.t or mb.zeros { 1 }) + p.sigma
    s.inner = s.inner or {}
    return ema { sigma = p.sigma, state = s.inner }
  end
end

local policies = {
  const = function() return 1.5 end,
  ema = function() return mb.threshold.ema { beta = 0.8 } end,
  quantile = function() return mb.threshold.quantile { q = 0.6, window = 4 } end,
  zscore = function() return mb.threshold.zscore { z = 1.5, warmup = 3 } end,
  autoclip = function() return mb.threshold.autoclip { p = 60 } end,
  ["autoclip in a window"] = function() return mb.threshold.autoclip { p = 60, window = 4 } end,
  ["a function"] = own_policy,
}

describe("a rule that fails", function()
  for name, threshold in pairs(policies) do
    it("leaves everything as it was: " .. name, function()
      local angry, calls = false, 0
      local function make(rule)
        return mb.clip.spectral { threshold = threshold(), rank = 3, oversample = 1, warm_start = true, rule = rule }
      end
      local clip = make(function(sigma, tau)
        calls = calls + 1
        if angry and calls > 5 then error "enough" end
        return math.min(sigma, tau)
      end)
      local plain, model, other = make(math.min), Model { seed = 1 }, Model { seed = 1 }
      for step = 1, 12 do
        at_step(model, step)
        if step > 3 and step % 3 == 1 then
          local before = all_of(model, clip)
          angry, calls = true, 0
          assert.is_truthy(helper.error_of(clip, model):find("enough", 1, true))
          assert.are.same(before, all_of(model, clip), "step " .. step)
          angry = false
          at_step(model, step)
        end
        local got = clip(model)
        assert.are.same(plain(at_step(other, step)), got, "step " .. step)
        assert.are.same(all_of(other, plain), all_of(model, clip), "step " .. step)
      end
      assert.are.equal(12, clip:state_dict().step)
    end)
  end
end)

describe("a policy that fails", function()
  it("on the fifth matrix leaves the first four as they were", function()
    for _, make in ipairs {
      function(threshold) return mb.clip.spectral { threshold = threshold } end,
      function(threshold) return mb.clip.norm { threshold = threshold, scope = "matrix" } end,
    } do
      local angry, inner = false, own_policy()
      local clip, model = make(function(p)
        local tau = inner(p)
        if angry and p.name == "h.5.w" then error "no idea" end
        return tau
      end), Model {}
      for step = 1, 6 do
        at_step(model, step)
        local before = all_of(model, clip)
        angry = true
        assert.is_truthy(helper.error_of(clip, model):find("no idea", 1, true))
        assert.are.same(before, all_of(model, clip))
        angry = false
        clip(model)
        assert.are.equal(step, clip:state_dict().step)
      end
    end
  end)

  it("keeps the table that it was given", function()
    local kept, angry = nil, false
    local clip = mb.clip.norm { threshold = function(p)
      kept = kept or p.state
      assert(kept == p.state)
      p.state.n = (p.state.n or 0) + 1
      if angry then error "no" end
      return 1
    end }
    local model = Model {}
    clip(model)
    angry = true
    assert.is_false(pcall(clip, model))
    assert.are.same({ n = 1 }, kept)
    angry = false
    clip(model)
    assert.are.same({ n = 2 }, kept)
  end)
end)

describe("a step that fails", function()
  it("leaves the clipper's memory and the generator too", function()
    for _, on in ipairs { "momentum", "update" } do
      local angry = false
      local clip = mb.clip.spectral { threshold = mb.threshold.ema(), on = on, rank = 2, rule = function(sigma, tau)
        if angry then error "enough" end
        return math.min(sigma, tau)
      end }
      local model = Model {}
      local opt = mb.optim.sgd(model, { momentum = 0.9 })
      for step = 1, 3 do
        at_step(model, step)
        local before = all_of(model, clip)
        angry = true
        assert.is_false(pcall(opt.step, opt, clip))
        assert.are.same(before, all_of(model, clip))
        angry = false
        opt:step(clip)
      end
    end
  end)
end)

describe("warm_start", function()
  it("goes on when two clippers take turns on one optimizer", function()
    local function new(where)
      return mb.clip.spectral { threshold = 1, rank = 2, oversample = 0, warm_start = true, on = "update", where = where }
    end
    local function first(p) return p.name == "h.1.w" end
    local model, alone = Model { seed = 1 }, Model { seed = 1 }
    local a, b = mb.optim.sgd(model), mb.optim.sgd(alone)
    local clip, between, expected = new(first), new(function(p) return p.name == "h.2.w" end), new(first)
    for step = 1, 4 do
      at_step(model, step)
      a:step(between)
      at_step(model, step)
      local got = a:step(clip)
      at_step(alone, step)
      assert.are.same(b:step(expected), got)
    end
  end)
end)
