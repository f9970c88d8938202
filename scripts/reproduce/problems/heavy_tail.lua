-- SPDX-License-Identifier: MIT
--
-- heavy_tail.lua: the network of arXiv 2605.11838 (figures 2b and 4) under heavy-tailed noise: input 100, three hidden layers
-- of 100, ReLU, no biases, one output, squared error; y = x1 x2 x3 of normal inputs, 10,000 samples of which four fifths
-- are for training, in batches of 32. With probability 0.1 a step, every gradient gets s u v^T: u and v random unit vectors,
-- s two-sided Pareto of shape 1.1 and scale 5.
--
-- Batches are 32 of the training samples, drawn anew for every step; or, `order = "fixed"`, as the authors' code has them: the
-- batches of one pass, drawn once, come in the same order again and again.

local mb = require "moonbow"

local M = { PROBABILITY = 0.1, SHAPE = 1.1, SCALE = 5, BATCH = 32, SAMPLES = 10000, TRAINING = 8000 }

---Inputs (count, 100) and targets (count, 1).
---@param count integer
function M.samples(count)
  local x = mb.randn { count, 100 }
  return x, (x:slice(2, 1, 1) * x:slice(2, 2, 2) * x:slice(2, 3, 3)):contiguous()
end

---Where the batches of a run come from: a function of the step, from 1, that gives inputs (32, 100) and targets (32, 1).
---@param x moonbow.Tensor training inputs (count, 100)
---@param y moonbow.Tensor targets (count, 1)
---@param order "random"|"fixed"
---@return fun(step: integer): moonbow.Tensor, moonbow.Tensor
function M.batches(x, y, order)
  local count, ids = x.shape[1], {}
  if order == "random" then
    return function()
      for i = 1, M.BATCH do ids[i] = math.random(0, count - 1) end
      local places = mb.tensor(ids, { dtype = "i32" })
      return x:embedding(places), y:embedding(places)
    end
  end
  return function(step) -- the samples are independent: their own order is a random one
    local first = (step - 1) * M.BATCH % count + 1
    return x:slice(1, first, first + M.BATCH - 1), y:slice(1, first, first + M.BATCH - 1)
  end
end

---@param seed integer
---@param dtype? "f32"|"bf16"
function M.model(seed, dtype)
  return mb.models.mlp { n_input = 100, n_hidden = 100, n_layer = 3, n_output = 1, bias = false, seed = seed, dtype = dtype }
end

---Two-sided Pareto: |s| = scale U^(-1 / shape), U uniform in (0, 1].
---@return number
function M.pareto()
  local size = M.SCALE * (1 - math.random()) ^ (-1 / M.SHAPE)
  return math.random() < 0.5 and -size or size
end

local function unit_vector(shape)
  local v = mb.randn(shape)
  return v * (1 / v:square():sum():item() ^ 0.5)
end

---Adds noise of rank one to every gradient.
function M.add_noise(model)
  for _, p in ipairs(model:parameters()) do
    p.grad:add_(mb.matmul(unit_vector { p.shape[1], 1 }, unit_vector { 1, p.shape[2] }), M.pareto())
  end
end

---One step on a batch: loss, gradients, noise, clipping, update.
---@param run { model: table, clip?: function, optimizer: table }
---@return moonbow.Tensor loss before the update
function M.step(run, x, y)
  run.optimizer:zero_grad()
  local loss = (run.model:logits { inputs = x }:to "f32" - y):square():mean()
  loss:backward()
  if math.random() < M.PROBABILITY then M.add_noise(run.model) end
  if run.clip then run.clip(run.model) end
  run.optimizer:step()
  return loss
end

-- What a rule of a run's settings is, as a clipper; `none` is no clipper.
local rules = {
  none = function() return nil end,
  norm = function(o) return mb.clip.norm { max_norm = o.threshold } end,
  const = function(o) return mb.clip.spectral { method = "exact", threshold = o.threshold } end,
  ema = function() return mb.clip.spectral { method = "exact", threshold = mb.threshold.ema { beta = 0.9 } } end,
  quantile = function()
    return mb.clip.spectral { method = "exact", threshold = mb.threshold.quantile { q = 0.85, window = 100 } }
  end,
}

---A whole run. It ends when the loss is NaN or beyond 1e6: it has diverged.
---@param o { seed: integer, steps: integer, optimizer: "sgd"|"adam", lr: number, rule: string, threshold?: number,
---  order: "random"|"fixed", window: integer, last: integer } window: steps of a point of the curve; last: steps at the end
---  that `final` is the mean of
---@param progress fun(share: number)
---@return { curve: number[], final: number, diverged_at?: integer, steps_per_second: number, steps_per_cpu_second: number }
function M.run(o, progress)
  mb.seed(o.seed)
  math.randomseed(o.seed)
  local x, y = M.samples(M.SAMPLES) -- the samples are independent: any four fifths are a random choice
  local batch_of = M.batches(x:slice(1, 1, M.TRAINING), y:slice(1, 1, M.TRAINING), o.order)
  local run = { model = M.model(o.seed), clip = rules[o.rule](o) }
  run.optimizer = o.optimizer == "adam" and mb.optim.adam(run.model, { lr = o.lr })
    or mb.optim.sgd(run.model, { lr = o.lr, momentum = 0.9 })
  local curve, window, final, last = {}, 0, 0, math.min(o.last, o.steps)
  local started, cpu = mb.time(), os.clock()
  local function answer(steps, mean, diverged_at)
    return { curve = curve, final = mean, diverged_at = diverged_at, steps_per_second = steps / (mb.time() - started),
      steps_per_cpu_second = steps / (os.clock() - cpu) }
  end
  for step = 1, o.steps do
    local loss
    local ok, problem = pcall(mb.scope, function()
      loss = M.step(run, batch_of(step)):item()
    end)
    if not ok and not tostring(problem):find("NaN or Inf", 1, true) then error(problem, 0) end
    if not ok or loss ~= loss or loss > 1e6 then
      return answer(step, 0 / 0, step)
    end
    window = window + loss
    if step % o.window == 0 then curve[#curve + 1], window = window / o.window, 0 end
    if step > o.steps - last then final = final + loss / last end
    progress(step / o.steps)
  end
  return answer(o.steps, final)
end

return M
