-- SPDX-License-Identifier: MIT
--
-- gpt2_step_spec.lua: one step of a small GPT-2 against PyTorch's: loss, logits and every gradient.

local helper = require "tests.helper"
local mb = require "moonbow"

local config = { vocab_size = 97, block_size = 32, n_layer = 3, n_head = 4, n_embd = 64 }

-- Largest |a - b|, and largest |b|.
local function difference(a, b)
  a, b = a:to "cpu", b:to "cpu"
  local gap = (a:to "f64" - b:to "f64"):abs():max():item()
  return gap, b:abs():max():item()
end

local function is_projection(name)
  return name:find "%.c_%a+%.weight$" ~= nil
end

-- Model with the fixture's weights, its batch, and what PyTorch got. `dtype` is the model's.
local function setting(dtype)
  local folder = helper.fixtures()
  if not folder then pending "the fixtures are not in this checkout" end
  local expected = mb.safetensors.load(folder .. "/gpt2_step.safetensors")
  local c = { dtype = dtype, seed = 1 }
  for name, value in pairs(config) do c[name] = value end
  local model = mb.models.gpt2(c)
  model:load_hf(folder .. "/gpt2_weights.safetensors")
  local batch = expected.batches:slice(1, 1, 1):reshape(4, 33)
  return model, expected, { inputs = batch:slice(2, 1, 32), targets = batch:slice(2, 2, 33) }
end

-- Loss, logits and gradients within the given distances: relative, of the largest logit, of the largest entry.
local function compare(dtype, loss_distance, logits_distance, gradient_distance)
  local model, expected, batch = setting(dtype)
  local gap, largest = difference(model:logits(batch), expected.logits)
  assert(gap <= logits_distance * largest, ("logits differ by %g of %g"):format(gap, largest))

  local loss = model:loss(batch)
  local wanted = expected.loss:item()
  assert(math.abs(loss:item() - wanted) <= loss_distance * wanted,
    ("loss is %.9g, %.9g was expected"):format(loss:item(), wanted))
  loss:backward()
  local seen = 0
  for _, p in ipairs(model:parameters()) do
    local grad = is_projection(p.name) and p.grad:transpose(1, 2) or p.grad
    gap, largest = difference(grad, expected["grad." .. p.name])
    assert(gap <= gradient_distance * largest,
      ("the gradient of %s differs by %g, its largest entry is %g"):format(p.name, gap, largest))
    seen = seen + 1
  end
  assert.are.equal(40, seen)
end

describe("a step of GPT-2", function()
  it("is PyTorch's, in float32", function()
    compare("f32", 1e-5, 1e-5, 1e-4)
  end)

  -- The fixture was made in float32: what remains is its own rounding.
  it("is PyTorch's, in float64", function()
    compare("f64", 1e-6, 2e-6, 5e-5)
  end)

  it("gives a gradient accumulated over slices of the batch", function()
    local model, _, batch = setting "f64"
    model:loss(batch):backward()
    local whole = {}
    for i, p in ipairs(model:parameters()) do whole[i] = p.grad:clone() end
    model:zero_grad()
    for row = 1, 4 do
      local part = { inputs = batch.inputs:slice(1, row, row), targets = batch.targets:slice(1, row, row) };
      (model:loss(part) / 4):backward()
    end
    for i, p in ipairs(model:parameters()) do
      local gap, largest = difference(p.grad, whole[i])
      assert(gap <= 1e-13 * largest, ("%s differs by %g of %g"):format(p.name, gap, largest))
    end
  end)

  it("leaves nothing behind, and uses the same memory every time", function()
    helper.no_leaks(function()
      local model, _, batch = setting "f32"
      local held = {}
      for i = 1, 4 do
        model:zero_grad()
        model:loss(batch):backward()
        mb.collect()
        local m = mb.memory()
        held[i] = { m.bytes_live, m.live_tensors, m.bytes_live + m.bytes_cached }
      end
      assert.are.same(held[2], held[3])
      assert.are.same(held[2], held[4])
    end)
  end)
end)
