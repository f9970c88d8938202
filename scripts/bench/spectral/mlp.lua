-- SPDX-License-Identifier: MIT
--
-- mlp.lua: whole steps of the network of arXiv 2605.11838 (figures 2b and 4) under heavy-tailed noise, which
-- scripts/reproduce/problems/heavy_tail.lua describes, with random batches of 32 out of 8000 and momentum 0.9.
-- Thresholds are moving averages with 0.9. The authors' code makes 67 to 91 such steps a second with exact
-- decompositions on two cores, 134 to 284 with sketches.

local heavy_tail = require "scripts.reproduce.problems.heavy_tail"
local timing = require "scripts.bench.spectral.timing"

local M = {}
M.__index = M

local AUTHORS = { exact = { 67, 91 }, sketch = { 134, 284 } }
local LEARNING_RATE = 1e-5

local rules = {
  { name = "none" },
  { name = "exact", options = { method = "exact" } },
  { name = "sketch", options = { method = "randomized", rank = 8, oversample = 5, power_iters = 1 } },
}

function M.new(context)
  local mb, s = context.mb, context.settings
  local self = setmetatable({ mb = mb, s = s, now = context.now, rules = {}, rates = {} }, M)
  local inputs, targets = heavy_tail.samples(heavy_tail.TRAINING)
  self.batch = heavy_tail.batches(inputs, targets, "random")
  for i, rule in ipairs(rules) do
    local model = heavy_tail.model(1, s.dtype)
    local o = { threshold = mb.threshold.ema { beta = 0.9 } }
    for key, value in pairs(rule.options or {}) do o[key] = value end
    self.rules[i] = { name = rule.name, model = model, clip = rule.options and mb.clip.spectral(o),
      optimizer = mb.optim.sgd(model, { lr = LEARNING_RATE, momentum = 0.9 }) }
  end
  return self
end

function M:ours()
  for _, rule in ipairs(self.rules) do
    for step = 1, math.min(20, self.s.steps) do heavy_tail.step(rule, self.batch(step)) end
    local start = self.now()
    for step = 1, self.s.steps do heavy_tail.step(rule, self.batch(step)) end
    timing.push(self.rates, rule.name, self.s.steps / (self.now() - start))
  end
end

function M:request()
  return { part = "mlp", steps = self.s.steps, samples = heavy_tail.TRAINING, batch = heavy_tail.BATCH, lr = LEARNING_RATE }
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
