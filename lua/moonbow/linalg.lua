-- SPDX-License-Identifier: MIT
--
-- mb.linalg: decompositions of a matrix (m, n), or of each matrix of a batch (L, m, n); k = min(m, n).
--
--   local s = mb.linalg.svdvals(t)                       -- (k), descending
--   local u, s, v = mb.linalg.svd(t)                     -- t = u diag(s) v^T; u (m, k), v (n, k)
--   local u, s, v = mb.linalg.svd_lowrank(t, { rank = 8, oversample = 5, power_iters = 1 })
--   local q, r = mb.linalg.qr(t)                         -- r's diagonal is not negative
--   local values, vectors = mb.linalg.eigh(t)            -- symmetric t, values ascending, vectors in columns
--   local l = mb.linalg.cholesky(t)                      -- t = l l^T
--   local o = mb.linalg.msign(t, { method = "ns5", steps = 5 })     -- u v^T; or "polar_express", "exact"
--   local o = mb.linalg.msign(t, { precision = "f16" })             -- on the GPU, many times as fast
--   local r = mb.linalg.inverse_sqrt(t, { steps = 12 })  -- t^(-1/2), symmetric positive definite t
--   mb.linalg.sigma_max(t)                               -- a number: the largest singular value, without the others
--   mb.linalg.norm(t, "nuclear")                         -- a number; "spectral" by default
--   mb.linalg.matrix_rank(t)   mb.linalg.cond(t)
--
-- float32 or float64, any strides. Results have no history: nothing here is differentiable. eigh and cholesky
-- read the lower triangle alone. What is not finite is refused.

local binding = require "bindings.linalg"
local ops = require "bindings.ops"
local options = require "moonbow.options"

local M = {
  svdvals = binding.svdvals, svd = binding.svd, qr = binding.qr, eigh = binding.eigh, eigvalsh = binding.eigvalsh,
  cholesky = binding.cholesky,
}

local lowrank = {
  rank = { type = "integer", default = 8, min = 1 },
  oversample = { type = "integer", default = 5, min = 0 },
  power_iters = { type = "integer", default = 1, min = 0 },
}

--- The min(rank, k) largest singular values and their vectors by randomized subspace iteration (Halko, Martinsson,
--- Tropp 2011); a small matrix is decomposed whole. Takes one random stream.
---@param t moonbow.Tensor
---@param given? { rank?: integer, oversample?: integer, power_iters?: integer }
---@return moonbow.Tensor u, moonbow.Tensor s, moonbow.Tensor v
function M.svd_lowrank(t, given)
  local o = options.check("mb.linalg.svd_lowrank", given, lowrank)
  return binding.svd_lowrank(t, o.rank, o.oversample, o.power_iters)
end

local msign = {
  method = { choices = { "ns5", "polar_express", "exact" }, default = "ns5" },
  steps = { type = "integer", default = 5, min = 1 },
  precision = { choices = { "f32", "tf32", "bf16", "f16" }, default = "f32" },
}

--- The polar factor u v^T of t = u diag(s) v^T: by Muon's Newton-Schulz iteration, by Polar Express (arXiv 2505.16932),
--- or by decomposition, to which `steps` and `precision` mean nothing. precision is what factors of the iterations'
--- products are rounded to, whose sums are float32: "f32" not at all, "tf32" on devices that have such products, "bf16"
--- and "f16" on cuda alone, where what the matrix is rounded to is that as well; the result has t's dtype. "f16" is nearer
--- to "f32" than "bf16" is, and faster where matrices are twice as long as wide, or more.
---@param t moonbow.Tensor
---@param given? { method?: "ns5"|"polar_express"|"exact", steps?: integer, precision?: "f32"|"tf32"|"bf16"|"f16" }
---@return moonbow.Tensor
function M.msign(t, given)
  return binding.msign(t, options.check("mb.linalg.msign", given, msign))
end

local inverse_sqrt = { steps = { type = "integer", default = 12, min = 1 } }

--- t^(-1/2) of symmetric positive definite t by coupled Newton-Schulz iterations, products alone. Eigenvalues count
--- down to 4e-6 of the Frobenius norm with 8 steps, and a sixteenth of that with each one more.
---@param t moonbow.Tensor
---@param given? { steps?: integer }
---@return moonbow.Tensor
function M.inverse_sqrt(t, given)
  return binding.inverse_sqrt(t, options.check("mb.linalg.inverse_sqrt", given, inverse_sqrt).steps)
end

-- ----- numbers, or a tensor (L) for a batch -----------------------------------------------------------------

local function item_or_batch(t)
  return t.ndim == 0 and t:item() or t
end

--- The largest singular value by Lanczos' method, to 1e-6 of it and from below: a few dozen products with a vector,
--- where norm(t) decomposes the matrix.
---@param t moonbow.Tensor
---@return number|moonbow.Tensor one a matrix
function M.sigma_max(t)
  return item_or_batch(binding.sigma_max(t))
end

-- Singular values in float64, over the last dimension.
local function values_of(who, t)
  options.value(who, "its argument", t, { type = "tensor" })
  return M.svdvals(t:to "f64")
end

--- The largest singular value ("spectral"), or the sum of all ("nuclear"); from a whole decomposition. mb.norm is
--- the Euclidean norm.
---@param t moonbow.Tensor
---@param kind? "spectral"|"nuclear"
---@return number|moonbow.Tensor one a matrix
function M.norm(t, kind)
  local who = "mb.linalg.norm"
  if kind ~= nil then options.value(who, "the kind of norm", kind, { choices = { "spectral", "nuclear" } }) end
  local s = values_of(who, t)
  return item_or_batch(kind == "nuclear" and s:sum(-1) or s:max(-1))
end

--- How many singular values exceed max(m, n) epsilon s_1, the rounding of the matrix; epsilon is that of t's dtype.
---@param t moonbow.Tensor
---@return number|moonbow.Tensor one a matrix
function M.matrix_rank(t)
  local s = values_of("mb.linalg.matrix_rank", t)
  local shape, epsilon = t.shape, t.dtype == "f32" and 2 ^ -23 or 2 ^ -52
  local limit = s:max(-1, true) * (epsilon * math.max(shape[#shape], shape[#shape - 1]))
  return item_or_batch((limit:lt(s)):sum(-1))
end

--- s_1 / s_k; infinite where s_k is 0.
---@param t moonbow.Tensor
---@return number|moonbow.Tensor one a matrix
function M.cond(t)
  local s = values_of("mb.linalg.cond", t)
  local least = s:min(-1)
  return item_or_batch(ops.where(least, s:max(-1) / least, math.huge))
end

return setmetatable(M, { __index = function(t, key)
  options.fail("mb.linalg has no '%s'%s", tostring(key), options.suggest(key, options.keys(t)))
end })
