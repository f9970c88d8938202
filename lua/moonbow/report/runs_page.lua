-- SPDX-License-Identifier: MIT
--
-- runs_page.lua: the page of a report on runs: what there is to say of them, in sections for page.lua.

local compare = require "moonbow.report.compare"
local figures = require "moonbow.report.figures"
local format = require "moonbow.report.format"
local json = require "moonbow.io.json"
local options = require "moonbow.options"
local stats = require "moonbow.report.stats"

local M = {}

local function fixed(x, digits)
  return x and { value = x, text = x == x and ("%%.%df"):format(digits):format(x):gsub("-", "−") or "NaN" } or "–"
end

local function p_text(p)
  return p < 1e-16 and "< 1e−16" or "= " .. (p < 1e-4 and ("%.1e"):format(p):gsub("-", "−") or ("%.4f"):format(p))
end

local function add(section, block)
  if block then section[#section + 1] = block end
end

-- ----- the summary ----------------------------------------------------------------------------------------

local function summary_section(runs, groups)
  local rows, notes, skips = {}, {}, 0
  for _, run in ipairs(runs) do skips = skips + #run.skipped end
  for i, run in ipairs(runs) do
    local s = compare.summary(run)
    rows[i] = { "`" .. run.name .. "`", run.group.letter, compare.text(run.config.seed),
      { text = run.state, verdict = run.state == "finished" and "pass" or run.state == "stopped" and "fail" or "open" }, s.steps,
      fixed(s.loss, 4), fixed(s.val_loss, 4),
      s.best and { value = s.best, text = ("%.4f at %d"):format(s.best, s.best_step) } or "–",
      s.clip_rate and { value = s.clip_rate, text = ("%.1f %%"):format(100 * s.clip_rate) } or "–",
      s.tokens_per_second and { value = s.tokens_per_second, text = format.count(s.tokens_per_second) } or "–",
      s.seconds and format.duration(s.seconds) or "–" }
    if skips > 0 then table.insert(rows[i], s.skipped) end
    for _, note in ipairs(run.notes) do notes[#notes + 1] = ("`%s`: %s"):format(run.name, note) end
    for k, skip in ipairs(run.skipped) do
      if k <= 3 then notes[#notes + 1] = ("`%s`: step %d was skipped: %s"):format(run.name, skip.step, skip.text) end
    end
    if run.nonfinite then
      notes[#notes + 1] = ("`%s`: stopped at step %d: %s"):format(run.name, run.nonfinite.step, run.nonfinite.text)
    end
  end
  local swatches = {}
  for i, group in ipairs(groups) do
    swatches[i] = { ("%s (%d %s)"):format(group.title, #group.runs, #group.runs == 1 and "run" or "runs"), group.colour }
  end
  local section = { title = "Summary", text = ("Runs whose configurations differ only in what changes no number of the "
    .. "training itself (`%s`), and that read the same data, are a group: the same experiment with other seeds."):format(
    table.concat(compare.free, "`, `")) }
  add(section, { swatches = swatches })
  add(section, { table = { columns = { "run", "group", "seed", "state", "steps", "training loss", "validation loss", "best",
    "clip rate", "tokens/s", "time", skips > 0 and "skipped" or nil }, rows = rows, right = { [3] = true, [11] = true },
    caption = "Training loss: the last step's, as logged. Validation loss: the last one logged, and the best one with its step. "
      .. "Tokens a second are the median over steps, time is that of steps alone. Pointing at a cell shows the whole number." } })
  if #notes > 0 then add(section, { list = notes }) end
  return section
end

-- ----- figures --------------------------------------------------------------------------------------------

local function band_text(band)
  return band == "sd" and "one standard deviation (n − 1) to either side of the mean"
    or "from the lowest to the highest run at each step"
end

local function loss_section(groups, band)
  local section = { title = "Loss" }
  local chart = figures.loss(groups, band)
  add(section, chart and { svg = chart, caption = ("Strong lines: the mean over a group's runs, each run smoothed over a "
    .. "hundredth of its steps (2 to 200) to either side. Bands: %s, of the smoothed losses, where a group has two runs or more. "
    .. "Faint lines: each run's loss as logged; of long runs the lowest and the highest loss of every stretch."):format(
    band_text(band)) })
  chart = figures.val(groups, band)
  add(section, chart and { svg = chart, caption = ("Mean over those of a group's runs that went as far. Bands: %s."):format(
    band_text(band)) })
  return section
end

local function clip_section(groups, band)
  local section = { title = "Clipping" }
  local chart = figures.clip(groups, band)
  add(section, chart and { svg = chart, caption = ("The share of matrices that were clipped at a step (spectral clipping), or "
    .. "whether the step was (clipping by norm: 0 or 1), smoothed over stretches of steps. Bands: %s."):format(band_text(band)) })
  local seen = false
  for _, group in ipairs(groups) do
    local run = group.runs[1]
    local sigma, which = figures.sigma(run)
    if sigma then
      seen = true
      local what = run.config.clip_on and run.config.clip_on ~= "grad" and ("the %ss"):format(run.config.clip_on) or "gradients"
      add(section, { svg = sigma, caption = ("The largest singular value σ₁ of %s before clipping and its threshold τ, of the "
        .. "first run of group %s. Lines are means over stretches of steps, the band goes from the lowest to the highest σ₁ of "
        .. "each. Layers shown, of every kind the first, the last and those between at even distances: %s."):format(what,
        group.letter, which) })
      local _, left_out = figures.by_kind(run.matrices)
      local rows = left_out and "Biases and the vectors of norms are left out." or "All that is clipped is shown."
      add(section, { svg = figures.heat(run), caption = "The largest σ₁ in each column of steps, on a logarithmic scale of "
        .. "colours that spans all but the lowest and the highest hundredth of them; rows are ordered by kind, then by layer. "
        .. rows })
      add(section, { svg = figures.events(run), caption = "The share of steps at which σ₁ was above τ and the matrix was "
        .. "clipped, in each column of steps. " .. rows })
    end
  end
  if not seen then
    add(section, { text = "The logs hold no singular values by layer: those are logged with `--clip spectral`." })
  end
  return section
end

local function spectra_section(groups)
  local section = { title = "Spectra" }
  for _, group in ipairs(groups) do
    local run = group.runs[1]
    local chart, said = figures.spectra(run)
    if chart then
      add(section, { svg = chart, caption = ("How the singular values of a gradient, before clipping, are spread, over the steps "
        .. "from top to bottom, of the first run of group %s: densities of log₁₀ σ, Gaussian kernels of Silverman's width. "
        .. "Values below 10⁻⁷ of the largest, float32's rounding, are beyond the left end. %s."):format(group.letter, said) })
    end
  end
  if #section == 0 then
    add(section, { text = "The logs hold no spectra: those are logged with `--spectra_every N`." })
  else
    table.insert(section, 1, { swatches = { { "σ₁ of the step", 1 }, { "τ of the step", 2 } } })
  end
  return section
end

local function others_section(groups, band)
  local section = { title = "Gradient norm, throughput, learning rate" }
  local chart = figures.norm(groups)
  local extremes = "Lines: means over stretches of steps and over a group's runs. Bands: from the lowest to the highest value "
    .. "logged in each stretch by any of them."
  add(section, chart and { svg = chart, caption = "The norm of all gradients together. " .. extremes })
  chart = figures.throughput(groups)
  add(section, chart and { svg = chart, caption = "Tokens of a step by its time, without evaluations, samples, checkpoints and "
    .. "spectra. " .. extremes })
  chart = figures.lr(groups)
  add(section, chart and { svg = chart, caption = "The learning rate of each group's steps." })
  for _, one in ipairs(figures.others(groups, band)) do
    add(section, { svg = one, caption = ("A number that the script logged. Bands: %s."):format(band_text(band)) })
  end
  return section
end

-- ----- tests ----------------------------------------------------------------------------------------------

-- Track 3's rule is of another task: whether it is met is a note, no verdict.
local function track3_cell(t3)
  return { text = t3.passes and "met, were it theirs" or "not met", verdict = "note" }
end

local function groups_table(tests)
  local rows = {}
  for i, row in ipairs(tests.groups) do
    local s, n = row.summary, #row.losses
    rows[i] = { row.group.title, n, row.step or "–", fixed(s and s.mean, 5),
      s and s.sd == s.sd and fixed(s.sd, 5) or "–", fixed(s and s.min, 5), fixed(s and s.max, 5) }
  end
  return { columns = { "group", "n", "at step", "mean", "sd", "lowest", "highest" }, rows = rows,
    caption = "Final validation losses of each group." }
end

local function target_table(tests, target)
  local rows = {}
  for i, row in ipairs(tests.groups) do
    local t3, t = row.track3, row.below
    rows[i] = { row.group.title, #row.losses, fixed(row.summary and target - row.summary.mean, 5),
      t and { text = ("%s, p %s"):format(t.p < 0.05 and "below the target" or "not shown to be below", p_text(t.p)),
        verdict = t.p < 0.05 and "pass" or "open" } or { text = row.reason or "no validation loss", verdict = "open" },
      t3 and fixed(t3.value, 5) or "–", t3 and track3_cell(t3) or "–" }
  end
  return { columns = { "group", "n", "target − mean", "t-test", "(target − mean) √n", "Track 3's rule" }, rows = rows,
    caption = ("Is the mean below the target %g?"):format(target) }
end

local function names_of(pair) return pair.a.letter .. " < " .. pair.b.letter end

local function signed(x) return (("%.5f"):format(x):gsub("-", "−")) end

local function welch_table(tests)
  local rows = {}
  for i, pair in ipairs(tests.pairs) do
    local w = pair.welch
    rows[i] = { names_of(pair), ("%d, %d"):format(pair.n1, pair.n2), w and fixed(-w.difference, 5) or "–",
      w and ("%s to %s"):format(signed(-w.high), signed(-w.low)) or "–", w and fixed(-w.t, 3) or "–",
      w and fixed(w.df, 2) or "–", w and { value = w.p, text = (p_text(w.p):gsub("^= ", "")) } or "–",
      w and { text = w.p < 0.05 and "differ, p < 0.05" or "not told apart", verdict = w.p < 0.05 and "pass" or "open" }
        or { text = pair.reason, verdict = "open" } }
  end
  return { columns = { "pair", "n", "difference", "95 % interval", "t", "df", "p", "verdict" }, rows = rows,
    right = { [2] = true, [4] = true }, caption = "Welch's test of every pair of groups, the one with the lower mean first; the "
      .. "difference is how much lower it is." }
end

local function track3_table(tests)
  local rows = {}
  for i, pair in ipairs(tests.pairs) do
    local t3 = pair.track3
    rows[i] = { names_of(pair), pair.fewer or "–", pair.saved or "–", t3 and fixed(t3.value, 5) or "–",
      t3 and track3_cell(t3) or { text = "what a step is worth is not given", verdict = "open" } }
  end
  return { columns = { "pair", "steps saved", "their worth Δsteps", "(Δloss + Δsteps) / √(1/n₁ + 1/n₂)", "Track 3's rule" },
    rows = rows, right = { [2] = true, [3] = true }, caption = "Track 3's rule for every pair of groups." }
end

local function tests_section(tests, target, per_step)
  local section = { title = "Are the differences real?",
    text = "The final validation losses are compared, of the runs of a group that came equally far. `n` is the number of "
      .. "runs, that is of seeds; of n = 1 nothing can be said, as the spread between seeds is not known. A group's sd has "
      .. "n − 1 in its denominator. These tests take runs as independent and not chosen by their results." }
  add(section, { table = groups_table(tests) })
  local left_out = {}
  for _, row in ipairs(tests.groups) do
    for _, one in ipairs(row.left_out) do
      left_out[#left_out + 1] = ("`%s` is left out: %s."):format(one.run.name, one.reason)
    end
  end
  if #left_out > 0 then add(section, { list = left_out }) end
  add(section, target and { table = target_table(tests, target) }
    or { text = "No target was given (`--target LOSS`), so none is tested." })
  if #tests.pairs > 0 then
    add(section, { table = welch_table(tests) })
    if #tests.pairs > 1 then
      add(section, { text = ("There are %d pairs: at p < 0.05 each, about one in twenty would look different by chance "
        .. "alone. Bonferroni's correction asks p to be below 0.05 / %d = %.4f."):format(#tests.pairs, #tests.pairs,
        0.05 / #tests.pairs) })
    end
  else
    add(section, { text = "There is one group: nothing to compare it with." })
  end
  add(section, { text = "Welch's t-test uses the standard deviations measured here; p is two-sided, of Student's "
    .. "distribution with the degrees of freedom of Welch and Satterthwaite:" })
  add(section, { formula = "t = (m₁ − m₂) / √(s₁²/n₁ + s₂²/n₂)" })
  add(section, { formula = "df = (s₁²/n₁ + s₂²/n₂)² / ((s₁²/n₁)²/(n₁ − 1) + (s₂²/n₂)²/(n₂ − 1))" })
  add(section, { formula = "95 % interval: m₁ − m₂ ± t(0.975, df) √(s₁²/n₁ + s₂²/n₂)" })
  add(section, { text = "Against a target, one-sided, with n − 1 degrees of freedom:" })
  add(section, { formula = "t = (target − m) √n / s" })
  add(section, #tests.pairs > 0 and (target or per_step) and { table = track3_table(tests) })
  add(section, { text = "The rules of modded-nanogpt's optimization track (Track 3), for a target and for a pair, are z-tests, "
    .. "one-sided, at p < 0.001:" })
  add(section, { formula = "(target − mean) √n ≥ 0.004" })
  add(section, { formula = "(Δloss + Δsteps) / √(1/n₁ + 1/n₂) ≥ 0.004" })
  local worth = per_step and ("here %g a step"):format(per_step)
    or "0 where the steps are equal, else `--step_worth LOSS` is needed (they take 0.0045 for 100 steps)"
  add(section, { text = ("Δloss is how much lower the first mean is; Δsteps is what the steps saved are worth, in loss: %s. Both "
    .. "take the standard deviation of final losses as known, σ = %g, so that z = value / σ and 0.004 is 3.08 σ. That σ is of "
    .. "their task, GPT-2 124M on FineWeb to a loss of 3.28, with their batch and steps; on any other task the rule says "
    .. "nothing, and the tests with measured deviations are the ones to read.%s"):format(worth, stats.TRACK3_SIGMA,
    (target or per_step) and "" or " With `--target` or `--step_worth` the rule is computed for every pair.") })
  return section
end

-- ----- configurations and samples --------------------------------------------------------------------------

local function config_section(runs, groups)
  local section = { title = "Configuration" }
  local columns, rows, keys = { "option" }, {}, {}
  for _, key in ipairs(compare.differing(runs)) do
    if key ~= "out" then keys[#keys + 1] = key end
  end
  for i, run in ipairs(runs) do columns[i + 1] = ("`%s`"):format(run.name) end
  for r, key in ipairs(keys) do
    rows[r] = { "`" .. key .. "`" }
    for i, run in ipairs(runs) do rows[r][i + 1] = compare.value(run, key) end
  end
  if #runs > 1 and #keys > 0 then
    add(section, { table = { columns = columns, rows = rows, caption = "What differs between the runs, their folders "
      .. "aside; – is for what is not set." } })
  elseif #runs > 1 then
    add(section, { text = "The configurations of the runs are the same." })
  end
  for _, group in ipairs(groups) do
    local run, lines = group.runs[1], {}
    for _, key in ipairs(options.keys(run.config)) do lines[#lines + 1] = { key, compare.text(run.config[key]) } end
    if run.build ~= "" then lines[#lines + 1] = { "(build)", run.build } end
    add(section, #lines > 0 and { pre = format.columns(lines), summary = ("all of %s, first run of group %s"):format(run.name,
      group.letter) } or { text = ("`%s` logged no configuration."):format(run.name) })
  end
  return section
end

-- The last sample of each group's first run is open, the last four of all runs are folded.
local function samples_section(runs, groups)
  local section = { title = "Samples" }
  local function head(run, sample) return ("%s, step %d"):format(run.name, sample.step) end
  for _, group in ipairs(groups) do
    local run = group.runs[1]
    local newest = run.samples[#run.samples]
    if newest then
      add(section, { text = ("Group %s, %s:"):format(group.letter, head(run, newest)) })
      add(section, { pre = newest.text })
    end
  end
  for _, run in ipairs(runs) do
    local newest = run == run.group.runs[1] and #run.samples - 1 or #run.samples
    for k = newest, math.max(1, #run.samples - 3), -1 do
      add(section, { pre = run.samples[k].text, summary = head(run, run.samples[k]) })
    end
  end
  if #section == 0 then add(section, { text = "The logs hold no samples." }) end
  return section
end

-- ----- data -----------------------------------------------------------------------------------------------

-- What programs may read from the page: the numbers of the tables and the series of evaluations.
local function data_of(runs, tests)
  local data = { runs = setmetatable({}, json.array), pairs = setmetatable({}, json.array) }
  for i, run in ipairs(runs) do
    local val = { steps = setmetatable(run.val.steps, json.array), loss = setmetatable(run.val.loss, json.array) }
    data.runs[i] = { name = run.name, group = run.group.letter, state = run.state, config = run.config,
      summary = compare.summary(run), val = val }
  end
  for i, pair in ipairs(tests.pairs) do
    local w = pair.welch
    data.pairs[i] = { a = pair.a.letter, b = pair.b.letter, fewer_steps = pair.fewer, track3 = pair.track3 and pair.track3.value,
      t = w and w.t, df = w and w.df, p = w and w.p, difference = w and w.difference }
  end
  return data
end

---@class moonbow.ReportOptions
---@field title? string
---@field band? "minmax"|"sd"
---@field target? number a validation loss that is to be reached
---@field step_worth? number the loss that a step is worth, where groups have different steps

---The page of a report, for page.write.
---@param runs table[] as read.lua gives them
---@param o moonbow.ReportOptions
---@return table
function M.page(runs, o)
  local groups, band = compare.groups(runs), o.band or "minmax"
  local tests = compare.tests(groups, o.target, o.step_worth)
  local first = runs[1]
  return {
    title = o.title or #runs == 1 and ("Run %s"):format(first.name) or ("%d runs, %d %s"):format(#runs, #groups,
      #groups == 1 and "group" or "groups"),
    subtitle = first.build ~= "" and first.build or nil,
    sections = { summary_section(runs, groups), loss_section(groups, band), tests_section(tests, o.target, o.step_worth),
      clip_section(groups, band), spectra_section(groups), others_section(groups, band), config_section(runs, groups),
      samples_section(runs, groups) },
    data = data_of(runs, tests),
  }
end

return M
