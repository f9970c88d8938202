-- SPDX-License-Identifier: MIT
--
-- mb.spectrum: what the singular values of gradients, weights or any tensors look like, one row a matrix.
--
--   print(mb.spectrum(model))                            -- gradients, as the last backward left them
--   print(mb.spectrum(model, { of = "value", k = 16 }))
--   local rows = mb.spectrum(model, {
--     of = "grad",                                       -- or "value"
--     where = function(p) return p.role == "conv" end,   -- default: what has more than one dimension
--     k = 8,                                             -- singular values in a row
--     method = "auto",                                   -- "exact" where the smaller side is at most 256,
--     oversample = 5, power_iters = 2,                   -- else "randomized", with these options
--   })
--   print(rows[1].name, rows[1].sigma[1], rows[1].stable_rank)
--   print(mb.spectrum(t))   print(mb.spectrum { a = t, b = t2 })    -- a tensor; tensors by name
--
-- Elements are f32, f64 or bf16, which is looked at in f32.
--
-- A tensor is a matrix of shape[1] rows, as for clipping: a filter is out x (in kh kw), a vector n x 1. A row has
--   name, shape, rows, columns
--   norm            Frobenius norm, always of the whole matrix
--   sigma           array of the min(k, rows, columns) largest singular values, descending
--   exact           whether all singular values were computed, or only k, by a sketch: those are never above the
--                   true ones. With the defaults, values that fall as 1 / sqrt(i) are below by 1e-6 of the first
--                   and 1 % of the eighth, those of pure noise by a tenth. Exact ones are good to 1e-8 of the first
--   stable_rank     (norm / sigma[1])^2; an upper bound if not exact
--   effective_rank  exp of the entropy of sigma_i / sum(sigma) (Roy and Vetterli 2007); a lower bound if not exact
--   nuclear         sum of all singular values; a lower bound if not exact
--   nuclear_most    an upper bound, equal to nuclear if exact
--   sparkline       sigma as blocks, one lower for each halving of the largest
-- A matrix of zeros has ranks 0. The bounds hold for whatever lies behind the k-th value: it does not exceed that
-- value, and makes up the rest of the norm, R^2 = norm^2 - sum(sigma_i^2), so that it adds up to at least R^2 / sigma_k
-- and at most sqrt(count) R. The effective rank is at least (nuclear / norm)^2, because the entropy of order 1 is at
-- least that of order 2. All this as far as the sketch has found the largest values.
--
-- NaN and Inf are refused and named. The random generator is left as it was found: looking changes no run.

local format = require "moonbow.report.format"
local options = require "moonbow.options"
local rng = require "bindings.create"
local select = require "moonbow.clip.select"
local spectral = require "bindings.spectral"
local types = require "bindings.types"

local WHO = "mb.spectrum"
local EXPECTED = "a model, a tensor or a table of tensors by name was expected"
local EXACT_UP_TO = 256 -- of the smaller side: milliseconds a matrix

-- ----- what is looked at ------------------------------------------------------------------------------------

local function is_matrix(p) return #p.shape > 1 end

---@class moonbow.SpectrumEntry
---@field name string
---@field what string for errors
---@field shape integer[]
---@field tensor moonbow.Tensor contiguous

local function entry(name, what, t)
  if t.dtype == "bf16" then t = t:to "f32" end
  if t.dtype ~= "f32" and t.dtype ~= "f64" then
    options.fail("%s: %s is %s; singular values are of f32, f64 and bf16", WHO, what, t.dtype)
  end
  return { name = name, what = what, shape = t.shape, tensor = t:detach():contiguous() }
end

local function of_model(model, o)
  local entries = {}
  for i, p in ipairs(select.parameters(WHO, model, o.where or is_matrix)) do
    local grad = (o.of or "grad") == "grad"
    entries[i] = entry(p.name, (grad and "the gradient of " or "") .. p.name, grad and p.grad or p.value)
  end
  return entries, ("%s of %s"):format(o.of == "value" and "values" or "gradients", model.name)
end

local function of_table(tensors, o)
  local entries, where = {}, o.where or is_matrix
  for _, name in ipairs(options.keys(tensors)) do
    local t = tensors[name]
    if not types.is_tensor(t) then
      options.fail("%s: %s; '%s' is %s", WHO, EXPECTED, name, options.describe(t))
    end
    if where { name = name, shape = t.shape, value = t } then entries[#entries + 1] = entry(name, name, t) end
  end
  if #entries == 0 then options.fail("%s: the table holds no tensor that `where` takes", WHO) end
  return entries, "tensors"
end

local function entries_of(x, o)
  if type(x) == "table" and x.handle and x.parameters then return of_model(x, o) end
  if o.of then options.fail("%s: option 'of' is for a model", WHO) end
  if types.is_tensor(x) then return { entry("tensor", "the tensor", x) }, "one tensor" end
  if type(x) == "table" then return of_table(x, o) end
  options.fail("%s: %s, not %s", WHO, EXPECTED, options.describe(x))
end

-- ----- numbers ----------------------------------------------------------------------------------------------

-- The Frobenius norm from a sum of squares, which may have left float64's range; NaN if t is not finite.
local function norm_of(t, squares)
  if squares > 1e-280 and squares < math.huge then return math.sqrt(squares) end
  local largest = squares == squares and t:abs():max():item() or math.huge
  if largest == 0 then return 0 end
  if largest ~= largest or largest == math.huge then return 0 / 0 end
  return largest * math.sqrt(spectral.sum_squares { t / largest }[1])
end

local function add_norms(entries)
  local tensors, bad = {}, {}
  for i, e in ipairs(entries) do tensors[i] = e.tensor end
  for i, squares in ipairs(spectral.sum_squares(tensors)) do
    entries[i].norm = norm_of(tensors[i], squares)
    if entries[i].norm ~= entries[i].norm then bad[#bad + 1] = entries[i].what end
  end
  if #bad > 0 then
    local more = #bad > 1 and (", and %d more %s"):format(#bad - 1, #bad == 2 and "does" or "do") or ""
    options.fail("%s: %s holds NaN or Inf%s", WHO, bad[1], more)
  end
end

-- Probes the entries that are exact, or those that are not, in one plan; all values found go to entry.found.
local function probe(entries, exact, o)
  local chosen, tensors = {}, {}
  for _, e in ipairs(entries) do
    if e.exact == exact then
      chosen[#chosen + 1], tensors[#tensors + 1] = e, e.tensor
    end
  end
  if #chosen == 0 then return end
  local plan = spectral.plan(tensors, {
    method = exact and "exact" or "randomized", rank = o.k, oversample = o.oversample, power_iters = o.power_iters,
  })
  local sigma, width = plan:probe(), plan:width()
  for i, e in ipairs(chosen) do
    e.found = {}
    for j = 1, exact and e.least or o.k do e.found[j] = sigma[(i - 1) * width + j - 1] end
  end
  plan:release()
end

-- Singular values of all entries. A sketch of half the smaller side or more would cost more than everything.
local function add_values(entries, o)
  for _, e in ipairs(entries) do
    e.rows = e.shape[1] or 1
    e.columns = e.tensor.numel / e.rows
    e.least = math.min(e.rows, e.columns)
    e.exact = o.method == "exact" or (o.method == "auto" and e.least <= EXACT_UP_TO)
      or o.k + o.oversample >= math.floor((e.least + 1) / 2)
  end
  local seed, step, stream = rng.rng_get()
  local ok, problem = pcall(function()
    probe(entries, true, o)
    probe(entries, false, o)
  end)
  rng.rng_set(seed, step, stream)
  if not ok then options.raise(tostring(problem)) end
end

-- exp of the entropy of sigma_i / sum, and the sum, of values relative to the largest.
local function effective_rank(relative)
  local sum, entropy = 0, 0
  for _, s in ipairs(relative) do sum = sum + s end
  for _, s in ipairs(relative) do
    if s > 0 then entropy = entropy - s / sum * math.log(s / sum) end
  end
  return math.exp(entropy), sum
end

-- Bounds of the sum of all values and of the effective rank, from the first ones and the norm, relative to the largest.
local function bounds(e, relative, norm)
  local sum, squares, last = 0, 0, relative[#relative]
  for _, s in ipairs(relative) do sum, squares = sum + s, squares + s * s end
  -- What is left of the norm is a difference: known to the rounding of the values found.
  local rest, rounding = norm ^ 2 - squares, (e.tensor.dtype == "f32" and 1e-5 or 1e-9) * norm ^ 2
  local least, most = math.max(0, rest - rounding), math.max(0, rest + rounding)
  local count = math.min(e.rows - #relative, e.columns) -- values of G less its part on the directions found
  local low = sum + (last > 0 and math.min(least / last, math.sqrt(count * least)) or 0)
  return low, sum + math.sqrt(count * most), (low / norm) ^ 2
end

local function row_of(e, k)
  local top, relative, sigma, levels = e.found[1], {}, {}, {}
  local row = {
    name = e.name, shape = e.shape, rows = e.rows, columns = e.columns, norm = e.norm, sigma = sigma, exact = e.exact,
    stable_rank = 0, effective_rank = 0, nuclear = 0, nuclear_most = 0,
  }
  for j, s in ipairs(e.found) do
    relative[j] = top > 0 and s / top or 0
    if j <= k then sigma[j], levels[j] = s, math.log(relative[j]) / math.log(2) end
  end
  row.sparkline = format.sparkline(levels, -8, 0)
  if top == 0 then return row end
  local norm = e.norm / top
  row.stable_rank = norm ^ 2
  if e.exact then
    local rank, sum = effective_rank(relative)
    row.effective_rank, row.nuclear, row.nuclear_most = rank, sum * top, sum * top
  else
    local low, high, rank = bounds(e, relative, norm)
    row.effective_rank, row.nuclear, row.nuclear_most = rank, low * top, high * top
  end
  return row
end

-- ----- text -------------------------------------------------------------------------------------------------

local function number(x) return ("%.4g"):format(x) end

local function to_text(self)
  local any_bound, last = false, "sigma_" .. self.k
  local lines = { { "matrix", "shape", "norm", "sigma_1", last, "stable rank", "eff. rank", "nuclear", "spectrum" } }
  for _, row in ipairs(self) do
    local bound, kth = row.exact and "" or "≥ ", row.sigma[self.k]
    local most = row.exact and "" or "≤ "
    any_bound = any_bound or not row.exact
    lines[#lines + 1] = {
      format.printable(row.name), format.shape(row.shape), number(row.norm), bound .. number(row.sigma[1]),
      kth and bound .. number(kth) or "-", most .. number(row.stable_rank), bound .. number(row.effective_rank),
      bound .. number(row.nuclear), row.sparkline,
    }
  end
  local right = { [3] = true, [4] = true, [5] = true, [6] = true, [7] = true, [8] = true }
  local text = ("spectra of %s\n%s"):format(self.title, format.columns(lines, right))
  if not any_bound then return text end
  return text .. ("\n≥, ≤: at least and at most, judging by the %d values computed and the norm"):format(self.k)
end

local Spectrum = { __tostring = to_text }

---@class moonbow.SpectrumRow the spectrum of one matrix
---@field name string
---@field shape integer[]
---@field rows integer
---@field columns integer
---@field norm number
---@field sigma number[]
---@field exact boolean
---@field stable_rank number
---@field effective_rank number
---@field nuclear number
---@field nuclear_most number
---@field sparkline string

local spec = {
  of = { choices = { "grad", "value" } },
  where = { type = "function" },
  k = { type = "integer", default = 8, min = 1 },
  method = { choices = { "auto", "exact", "randomized" }, default = "auto" },
  oversample = { type = "integer", default = 5, min = 0 },
  power_iters = { type = "integer", default = 2, min = 0 },
}

---@class moonbow.SpectrumOptions
---@field of? "grad"|"value" of a model: its gradients, or its weights; default "grad"
---@field where? fun(p: moonbow.Parameter): boolean which matrices
---@field k? integer largest values that are kept and shown; default 8
---@field method? "auto"|"exact"|"randomized" default "auto"
---@field oversample? integer of "randomized"; default 5
---@field power_iters? integer of "randomized"; default 2

---@param x moonbow.Model|moonbow.Tensor|table<string, moonbow.Tensor>
---@param given? moonbow.SpectrumOptions
---@return moonbow.SpectrumRow[] rows with title and k; prints as a table
return function(x, given)
  local o = options.check(WHO, given, spec)
  local entries, title = entries_of(x, o)
  add_norms(entries)
  add_values(entries, o)
  local rows = { title = title, k = o.k }
  for i, e in ipairs(entries) do rows[i] = row_of(e, o.k) end
  return setmetatable(rows, Spectrum)
end
