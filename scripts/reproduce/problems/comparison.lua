-- SPDX-License-Identifier: MIT
--
-- comparison.lua: norm clipping against spectral clipping over a grid of learning rates and thresholds, for several optimizers:
-- best settings, curves per step and per second, claims. Runs are as language.lua's journal leaves them, with settings
-- optimizer, clip, lr and threshold; every setting has a run of each seed.
--
-- The rules of the verdicts:
--   best settings     those of the least mean over the seeds of the last loss of validation. A setting with a run that
--                     diverged is not chosen. Grids of both kinds of clipping should have as many cells, and best settings
--                     not lie at their edge: the report says where that is not so.
--   per step          spectral ends lower in the mean, and with every seed: "partly" if only one of these holds
--   per second        at the time when the faster of the two is done (mean over the seeds), spectral is lower: the curves are
--                     interpolated linearly

local claims = require "moonbow.experiment.claims"
local statistics = require "moonbow.experiment.statistics"

local M = {}

local KINDS = { "norm", "spectral" }

-- ----- cells --------------------------------------------------------------------------------------------

---@class moonbow.reproduce.Cell a setting: its fields of the runs' settings, such as lr, and
---@field records table[] one for each seed
---@field loss number mean of the last ones; NaN if one diverged

---Runs that differ by their seed alone, together, in the order of the results.
---@param results table
---@param fields string[] of the settings, what tells cells apart
---@return moonbow.reproduce.Cell[]
function M.cells(results, fields)
  local list, by_key = {}, {}
  for _, r in ipairs(results) do
    local values = {}
    for i, field in ipairs(fields) do
      local value = r.settings[field]
      values[i] = type(value) == "number" and ("%.17g"):format(value) or tostring(value)
    end
    local key = table.concat(values, " ")
    local cell = by_key[key]
    if not cell then
      cell = { records = {} }
      for _, field in ipairs(fields) do cell[field] = r.settings[field] end
      by_key[key], list[#list + 1] = cell, cell
    end
    table.insert(cell.records, r)
  end
  for _, cell in ipairs(list) do
    local finals = {}
    for i, r in ipairs(cell.records) do finals[i] = r.result.final end
    cell.loss = statistics.mean(finals)
  end
  return list
end

-- The cells whose fields are as `wanted` has them.
local function those_of(cells, wanted)
  local list = {}
  for _, cell in ipairs(cells) do
    local is_one = true
    for field, value in pairs(wanted) do is_one = is_one and cell[field] == value end
    if is_one then list[#list + 1] = cell end
  end
  return list
end

---The cell of the least loss among those whose fields are as `wanted` has them; nil if all have diverged.
---@param cells moonbow.reproduce.Cell[]
---@param wanted table<string, any>
---@return moonbow.reproduce.Cell?
function M.best(cells, wanted)
  local best
  for _, cell in ipairs(those_of(cells, wanted)) do
    if cell.loss == cell.loss and (not best or cell.loss < best.loss) then best = cell end
  end
  return best
end

---Of how many seeds one cell ends lower than the other.
---@param one moonbow.reproduce.Cell
---@param other moonbow.reproduce.Cell
---@return integer
function M.wins(one, other)
  local wins = 0
  for i, r in ipairs(one.records) do
    if r.result.final < other.records[i].result.final then wins = wins + 1 end
  end
  return wins
end

---Fields of a best cell that are the least or the greatest value of its grid, where that has several: a wider grid may have a
---better one.
---@param cell moonbow.reproduce.Cell
---@param cells moonbow.reproduce.Cell[]
---@param wanted table<string, any> what the grid's cells have in common
---@param fields string[]
---@return string[] "lr 0.3"
function M.edges(cell, cells, wanted, fields)
  local list = {}
  for _, field in ipairs(fields) do
    local low, high = math.huge, -math.huge
    for _, other in ipairs(those_of(cells, wanted)) do low, high = math.min(low, other[field]), math.max(high, other[field]) end
    if low < high and (cell[field] == low or cell[field] == high) then
      list[#list + 1] = ("%s %g"):format(field, cell[field])
    end
  end
  return list
end

---A note on best settings at the edge of their grids, or nil.
---@param texts string[]
function M.edge_note(texts)
  if #texts == 0 then return nil end
  return "At the edge of the grid, beyond which there may be better ones: " .. table.concat(texts, "; ") .. "."
end

-- Mean over a cell's runs of value(record).
local function mean_of(cell, value)
  local list = {}
  for i, r in ipairs(cell.records) do list[i] = value(r) end
  return statistics.mean(list)
end

local function seconds_of(cell) return mean_of(cell, function(r) return r.result.seconds end) end

-- The loss of a curve at some time.
local function loss_at(curve, seconds)
  for i = 2, #curve do
    local a, b = curve[i - 1], curve[i]
    if seconds <= b.seconds then
      return a.val + (b.val - a.val) * (seconds - a.seconds) / math.max(b.seconds - a.seconds, 1e-12)
    end
  end
  return curve[#curve].val
end

---What is judged of an optimizer: losses of both kinds at the end and at the same time, seeds of which spectral is lower.
---@param norm moonbow.reproduce.Cell
---@param spectral moonbow.reproduce.Cell
---@return table
function M.judge(norm, spectral)
  local wins, time = M.wins(spectral, norm), math.min(seconds_of(norm), seconds_of(spectral))
  local function at_time(cell) return mean_of(cell, function(r) return loss_at(r.result.curve, time) end) end
  return { norm = norm.loss, spectral = spectral.loss, wins = wins, seeds = #norm.records, time = time,
    norm_in_time = at_time(norm), spectral_in_time = at_time(spectral), overhead = seconds_of(spectral) / seconds_of(norm) - 1 }
end

-- ----- claims -------------------------------------------------------------------------------------------

local function claims_of(optimizer, norm, spectral, source)
  local title = ("%s: spectral clipping ends below norm clipping"):format(optimizer)
  if not norm or not spectral then
    return { claims.of { claim = title, source = source, expected = "lower, with every seed", holds = spectral ~= nil,
      measured = ("%s everywhere"):format(norm and "spectral diverges" or spectral and "norm diverges" or "both diverge") } }
  end
  local j = M.judge(norm, spectral)
  return {
    claims.of { claim = title, source = source, expected = "lower, with every seed",
      measured = ("%.4f against %.4f; lower with %d of %d seeds"):format(j.spectral, j.norm, j.wins, j.seeds),
      holds = { j.spectral < j.norm, j.wins == j.seeds }, numbers = j },
    claims.of { claim = ("%s: the same at equal time"):format(optimizer), source = source, expected = "lower at the same second",
      measured = ("%.4f against %.4f at %.3g s; a step takes %+.1f %%"):format(j.spectral_in_time, j.norm_in_time, j.time,
        100 * j.overhead),
      holds = j.spectral_in_time < j.norm_in_time, numbers = j },
  }
end

-- ----- figures ------------------------------------------------------------------------------------------

-- Mean over seeds at every point that all runs have, with the band of the seeds.
local function curve_of(cell, along)
  local points, band = {}, {}
  for k = 2, #cell.records[1].result.curve do
    local xs, ys = {}, {}
    for i, r in ipairs(cell.records) do xs[i], ys[i] = r.result.curve[k][along], r.result.curve[k].val end
    local x = statistics.mean(xs)
    points[#points + 1] = { x, statistics.mean(ys) }
    band[#band + 1] = { x, math.min(unpack(ys)), math.max(unpack(ys)) }
  end
  return points, #cell.records > 1 and band or nil
end

local function chart(best, along, label)
  local series = {}
  for i, cell in ipairs(best) do
    local points, band = curve_of(cell, along)
    series[#series + 1] = { name = ("%s, %s"):format(cell.optimizer, cell.clip), points = points, band = band, marker = false,
      dash = cell.clip == "norm" and 2 or 1, colour = i }
  end
  return { title = ("Loss of validation per %s, best settings"):format(label), width = 860, x = { label = label },
    y = { label = "loss" }, series = series }
end

local function table_of(cells, best)
  local chosen, rows = {}, { { "optimizer", "clipping", "lr", "threshold", "loss", "seconds", "clipped", "not fully", "best" } }
  for _, cell in ipairs(best) do chosen[cell] = true end
  for _, cell in ipairs(cells) do
    rows[#rows + 1] = { cell.optimizer, cell.clip, ("%g"):format(cell.lr), ("%g"):format(cell.threshold),
      cell.loss == cell.loss and ("%.4f"):format(cell.loss) or "diverged", ("%.1f"):format(seconds_of(cell)),
      ("%.0f %%"):format(100 * mean_of(cell, function(r) return r.result.clipped end)),
      ("%.0f %%"):format(100 * mean_of(cell, function(r) return r.result.saturated end)), chosen[cell] and "*" or "" }
  end
  return { title = "last loss of validation, mean over the seeds", rows = rows,
    right = { [3] = true, [4] = true, [5] = true, [6] = true, [7] = true, [8] = true } }
end

---The report of a script.
---@param results table
---@param o { optimizers: string[], source: string, notes: string[] }
---@return table
function M.report(results, o)
  local cells, best, list = M.cells(results, { "optimizer", "clip", "lr", "threshold" }), {}, {}
  local edges, sizes = {}, {}
  for _, optimizer in ipairs(o.optimizers) do
    local of_kind = {}
    for _, clip in ipairs(KINDS) do
      local wanted = { optimizer = optimizer, clip = clip }
      local found = M.best(cells, wanted)
      of_kind[clip], best[#best + 1], sizes[clip] = found, found, #those_of(cells, wanted)
      local at = found and M.edges(found, cells, wanted, { "lr", "threshold" }) or {}
      if #at > 0 then edges[#edges + 1] = ("%s, %s: %s"):format(optimizer, clip, table.concat(at, ", ")) end
    end
    for _, claim in ipairs(claims_of(optimizer, of_kind.norm, of_kind.spectral, o.source)) do list[#list + 1] = claim end
  end
  local figures = {}
  if #best > 0 then
    figures = { { name = "loss", title = "Loss against steps and seconds",
      charts = { chart(best, "step", "step"), chart(best, "seconds", "second") } } }
  end
  local notes = {
    ("The best setting is that of the least mean loss, of %d of norm clipping and %d of spectral clipping%s. Norm clipping is of "
      .. "all gradients as one vector."):format(sizes.norm, sizes.spectral,
      sizes.norm == sizes.spectral and "" or ": the larger grid has the better chances"),
    "\"not fully\": more singular values than `rank` exceed the threshold, and the others stay as they are.",
  }
  notes[#notes + 1] = M.edge_note(edges)
  for _, note in ipairs(o.notes) do notes[#notes + 1] = note end
  return { figures = figures, claims = list, tables = { table_of(cells, best) }, notes = notes }
end

---All runs of a grid: for every optimizer, kind of clipping, learning rate, threshold and seed.
---@param s table
---@param optimizers { name: string, lrs: number[] }[]
---@param thresholds table<string, number[]> by kind of clipping
---@param settings fun(o: table): table completes the settings of a run
---@param cost number
---@return moonbow.Run[]
function M.runs(s, optimizers, thresholds, settings, cost)
  local list = {}
  for _, optimizer in ipairs(optimizers) do
    for _, clip in ipairs(KINDS) do
      for _, lr in ipairs(optimizer.lrs) do
        for _, threshold in ipairs(thresholds[clip]) do
          for _, seed in ipairs(s.seeds) do
            list[#list + 1] = { name = ("%s, %s %g, lr %g"):format(optimizer.name, clip, threshold, lr), seed = seed, cost = cost,
              settings = settings { optimizer = optimizer.name, clip = clip, lr = lr, threshold = threshold } }
          end
        end
      end
    end
  end
  return list
end

return M
