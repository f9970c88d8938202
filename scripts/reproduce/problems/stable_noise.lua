-- SPDX-License-Identifier: MIT
--
-- stable_noise.lua: spectrally clipped SGD on a smooth function that is not convex, with stable noise: whose rate the
-- theorem of arXiv 2605.11838 is about. In float64, many repeats at once.
--
--   f(X) = sum phi(x_ij - t_ij),  phi(r) = r^2 / (1 + r^2),  t normal:  L = 2,  phi'(r) = 2 r / (1 + r^2)^2
--   X <- X - gamma clip_tau(grad f(X) + s u v^T),  u, v random unit vectors, s symmetric stable of scale 1
--
-- The theorem's step size and threshold for K steps are multiples of K^(-alpha / (3 alpha - 2)) and K^(1 / (3 alpha - 2)),
-- for a bound of the mean of min(|grad f|, |grad f|^2) by a multiple of K^((2 - 2 alpha) / (3 alpha - 2)). What multiples, is
-- chosen here by what K0 = 30 steps would have: gamma = 1 / L, and tau twice the largest singular value of any first gradient.
-- The theorem asks for a bounded moment of order alpha. Stable noise has bounded moments of all orders below its index.

local mb = require "moonbow"
local spectral = require "bindings.spectral"

local M = { K0 = 30, L = 2 }

local F64 = { dtype = "f64" }

---A symmetric alpha-stable number of scale 1, E exp(i t s) = exp(-|t|^alpha), by the method of Chambers, Mallows and Stuck 1976.
---@param alpha number in (0, 2], not 1; 2: normal, of variance 2
---@return number
function M.stable(alpha)
  local v = math.pi * (math.random() - 0.5)
  local w = -math.log(1 - math.random())
  return math.sin(alpha * v) / math.cos(v) ^ (1 / alpha) * (math.cos((1 - alpha) * v) / w) ^ ((1 - alpha) / alpha)
end

---The exponent of the theorem.
function M.rate(alpha) return (2 - 2 * alpha) / (3 * alpha - 2) end

---Gradients of f at X (R, n, n), and their norms (R).
local function gradient_of(X, target)
  local r = X - target
  local g = r * 2 / (r:square() + 1):square()
  return g, g:square():sum { 2, 3 }:sqrt()
end

local function unit_vectors(shape, dim)
  local v = mb.randn(shape, F64)
  return v / v:square():sum(dim, true):sqrt()
end

-- Sizes of the noise of some steps, (steps, R, 1, 1).
local function sizes(steps, R, alpha)
  local list = {}
  for i = 1, steps * R do list[i] = M.stable(alpha) end
  return mb.tensor(list, F64):reshape(steps, R, 1, 1)
end

---Mean over K steps of min(|grad f|_F, |grad f|_F^2), of each of R repeats, with and without clipping. One that is not finite any
---more counts as infinite.
---@param o { alpha: number, index: number, K: integer, repeats: integer, n: integer, clipped: boolean } index: of the noise
---@param progress fun(share: number)
---@return number[] means one a repeat
---@return { gamma: number, tau: number } schedule
function M.run(o, progress)
  local R, n, K, alpha = o.repeats, o.n, o.K, o.alpha
  local target = mb.randn({ R, n, n }, F64)
  local X = mb.zeros({ R, n, n }, F64)
  local first = gradient_of(X, target)
  local gamma = 1 / M.L * (K / M.K0) ^ (-alpha / (3 * alpha - 2))
  local tau = 2 * mb.linalg.sigma_max(first):max():item() * (K / M.K0) ^ (1 / (3 * alpha - 2))
  local G, matrices, taus = mb.zeros({ R, n, n }, F64), {}, {}
  for i = 1, R do matrices[i], taus[i] = G:slice(1, i, i):reshape(n, n), tau end
  local plan = o.clipped and spectral.plan(matrices, { method = "exact" })
  local sum, drawn, left = mb.zeros({ R }, F64), nil, 0
  for step = 1, K do
    if left == 0 then
      left = math.min(100, K - step + 1)
      drawn = sizes(left, R, o.index)
    end
    mb.scope(function()
      local g, norm = gradient_of(X, target)
      sum:add_(mb.minimum(norm, norm:square()))
      local s = drawn:slice(1, left, left):reshape(R, 1, 1)
      G:copy_(g + mb.matmul(unit_vectors({ R, n, 1 }, 2) * s, unit_vectors({ R, 1, n }, 3)))
      if plan then
        plan:probe()
        plan:clamp(taus)
      end
      X:add_(G, -gamma)
    end)
    left = left - 1
    progress(step / K)
  end
  local means = sum:totable()
  for i, value in ipairs(means) do means[i] = value == value and value / K or math.huge end
  return means, { gamma = gamma, tau = tau }
end

return M
