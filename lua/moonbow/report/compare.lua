-- SPDX-License-Identifier: MIT
--
-- compare.lua: runs beside each other: which of them are one experiment with other seeds, what differs between them, and
-- the numbers that sum each of them up. Runs are as read.lua gives them.

local options = require "moonbow.options"
local stats = require "moonbow.report.stats"

local M = {}

-- What may differ between runs of a group: seeds, and what changes no number of the training itself.
M.free = { "seed", "out", "resume", "plain", "quiet", "memory", "keep", "save_every", "eval_every", "sample_every",
  "sample_tokens", "spectra_every", "tensorboard", "csv" }

local is_free = {}
for _, key in ipairs(M.free) do is_free[key] = true end

---A value of a configuration as text.
---@param value any
---@return string
function M.text(value)
  if value == nil then return "–" end
  if type(value) == "number" then return options.number(value) end
  if type(value) == "table" then
    local parts = {}
    for i, one in ipairs(value) do parts[i] = M.text(one) end
    for _, key in ipairs(options.keys(value)) do parts[#parts + 1] = key .. "=" .. M.text(value[key]) end
    return "{" .. table.concat(parts, ", ") .. "}"
  end
  return tostring(value)
end

---A setting of a run as text. What it was trained on is told by its contents where the log has them, not by its path: a file
---may have changed between two runs, and the same text may lie in two places.
---@param run table
---@param key string
---@return string
function M.value(run, key)
  if key == "data" and run.data then
    local tokens = run.data.train_tokens
    return ("sha256 %s%s"):format(run.data.sha256:sub(1, 12), type(tokens) == "number" and (", %.0f tokens"):format(tokens) or "")
  end
  return M.text(run.config[key])
end

-- Keys of all configurations, sorted.
local function keys_of(runs)
  local seen = {}
  for _, run in ipairs(runs) do
    for key in pairs(run.config) do seen[tostring(key)] = true end
    if run.data then seen.data = true end
  end
  return options.keys(seen)
end

---Keys whose values are not the same in all runs.
---@param runs table[]
---@return string[]
function M.differing(runs)
  local list = {}
  for _, key in ipairs(keys_of(runs)) do
    local first, differs = M.value(runs[1], key), false
    for _, run in ipairs(runs) do differs = differs or M.value(run, key) ~= first end
    if differs then list[#list + 1] = key end
  end
  return list
end

local function signature(run, keys)
  local parts = {}
  for i, key in ipairs(keys) do parts[i] = is_free[key] and "" or M.value(run, key) end
  return table.concat(parts, "\0")
end

-- "clip=norm max_norm=1": what tells a group from the others.
local function name_of(group, groups)
  local firsts = {}
  for i, one in ipairs(groups) do firsts[i] = one.runs[1] end
  local parts = {}
  for _, key in ipairs(M.differing(firsts)) do
    local value = M.value(group.runs[1], key)
    if not is_free[key] and value ~= "–" then parts[#parts + 1] = key .. "=" .. value end
  end
  return #parts > 0 and table.concat(parts, " ") or group.runs[1].name
end

---@class moonbow.RunGroup
---@field letter string "A", "B", ...
---@field name string what tells it from the others
---@field title string letter and name
---@field runs table[]
---@field colour integer

---Groups of runs whose configurations differ in nothing but M.free, in the order of their first runs. A run without a
---configuration is a group by itself.
---@param runs table[]
---@return moonbow.RunGroup[]
function M.groups(runs)
  local keys, groups, by_signature = keys_of(runs), {}, {}
  for i, run in ipairs(runs) do
    local sign = next(run.config) and signature(run, keys) or "run " .. i
    local group = by_signature[sign]
    if not group then
      group = { runs = {}, colour = #groups + 1 }
      group.letter = #groups < 26 and string.char(65 + #groups) or "G" .. #groups + 1
      groups[#groups + 1], by_signature[sign] = group, group
    end
    group.runs[#group.runs + 1] = run
  end
  for _, group in ipairs(groups) do
    group.name = name_of(group, groups)
    group.title = #groups > 1 and ("%s: %s"):format(group.letter, group.name) or group.name
    for _, run in ipairs(group.runs) do run.group = group end
  end
  return groups
end

-- ----- numbers of a run -----------------------------------------------------------------------------------

local function mean(values)
  local sum, n = 0, 0
  for _, x in ipairs(values) do
    if x == x then sum, n = sum + x, n + 1 end
  end
  return n > 0 and sum / n or nil
end

---Tokens a second at each step.
---@param run table
---@return number[]
function M.tokens_per_second(run)
  local list = {}
  for i, step in ipairs(run.steps) do
    list[i] = run.time_ms[i] > 0 and run.tokens[i] / step / (run.time_ms[i] / 1000) or 0 / 0
  end
  return list
end

local function median(values)
  local sorted = {}
  for _, x in ipairs(values) do
    if x == x then sorted[#sorted + 1] = x end
  end
  table.sort(sorted)
  local n = #sorted
  if n == 0 then return nil end
  return (sorted[math.floor((n + 1) / 2)] + sorted[math.floor(n / 2) + 1]) / 2
end

---What sums a run up; a number that the log does not have is nil.
---@param run table
---@return table { steps, loss, val_loss, val_step, best, best_step, clip_rate, tokens_per_second, skipped, seconds }
function M.summary(run)
  local n, v = #run.steps, #run.val.loss
  local s = { steps = run.steps[n] or 0, loss = run.loss[n], val_loss = run.val.loss[v], val_step = run.val.steps[v],
    clip_rate = mean(run.clip_rate), tokens_per_second = median(M.tokens_per_second(run)), skipped = #run.skipped }
  for i, loss in ipairs(run.val.loss) do
    if loss == loss and (not s.best or loss < s.best) then s.best, s.best_step = loss, run.val.steps[i] end
  end
  local ms = mean(run.time_ms)
  s.seconds = ms and ms * n / 1000
  return s
end

---The final validation losses of a group's runs that came as far as any of them, one a seed: the others are not of the same
---step, or are no independent runs.
---@param group moonbow.RunGroup
---@return number[] losses
---@return integer? step
---@return { run: table, reason: string }[] left_out
function M.final_losses(group)
  local losses, step, left_out, of_seed = {}, nil, {}, {}
  for _, run in ipairs(group.runs) do
    local reached = M.summary(run).val_step
    if reached and reached > (step or -1) then step = reached end
  end
  for _, run in ipairs(group.runs) do
    local s, seed = M.summary(run), run.config.seed
    if not step or s.val_step ~= step then
      left_out[#left_out + 1] = { run = run, reason = step and ("its last validation loss is not of step %d"):format(step)
        or "it has no validation loss" }
    elseif seed ~= nil and of_seed[seed] then
      left_out[#left_out + 1] = { run = run, reason = ("it has the seed of `%s`, %s, and is no second run"):format(
        of_seed[seed].name, M.text(seed)) }
    else
      losses[#losses + 1] = s.val_loss
      if seed ~= nil then of_seed[seed] = run end
    end
  end
  return losses, step, left_out
end

---All tests between groups that the numbers allow.
---@param groups moonbow.RunGroup[]
---@param target? number
---@param per_step? number loss that a step is worth
---@return table { groups = { { losses, step, left_out, summary, track3, below, reason } },
---  pairs = { { a, b, n1, n2, fewer, saved, track3, welch, reason } } }
function M.tests(groups, target, per_step)
  local result = { groups = {}, pairs = {} }
  for i, group in ipairs(groups) do
    local losses, step, left_out = M.final_losses(group)
    local row = { group = group, losses = losses, step = step, left_out = left_out }
    row.summary = #losses > 0 and stats.summary(losses) or nil
    if target and row.summary then
      row.track3 = stats.track3_target(losses, target)
      row.below, row.reason = stats.below(losses, target)
    end
    result.groups[i] = row
  end
  for i = 1, #groups do
    for j = i + 1, #groups do
      local a, b = result.groups[i], result.groups[j]
      if a.summary and b.summary then
        if b.summary.mean < a.summary.mean then a, b = b, a end
        local pair = { a = a.group, b = b.group, n1 = #a.losses, n2 = #b.losses }
        pair.fewer = b.step - a.step
        pair.saved = pair.fewer == 0 and 0 or per_step and pair.fewer * per_step or nil
        if pair.saved then pair.track3 = stats.track3_pair(a.losses, b.losses, pair.saved) end
        pair.welch, pair.reason = stats.welch(a.losses, b.losses)
        result.pairs[#result.pairs + 1] = pair
      end
    end
  end
  return result
end

return M
