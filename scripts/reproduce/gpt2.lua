-- SPDX-License-Identifier: MIT
--
-- gpt2.lua: a GPT-2 on tokens, moved by SGD with momentum, AdamW or Muon; gradients clipped by their norm or by their singular
-- values. Loss per token and per second (arXiv 2605.11838, figure 3).
--   luajit scripts/reproduce/gpt2.lua             a small GPT with few merges of GPT-2's code, minutes on two cores
--   luajit scripts/reproduce/gpt2.lua --full      124M parameters, 2 thousand million tokens a run: for a GPU, and days
--
-- Tokens are those of --data: token files (.bin), or a text, which is encoded first. Without it they are data/fineweb's, as
-- scripts/data/get.lua fineweb fetches them, or those of books.

local here = (arg[0] or ""):match("^(.*)/[^/]*$") or "."
package.path = ("%s/../../lua/?.lua;%s/../../lua/?/init.lua;%s/../../?.lua;"):format(here, here, here) .. package.path

local SOURCE = "arXiv 2605.11838, figure 3"
local OPTIMIZERS = { "SGDM", "AdamW", "Muon" }

local function optimizer_of(mb, model, o)
  local function cosine(peak)
    return mb.schedule.cosine { peak = peak, warmup = o.warmup, steps = o.steps, final = peak * o.final }
  end
  if o.optimizer == "SGDM" then return mb.optim.sgd(model, { lr = cosine(o.lr), momentum = 0.9 }) end
  if o.optimizer == "AdamW" then
    return mb.optim.adamw(model, { lr = cosine(o.lr), betas = { 0.9, 0.999 }, weight_decay = o.decay })
  end
  local as_torch = o.muon == "torch"
  return mb.optim.muon(model, { lr = cosine(o.lr), momentum = 0.9, weight_decay = o.decay, nesterov = as_torch,
    scale = as_torch and "original" or "match_rms_adamw", rest = { name = "adamw",
      lr = cosine(o.rest_lr > 0 and o.rest_lr or o.lr), betas = { 0.9, 0.99 }, weight_decay = o.decay } })
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
  language.find_tokens(s)
  local optimizers = { { name = "SGDM", lrs = language.numbers(s, "sgd_lrs") },
    { name = "AdamW", lrs = language.numbers(s, "adam_lrs") }, { name = "Muon", lrs = language.numbers(s, "muon_lrs") } }
  local thresholds = { norm = language.numbers(s, "norms"), spectral = language.numbers(s, "taus") }
  return comparison.runs(s, optimizers, thresholds, function(o)
    o.final = s.final
    if o.optimizer ~= "SGDM" then o.decay = s.decay end
    if o.optimizer == "Muon" then o.rest_lr, o.muon = s.rest_lr, s.muon end
    if o.clip == "spectral" then o.rank, o.oversample, o.power_iters = s.rank, s.oversample, 2 end
    return language.settings(s, o)
  end, s.steps)
end

local function report(results, s)
  local tokens = s.batch_size * s.grad_accum * s.block_size
  return require("scripts.reproduce.problems.comparison").report(results, {
    optimizers = OPTIMIZERS, source = SOURCE, notes = { s.data_note,
      ("%d layers of width %d, %d steps of %d tokens, %d in all; spectral clipping of all but embeddings and head, with "
        .. "r = %d, p = %d, it = 2."):format(s.n_layer, s.n_embd, s.steps, tokens, s.steps * tokens, s.rank,
        s.oversample),
      ("Learning rates end at %g of their peaks; weight decay of AdamW and Muon %g; steps of Muon are of %s size, and the "
        .. "learning rate beside it is %s. --full has what the authors' code has: an end at 0, no decay, PyTorch's Muon, one "
        .. "learning rate, dropout 0.1."):format(s.final, s.decay, s.muon == "torch" and "PyTorch's" or "AdamW's",
        s.rest_lr > 0 and ("%g"):format(s.rest_lr) or "the same"),
    },
  })
end

require("moonbow.experiment").main {
  name = "gpt2",
  about = "GPT-2 on tokens by SGDM, AdamW and Muon: norm clipping against spectral clipping, per token and per second.",
  source = SOURCE,
  options = require("scripts.reproduce.problems.language").rows({
    { "merges", 50000, "of GPT-2's byte-pair code, where a text is encoded", kind = "integer", min = 1 },
    { "warmup", 200, "steps of it", kind = "integer", min = 0 },
    { "sgd_lrs", "0.03,0.1", "peak learning rates of SGDM", kind = "string", value = "LIST" },
    { "adam_lrs", "0.001,0.003", "of AdamW", kind = "string", value = "LIST" },
    { "muon_lrs", "0.003,0.01", "of Muon", kind = "string", value = "LIST" },
    { "rest_lr", 1e-3, "of AdamW beside Muon; 0: that of Muon", min = 0 },
    { "final", 0.1, "where the cosine ends, as a share of its peak", min = 0, max = 1 },
    { "muon", "match_rms", "scale 0.2 sqrt(max(out, in)); or torch.optim.Muon's: sqrt(max(1, out / in)), Nesterov",
      choices = { "match_rms", "torch" } },
    { "dropout", 0, "probability", min = 0, max = 0.99 },
    { "decay", 0.1, "weight decay of AdamW and Muon", min = 0 },
    { "norms", "0.01,0.1", "thresholds of norm clipping", kind = "string", value = "LIST" },
    { "taus", "0.01,0.1", "thresholds of spectral clipping", kind = "string", value = "LIST" },
    { "rank", 64, "r of spectral clipping", kind = "integer", min = 1 },
    { "oversample", 10, "p of spectral clipping", kind = "integer", min = 0 },
  }, true),
  sizes = {
    smoke = { n_layer = 1, n_head = 2, n_embd = 16, block_size = 8, batch_size = 2, steps = 4, eval_every = 2, eval_iters = 1,
      warmup = 1, merges = 64, sgd_lrs = "0.1", adam_lrs = "0.001", muon_lrs = "0.01", norms = "0.1", taus = "0.03", rank = 4,
      oversample = 2, seeds = "1" },
    quick = { n_layer = 3, n_head = 3, n_embd = 96, block_size = 64, batch_size = 12, steps = 300, eval_every = 25,
      eval_iters = 10, warmup = 20, merges = 768, rank = 16, oversample = 5, sgd_lrs = "0.1,0.3", rest_lr = 3e-3,
      norms = "0.1,1" },
    full = { n_layer = 12, n_head = 12, n_embd = 768, block_size = 1024, batch_size = 32, grad_accum = 4, steps = 15259,
      eval_every = 250, dtype = "bf16", dropout = 0.1, final = 0, decay = 0, muon = "torch", rest_lr = 0, seeds = "1" },
  },
  seeds = { 1, 2 },
  runs = runs,
  make = make,
  report = report,
}
