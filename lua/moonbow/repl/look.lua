-- SPDX-License-Identifier: MIT
--
-- look.lua: what a prompt shows of a model that trains: singular values of a gradient or a weight, their course over the
-- steps, losses, statistics of any tensor, text that the model writes. The values come back with the plot: spectrum "x".sigma.
--
-- spectrum shows a gradient as the next step will find it, before clipping: the batch that comes next is run for it, and the
-- gradients, the data and the random generator are put back. An optimizer that keeps averages in the gradients has them as
-- they are. p.grad is what the last step left: its gradient after clipping.

local evaluate = require "moonbow.repl.evaluate"
local format = require "moonbow.report.format"
local handle = require "bindings.handle"
local ops = require "bindings.ops"
local options = require "moonbow.options"
local plot = require "moonbow.repl.plot"
local show = require "moonbow.repl.show"
local system = require "bindings.system"
local types = require "bindings.types"

local M = {}

local EXACT_UP_TO = 1024 -- of the smaller side
-- Of larger ones: values found, and how well. σ₁ is Lanczos' besides.
local SKETCH = { k = 64, method = "randomized", oversample = 16, power_iters = 8 }
local PIECE = 2 ^ 20     -- elements that peek looks at in one go
local SAMPLE = 2 ^ 16    -- elements of its histogram at most

-- Something with a text and values.
local function printable(values, text)
  return setmetatable(values, { __tostring = function() return text end })
end

local function plot_width(repl) return math.min(repl:width(), 100) end

-- ----- parameters -----------------------------------------------------------------------------------------------

-- A parameter by its name, which may lack ".weight".
local function parameter(who, model, name)
  local names = {}
  for i, p in ipairs(model:parameters()) do
    if p.name == name or p.name == name .. ".weight" then return p end
    names[i] = p.name:gsub("%.weight$", "")
  end
  options.fail("%s: model '%s' has no parameter '%s'%s", who, model.name, name, options.suggest(name, names))
end

-- The gradient that the next step finds; what is there already, where nothing trains or the gradient is a state.
local function gradient_of(training, parts, p)
  if not parts.optimizer or not parts.data then return p.grad end
  for _, group in ipairs(parts.optimizer.groups or {}) do
    if group.constructor.definition.keeps_gradient then return p.grad end
  end
  return training:next_gradient(parts, p)
end

-- tau of a matrix by the last step, or a clipper's number.
local function last_tau(training, parts, name)
  local last = training.history[#training.history] or training.log and training.log[#training.log]
  local tau = last and (last.tau[name] or last.tau["*"])
  if tau then return tau end
  local ok, threshold = pcall(function() return tonumber(tostring(parts.clip.threshold):match "^const%((.*)%)$") end)
  return ok and threshold or nil
end

-- ----- spectrum -----------------------------------------------------------------------------------------------

local function spectrum_text(row, title, tau, width)
  local bound = row.exact and "" or "≥ "
  local marks = tau and { { value = tau, name = "τ" } } or nil
  local above = 0
  for _, s in ipairs(row.sigma) do
    if tau and s > tau then above = above + 1 end
  end
  if math.min(row.rows, row.columns) == 1 then
    return plot.cut(("%s: one singular value, its norm %s%s"):format(title, plot.label(row.norm),
      tau and (", τ %s"):format(plot.label(tau)) or ""), width)
  end
  local head = ("σ₁ %s  norm %s  stable rank %s  effective rank %s%s%s"):format(plot.label(row.sigma[1]), plot.label(row.norm),
    plot.label(row.stable_rank), bound, plot.label(row.effective_rank),
    tau and ("  above τ %s%d"):format(above == #row.sigma and bound or "", above) or "")
  local label = row.exact and ("singular values, %d"):format(#row.sigma)
    or ("the %d largest singular values, from below: a sketch"):format(#row.sigma)
  return plot.cut(title, width) .. "\n" .. plot.cut(head, width) .. "\n"
    .. plot.bars(row.sigma, { width = width, marks = marks, x_label = label })
end

-- The spectrum of a tensor; where it is a sketch, with σ₁ to 1e-6 and what follows from it.
local function row_of(t)
  local mb = require "moonbow"
  if t.dtype == "bf16" then t = t:to "f32" end
  local rows = t.shape[1] or 1
  local least = math.min(rows, t.numel / rows)
  if least <= EXACT_UP_TO then return mb.spectrum(t, { k = least, method = "exact" })[1] end
  local row = mb.spectrum(t, SKETCH)[1]
  if row.exact or row.norm == 0 then return row end
  row.sigma[1] = math.max(row.sigma[1], mb.linalg.sigma_max(t:detach():reshape(rows, t.numel / rows)))
  row.stable_rank = (row.norm / row.sigma[1]) ^ 2
  return row
end

---Draws the singular values of a parameter's gradient or value, or of any tensor.
function M.spectrum(repl, what, given)
  local o = options.check("spectrum", given, { of = { choices = { "grad", "value" }, default = "grad" } })
  local training = repl.training
  local t, title, tau = what, nil, nil
  if type(what) == "string" then
    local parts = training:parts("spectrum", "model")
    local p = parameter("spectrum", parts.model, what)
    t = o.of == "grad" and gradient_of(training, parts, p) or p.value
    if o.of == "grad" then tau = last_tau(training, parts, p.name) end
    title = ("%s of %s %s"):format(o.of == "grad" and "gradient" or "value", p.name, format.shape(p.shape))
  elseif not types.is_tensor(what) then
    options.fail("spectrum: the name of a parameter or a tensor was expected, not %s", options.describe(what))
  else
    title = "tensor " .. format.shape(t.shape)
  end
  local row = row_of(t)
  row.tau = tau
  return printable(row, spectrum_text(row, title, tau, plot_width(repl)))
end

-- ----- courses ------------------------------------------------------------------------------------------------

-- The steps of the run's log, then those of the session.
local function all_steps(training)
  local list = {}
  for _, from in ipairs { training.log or {}, training.history } do
    for _, s in ipairs(from) do
      while #list > 0 and list[#list].step >= s.step do list[#list] = nil end
      list[#list + 1] = s
    end
  end
  return list
end

-- Names of matrices in the order of the model, where there is one.
local function names_in_order(training, steps)
  local seen, list = {}, {}
  for _, s in ipairs(steps) do
    for name in pairs(s.sigma) do seen[name] = true end
  end
  local model = rawget(training.repl.session.globals, "model")
  local ok, parameters = pcall(function() return model:parameters() end)
  for _, p in ipairs(ok and parameters or {}) do
    if seen[p.name] then
      list[#list + 1], seen[p.name] = p.name, nil
    end
  end
  for _, name in ipairs(options.keys(seen)) do list[#list + 1] = name end
  return list
end

---A strip for every matrix: the largest singular value of what was clipped, over the steps.
---@param pattern? string only names that contain this
function M.spectra(repl, pattern)
  options.value("spectra", "the part of a name", pattern or "", { type = "string" })
  local training = repl.training
  local steps = all_steps(training)
  if #steps == 0 then options.fail "spectra: there are no steps yet; step(20) makes some" end
  local names, width, rows = names_in_order(training, steps), repl:width(), {}
  local left = 0
  for _, name in ipairs(names) do
    local is_vector = name:find "%.bias$" or name:find "^ln_" or name:find "%.ln_"
    if pattern and name:find(pattern, 1, true) or not pattern and not is_vector then
      rows[#rows + 1] = { name = name:gsub("%.weight$", ""), full = name, values = {} }
      left = math.max(left, format.width(rows[#rows].name))
    end
  end
  if #rows == 0 then
    options.fail("spectra: %s", #names == 0 and "the clipper's reports have no singular values"
      or pattern and ("no name contains '%s'"):format(pattern) or "only vectors were clipped; name them: spectra 'bias'")
  end
  local columns = math.max(1, math.min(width - math.min(left, math.floor(width / 2)) - 2, #steps))
  for _, row in ipairs(rows) do
    for c = 1, columns do
      local from, to, most = math.floor((c - 1) * #steps / columns) + 1, math.floor(c * #steps / columns), nil
      for i = from, to do
        local sigma = steps[i].sigma[row.full]
        if sigma and (not most or sigma > most) then most = sigma end
      end
      row.values[c] = most
    end
  end
  local text = plot.heat(rows, { width = width, columns = columns, title = "largest singular value before clipping, by step",
    from = tostring(steps[1].step), to = #steps > 1 and tostring(steps[#steps].step) or "", colours = repl.colours })
  return printable(rows, text)
end

---The loss of every step so far.
function M.losses(repl)
  local steps = all_steps(repl.training)
  if #steps == 0 then options.fail "losses: there are no steps yet; step(20) makes some" end
  local x, y = {}, {}
  for i, s in ipairs(steps) do x[i], y[i] = s.step, s.loss end
  local text = plot.lines(x, y, { width = plot_width(repl), x_label = "step",
    title = ("training loss, %.4f at step %d"):format(y[#y], x[#x]) })
  return printable(y, text)
end

-- ----- peek -----------------------------------------------------------------------------------------------

local BINS = 40

-- Counts of finite elements in bins of one width from low to high.
local function histogram(values, low, high)
  local counts = {}
  for b = 1, BINS do counts[b] = 0 end
  for i = 1, #values do
    local v = values[i]
    if v - v == 0 then
      local b = high > low and math.min(BINS, 1 + math.floor((v - low) / (high - low) * BINS)) or 1
      counts[b] = counts[b] + 1
    end
  end
  return counts
end

-- Statistics of a list of numbers; sums in double precision, twice for the deviation.
local function of_list(values)
  local s = { n = #values, nan = 0, inf = 0, zeros = 0, min = math.huge, max = -math.huge, squares = 0, spread = 0 }
  local sum = 0
  for i = 1, #values do
    local v = values[i]
    if v ~= v then
      s.nan = s.nan + 1
    elseif v - v ~= 0 then
      s.inf = s.inf + 1
    else
      if v == 0 then s.zeros = s.zeros + 1 end
      s.min, s.max, sum, s.squares = math.min(s.min, v), math.max(s.max, v), sum + v, s.squares + v * v
    end
  end
  s.finite = s.n - s.nan - s.inf
  s.mean = s.finite > 0 and sum / s.finite or 0
  for i = 1, #values do
    local v = values[i]
    if v - v == 0 then s.spread = s.spread + (v - s.mean) ^ 2 end
  end
  return s
end

-- The same of a tensor of one dimension, by the engine where all of it is finite.
local function of_tensor(t)
  local mb = require "moonbow"
  local squares = t.dtype ~= "f64" and t.dtype ~= "f32" and 0 / 0 or mb.norm(t):item() ^ 2
  if squares - squares ~= 0 then return of_list(t:totable()) end
  local n, mean = t.numel, mb.mean(t):item()
  return { n = n, finite = n, nan = 0, inf = 0, zeros = mb.sum(mb.equal(t, 0)):item(), min = mb.min(t):item(),
           max = mb.max(t):item(), mean = mean, squares = squares, spread = mb.norm(t - mean):item() ^ 2 }
end

-- Of the whole from those of two parts: Chan, Golub and LeVeque 1983.
local function joined(a, b)
  local s, finite = {}, a.finite + b.finite
  for _, name in ipairs { "n", "finite", "nan", "inf", "zeros", "squares" } do s[name] = a[name] + b[name] end
  s.min, s.max = math.min(a.min, b.min), math.max(a.max, b.max)
  local gap = b.mean - a.mean
  s.mean = finite > 0 and a.mean + gap * b.finite / finite or 0
  s.spread = a.spread + b.spread + (finite > 0 and gap ^ 2 * a.finite * b.finite / finite or 0)
  return s
end

-- Statistics of a tensor, and a list of at most SAMPLE of its elements, evenly spaced.
local function statistics(t)
  local flat, all = t:detach():reshape(-1), nil
  if flat.numel <= SAMPLE then
    local values = flat:totable()
    all = of_list(values)
    return all, values
  end
  for first = 1, flat.numel, PIECE do
    handle.scope(function()
      local piece = ops.slice(flat, 1, first, math.min(first + PIECE - 1, flat.numel))
      if piece.dtype == "bf16" then piece = piece:to "f32" end
      local s = of_tensor(piece)
      all = all and joined(all, s) or s
    end)
  end
  return all, ops.slice(flat, 1, 1, flat.numel, math.ceil(flat.numel / SAMPLE)):totable()
end

---What is in a tensor, in numbers.
function M.peek(repl, what)
  local t, name = what, "tensor"
  if type(what) == "string" then
    local parts = repl.training:parts("peek", "model")
    local p = parameter("peek", parts.model, what)
    t, name = p.value, p.name
  elseif not types.is_tensor(what) then
    options.fail("peek: a tensor or the name of a parameter was expected, not %s", options.describe(what))
  end
  local s, sample = statistics(t)
  s.norm, s.std = math.sqrt(s.squares), math.sqrt(s.spread / s.finite)
  local lines = { (show.cell(t):gsub("^tensor", name, 1)) }
  if s.finite > 0 then
    lines[#lines + 1] = ("min %s  max %s  mean %s  std %s  norm %s"):format(show.number(s.min), show.number(s.max),
      show.number(s.mean), show.number(s.std), show.number(s.norm))
    lines[#lines + 1] = ("%s %s %s%s"):format(plot.label(s.min), format.sparkline(histogram(sample, s.min, s.max)),
      plot.label(s.max), #sample < s.n and ("  (of %s elements)"):format(format.count(#sample)) or "")
  end
  lines[#lines + 1] = ("zeros %.3g %%  NaN %d  Inf %d"):format(100 * s.zeros / s.n, s.nan, s.inf)
  return printable({ min = s.min, max = s.max, mean = s.mean, std = s.std, norm = s.norm, zeros = s.zeros / s.n, nan = s.nan,
                     inf = s.inf }, table.concat(lines, "\n"))
end

-- ----- the model's text, the validation loss ----------------------------------------------------------------------

---Lets the model write on.
function M.generate(repl, text, given)
  local parts = repl.training:parts("generate", "model", "data")
  local data = parts.data
  options.value("generate", "the text", text or "", { type = "string" })
  local o = options.check("generate", given, {
    tokens = { type = "integer", default = 200, min = 1 }, temperature = { type = "number", default = 0.8, min = 0 },
    top_k = { type = "integer", min = 1 }, top_p = { type = "number", above = 0, max = 1 },
    seed = { type = "integer", default = 1337, min = 0 },
  })
  if not (parts.model.generate and type(data) == "table" and data.encode) then
    options.fail "generate: a model that generates and data with a tokenizer are needed"
  end
  local prompt = (text or "") ~= "" and data:encode(text) or data:prompt()
  local out = require("moonbow.report.stream").new(function(piece)
    io.stdout:write(piece)
    io.stdout:flush()
  end, system.is_terminal(1))
  out:write(text or "")
  local stop = data.tokenizer and data.tokenizer.end_of_text
  parts.model:eval(function()
    parts.model:generate(prompt, {
      max_tokens = o.tokens, temperature = o.temperature, top_k = o.top_k, top_p = o.top_p, seed = o.seed,
      on_token = function(id)
        if id == stop then return true end
        out:write(data:decode { id })
        return system.interrupted() ~= 0
      end,
    })
  end)
  out:finish()
  io.stdout:write "\n"
end

---The mean loss over validation batches, always the same ones.
function M.evaluate(repl, n)
  options.value("evaluate", "the number of batches", n or 20, { type = "integer", min = 1 })
  local mb, parts = require "moonbow", repl.training:parts("evaluate", "model", "data")
  local sum, done = 0, 0
  parts.model:eval(function()
    mb.no_grad(function()
      for i = 1, n or 20 do
        mb.scope(function() sum = sum + parts.model:loss(parts.data:batch("val", i)):item() end)
        done = i
        if system.interrupted() ~= 0 then break end
      end
    end)
  end)
  return sum / done
end

-- ----- commands -----------------------------------------------------------------------------------------------

M.rows = {
  { "spectrum(name)", "draws the singular values of a parameter's gradient, or of a tensor, with τ",
    'spectrum("h.3.attn.c_attn", { of = "value" }) draws those of the weights. The gradient is that of the next step before\n'
      .. "clipping; τ is that of the last step." },
  { "spectra()", "σ₁ of all matrices over the steps; spectra \"mlp\" of those whose names contain that" },
  { "losses()", "the loss over the steps" },
  { "peek(tensor)", "its statistics and distribution; peek(model:parameter(\"wte.weight\").grad)",
    "That gradient is what the last step left: after clipping." },
  { "generate(text)", "lets the model write on; options tokens, temperature, top_k, top_p, seed" },
  { "evaluate(n)", "the mean validation loss of n batches, 20 unless said" },
}

---@param repl moonbow.Repl
---@return table<string, function>
function M.commands(repl)
  local function of(fn)
    return function(...) return evaluate.held(fn, repl, ...) end
  end
  local commands = {}
  for _, name in ipairs { "spectrum", "spectra", "losses", "peek", "generate", "evaluate" } do commands[name] = of(M[name]) end
  return commands
end

return M
