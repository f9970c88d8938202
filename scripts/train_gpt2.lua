-- SPDX-License-Identifier: MIT
--
-- train_gpt2.lua: trains a GPT-2 on text, its gradients (or momenta, or updates) clipped by spectral or plain norm.
--   luajit scripts/train_gpt2.lua                     a small model on the project's own text, a minute
--   luajit scripts/train_gpt2.lua --help              all options
-- Copy this file to start an experiment of your own: the training loop is at the end of it.

local here = (arg[0] or ""):match("^(.*)/[^/]*$") or "."
package.path = ("%s/../lua/?.lua;%s/../lua/?/init.lua;%s/../?.lua;"):format(here, here, here) .. package.path

local cli = require "moonbow.cli"
local run = require "moonbow.report.run"

local options = {
  { "preset", "default", "a set of values for the options below", choices = { "default", "shakespeare-char", "gpt2-124m" } },
  { "data", nil, "text file, or token files (.bin): one, a folder, a pattern [the project's own text]", kind = "string",
    value = "PATH" },
  { "tokenizer", "char", "how text becomes tokens; auto: gpt2 if vocab.bpe is found, else bytes",
    choices = { "char", "bytes", "gpt2", "auto" } },
  { "bpe", nil, "GPT-2's vocab.bpe [beside the data, or in data/gpt2]", kind = "string", value = "PATH" },
  { "in_order", false, "token files as llm.c reads them, not shuffled" },
  { "model", "gpt2", "gpt_modern: rotary positions, RMS norms, squared ReLU, no biases", choices = { "gpt2", "gpt_modern" } },
  { "n_layer", 4, "transformer blocks", kind = "integer", min = 1, max = 10000 },
  { "n_head", 4, "attention heads", kind = "integer", min = 1, max = 2 ^ 20 },
  { "n_embd", 128, "width; a multiple of n_head", kind = "integer", min = 1, max = 2 ^ 20 },
  { "block_size", 64, "tokens of context", kind = "integer", min = 1, max = 2 ^ 24 },
  { "dropout", 0.0, "probability", min = 0, max = 0.99 },
  { "batch_size", 12, "sequences a micro-batch", kind = "integer", min = 1, max = 2 ^ 24 },
  { "grad_accum", 1, "micro-batches a step", kind = "integer", min = 1, max = 2 ^ 24 },
  { "steps", 1500, "updates", kind = "integer", min = 1, max = 1e9 },
  { "optimizer", "adamw", "adamw, adam, sgd, muon, clipped_scion, soap, ...: any of mb.optim", kind = "string", value = "NAME" },
  { "optim", nil, "more of its options: split=qkv,rest.eps=1e-7,radius.matrix=3", kind = "string", value = "NAME=VALUE,..." },
  { "lr", 1e-3, "peak learning rate", min = 0 },
  { "min_lr", nil, "learning rate at the end of a schedule [lr / 10]", kind = "number", min = 0 },
  { "rest_lr", nil, "of AdamW beside an optimizer of matrices [lr]", kind = "number", min = 0 },
  { "momentum", 0.9, "of optimizers that have one, in its usual meaning", min = 0, max = 1 },
  { "beta1", 0.9, "of adamw and others with betas", min = 0, max = 1 },
  { "beta2", 0.99, "of adamw and others with betas", min = 0, max = 1 },
  { "weight_decay", 0.1, "on matrices and embeddings; vectors have none", min = 0 },
  { "warmup", 100, "steps of linear warm-up", kind = "integer", min = 0, max = 1e9 },
  { "schedule", "cosine", "of the learning rate; wsd falls in the last fifth",
    choices = { "const", "cosine", "inverse_sqrt", "linear", "wsd" } },
  { "clip", "spectral", "the norm that is clipped", choices = { "none", "norm", "spectral" } },
  { "clip_on", "grad", "what is clipped", choices = { "grad", "momentum", "update" } },
  { "threshold", nil, "a number, ema:BETA, quantile:Q:WINDOW, zscore:Z:ALPHA, autoclip:P:WINDOW, or a FILE.lua that returns a "
    .. "policy [spectral: ema:0.9]", kind = "string", value = "RULE" },
  { "scope", "matrix", "what shares a threshold in spectral clipping", choices = { "matrix", "block", "global" } },
  { "view", "fused", "what is a matrix: c_attn whole, or in parts", choices = { "fused", "qkv", "heads" } },
  { "max_norm", nil, "of norm clipping, instead of a threshold [1]", kind = "number", min = 0 },
  { "method", "randomized", "of spectral clipping; soft: sigma / sqrt(1 + (sigma / tau)^2)",
    choices = { "exact", "randomized", "polar", "soft" } },
  { "rank", 8, "singular values the randomized method finds; auto: as many as exceed the threshold", kind = "integer", min = 1,
    word = "auto", value = "NUMBER|auto" },
  { "oversample", 5, "more columns of its sketch", kind = "integer", min = 0, max = 2 ^ 20 },
  { "power_iters", 1, "rounds of its subspace iteration", kind = "integer", min = 0, max = 1000 },
  { "eval_every", 250, "steps between evaluations; 0: only at the end", kind = "integer", min = 0 },
  { "eval_iters", 20, "batches an evaluation", kind = "integer", min = 1 },
  { "sample_every", 0, "steps between samples; 0: only at the end", kind = "integer", min = 0 },
  { "sample_tokens", 240, "length of a sample; 0: none", kind = "integer", min = 0 },
  { "spectra_every", 0, "steps between spectra of the gradients in the log; 0: none", kind = "integer", min = 0 },
  { "save_every", 0, "steps between checkpoints; 0: only at the end", kind = "integer", min = 0 },
  { "keep", 2, "checkpoints kept", kind = "integer", min = 1 },
  { "out", nil, "folder of the run [runs/PRESET-TIME]", kind = "string", value = "DIR" },
  { "resume", nil, "continue the run in this folder", kind = "string", value = "DIR" },
  { "init_from", nil, "start from these weights: Hugging Face's safetensors or llm.c's .bin", kind = "string", value = "FILE" },
  { "seed", 1337, "of initialisation, batches, dropout and sketches", kind = "integer", min = 0, max = 2 ^ 53 },
  { "device", "auto", "where to compute", choices = { "auto", "cpu", "cuda" } },
  { "dtype", "f32", "of computation", choices = { "f32", "bf16" } },
  { "rounding", "nearest", "of weights to bf16, with --dtype bf16", choices = { "nearest", "stochastic" } },
  { "head_chunks", 1, "the loss goes through a micro-batch in so many chunks: less memory for logits", kind = "integer", min = 1,
    max = 2 ^ 30 },
  { "recompute", "auto", "GELUs again in the backward, for a quarter less of activations; auto: with --dtype bf16",
    choices = { "auto", "on", "off" } },
  { "graph", "auto", "capture a step's work once and replay it, on a device that can", choices = { "auto", "on", "off" } },
  { "threads", nil, "threads of the CPU backend [all cores]", kind = "integer", min = 1, max = 4096 },
  { "on_nonfinite", "stop", "NaN or Inf in a gradient: stop, or skip up to 10 such steps", choices = { "stop", "skip" } },
  { "memory", false, "print what memory the run needs, part by part, and end; a run that does not fit prints it too and ends" },
  { "tensorboard", false, "write event files for TensorBoard into the run's folder too" },
  { "plain", false, "no live line, plain lines instead" },
  { "quiet", false, "print errors only" },
}

local presets = {
  default = {},
  -- nanoGPT's setting for a CPU: validation loss 1.88 after 2000 steps.
  ["shakespeare-char"] = { data = here .. "/../data/shakespeare/input.txt", steps = 2000, min_lr = 1e-4, clip = "norm" },
  -- GPT-2's smallest size. Without vocab.bpe the tokens are bytes and the embedding has 256 rows: 86M parameters, not 124M.
  ["gpt2-124m"] = { tokenizer = "auto", n_layer = 12, n_head = 12, n_embd = 768, block_size = 1024, batch_size = 4,
    grad_accum = 8, steps = 5000, lr = 6e-4, min_lr = 6e-5, beta2 = 0.95, warmup = 200, eval_every = 100, save_every = 200 },
}

cli.main("train_gpt2", function()
  local settings = run.settings(options, presets, arg)
  if not settings then return 0 end
  local mb = require "moonbow"
  run.device(settings)

  local data = run.data(settings)
  if not run.fits(settings, data) then return 0 end
  local model = mb.models[settings.model] {
    vocab_size = data.vocab_size, block_size = settings.block_size, n_layer = settings.n_layer,
    n_head = settings.n_head, n_embd = settings.n_embd, dropout = settings.dropout, seed = settings.seed,
    dtype = settings.dtype, rounding = settings.rounding, head_chunks = settings.head_chunks,
    recompute = run.recompute(settings),
  }
  if settings.init_from and not settings.resume then model:load_weights(settings.init_from) end
  local clip = run.clip(settings)
  local optimizer = run.optimizer(settings, model)
  local job = run.start { settings = settings, model = model, data = data, clip = clip, optimizer = optimizer }

  local gradient = job:graphed("forward and backward", function(batch)
    local part = model:loss(batch, { scale = 1 / settings.grad_accum })
    part:backward()
    return part
  end)
  local update = job:graphed("clipping and update", function() return optimizer:step(clip) end)

  for step = job.first_step, settings.steps do
    job:begin(step)
    optimizer:zero_grad()
    local loss = mb.scope(function()
      local parts, sum = {}, 0
      for i = 1, settings.grad_accum do
        parts[i] = mb.scope(function() return gradient(data:batch()):clone() end)
      end
      for i = 1, settings.grad_accum do sum = sum + parts[i]:item() end
      return sum
    end)
    if job:is_finite(loss) then
      if job:is_due("spectra") then job:spectra() end
      local report = update()
      job:log(loss, report)
    end
    if job:is_due("save") then job:save() end
    if job:is_due("eval") then job:evaluate() end
    if job:is_due("sample") then job:sample() end
    if job:interrupted() then return 130 end
  end
  return job:finish()
end)
