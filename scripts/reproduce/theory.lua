-- SPDX-License-Identifier: MIT
--
-- theory.lua: two theorems, measured. Generalized gradient norm clipping with lr = 1 / L0 and rho = L0 / L1 lowers an (L0, L1)-
-- smooth function with every step, in the Euclidean, the sign and the spectral norm (arXiv 2506.01913, algorithm 1). And
-- spectrally clipped SGD under heavy-tailed noise converges as K^((2 - 2 alpha) / (3 alpha - 2)) (arXiv 2605.11838).
--   luajit scripts/reproduce/theory.lua             up to 30,000 steps, a minute on two cores
--   luajit scripts/reproduce/theory.lua --full      up to 300,000

local here = (arg[0] or ""):match("^(.*)/[^/]*$") or "."
package.path = ("%s/../../lua/?.lua;%s/../../lua/?/init.lua;%s/../../?.lua;"):format(here, here, here) .. package.path

local claims = require "moonbow.experiment.claims"
local statistics = require "moonbow.experiment.statistics"

local DESCENT, RATE = "arXiv 2506.01913, algorithm 1", "arXiv 2605.11838, the theorem of convergence"
local NORMS, ALPHAS = { "euclidean", "sign", "spectral" }, { 1.2, 1.5, 1.8, 2 }
local ABOVE = 0.1    -- by how much the index of the noise exceeds alpha, so that its moment of order alpha is bounded
local ROUNDING = 1e-12 -- of f: what is less than that is no rise
local TOLERANCE = 0.05 -- of slopes

-- What a run of the second part is: alpha, the noise's index, clipped or not.
local function kinds()
  local list = {}
  for _, alpha in ipairs(ALPHAS) do
    local index = math.min(2, alpha + ABOVE)
    list[#list + 1] = { alpha = alpha, index = index, clipped = true }
    list[#list + 1] = { alpha = alpha, index = index, clipped = false }
    if alpha < 2 then list[#list + 1] = { alpha = alpha, index = alpha, clipped = true } end
  end
  return list
end

local function rate_name(kind, K)
  return ("rate alpha %g index %g %s K %d"):format(kind.alpha, kind.index, kind.clipped and "clipped" or "plain", K)
end

local function runs_of(s)
  local list = {}
  for _, norm in ipairs(NORMS) do
    for _, seed in ipairs(s.seeds) do
      list[#list + 1] = { name = "descent " .. norm, seed = seed, cost = 1000,
        settings = { part = "descent", norm = norm, n = 6, size = s.size_at_start, steps = s.descent_steps } }
    end
  end
  for _, K in ipairs(s.horizons) do
    for _, kind in ipairs(kinds()) do
      list[#list + 1] = { name = rate_name(kind, K), seed = s.seeds[1], cost = K, settings = { part = "rate",
        alpha = kind.alpha, index = kind.index, clipped = kind.clipped, K = K, repeats = s.repeats, n = 4 } }
    end
  end
  return list
end

-- ----- runs -----------------------------------------------------------------------------------------------

local function make_descent(run)
  local cosh = require "scripts.reproduce.problems.cosh"
  local o = { name = run.settings.norm, seed = run.seed, n = run.settings.n, size = run.settings.size,
    steps = run.settings.steps, clipped = true }
  local clipped = cosh.run(o)
  o.clipped = false
  local plain = cosh.run(o)
  local rises, worst = 0, math.huge -- worst: of what a step lowered f by beyond what was promised, relative to f
  for k, promised in ipairs(clipped.promised) do
    local before, lowered = clipped.values[k], clipped.values[k] - clipped.values[k + 1]
    local beyond = (lowered - promised) / before
    rises = rises + (lowered >= -ROUNDING * before and 0 or 1) -- NaN is a rise
    worst = beyond < worst and beyond or beyond == beyond and worst or -math.huge
  end
  return { values = clipped.values, rises = rises, worst = worst, plain_first = plain.values[2] / plain.values[1] }
end

local function make(run, context)
  if run.settings.part == "descent" then return make_descent(run) end
  local mb = require "moonbow"
  mb.seed(run.seed) -- the function is the same for all, the noise another for every K
  math.randomseed(run.seed * 1000003 + run.settings.K)
  local noise = require "scripts.reproduce.problems.stable_noise"
  local means, schedule = noise.run(run.settings, function(share) context:progress(share) end)
  return { mean = statistics.mean(means), error = statistics.std(means) / math.sqrt(#means - 1), gamma = schedule.gamma,
    tau = schedule.tau }
end

-- ----- the report -----------------------------------------------------------------------------------------

local function descent_part(all, s)
  local series, rows, list = {}, { { "norm", "steps", "rises", "worst of lowered - promised", "plain f1 / f0" } }, {}
  for i, norm in ipairs(NORMS) do
    local rises, steps, worst, least = 0, 0, math.huge, math.huge
    for _, r in ipairs(all.by_name["descent " .. norm]) do
      rises, steps = rises + r.result.rises, steps + #r.result.values - 1
      worst, least = math.min(worst, r.result.worst), math.min(least, r.result.plain_first)
    end
    rows[i + 1] = { norm, tostring(steps), tostring(rises), ("%.1e f"):format(worst), ("%.3g"):format(least) }
    local points, values = {}, all.by_name["descent " .. norm][1].result.values
    local least_value = norm == "euclidean" and 1 or norm == "sign" and 36 or 6 -- of n = 6, at X = 0
    for k, value in ipairs(values) do points[k] = { k - 1, math.max(value - least_value, 1e-12) } end
    series[i] = { name = norm, points = points, marker = false }
    list[i] = claims.of { claim = ("every step of algorithm 1 lowers f by at least what is promised (%s norm)"):format(norm),
      source = DESCENT, expected = "no rise, nothing less than promised", numbers = { rises = rises, worst = worst },
      measured = ("%d rises in %d steps, at worst %.0e f"):format(rises, steps, worst),
      holds = { rises == 0, worst >= -ROUNDING } }
    list[#NORMS + i] = claims.of { claim = ("without clipping the first step raises f (%s norm)"):format(norm), source = DESCENT,
      expected = "above 1 time", measured = ("%.3g times"):format(least), holds = least > 1, numbers = { times = least } }
  end
  return list, { title = "algorithm 1 on cosh", rows = rows, right = { [2] = true, [3] = true, [4] = true, [5] = true } },
    { title = ("f - its least value, seed %d"):format(s.seeds[1]), x = { label = "step" },
      y = { label = "f - f*", log = true }, series = series }
end

-- A curve, and where the theorem's slope would lead from its first point. Curves of one alpha have one colour.
local function add_line(series, kind, points, slope)
  local colour, exact = 1, kind.index == kind.alpha and kind.alpha < 2
  for i, alpha in ipairs(ALPHAS) do colour = alpha == kind.alpha and i or colour end
  local first, last = points[1], points[#points]
  series[#series + 1] = { name = ("alpha %g, noise of index %g"):format(kind.alpha, kind.index), points = points,
    colour = colour, dash = exact and 2 or 1 }
  series[#series + 1] = { name = ("theorem: K^%.3f"):format(slope), faint = true, marker = false, colour = colour,
    legend = not exact, points = { first, { last[1], first[2] * (last[1] / first[1]) ^ slope } } }
end

local function rate_part(all, s)
  local theory = require("scripts.reproduce.problems.stable_noise").rate
  local rows, list = { { "alpha", "noise's index", "clipping" } }, {}
  for c, K in ipairs(s.horizons) do rows[1][3 + c] = ("K = %d"):format(K) end
  rows[1][4 + #s.horizons], rows[1][5 + #s.horizons] = "slope", "theorem"
  local series = {}
  for i, kind in ipairs(kinds()) do
    local xs, ys, points, row = {}, {}, {}, { ("%g"):format(kind.alpha), ("%g"):format(kind.index),
      kind.clipped and "spectral" or "none" }
    for c, K in ipairs(s.horizons) do
      local r = all.by_name[rate_name(kind, K)][1].result
      xs[c], ys[c], points[c] = math.log(K), math.log(r.mean), { K, r.mean }
      row[3 + c] = r.mean < math.huge and ("%.4f"):format(r.mean) or "inf"
    end
    local line, wanted = statistics.line(xs, ys), theory(kind.alpha)
    row[#row + 1], row[#row + 2] = ("%.3f"):format(line.slope), ("%.3f"):format(wanted)
    rows[i + 1] = row
    if kind.clipped then
      add_line(series, kind, points, wanted)
      list[#list + 1] = claims.of { source = RATE,
        claim = ("alpha %g, noise of index %g: the mean falls as K^%.3f or faster"):format(kind.alpha, kind.index, wanted),
        measured = ("slope %.3f"):format(line.slope), expected = ("at most %.3f + %g"):format(wanted, TOLERANCE),
        holds = line.slope <= wanted + TOLERANCE, numbers = { slope = line.slope, theorem = wanted, error = line.error } }
    end
  end
  local right = {}
  for c = 1, #rows[1] do right[c] = c ~= 3 end
  return list, { title = ("mean of min(|grad f|, |grad f|^2) over K steps, %d repeats"):format(s.repeats), rows = rows,
    right = right }, { title = "Convergence under heavy-tailed noise", width = 860, x = { label = "K", log = true },
    y = { label = "mean of min(|grad f|, |grad f|^2)", log = true }, series = series }
end

local function report(all, s)
  local descent, descent_table, descent_chart = descent_part(all, s)
  local rates, rate_table, rate_chart = rate_part(all, s)
  for _, claim in ipairs(rates) do descent[#descent + 1] = claim end
  return {
    figures = { { name = "descent", title = "Algorithm 1 with lr = 1 / L0 and rho = L0 / L1", charts = { descent_chart } },
      { name = "rate", title = "Mean gradient against the number of steps, each with its own schedule",
        charts = { rate_chart } } },
    tables = { descent_table, rate_table },
    claims = descent,
    notes = {
      "The functions' constants are proved, not fitted: scripts/reproduce/problems/cosh.lua.",
      ("The theorem asks for a bounded moment of order alpha, and stable noise has those below its index: so the index is "
        .. "alpha + %g. Noise of index alpha itself, whose moment of that order is infinite, is measured too: logarithms of K "
        .. "then make slopes flatter at any K that can be run."):format(ABOVE),
      "The theorem bounds from above: a steeper slope agrees with it. Step size and threshold depend on K as in the theorem; "
        .. "their multiples are in problems/stable_noise.lua. |.| is the Frobenius norm.",
    },
  }
end

require("moonbow.experiment").main {
  name = "theory",
  about = "Descent of algorithm 1 on (L0, L1)-smooth functions, and the rate of spectrally clipped SGD under stable noise.",
  source = "arXiv 2506.01913 and arXiv 2605.11838",
  options = {
    { "size_at_start", 10, "norm of the first point of the descent", min = 0.1, max = 100 },
    { "descent_steps", 300, "steps of the descent", kind = "integer", min = 1 },
    { "repeats", 64, "runs that a mean of the second part is over", kind = "integer", min = 2 },
  },
  sizes = {
    smoke = { horizons = { 10, 20, 40 }, repeats = 4, descent_steps = 20, seeds = "1" },
    quick = { horizons = { 1000, 3000, 10000, 30000 } },
    full = { horizons = { 1000, 3000, 10000, 30000, 100000, 300000 } },
  },
  seeds = { 1, 2, 3, 4, 5 },
  runs = runs_of,
  make = make,
  report = report,
}
