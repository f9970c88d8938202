-- SPDX-License-Identifier: MIT
--
-- work.lua: what bench/gpu.lua times and bench/roofline.lua predicts: whole computations at the sizes of GPT-2 124M and of
-- nanoGPT's small setting, or at tiny ones for a rehearsal. Each function makes one on mb.device() and returns it as
--   { step = function, tokens =, flops = (of a training step), restore = function or nil (what a step undoes, not timed) }

local M = {}

M.sizes = {
  train = { vocab_size = 50257, block_size = 1024, n_layer = 12, n_head = 12, n_embd = 768, batch_size = 64 },
  small = { vocab_size = 65, block_size = 256, n_layer = 6, n_head = 6, n_embd = 384, batch_size = 64 },
}
M.tiny = {
  train = { vocab_size = 99, block_size = 16, n_layer = 2, n_head = 2, n_embd = 32, batch_size = 2 },
  small = { vocab_size = 65, block_size = 16, n_layer = 2, n_head = 2, n_embd = 32, batch_size = 2 },
}

--- Parameters of GPT-2 that take part in products, all but the position embedding.
local function weights(s) return s.vocab_size * s.n_embd + s.n_layer * (12 * s.n_embd ^ 2 + 13 * s.n_embd) + 2 * s.n_embd end

--- Operations of a training step by llm.c's formula: 6 N + 6 L C T a token, N without the position embedding.
function M.flops(s)
  return s.batch_size * s.block_size * (6 * weights(s) + 6 * s.n_layer * s.n_embd * s.block_size)
end

M.formula = "llm.c's 6 N + 6 L C T a token, N without the position embedding"

local function gpt2(mb, s, dtype, more)
  return mb.models.gpt2 { vocab_size = s.vocab_size, block_size = s.block_size, n_layer = s.n_layer, n_head = s.n_head,
    n_embd = s.n_embd, dropout = 0, dtype = dtype, seed = 1,
    head_chunks = more and more.head_chunks, recompute = more and more.recompute }
end

-- Ids that a multiplication mixes: made once, they stay on the device.
local function batch_of(mb, s)
  local inputs, targets = {}, {}
  for i = 0, s.batch_size * s.block_size - 1 do
    inputs[i + 1], targets[i + 1] = i * 7919 % s.vocab_size, (i + 1) * 7919 % s.vocab_size
  end
  local function ids(list) return mb.tensor(list, { dtype = "i32" }):reshape { s.batch_size, s.block_size } end
  return { inputs = ids(inputs), targets = ids(targets) }
end

--- A training step with AdamW: forward, backward, update; the batch is on the device. `more`: the model's head_chunks, recompute.
function M.train(mb, s, dtype, more)
  local model = gpt2(mb, s, dtype, more)
  local optimizer = mb.optim.adamw(model, { lr = 3e-4, betas = { 0.9, 0.95 }, eps = 1e-8, weight_decay = 0.1 })
  local batch = batch_of(mb, s)
  local loss
  local function step()
    optimizer:zero_grad()
    mb.scope(function()
      loss = mb.keep(model:loss(batch))
      loss:backward()
    end)
    optimizer:step()
    return loss
  end
  return { step = step, tokens = s.batch_size * s.block_size, flops = M.flops(s), model = model, optimizer = optimizer }
end

-- A model whose matrices have random gradients.
local function with_gradients(mb, s)
  local model = gpt2(mb, s, "f32")
  for _, p in ipairs(model:parameters()) do p.grad:randn_() end
  return model
end

--- Clipping of all matrices of the blocks, every one of which is above the threshold.
function M.clip(mb, s, rank, oversample, power_iters)
  local model, kept = with_gradients(mb, s), {}
  local function is_matrix(p) return p.role == "matrix" end
  for _, p in ipairs(model:parameters()) do
    if is_matrix(p) then kept[#kept + 1] = { grad = p.grad, value = p.grad:clone() } end
  end
  local clip = mb.clip.spectral { threshold = 0.5 * s.n_embd ^ 0.5, where = is_matrix, method = "randomized", rank = rank,
    oversample = oversample, power_iters = power_iters }
  return {
    step = function() clip(model) end,
    restore = function()
      for _, one in ipairs(kept) do one.grad:copy_(one.value) end
    end,
  }
end

--- A step of an optimizer over all parameters.
function M.optimizer(mb, s, name)
  local model = with_gradients(mb, s)
  local given = name == "muon" and { lr = 1e-4, rest = { name = "adamw", lr = 1e-4 } } or { lr = 1e-4, weight_decay = 0.1 }
  local optimizer = mb.optim[name](model, given)
  return { step = function() optimizer:step() end, model = model }
end

--- The function through mb.graph where that works on this device, else itself; and why it is not, or not always, a replay.
---@return function step
---@return string? why
function M.captured(mb, fn)
  local ok, graphed = pcall(mb.graph, fn)
  if not ok then return fn, tostring(graphed) end
  local worked, problem = pcall(function()
    for _ = 1, 4 do graphed() end
    mb.synchronize()
  end)
  if worked then return graphed, type(graphed) == "table" and graphed.note or nil end
  return fn, tostring(problem)
end

return M
