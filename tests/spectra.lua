-- SPDX-License-Identifier: MIT
--
-- spectra.lua: matrices of known singular values, and reference answers, for the tests of clipping. A factored
-- matrix is { m, n, values, u, v } with u (m, k) and v (n, k) of orthonormal columns in float64 and k = min(m, n):
-- u diag(values) v^T is known to float64's rounding, and so is anything that only changes its values.

local mb = require "moonbow"

local M = {}

local f64 = { dtype = "f64" }

--- An orthogonal (n, n): reflections in random directions, one after the other.
---@param n integer
---@return moonbow.Tensor
function M.orthogonal(n)
  local q = mb.eye(n, f64)
  for _ = 1, 3 do
    local v = mb.randn({ n, 1 }, f64)
    q = q - mb.matmul(mb.matmul(q, v), v:transpose()) * (2 / v:square():sum():item())
  end
  return q
end

--- A factored matrix in random directions.
---@param m integer
---@param n integer
---@param values number[] min(m, n) of them, in any order
function M.factored(m, n, values)
  local k = math.min(m, n)
  assert(#values == k, "one value for each direction")
  return { m = m, n = n, values = values, u = M.orthogonal(m):slice(2, 1, k), v = M.orthogonal(n):slice(2, 1, k) }
end

--- u diag(fn(values)) v^T in float64; fn default: as they are.
---@param fn? fun(value: number): number
---@return moonbow.Tensor
function M.compose(f, fn)
  local values = {}
  for i, value in ipairs(f.values) do values[i] = fn and fn(value) or value end
  return mb.matmul(f.u * mb.tensor(values, f64):reshape(1, #values), f.v:transpose())
end

---@param f table
---@return number
function M.top(f)
  return math.max(unpack(f.values))
end

--- Largest singular value, in float64, whatever the dtype and scale.
---@param t moonbow.Tensor
---@return number
function M.norm2(t)
  local wide = t:to "f64":reshape(t.shape[1], -1)
  local size = wide:abs():max():item()
  if size == 0 then return 0 end
  return mb.linalg.svdvals(wide * (1 / size)):max():item() * size
end

-- ----- spectra ------------------------------------------------------------------------------------------

--- name -> function(k, unit) -> k singular values; unit() draws from [0, 1).
M.kinds = {
  cauchy = function(k, unit)
    local values = {}
    for i = 1, k do values[i] = math.abs(math.tan(math.pi * (0.999 * unit() - 0.4995))) end
    return values
  end,
  geometric = function(k, unit)
    local values, ratio = {}, 0.3 + 0.65 * unit()
    for i = 1, k do values[i] = ratio ^ (i - 1) end
    return values
  end,
  power = function(k, unit)
    local values, exponent = {}, 0.3 + unit()
    for i = 1, k do values[i] = i ^ -exponent end
    return values
  end,
  deficient = function(k, unit)
    local values, rank = {}, math.max(1, math.floor(k * 0.5 * unit()))
    for i = 1, k do values[i] = i <= rank and 0.1 + unit() or 0 end
    return values
  end,
  repeated = function(k, unit)
    local values, levels = {}, { 1, 0.5, 0.5 * unit() }
    for i = 1, k do values[i] = levels[1 + math.floor(3 * unit())] end
    return values
  end,
  flat = function(k)
    local values = {}
    for i = 1, k do values[i] = 3 end
    return values
  end,
  zero = function(k)
    local values = {}
    for i = 1, k do values[i] = 0 end
    return values
  end,
}

--- Names of the kinds, in one order.
M.names = { "cauchy", "deficient", "flat", "geometric", "power", "repeated", "zero" }

-- ----- the textbook's sketch ----------------------------------------------------------------------------

--- The r largest singular values and directions of `a` by randomized subspace iteration, orthonormalised after
--- every product (Halko, Martinsson and Tropp 2011, algorithms 4.4 and 5.1; torch.svd_lowrank is the same).
---@param a moonbow.Tensor (m, n)
---@param omega moonbow.Tensor (n, q), random
---@param power_iters integer
---@return moonbow.Tensor u (m, q)
---@return moonbow.Tensor s (q)
---@return moonbow.Tensor v (n, q)
function M.textbook(a, omega, power_iters)
  local q = mb.linalg.qr(mb.matmul(a, omega))
  for _ = 1, power_iters do
    local z = mb.linalg.qr(mb.matmul(a:transpose(), q))
    q = mb.linalg.qr(mb.matmul(a, z))
  end
  local u, s, v = mb.linalg.svd(mb.matmul(q:transpose(), a))
  return mb.matmul(q, u), s, v
end

--- `a` with those of its r leading values that exceed tau lowered to it, by given singular directions.
---@param a moonbow.Tensor (m, n)
---@param r integer
---@param tau number
function M.lowered(a, u, s, v, r, tau)
  local change = s:totable()
  for i, sigma in ipairs(change) do change[i] = i <= r and sigma > tau and tau - sigma or 0 end
  return a + mb.matmul(u * mb.tensor(change, f64):reshape(1, #change), v:transpose())
end

return M
