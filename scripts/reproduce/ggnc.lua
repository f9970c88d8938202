-- SPDX-License-Identifier: MIT
--
-- ggnc.lua: Scion with generalized gradient norm clipping against Scion without, at a constant step and with linear decay, on a
-- GPT with rotary positions, RMS norms and squared ReLU; and the dual norm of its gradients along the way (arXiv 2506.01913,
-- language model).
--   luajit scripts/reproduce/ggnc.lua             a small model on characters, minutes on two cores
--   luajit scripts/reproduce/ggnc.lua --full      124M parameters on token files (data/fineweb, or --data), for a GPU
--
-- Steps are d <- (1 - alpha) d + alpha g, v_l = r_l lmo(d_l), w <- w - lr eta v; eta = min(1, |d|_* / rho) with clipping and 1
-- without, |d|_* = sum of <d_l, v_l> over all layers. Norms: sign (embedding and head), spectral (hidden matrices).
--
-- The rules of the verdicts: both methods have the same learning rates; the best one is that of the least mean over the seeds
-- of the last loss of validation.
--   constant step   clipped Scion ends lower in the mean, and with every seed: "partly" if only one of these holds
--   decay           clipped Scion ends at most 0.5 % above Scion; and some of its steps are short ones
--   dual norm       its mean over the last fifth of clipped Scion's best run at a constant step is below that of the first fifth

local here = (arg[0] or ""):match("^(.*)/[^/]*$") or "."
package.path = ("%s/../../lua/?.lua;%s/../../lua/?/init.lua;%s/../../?.lua;"):format(here, here, here) .. package.path

local claims = require "moonbow.experiment.claims"
local statistics = require "moonbow.experiment.statistics"

local SOURCE = "arXiv 2506.01913, language model"
local METHODS, SCHEDULES = { "scion", "clipped_scion" }, { "constant", "decay" }
local NORMS = { embedding = "sign", head = "sign", matrix = "spectral" }
local TITLES = { scion = "Scion", clipped_scion = "clipped Scion" }

-- ----- runs ---------------------------------------------------------------------------------------------

local function optimizer_of(mb, model, o)
  local lr = o.schedule == "decay" and mb.schedule.linear { peak = o.lr, steps = o.steps + 1 } or o.lr
  return mb.optim[o.method](model, { lr = lr, momentum = o.momentum, norms = NORMS, rho = o.rho,
    radius = { embedding = o.head_radius, head = o.head_radius, matrix = o.radius } })
end

-- |d|_* of the averages that the optimizer keeps.
local function dual_norm(mb, model, optimizer, o)
  local norms, states, total = require "moonbow.optim.norms", optimizer:state_dict(), 0
  for _, p in ipairs(model:parameters()) do
    mb.scope(function()
      local d = states[p.name .. "/d"]:reshape(1, p.shape[1], p.shape[2])
      local direction = norms.rows[NORMS[p.role]].lmo(d, { shape = d.shape, role = p.role, kernel = 1, msign = "ns5", steps = 5 })
      total = total + (p.role == "matrix" and o.radius or o.head_radius) * (d * direction):sum():item()
    end)
  end
  return total
end

local function make(run, context)
  local mb, language = require "moonbow", require "scripts.reproduce.problems.language"
  local o = run.settings
  mb.seed(run.seed)
  local data = language.open(run, context)
  local model = language.model(mb.models.gpt_modern, run, data)
  local optimizer = optimizer_of(mb, model, o)
  return (language.train(run, context, { model = model, optimizer = optimizer, data = data }, {
    more = function() return { dual = dual_norm(mb, model, optimizer, o) } end }))
end

local function runs(s)
  local language, list = require "scripts.reproduce.problems.language", {}
  if s.tokens == "characters" then language.find_characters(s) else language.find_tokens(s) end
  for _, method in ipairs(METHODS) do
    for _, schedule in ipairs(SCHEDULES) do
      for _, lr in ipairs(language.numbers(s, "lrs")) do
        for _, seed in ipairs(s.seeds) do
          list[#list + 1] = { name = ("%s, %s, lr %g"):format(TITLES[method], schedule, lr), seed = seed, cost = s.steps,
            settings = language.settings(s, { method = method, schedule = schedule, lr = lr, momentum = s.momentum,
              radius = s.radius, head_radius = s.head_radius, rho = method == "clipped_scion" and s.rho or nil }) }
        end
      end
    end
  end
  return list
end

-- ----- what comes of it -----------------------------------------------------------------------------------

-- Runs of each method, schedule and learning rate together; the best ones, best[schedule][method]; those at the edge of the
-- learning rates.
local function collect(results)
  local comparison = require "scripts.reproduce.problems.comparison"
  local cells, best, edges = comparison.cells(results, { "method", "schedule", "lr" }), {}, {}
  for _, schedule in ipairs(SCHEDULES) do
    best[schedule] = {}
    for _, method in ipairs(METHODS) do
      local wanted = { method = method, schedule = schedule }
      local found = comparison.best(cells, wanted)
      best[schedule][method] = found
      for _, at in ipairs(found and comparison.edges(found, cells, wanted, { "lr" }) or {}) do
        edges[#edges + 1] = ("%s, %s: %s"):format(TITLES[method], schedule, at)
      end
    end
  end
  return cells, best, comparison.edge_note(edges)
end

-- Whether some step of a cell's runs was a short one: the dual norm is looked at where the curve has a point.
local function shortens(cell, rho)
  for _, r in ipairs(cell.records) do
    for k = 2, #r.result.curve do
      if r.result.curve[k].dual < rho then return true end
    end
  end
  return false
end

-- Means of the dual norm over the first and the last fifth of the curves of a cell.
local function dual_norms(cell)
  local first, last = {}, {}
  for _, r in ipairs(cell.records) do
    local curve = r.result.curve
    local count = #curve - 1
    for k = 1, count do
      if k <= math.ceil(count / 5) then first[#first + 1] = curve[k + 1].dual end
      if k > count - math.ceil(count / 5) then last[#last + 1] = curve[k + 1].dual end
    end
  end
  return statistics.mean(first), statistics.mean(last)
end

local function claims_of(best, s)
  local constant, decay = best.constant, best.decay
  if not (constant.scion and constant.clipped_scion and decay.scion and decay.clipped_scion) then
    return { claims.of { claim = "both methods train", source = SOURCE, measured = "one diverges with every learning rate",
      expected = "a finite loss", holds = false } }
  end
  local wins = require("scripts.reproduce.problems.comparison").wins(constant.clipped_scion, constant.scion)
  local a, b = constant.clipped_scion.loss, constant.scion.loss
  local c, d = decay.clipped_scion.loss, decay.scion.loss
  local first, last = dual_norms(constant.clipped_scion)
  local clips = shortens(decay.clipped_scion, s.rho)
  return {
    claims.of { claim = "constant step: clipped Scion ends below Scion", source = SOURCE, expected = "lower, with every seed",
      measured = ("%.4f against %.4f; lower with %d of %d seeds"):format(a, b, wins, #s.seeds),
      holds = { a < b, wins == #s.seeds }, numbers = { clipped = a, plain = b, wins = wins } },
    claims.of { claim = "linear decay: clipped Scion is no worse", source = SOURCE, expected = "at most 0.5 % above",
      measured = ("%.4f against %.4f, %+.2f %%%s"):format(c, d, 100 * (c / d - 1), clips and "" or "; no step is a short one"),
      holds = clips and c <= 1.005 * d,
      numbers = { clipped = c, plain = d } },
    claims.of { claim = "the dual norm falls along the way, and steps become shorter", source = SOURCE,
      expected = "the last fifth below the first",
      measured = ("%.4g, then %.4g; rho %g"):format(first, last, s.rho), holds = last < first,
      numbers = { first = first, last = last, rho = s.rho } },
  }
end

-- Means over the seeds of a field of the curves.
local function points_of(cell, field)
  local points = {}
  for k = 2, #cell.records[1].result.curve do
    local values = {}
    for i, r in ipairs(cell.records) do values[i] = r.result.curve[k][field] end
    points[k - 1] = { cell.records[1].result.curve[k].step, statistics.mean(values) }
  end
  return points
end

local function charts_of(best, s)
  local loss, dual = {}, {}
  for _, schedule in ipairs(SCHEDULES) do
    for m, method in ipairs(METHODS) do
      local cell = best[schedule][method]
      if cell then
        local look = { name = ("%s, %s, lr %g"):format(TITLES[method], schedule, cell.lr), marker = false, colour = m,
          dash = schedule == "decay" and 2 or 1 }
        local again = {}
        for key, value in pairs(look) do again[key] = value end
        look.points, again.points = points_of(cell, "val"), points_of(cell, "dual")
        loss[#loss + 1], dual[#dual + 1] = look, again
      end
    end
  end
  if #loss == 0 then return nil end
  return {
    { title = "Loss of validation, best learning rates", width = 860, x = { label = "step" }, y = { label = "loss" },
      series = loss },
    { title = "Dual norm of the averaged gradients", width = 860, x = { label = "step" }, y = { label = "dual norm", log = true },
      series = dual, rules = { { y = s.rho, name = "rho" } } },
  }
end

-- Where numbers come from that are not the paper's.
local SCALED = "This rho is what the dual norm of Scion falls below within 20 steps, found with a seed of its own: only the "
  .. "first steps are whole. With this head_radius the step of an embedding's entry is what it is with the paper's width: "
  .. "3000 / 768 = 375 / 96."

local function report(results, s)
  local cells, best, edge_note = collect(results)
  local rows = { { "method", "step", "lr", "loss", "best" } }
  for _, cell in ipairs(cells) do
    rows[#rows + 1] = { TITLES[cell.method], cell.schedule, ("%g"):format(cell.lr),
      cell.loss == cell.loss and ("%.4f"):format(cell.loss) or "diverged",
      best[cell.schedule][cell.method] == cell and "*" or "" }
  end
  local charts = charts_of(best, s)
  local notes = { s.data_note,
    ("%d layers of width %d, heads of %d, %d steps of %d tokens. Radius %g, of embedding and head %g, rho %g, momentum %g; "
      .. "both methods have the learning rates %s."):format(s.n_layer, s.n_embd, s.n_embd / s.n_head, s.steps,
      s.batch_size * s.grad_accum * s.block_size, s.radius, s.head_radius, s.rho, s.momentum, s.lrs),
    "Initial values are the model's own, normal numbers; embedding and head are one matrix. The paper's image models come "
      .. "later." }
  if s.size == "quick" then notes[#notes + 1] = SCALED end
  notes[#notes + 1] = edge_note
  return {
    figures = charts and { { name = "ggnc", title = "Clipped and unclipped Scion", charts = charts } } or {},
    tables = { { title = "last loss of validation, mean over the seeds", rows = rows, right = { [3] = true, [4] = true } } },
    claims = claims_of(best, s),
    notes = notes,
  }
end

require("moonbow.experiment").main {
  name = "ggnc",
  about = "Clipped against unclipped Scion on a modern GPT, constant step and decay; dual norms of the gradients.",
  source = SOURCE,
  options = require("scripts.reproduce.problems.language").rows({
    { "tokens", "characters", "of Shakespeare or the text of --data, or token files", choices = { "characters", "files" } },
    { "merges", 50000, "of GPT-2's byte-pair code, where a text is encoded", kind = "integer", min = 1 },
    { "lrs", "3.6e-4", "learning rates of both methods", kind = "string", value = "LIST" },
    { "momentum", 0.1, "alpha: share of the new gradient", min = 0, max = 1 },
    { "radius", 50, "of hidden matrices", min = 0 },
    { "head_radius", 3000, "of the embedding and the head", min = 0 },
    { "rho", 600, "dual norm below which steps are shortened", min = 0 },
  }, true),
  sizes = {
    smoke = { n_layer = 1, n_head = 2, n_embd = 16, block_size = 8, batch_size = 2, steps = 6, eval_every = 1, eval_iters = 1,
      rho = 800, seeds = "1" },
    quick = { n_layer = 3, n_head = 3, n_embd = 96, block_size = 64, batch_size = 12, steps = 300, eval_every = 20,
      eval_iters = 10, head_radius = 375, rho = 200, lrs = "1.8e-4,3.6e-4,7.2e-4,1.44e-3" },
    full = { tokens = "files", n_layer = 12, n_head = 6, n_embd = 768, block_size = 1024, batch_size = 32, grad_accum = 16,
      steps = 5100, eval_every = 125, lrs = "1.8e-4,3.6e-4,7.2e-4", seeds = "1" },
  },
  seeds = { 1, 2 },
  runs = runs,
  make = make,
  report = report,
}
