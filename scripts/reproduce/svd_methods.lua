-- SPDX-License-Identifier: MIT
--
-- svd_methods.lua: spectral clipping by a whole decomposition, by sketches of several ranks, and by the polar factor, on the same
-- training: its loss, how far the clipped gradients are from exact clipping in float64, and what clipping costs
-- (arXiv 2605.11838, figure 5b; the polar factor is this engine's own addition). The paper's network is one for CIFAR-10; here
-- it is a GPT on characters of Shakespeare.
--   luajit scripts/reproduce/svd_methods.lua             a small model, a minute or two on two cores
--   luajit scripts/reproduce/svd_methods.lua --full      nanoGPT's size
--
-- The rules of the verdicts:
--   loss    that of training, mean of the last fifth of the steps and of the seeds, is within 1 % of exact clipping's; and
--           there was something to clip
--   error   |clipped - exact|_F / |exact|_F of a matrix, exact clipping in float64 of the same gradient to the same threshold;
--           the median over steps and those matrices that exact clipping changes: at most 1e-5 with exact clipping in float32,
--           1e-4 with the polar factor, and 0.05 with sketches of rank 10
--   time    seconds of clipping in a step are fewer than those of exact clipping

local here = (arg[0] or ""):match("^(.*)/[^/]*$") or "."
package.path = ("%s/../../lua/?.lua;%s/../../lua/?/init.lua;%s/../../?.lua;"):format(here, here, here) .. package.path

local claims = require "moonbow.experiment.claims"
local statistics = require "moonbow.experiment.statistics"

local SOURCE, OWN = "arXiv 2605.11838, figure 5b", "asked by this script"

-- What is compared, in order: options of mb.clip.spectral.
local METHODS = {
  { name = "exact", method = "exact" },
  { name = "rank 3, it 2", method = "randomized", rank = 3, oversample = 5, power_iters = 2 },
  { name = "rank 10, it 1", method = "randomized", rank = 10, oversample = 5, power_iters = 1 },
  { name = "rank auto", method = "randomized", rank = "auto", oversample = 5, power_iters = 1 },
  { name = "polar", method = "polar" },
}

-- ----- runs ---------------------------------------------------------------------------------------------

local function clip_of(mb, o)
  local sketches = o.method == "randomized"
  return mb.clip.spectral { threshold = o.threshold, method = o.method, rank = sketches and o.rank or nil,
    oversample = sketches and o.oversample or nil, power_iters = sketches and o.power_iters or nil }
end

-- Copies of the gradients of matrices: { name, gradient }, in the model's order.
local function gradients(clip, model)
  local list = {}
  for _, p in ipairs(clip:parameters(model)) do
    if #p.shape > 1 then list[#list + 1] = { name = p.name, gradient = p.grad:to "f64" } end
  end
  return list
end

-- Relative errors of the clipped gradients, one for each matrix that there was something to clip of.
local function errors(mb, model, before, threshold)
  local list = {}
  for _, one in ipairs(before) do
    local exact, info = mb.clip.matrix(one.gradient, { threshold = threshold, method = "exact" })
    if info.clipped then
      local difference = model:parameter(one.name).grad:to "f64" - exact
      list[#list + 1] = (difference:square():sum():item() / exact:square():sum():item()) ^ 0.5
    end
  end
  return list
end

local function make(run, context)
  local mb, language = require "moonbow", require "scripts.reproduce.problems.language"
  local o = run.settings
  mb.seed(run.seed)
  local data = language.open(run, context)
  local model = language.model(mb.models.gpt2, run, data)
  local clip = clip_of(mb, o)
  local optimizer = mb.optim.groups(model, { { where = "matrix", name = "sgd", lr = o.lr, momentum = 0.9 },
    { where = "rest", name = "adam", lr = o.adam_lr, betas = { 0.9, 0.95 } } })
  local result, journal = language.train(run, context, { model = model, optimizer = optimizer, clip = clip, data = data }, {
    update = function(step, journal)
      local before = step % o.eval_every == 0 and gradients(clip, model) or nil
      local started, found = language.clock(context.settings), nil
      local report = clip(model)
      journal:add("clip_seconds", language.clock(context.settings) - started)
      journal:add("clips", 1)
      if before then mb.scope(function() found = errors(mb, model, before, o.threshold) end) end
      optimizer:step()
      return report, found and { errors = found }
    end })
  if not result then return nil end
  result.clip_seconds = journal.sums.clips and journal.sums.clip_seconds / journal.sums.clips or 0 / 0
  return result
end

local function runs(s)
  local language, list = require "scripts.reproduce.problems.language", {}
  language.find_characters(s)
  for _, method in ipairs(METHODS) do
    for _, seed in ipairs(s.seeds) do
      local o = { lr = s.lr, adam_lr = s.adam_lr, threshold = s.threshold }
      for key, value in pairs(method) do
        if key ~= "name" then o[key] = value end
      end
      list[#list + 1] = { name = method.name, seed = seed, settings = language.settings(s, o), cost = s.steps }
    end
  end
  return list
end

-- ----- what comes of it -----------------------------------------------------------------------------------

-- Of one method: loss, errors and seconds over all its runs.
local function summarize(records)
  local losses, all, seconds, clipped, saturated = {}, {}, {}, {}, {}
  for i, r in ipairs(records) do
    local curve, last = r.result.curve, {}
    for k, point in ipairs(curve) do
      if point.train and k > 1 + 0.8 * (#curve - 1) then last[#last + 1] = point.train end
      for _, e in ipairs(point.errors or {}) do all[#all + 1] = e end
    end
    losses[i], seconds[i] = statistics.mean(last), r.result.clip_seconds
    clipped[i], saturated[i] = r.result.clipped, r.result.saturated
  end
  return { loss = statistics.mean(losses), median = statistics.median(all), largest = statistics.quantile(all, 1),
    seconds = statistics.mean(seconds), clipped = statistics.mean(clipped), saturated = statistics.mean(saturated) }
end

local function loss_claim(name, of)
  local apart, clips = of[name].loss / of.exact.loss - 1, of.exact.clipped > 0
  return claims.of { claim = ("%s trains as exact clipping does"):format(name), source = SOURCE,
    measured = ("%.4f against %.4f, %+.2f %%%s"):format(of[name].loss, of.exact.loss, 100 * apart,
      clips and "" or "; nothing was clipped"), expected = "within 1 %", holds = clips and math.abs(apart) <= 0.01,
    numbers = { loss = of[name].loss, exact = of.exact.loss, apart = apart } }
end

local function error_claim(name, of, most)
  return claims.within(("median error of %s"):format(name), OWN, of[name].median, nil, most, "%.2g")
end

local function time_claim(name, of)
  local times = of.exact.seconds / of[name].seconds
  return claims.of { claim = ("%s clips faster than a whole decomposition"):format(name),
    source = name == "polar" and OWN or SOURCE,
    measured = ("%.3g ms a step, %.2f times as fast"):format(1000 * of[name].seconds, times), expected = "more than 1 times",
    holds = times > 1, numbers = { seconds = of[name].seconds, times = times } }
end

local function charts_of(results)
  local loss, error_lines = {}, {}
  for i, method in ipairs(METHODS) do
    local first = results.by_name[method.name][1].result.curve
    local train, middle = {}, {}
    for k = 2, #first do
      train[k - 1] = { first[k].step, first[k].train }
      middle[k - 1] = { first[k].step, first[k].errors and statistics.median(first[k].errors) }
    end
    loss[i] = { name = method.name, points = train, marker = false }
    error_lines[i] = { name = method.name, points = middle, marker = false }
  end
  return {
    { title = "Loss of training, first seed", width = 860, x = { label = "step" }, y = { label = "loss" }, series = loss },
    { title = "Relative error of clipped gradients, median over matrices", width = 860, x = { label = "step" },
      y = { label = "error", log = true }, series = error_lines },
  }
end

local function report(results, s)
  local of, rows = {}, { { "method", "loss", "median error", "largest error", "ms a step", "clipped", "not fully" } }
  for i, method in ipairs(METHODS) do
    local m = summarize(results.by_name[method.name])
    of[method.name] = m
    rows[i + 1] = { method.name, ("%.4f"):format(m.loss), ("%.2g"):format(m.median), ("%.2g"):format(m.largest),
      ("%.3g"):format(1000 * m.seconds), ("%.0f %%"):format(100 * m.clipped), ("%.0f %%"):format(100 * m.saturated) }
  end
  return {
    figures = { { name = "methods", title = "Exact, randomized and polar clipping", charts = charts_of(results) } },
    tables = { { title = ("clipping to %g by several methods"):format(s.threshold), rows = rows,
      right = { [2] = true, [3] = true, [4] = true, [5] = true, [6] = true, [7] = true } } },
    claims = {
      loss_claim("rank 10, it 1", of), loss_claim("rank 3, it 2", of), loss_claim("polar", of),
      error_claim("exact", of, 1e-5), error_claim("polar", of, 1e-4), error_claim("rank 10, it 1", of, 0.05),
      time_claim("rank 10, it 1", of), time_claim("polar", of),
    },
    notes = {
      "The paper's figure is of a network on CIFAR-10; this is a GPT, its hidden matrices moved by SGD with momentum. "
        .. s.data_note,
      "\"not fully\": more singular values than the rank exceed the threshold; the others stay as they are, and count as error. "
        .. "What methods cost at GPT-2's sizes: scripts/bench/spectral.lua.",
    },
  }
end

require("moonbow.experiment").main {
  name = "svd_methods",
  about = "Exact, randomized and polar clipping on the same training: loss, error of the clipped gradient, time.",
  source = SOURCE,
  options = require("scripts.reproduce.problems.language").rows {
    { "lr", 0.1, "learning rate of SGDM on hidden matrices", min = 0 },
    { "adam_lr", 1e-3, "of Adam on the rest", min = 0 },
    { "threshold", 0.03, "that singular values are clipped to", min = 0 },
  },
  sizes = {
    smoke = { n_layer = 1, n_head = 2, n_embd = 16, block_size = 8, batch_size = 2, steps = 4, eval_every = 1, eval_iters = 1,
      threshold = 0.02, seeds = "1" },
    quick = { n_layer = 3, n_head = 3, n_embd = 96, block_size = 64, batch_size = 12, steps = 300, eval_every = 20,
      eval_iters = 4 },
    full = { steps = 2000, eval_every = 100, seeds = "1,2,3" },
  },
  seeds = { 1, 2 },
  runs = runs,
  make = make,
  report = report,
}
