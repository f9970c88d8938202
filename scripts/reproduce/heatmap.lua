-- SPDX-License-Identifier: MIT
--
-- heatmap.lua: final loss over threshold and learning rate of the network of mlp_heavy_tail.lua, clipped by norm and
-- spectrally by a constant (arXiv 2605.11838, figure 4): how much of the grid does well.
--   luajit scripts/reproduce/heatmap.lua             20 x 20 x 2 runs of 2000 steps, about 8 minutes on two free cores
--   luajit scripts/reproduce/heatmap.lua --full      of 30,000 steps

local here = (arg[0] or ""):match("^(.*)/[^/]*$") or "."
package.path = ("%s/../../lua/?.lua;%s/../../lua/?/init.lua;%s/../../?.lua;"):format(here, here, here) .. package.path

local claims = require "moonbow.experiment.claims"
local cli = require "moonbow.cli"

local SOURCE = "arXiv 2605.11838, figure 4"
local rules = { { name = "norm", rule = "norm", cost = 1 }, { name = "spectral", rule = "const", cost = 8 } }

-- `count` numbers from low to high, evenly apart on a logarithmic axis, of five digits.
local function log_grid(low, high, count)
  local list = {}
  for i = 1, count do
    local share = count > 1 and (i - 1) / (count - 1) or 0
    list[i] = tonumber(("%.5g"):format(low * (high / low) ^ share))
  end
  return list
end

local function axes_of(s)
  return log_grid(s.min_lr, s.max_lr, s.grid), log_grid(s.min_threshold, s.max_threshold, s.grid)
end

local function name_of(rule, lr, threshold) return ("%s lr %g threshold %g"):format(rule.name, lr, threshold) end

local function runs_of(s)
  for _, name in ipairs { "lr", "threshold" } do
    local low, high = s["min_" .. name], s["max_" .. name]
    if low > high or (low == high and s.grid > 1) then
      cli.fail(2, "--min_%s %g is not below --max_%s %g", name, low, name, high)
    end
  end
  local lrs, thresholds = axes_of(s)
  local list = {}
  for _, rule in ipairs(rules) do
    for _, threshold in ipairs(thresholds) do
      for _, lr in ipairs(lrs) do
        for _, seed in ipairs(s.seeds) do
          list[#list + 1] = { name = name_of(rule, lr, threshold), seed = seed, cost = rule.cost, settings = {
            steps = s.steps, optimizer = "sgd", rule = rule.rule, lr = lr, threshold = threshold, order = "random",
            window = s.steps, last = math.min(500, math.ceil(s.steps / 5)) } }
        end
      end
    end
  end
  return list
end

local function make(run, context)
  local o = { seed = run.seed }
  for key, value in pairs(run.settings) do o[key] = value end
  local r = require("scripts.reproduce.problems.heavy_tail").run(o, function(share) context:progress(share) end)
  return { final = r.final, diverged_at = r.diverged_at }
end

-- ----- the report -----------------------------------------------------------------------------------------

-- The grid of a rule: values[threshold][lr], mean over the seeds, NaN where one diverged; and its best, and where that is.
local function grid_of(all, s, rule)
  local lrs, thresholds = axes_of(s)
  local g = { values = {}, best = math.huge, diverged = 0, count = #lrs * #thresholds }
  for i, threshold in ipairs(thresholds) do
    g.values[i] = {}
    for j, lr in ipairs(lrs) do
      local sum, results = 0, all.by_name[name_of(rule, lr, threshold)]
      for _, r in ipairs(results) do sum = sum + (r.result.diverged_at and 0 / 0 or r.result.final) / #results end
      g.values[i][j] = sum
      if sum ~= sum then g.diverged = g.diverged + 1 end
      if sum < g.best then g.best, g.lr, g.threshold = sum, lr, threshold end
    end
  end
  return g
end

-- Share of a grid that reaches a loss.
local function share_of(g, loss)
  local count = 0
  for _, row in ipairs(g.values) do
    for _, value in ipairs(row) do count = count + (value <= loss and 1 or 0) end
  end
  return count / g.count
end

-- Bounds of the cells around values that are evenly apart on a logarithmic axis.
local function edges_of(list)
  local half = #list > 1 and math.sqrt(list[2] / list[1]) or 2
  local edges = { list[1] / half }
  for i, value in ipairs(list) do edges[i + 1] = value * half end
  return edges
end

local function chart_of(s, rule, g, low, high)
  local lrs, thresholds = axes_of(s)
  local rows, values = {}, {}
  for i = #thresholds, 1, -1 do -- the largest on top
    rows[#rows + 1] = ("%.3g"):format(thresholds[i])
    values[#values + 1] = {}
    for j, value in ipairs(g.values[i]) do values[#values][j] = value > high and high or value end
  end
  local edges = edges_of(lrs)
  return { title = ("Final loss after %d steps, %s clipping: threshold against learning rate"):format(s.steps, rule.name),
    x = { label = "learning rate", log = true, min = edges[1], max = edges[#edges], tight = true },
    heat = { rows = rows, edges = edges, values = values, label = "loss", log = true, height = math.max(15, 300 / #rows),
      min = low, max = high } }
end

local function row_of(rule, g, share)
  return { rule.name, ("%.4f"):format(g.best), g.lr and ("%.3g"):format(g.lr) or "-",
    g.lr and ("%.3g"):format(g.threshold) or "-", ("%.1f %%"):format(100 * share),
    ("%.1f %%"):format(100 * g.diverged / g.count) }
end

local function report(all, s)
  local grids, shares, charts = {}, {}, {}
  for i, rule in ipairs(rules) do grids[i] = grid_of(all, s, rule) end
  local best = grids[1].best -- of norm clipping
  local low = math.min(best, grids[2].best)
  local rows = { { "clipping", "best loss", "at lr", "threshold", "reaches 2 x norm's best", "diverged" } }
  for i, rule in ipairs(rules) do
    shares[i] = share_of(grids[i], 2 * best)
    rows[i + 1] = row_of(rule, grids[i], shares[i])
    charts[i] = chart_of(s, rule, grids[i], low < math.huge and low or 0.1, 10)
  end
  return {
    figures = { { name = "heatmap", title = "Final loss over threshold and learning rate; empty: diverged", charts = charts } },
    tables = { { title = ("%d x %d grid, %d steps, %d seed(s)"):format(s.grid, s.grid, s.steps, #s.seeds), rows = rows,
      right = { [2] = true, [3] = true, [4] = true, [5] = true, [6] = true } } },
    claims = { claims.of { source = SOURCE,
      claim = "spectral clipping reaches twice norm clipping's best loss or better on a larger share of the grid",
      measured = ("spectral %.1f %%, norm %.1f %%"):format(100 * shares[2], 100 * shares[1]), expected = "spectral above norm",
      holds = shares[2] > shares[1], numbers = { spectral = shares[2], norm = shares[1], norm_best = best,
        spectral_best = grids[2].best } } },
    notes = { ("The final loss is the mean of the last %d steps. --quick has 2000 of the paper's 30,000 steps, so that all runs "
      .. "take minutes: small learning rates have no time to get anywhere with either rule. With 1000 steps nothing is learned "
      .. "yet, and nearly every place is within twice the best."):format(math.min(500, math.ceil(s.steps / 5))) },
  }
end

require("moonbow.experiment").main {
  name = "heatmap",
  about = "Final loss over threshold and learning rate under heavy-tailed noise: clipping by norm against spectral clipping.",
  source = SOURCE,
  options = {
    { "steps", 2000, "steps of a run", kind = "integer", min = 1 },
    { "grid", 20, "values of each axis", kind = "integer", min = 1 },
    { "min_lr", 1e-4, "least learning rate; they are evenly apart on a logarithmic axis", min = 1e-12 },
    { "max_lr", 0.1, "greatest learning rate", min = 1e-12 },
    { "min_threshold", 0.01, "least threshold of both rules; likewise", min = 1e-12 },
    { "max_threshold", 10, "greatest threshold", min = 1e-12 },
  },
  sizes = { smoke = { steps = 20, grid = 2 }, quick = { steps = 2000, grid = 20 }, full = { steps = 30000, grid = 20 } },
  seeds = { 1 },
  runs = runs_of,
  make = make,
  report = report,
}
