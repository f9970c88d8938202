-- SPDX-License-Identifier: MIT
--
-- spectra_under_noise.lua: the largest singular value of every hidden matrix's gradient, as sequences of a batch are replaced by
-- random tokens, for several batch sizes (arXiv 2605.11838, figures 1 and 7): of a trained GPT-2 whose weights are given, or of
-- a small GPT on characters that this script trains first.
--   luajit scripts/reproduce/spectra_under_noise.lua                               trains, then measures: minutes on two cores
--   luajit scripts/reproduce/spectra_under_noise.lua --full                        nanoGPT's size
--   luajit scripts/reproduce/spectra_under_noise.lua --weights model.safetensors --data data/fineweb     GPT-2
--
-- The rule of the verdicts: for every batch size and every group of layers (matrices of the same place in a block), the median of
-- the largest singular value over layers, batches and seeds grows from each share of replaced sequences to the next.

local here = (arg[0] or ""):match("^(.*)/[^/]*$") or "."
package.path = ("%s/../../lua/?.lua;%s/../../lua/?/init.lua;%s/../../?.lua;"):format(here, here, here) .. package.path

local claims = require "moonbow.experiment.claims"
local cli = require "moonbow.cli"
local statistics = require "moonbow.experiment.statistics"

local SOURCE = "arXiv 2605.11838, figures 1 and 7"

-- ----- training -----------------------------------------------------------------------------------------

-- Trains the model by AdamW; returns its loss of validation, or nil if it was interrupted.
local function train(run, context, model, data)
  local mb, language = require "moonbow", require "scripts.reproduce.problems.language"
  local o = run.settings
  local optimizer = mb.optim.adamw(model, { lr = mb.schedule.cosine { peak = o.lr, warmup = o.warmup, steps = o.steps },
    betas = { 0.9, 0.95 }, weight_decay = 0.1 })
  local result, journal = language.train(run, context, { model = model, optimizer = optimizer,
    clip = mb.clip.norm { max_norm = 1 }, data = data })
  if not result then return nil end
  if result.diverged_at then error("the training diverged: try a smaller --lr", 0) end
  journal:save() -- measuring takes its time
  return result.final
end

-- ----- measuring ----------------------------------------------------------------------------------------

-- Windows for validation, from number `first` on, of which the first `replaced` are random tokens all along: ids (B, T + 1).
local function sequences(data, first, count, replaced, random)
  local inputs, targets = {}, {}
  for b = 1, count do
    local batch = data:batch("val", first + b)
    inputs[b], targets[b] = batch.inputs:totable()[1], batch.targets:totable()[1]
    if b <= replaced then
      local id = random()
      for t = 1, data.block_size do
        inputs[b][t] = id
        id = random()
        targets[b][t] = id
      end
    end
  end
  return inputs, targets
end

-- Mean gradient of a batch, in parts of at most `part` sequences; returns the mean loss.
local function accumulate(mb, model, inputs, targets, part)
  local loss, count = 0, #inputs
  model:zero_grad()
  for from = 1, count, part do
    mb.scope(function()
      local x, y = {}, {}
      for b = from, math.min(from + part - 1, count) do x[#x + 1], y[#y + 1] = inputs[b], targets[b] end
      local mean = model:loss { inputs = x, targets = y } * (#x / count)
      mean:backward()
      loss = loss + mean:item()
    end)
  end
  return loss
end

local function is_hidden_matrix(p) return p.role == "matrix" end

-- Sequences that a share of a batch is.
local function replaced_of(share, size) return math.floor(share * size + 0.5) end

-- Largest singular values by name, of every share and repeat of a batch size.
local function measure(run, model, data, size, tell)
  local mb, o, list = require "moonbow", run.settings, {}
  for k, share in ipairs(o.shares) do
    for repeated = 1, o.repeats do
      local inputs, targets = sequences(data, (repeated - 1) * size, size, replaced_of(share, size), function()
        return math.random(0, data.vocab_size - 1)
      end)
      local loss, sigma = accumulate(mb, model, inputs, targets, o.batch_size), {}
      for _, row in ipairs(mb.spectrum(model, { where = is_hidden_matrix, k = 1 })) do sigma[row.name] = row.sigma[1] end
      list[#list + 1] = { share = share, loss = loss, sigma = sigma }
      tell(((k - 1) * o.repeats + repeated) / (#o.shares * o.repeats))
    end
  end
  return list
end

local function make(run, context)
  local mb, language = require "moonbow", require "scripts.reproduce.problems.language"
  local o, s = run.settings, context.settings
  mb.seed(run.seed)
  math.randomseed(run.seed)
  local data, model, loss
  if s.weights then
    model = mb.models.gpt2 { weights = s.weights }
    data = mb.data.shards { path = s.text_path, block_size = o.block_size, batch_size = 1, vocab_size = model.config.vocab_size }
  else
    data = language.open(run, context)
    model = language.model(mb.models.gpt2, run, data)
    loss = train(run, context, model, data)
    if not loss then return nil end
    data = mb.data.text { path = s.text_path, text = not s.text_path and mb.data.corpus() or nil, block_size = o.block_size,
      batch_size = 1, seed = run.seed }
  end
  local sizes = {}
  for i, size in ipairs(o.batch_sizes) do
    sizes[i] = { size = size, points = measure(run, model, data, size, function(share)
      if s.weights then context:progress((i - 1 + share) / #o.batch_sizes) end -- what is left after a training is little
    end) }
  end
  return { sizes = sizes, loss = loss }
end

local function runs(s)
  local language, list = require "scripts.reproduce.problems.language", {}
  local o = { batch_sizes = language.numbers(s, "batch_sizes", true), repeats = s.repeats, shares = { 0 } }
  for _, share in ipairs(language.numbers(s, "shares")) do
    if share > 1 then cli.fail(2, "--shares: %g is more than all", share) end
    table.insert(o.shares, share)
  end
  table.sort(o.shares)
  for _, size in ipairs(o.batch_sizes) do
    for k = 2, #o.shares do
      if replaced_of(o.shares[k], size) == replaced_of(o.shares[k - 1], size) then
        cli.fail(2, "--batch_sizes %d: the shares %g and %g are as many sequences", size, o.shares[k - 1], o.shares[k])
      end
    end
  end
  if s.weights then
    if not s.data then cli.fail(2, "--weights: --data names the token files to measure with") end
    o.weights = language.content_id(s, "weights")
    s.merges = 50000 -- a text is encoded as GPT-2 has learned it
    language.find_tokens(s)
    o.block_size, o.batch_size, o.data = s.block_size, s.batch_size, s.data_id
    s.data_note = ("Weights of %s. %s"):format(s.weights, s.data_note)
  else
    language.find_characters(s)
    o.lr = s.lr
    o = language.settings(s, o)
  end
  for _, seed in ipairs(s.seeds) do list[#list + 1] = { name = "spectra", seed = seed, settings = o } end
  return list
end

-- ----- what comes of it -----------------------------------------------------------------------------------

-- "h.3.mlp.c_fc.weight" -> "mlp.c_fc"
local function group_of(name) return (name:gsub("^h%.%d+%.", ""):gsub("%.weight$", "")) end

-- values[size][group][share], lists over seeds, batches and layers; losses[size][share]; names of groups.
local function collect(results)
  local values, losses, groups, seen = {}, {}, {}, {}
  local function into(t, key) t[key] = t[key] or {} return t[key] end
  for _, r in ipairs(results) do
    for _, one in ipairs(r.result.sizes) do
      for _, point in ipairs(one.points) do
        table.insert(into(into(losses, one.size), point.share), point.loss)
        for name, sigma in pairs(point.sigma) do
          local group = group_of(name)
          if not seen[group] then seen[group], groups[#groups + 1] = true, group end
          table.insert(into(into(into(values, one.size), group), point.share), sigma)
        end
      end
    end
  end
  table.sort(groups)
  return values, losses, groups
end

-- Medians by share, whether each is above the last, and the last over the first.
local function medians_of(by_share, shares)
  local medians, grows = {}, true
  for k, share in ipairs(shares) do
    medians[k] = statistics.median(by_share[share])
    grows = grows and (k == 1 or medians[k] > medians[k - 1])
  end
  return medians, grows, medians[#shares] / medians[1]
end

local function chart_of(by_group, groups, shares, size)
  local series = {}
  for i, group in ipairs(groups) do
    local points, band = {}, {}
    for k, share in ipairs(shares) do
      local list = by_group[group][share]
      points[k] = { 100 * share, statistics.median(list) }
      band[k] = { 100 * share, statistics.quantile(list, 0.1), statistics.quantile(list, 0.9) }
    end
    series[i] = { name = group, points = points, band = band }
  end
  return { title = ("Batches of %d: median of the largest singular value, and 10 to 90 %% of all"):format(size), width = 860,
    height = 320, x = { label = "sequences replaced by random tokens, %" }, y = { label = "largest singular value", log = true },
    series = series }
end

local function report(results, s)
  local o = results[1].settings
  local values, losses, groups = collect(results)
  local rows, charts, list = { { "batch", "group" } }, {}, {}
  for _, share in ipairs(o.shares) do table.insert(rows[1], ("%g %%"):format(100 * share)) end
  table.insert(rows[1], "last / first")
  for _, size in ipairs(o.batch_sizes) do
    local holds, numbers, texts = {}, {}, {}
    for _, group in ipairs(groups) do
      local medians, grows, ratio = medians_of(values[size][group], o.shares)
      local row = { tostring(size), group }
      for _, m in ipairs(medians) do row[#row + 1] = ("%.4f"):format(m) end
      row[#row + 1] = ("%.1f"):format(ratio)
      rows[#rows + 1] = row
      holds[#holds + 1], numbers[group], texts[#texts + 1] = grows, ratio, ("%s x %.1f"):format(group, ratio)
    end
    local row = { tostring(size), "loss" }
    for _, share in ipairs(o.shares) do row[#row + 1] = ("%.3f"):format(statistics.mean(losses[size][share])) end
    rows[#rows + 1] = row
    list[#list + 1] = claims.of { claim = ("batches of %d: the median grows with every share, in all groups"):format(size),
      source = SOURCE, measured = table.concat(texts, ", "), expected = "grows in every step", holds = holds, numbers = numbers }
    charts[#charts + 1] = chart_of(values[size], groups, o.shares, size)
  end
  local right = {}
  for c = 3, #rows[1] do right[c] = true end
  local notes = { s.data_note, "Replaced sequences have random tokens for inputs and targets, uniform over the vocabulary; the "
    .. "other sequences of a batch are the same for all shares." }
  if results[1].result.loss then
    local all = {}
    for i, r in ipairs(results) do all[i] = r.result.loss end
    notes[#notes + 1] = ("The model was trained for %d steps, to a loss of validation of %.3f."):format(o.steps,
      statistics.mean(all))
  end
  return { figures = { { name = "spectra", title = "Largest singular values under token replacement", charts = charts } },
    tables = { { title = "median of the largest singular value by share of replaced sequences", rows = rows, right = right } },
    claims = list, notes = notes }
end

require("moonbow.experiment").main {
  name = "spectra_under_noise",
  about = "Largest singular values of gradients, by layer, as sequences of a batch are replaced by random tokens.",
  source = SOURCE,
  options = require("scripts.reproduce.problems.language").rows {
    { "weights", nil, "of a GPT-2: Hugging Face's safetensors or llm.c's .bin", kind = "string", value = "FILE" },
    { "lr", 3e-3, "peak learning rate of AdamW, in the training", min = 0 },
    { "warmup", 50, "steps of it", kind = "integer", min = 0 },
    { "batch_sizes", "8,16,32", "batches that are measured", kind = "string", value = "LIST" },
    { "shares", "0.125,0.25,0.5,1", "of replaced sequences, beside 0", kind = "string", value = "LIST" },
    { "repeats", 8, "batches for each share and size", kind = "integer", min = 1 },
  },
  sizes = {
    smoke = { n_layer = 2, n_head = 2, n_embd = 16, block_size = 16, batch_size = 4, steps = 60, eval_every = 30, eval_iters = 1,
      warmup = 5, lr = 1e-2, batch_sizes = "4", shares = "0.5,1", repeats = 2, seeds = "1" },
    quick = { n_layer = 3, n_head = 3, n_embd = 96, block_size = 64, batch_size = 16, steps = 1200, eval_every = 200 },
    full = { steps = 5000, lr = 1e-3, batch_sizes = "8,16,32,64,128", repeats = 32, seeds = "1,2,3" },
  },
  seeds = { 1, 2 },
  runs = runs,
  make = make,
  report = report,
}
