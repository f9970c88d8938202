-- SPDX-License-Identifier: MIT
--
-- clip_guard_spec.lua: gradients that a clipper on the device refuses, of which the host hears late, move nothing: weights and
-- states of the update behind it keep their bits, the steps after it are those that were to come.

local helper = require "tests.helper"
local devices = require "moonbow.clip.device"
local mb = require "moonbow"

local device, it = helper.device, helper.it_on_device
local function bits(t) return table.concat(t:to("cpu"):reshape { t.numel }:totable(), " ") end

local function model_of()
  mb.seed(1)
  return mb.models.gpt2 { vocab_size = 17, block_size = 8, n_layer = 2, n_head = 2, n_embd = 24 }
end

local function fill(model, k)
  for i, p in ipairs(model:parameters()) do
    mb.seed(1000 * k + i)
    p.grad:copy_(mb.randn(p.shape) * 0.05)
  end
end

-- Weights and states.
local function all_of(model, optimizer)
  local texts = {}
  for i, p in ipairs(model:parameters()) do texts[i] = bits(p.value) end
  for key, value in pairs(optimizer:state_dict()) do
    if type(value) ~= "number" and type(value) ~= "string" then texts[#texts + 1] = key .. " " .. bits(value) end
  end
  table.sort(texts)
  return table.concat(texts, "\n")
end

-- The clip as the device makes it, on the CPU too.
local function on_device(fn, ...)
  devices.even_on_cpu = true
  local results = { pcall(fn, ...) }
  devices.even_on_cpu = nil
  if not results[1] then error(results[2], 0) end
  return unpack(results, 2)
end

local clips = {
  norm = function() return mb.clip.norm { max_norm = 0.5 } end,
  ["norm of each"] = function() return mb.clip.norm { threshold = mb.threshold.ema { beta = 0.5 }, scope = "matrix" } end,
  exact = function() return mb.clip.spectral { threshold = 0.1, method = "exact" } end,
  randomized = function() return mb.clip.spectral { threshold = 0.1, rank = 4, warm_start = true } end,
}
local optimizers = {
  sgd = function(model) return mb.optim.sgd(model, { lr = 0.1, momentum = 0.9 }) end,
  adamw = function(model)
    return mb.optim.groups(model, { { where = "embedding", name = "adamw", lr = 1e-3, weight_decay = 0.1 },
                                    { where = "rest", name = "adamw", lr = 1e-2, weight_decay = 0 } })
  end,
  lamb = function(model) return mb.optim.lamb(model, { lr = 1e-2 }) end,
}

-- Steps 1 to 5, of which the third has a NaN where `wrong` says: what weights and states are after each.
local function run(make_clip, make_optimizer, wrong, step)
  local model = model_of()
  local optimizer, clip, states = make_optimizer(model), make_clip(), {}
  for k = 1, 5 do
    optimizer:zero_grad()
    fill(model, k)
    if k == 3 then model:parameter(wrong).grad:slice(1, 2, 2):fill_(0 / 0) end
    mb.seed(k)
    local ok, problem = pcall(step, optimizer, clip, model, k)
    if not ok then
      assert.is_truthy(tostring(problem):find("NaN", 1, true) or tostring(problem):find("not finite", 1, true), problem)
      states.refused = k
      if k > 3 then pcall(step, optimizer, clip, model, k) end -- heard of late: once more
    end
    states[k] = all_of(model, optimizer)
  end
  return states
end

local function together(optimizer, clip) return optimizer:step(clip) end
local function apart(optimizer, clip, model)
  clip(model)
  optimizer:step()
end

describe("an update behind a clip that was refused", function()
  for name, make in pairs(clips) do
    for kind, make_optimizer in pairs(optimizers) do
      it(("changes nothing: %s, %s"):format(name, kind), function()
        for _, step in ipairs { together, apart } do
          local late = on_device(run, make, make_optimizer, "h.1.mlp.c_fc.weight", step)
          assert.are.equal(4, late.refused)
          assert.are_not.equal(late[1], late[2])
          assert.are.equal(late[2], late[3])
          assert.are_not.equal(late[3], late[4])
        end
      end)
    end
  end

  it("leaves the steps after it as they were to be", function()
    -- Without a counter in the formula, the host's way and the device's give the same from then on.
    for _, name in ipairs { "norm", "exact" } do
      local at_once = run(clips[name], optimizers.sgd, "h.0.attn.c_attn.weight", function(optimizer, clip, model, k)
        if device ~= "cpu" and k == 3 then error("NaN is refused", 0) end
        return together(optimizer, clip, model)
      end)
      local late = on_device(run, clips[name], optimizers.sgd, "h.0.attn.c_attn.weight", together)
      assert.are.equal(3, at_once.refused)
      for k = 2, 5 do assert.are.equal(at_once[k], late[k], name .. ", step " .. k) end
    end
  end)

  it("is stopped by any one of several clippers", function()
    -- The embedding is clipped by the norm alone: the second clipper refuses nothing.
    local function two()
      local first, second = clips.norm(), clips.exact()
      return function(model)
        first(model)
        return second(model)
      end
    end
    local function step(optimizer, clip, model)
      clip(model)
      optimizer:step()
    end
    local late = on_device(run, two, optimizers.sgd, "wte.weight", step)
    assert.are.equal(4, late.refused)
    assert.are.equal(late[2], late[3])
    assert.are_not.equal(late[3], late[4])
  end)

  it("is made again with new gradients, clipped or not", function()
    local model = model_of()
    local optimizer, clip = optimizers.sgd(model), clips.norm()
    fill(model, 1)
    model:parameter("wte.weight").grad:fill_(math.huge)
    local before = all_of(model, optimizer)
    on_device(optimizer.step, optimizer, clip)
    optimizer:step()
    assert.are.equal(before, all_of(model, optimizer))
    model:zero_grad()
    fill(model, 2)
    optimizer:step()
    local after = all_of(model, optimizer)
    assert.are_not.equal(before, after)
    helper.says("held NaN or Inf", function() on_device(clip, model) end)
    -- Heard of, and clipped anew without zeroing.
    on_device(optimizer.step, optimizer, clip)
    assert.are_not.equal(after, all_of(model, optimizer))
  end)

  it("is one of that model alone", function()
    local one, other = model_of(), model_of()
    local first, second, clip = optimizers.sgd(one), optimizers.sgd(other), clips.exact()
    fill(one, 1)
    fill(other, 1)
    one:parameter("h.0.mlp.c_fc.weight").grad:fill_(0 / 0)
    local before = { all_of(one, first), all_of(other, second) }
    on_device(clip, one)
    first:step()
    second:step()
    assert.are.equal(before[1], all_of(one, first))
    assert.are_not.equal(before[2], all_of(other, second))
  end)

  it("is made again where gradients are zeroed but for those that an optimizer keeps, in a graph too", function()
    for _, wrap in ipairs { function(fn) return fn end, mb.graph } do
      local model, clip = model_of(), mb.clip.norm { max_norm = 0.5 }
      local optimizer = mb.optim.groups(model, { { where = "matrix", name = "scion_light", lr = 1e-3 },
                                                 { where = "rest", name = "adamw", lr = 1e-3 } })
      local ids = mb.ids { { 1, 2, 3, 4 }, { 5, 6, 7, 8 } }
      local step = wrap(function(add)
        optimizer:zero_grad()
        model:loss({ inputs = ids, targets = ids }):backward()
        model:parameter("wpe.weight").grad:add_(add)
        optimizer:step(clip)
      end)
      for k = 1, 9 do
        local before = bits(model:parameter("wte.weight").value)
        local ok = pcall(on_device, step, mb.full({ 1 }, k == 5 and 0 / 0 or 0))
        assert.are.equal(ok, before ~= bits(model:parameter("wte.weight").value), "step " .. k)
        assert.is_true(ok or k >= 5 and k <= 7)
      end
    end
  end)

  it("changes nothing in a graph", function()
    if device == "cpu" then return end
    local ids = mb.ids { { 1, 2, 3, 4 }, { 5, 6, 7, 8 } }
    for name, make in pairs(clips) do
      local model = model_of()
      local optimizer, clip = optimizers.adamw(model), make()
      local factor = mb.ones { 1 }
      local step = mb.graph(function(by)
        optimizer:zero_grad()
        local loss = model:loss { inputs = ids, targets = ids } * by:reshape {}
        loss:backward()
        return optimizer:step(clip)
      end)
      local texts = { [0] = all_of(model, optimizer) }
      for k = 1, 8 do
        factor:fill_(k == 6 and 0 / 0 or 1)
        local ok = pcall(step, factor)
        if not ok then
          -- Heard of two calls later; a decomposition is no part of a graph, and its clip hears of the last call.
          assert.are.equal(name == "exact" and 7 or 8, k, name)
          step(factor)
        end
        texts[k] = all_of(model, optimizer)
        assert.are.equal(k == 6, texts[k] == texts[k - 1], name .. ", step " .. k)
      end
      assert.is_true(step:graphs() >= 1, name)
    end
  end)

  it("is over with gradients that a graph zeroes, whichever graph clips them", function()
    if device == "cpu" then return end
    local ids = mb.ids { { 1, 2, 3, 4 }, { 5, 6, 7, 8 } }
    for _, unclipped in ipairs { false, true } do -- at first, so that no clipper is there when the gradients' graph is captured
      local model = model_of()
      local optimizer, clip = optimizers.adamw(model), clips.norm()
      local factor = mb.ones { 1 }
      local gradient = mb.graph(function(by)
        optimizer:zero_grad()
        local loss = model:loss { inputs = ids, targets = ids } * by:reshape {}
        loss:backward()
      end)
      local update = mb.graph(function() optimizer:step(clip) end)
      local before
      for k = 1, 14 do -- the update is captured where the gradients' graph is launched already
        factor:fill_(k == 9 and 0 / 0 or 1)
        gradient(factor)
        if k < 4 then
          optimizer:step(not unclipped and clip or nil)
        elseif not pcall(update) then
          assert.are.equal(11, k)
          update()
        end
        local after = all_of(model, optimizer)
        assert.are.equal(k == 9, before == after, "step " .. k)
        before = after
      end
      assert.is_true(gradient:graphs() == 1 and update:graphs() == 1)
    end
  end)
end)
