-- SPDX-License-Identifier: MIT
--
-- shakespeare.lua: a GPT on characters of Shakespeare, its hidden matrices moved by SGD with momentum or by Muon and the rest by
-- Adam; gradients clipped by their norm or by their singular values. Loss per step and per second (arXiv 2605.11838, figures
-- 6 and 2c).
--   luajit scripts/reproduce/shakespeare.lua             a small model, minutes on two cores
--   luajit scripts/reproduce/shakespeare.lua --full      nanoGPT's size, 10,000 steps; for a GPU

local here = (arg[0] or ""):match("^(.*)/[^/]*$") or "."
package.path = ("%s/../../lua/?.lua;%s/../../lua/?/init.lua;%s/../../?.lua;"):format(here, here, here) .. package.path

local SOURCE = "arXiv 2605.11838, figures 6 and 2c"

local function optimizer_of(mb, model, o)
  local hidden = { where = "matrix", name = "sgd", lr = o.lr, momentum = 0.9, weight_decay = o.decay }
  if o.optimizer == "Muon" then hidden.name, hidden.split = "muon", o.view end
  return mb.optim.groups(model, { hidden, { where = "rest", name = "adam", lr = o.adam_lr > 0 and o.adam_lr or o.lr,
    betas = { 0.9, 0.95 } } })
end

local function make(run, context)
  local mb, language = require "moonbow", require "scripts.reproduce.problems.language"
  local o = run.settings
  mb.seed(run.seed)
  local data = language.open(run, context)
  local model = language.model(mb.models.gpt2, run, data)
  return (language.train(run, context, { model = model, optimizer = optimizer_of(mb, model, o), clip = language.clip(o),
    data = data }))
end

local function runs(s)
  local comparison, language = require "scripts.reproduce.problems.comparison", require "scripts.reproduce.problems.language"
  language.find_characters(s)
  local optimizers = { { name = "SGDM", lrs = language.numbers(s, "sgd_lrs") },
    { name = "Muon", lrs = language.numbers(s, "muon_lrs") } }
  local thresholds = { norm = language.numbers(s, "norms"), spectral = language.numbers(s, "taus") }
  return comparison.runs(s, optimizers, thresholds, function(o)
    o.adam_lr, o.decay = s.adam_lr, o.optimizer == "Muon" and s.decay or s.sgd_decay
    if o.clip == "spectral" then o.rank, o.oversample, o.power_iters, o.clipped = 3, 5, 2, s.clipped end
    o.view = s.view
    return language.settings(s, o)
  end, s.steps)
end

local function report(results, s)
  return require("scripts.reproduce.problems.comparison").report(results, {
    optimizers = { "SGDM", "Muon" }, source = SOURCE, notes = {
      s.data_note, ("%d layers of width %d, %d steps of %d characters; spectral clipping with r = 3, p = 5, it = 2."):format(
        s.n_layer, s.n_embd, s.steps, s.batch_size * s.grad_accum * s.block_size),
      ("Adam's learning rate is %s, weight decay %g of Muon and %g of SGDM, c_attn %s, spectral clipping is of %s. With --full "
        .. "they are the authors' code's: one learning rate, a decay of 0.1 of both, three matrices, hidden matrices alone."
        ):format(
        s.adam_lr > 0 and ("%g"):format(s.adam_lr) or "that of the matrices", s.decay, s.sgd_decay,
        s.view == "qkv" and "three matrices" or "one matrix",
        s.clipped == "matrices" and "hidden matrices alone" or "all but embeddings and head"),
    },
  })
end

require("moonbow.experiment").main {
  name = "shakespeare",
  about = "A GPT on characters, hidden matrices by SGDM or Muon: norm clipping against spectral clipping.",
  source = SOURCE,
  options = require("scripts.reproduce.problems.language").rows({
    { "dropout", 0.2, "probability", min = 0, max = 0.99 },
    { "sgd_lrs", "0.03,0.1,0.3", "learning rates of SGDM", kind = "string", value = "LIST" },
    { "muon_lrs", "0.01", "learning rates of Muon", kind = "string", value = "LIST" },
    { "adam_lr", 1e-3, "of the rest; 0: that of the hidden matrices", min = 0 },
    { "decay", 0.1, "weight decay of Muon", min = 0 },
    { "sgd_decay", 0, "weight decay of SGDM", min = 0 },
    { "view", "fused", "c_attn is one matrix, or the three that the authors' model has", choices = { "fused", "qkv" } },
    { "clipped", "all", "by spectral clipping: all but embeddings and head, or hidden matrices alone",
      choices = { "all", "matrices" } },
    { "norms", "0.1,0.3,1,3", "thresholds of norm clipping", kind = "string", value = "LIST" },
    { "taus", "0.01,0.03,0.1,0.3", "thresholds of spectral clipping", kind = "string", value = "LIST" },
  }, true),
  sizes = {
    smoke = { n_layer = 1, n_head = 2, n_embd = 16, block_size = 8, batch_size = 2, dropout = 0, steps = 4, eval_every = 2,
      eval_iters = 1, sgd_lrs = "0.1", norms = "0.1,0.3", taus = "0.01,0.03", seeds = "1" },
    quick = { n_layer = 3, n_head = 3, n_embd = 96, block_size = 64, batch_size = 12, dropout = 0, steps = 300, eval_every = 25,
      eval_iters = 10, sgd_lrs = "0.1,0.3", norms = "0.3,1,3", taus = "0.01,0.03,0.1" },
    full = { sgd_lrs = "0.001,0.003,0.01,0.03", adam_lr = 0, sgd_decay = 0.1, view = "qkv", clipped = "matrices",
      seeds = "1,2,3" },
  },
  seeds = { 1, 2 },
  runs = runs,
  make = make,
  report = report,
}
