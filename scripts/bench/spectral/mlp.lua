-- SPDX-License-Identifier: MIT
--
-- mlp.lua: whole steps of the network of arXiv 2605.11838 (figures 2b and 4) under heavy-tailed noise: input 100, three
-- hidden layers of 100, ReLU, no biases, one output, squared error, batches of 32 out of 8000, momentum 0.9. With
-- probability 0.1 every gradient gets s u v^T, u and v random unit vectors, s two-sided Pareto (shape 1.1, scale 5).
-- Thresholds are moving averages with 0.9. The authors' code makes 67 to 91 such steps a second with exact
-- decompositions on two cores, 134 to 284 with sketches.

local timing = require "scripts.bench.spectral.timing"

local M = {}
M.__index = M

local AUTHORS = { exact = { 67, 91 }, sketch = { 134, 284 } }
local SAMPLES, BATCH, LEARNING_RATE = 8000, 32, 1e-5

local rules = {
  { name = "none" },
  { name = "exact", options = { method = "exact" } },
  { name = "sketch", options = { method = "randomized", rank = 8, oversample = 5, power_iters = 1 } },
}

function M.new(context)
  local mb, s = context.mb, context.settings
  local self = setmetatable({ mb = mb, s = s, now = context.now, rules = {}, rates = {} }, M)
  local inputs = mb.randn { SAMPLES, 100 }
  local x = { inputs:slice(2, 1, 1), inputs:slice(2, 2, 2), inputs:slice(2, 3, 3) }
  self.inputs, self.targets = inputs, (x[1] * x[2] * x[3]):contiguous()
  for i, rule in ipairs(rules) do
    local model = mb.models.mlp { n_input = 100, n_hidden = 100, n_layer = 3, n_output = 1, bias = false, seed = 1,
      dtype = s.dtype }
    local o = { threshold = mb.threshold.ema { beta = 0.9 } }
    for key, value in pairs(rule.options or {}) do o[key] = value end
    self.rules[i] = { name = rule.name, model = model, clip = rule.options and mb.clip.spectral(o),
      optimizer = mb.optim.sgd(model, { lr = LEARNING_RATE, momentum = 0.9 }) }
  end
  return self
end

local function unit_vector(mb, shape)
  local v = mb.randn(shape)
  return v * (1 / v:square():sum():item() ^ 0.5)
end

local function add_noise(mb, model)
  for _, p in ipairs(model:parameters()) do
    local size = 5 * math.random() ^ (-1 / 1.1) * (math.random() < 0.5 and -1 or 1)
    p.grad:add_(mb.matmul(unit_vector(mb, { p.shape[1], 1 }), unit_vector(mb, { 1, p.shape[2] })), size)
  end
end

local function step(self, rule)
  local mb, model, ids = self.mb, rule.model, {}
  for i = 1, BATCH do ids[i] = math.random(0, SAMPLES - 1) end
  ids = mb.tensor(ids, { dtype = "i32" })
  rule.optimizer:zero_grad()
  local off = model:logits { inputs = self.inputs:embedding(ids) }:to "f32" - self.targets:embedding(ids)
  off:square():mean():backward()
  if math.random() < 0.1 then add_noise(mb, model) end
  if rule.clip then rule.clip(model) end
  rule.optimizer:step()
end

function M:ours()
  for _, rule in ipairs(self.rules) do
    for _ = 1, math.min(20, self.s.steps) do step(self, rule) end
    local start = self.now()
    for _ = 1, self.s.steps do step(self, rule) end
    timing.push(self.rates, rule.name, self.s.steps / (self.now() - start))
  end
end

function M:request()
  return { part = "mlp", steps = self.s.steps, samples = SAMPLES, batch = BATCH, lr = LEARNING_RATE }
end

function M:theirs(peer, answer) -- luacheck: ignore 212/self
  peer.mlp = peer.mlp or {}
  for name, rate in pairs(answer.rates) do timing.push(peer.mlp, name, rate) end
end

function M:report(peers)
  local rows, right = { { "clipping", "steps/s" } }, { [2] = true }
  local series, groups, record = { { name = "moonbow", values = {} } }, {}, { entries = {} }
  for i, peer in ipairs(peers) do
    rows[1][#rows[1] + 1], rows[1][#rows[1] + 2] = peer.name, "faster"
    series[i + 1] = { name = peer.name, values = {} }
  end
  rows[1][#rows[1] + 1], rows[1][#rows[1] + 2] = "authors' code", "faster"
  local quoted = { name = "authors' code (best)", values = {} }
  for i, rule in ipairs(self.rules) do
    local rate, authors = timing.median(self.rates[rule.name]), AUTHORS[rule.name]
    local row, entry = { rule.name, ("%.0f"):format(rate) }, { clipping = rule.name, steps_per_second = rate, peers = {} }
    groups[i], series[1].values[i] = rule.name, rate
    for k, peer in ipairs(peers) do
      local other = timing.median(peer.mlp[rule.name])
      row[#row + 1], row[#row + 2] = ("%.0f"):format(other), ("%.1f"):format(rate / other)
      series[k + 1].values[i], entry.peers[peer.name] = other, other
    end
    row[#row + 1] = authors and ("%d-%d"):format(authors[1], authors[2]) or ""
    row[#row + 1] = authors and ("%.1f-%.1f"):format(rate / authors[2], rate / authors[1]) or ""
    quoted.values[i] = authors and authors[2] or 0 / 0
    rows[#rows + 1], record.entries[i] = row, entry
  end
  series[#series + 1] = quoted
  for c = 3, #rows[1] do right[c] = true end
  return { head = "a small network under heavy-tailed noise, momentum, moving thresholds; the authors' figures are quoted",
    rows = rows, right = right, record = record, charts = { { title = "Steps of the MLP under heavy-tailed noise",
      y = { label = "steps / s", log = true }, groups = groups, series = series } } }
end

return M
