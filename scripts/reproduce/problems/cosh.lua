-- SPDX-License-Identifier: MIT
--
-- cosh.lua: functions of a matrix that are (L0, L1)-smooth but not smooth, each in a norm of its own, with constants that are
-- proved. (L0, L1)-smooth (arXiv 2506.01913) means
--
--   |grad f(X) - grad f(Y)|_* <= (L0 + L1 |grad f(X)|_*) |X - Y|   where |X - Y| <= 1 / L1
--
--   norm        f                  its gradient              L0                      L1
--   euclidean   cosh(|X|_F)        sinh(|X|_F) X / |X|_F     .75 / ln 2              1 / ln 2
--   sign        sum cosh(x_ij)     sinh(x_ij)                .75 m n / ln 2          1 / ln 2
--   spectral    sum cosh(s_i)      U diag(sinh(s_i)) V^T     (m + n) / 2 / ln 2      1 / ln 2
--
-- In one dimension sinh(x + h) - sinh(x) <= sinh h + |sinh x| (e^h - 1), and for h <= ln 2 = 1 / L1 both sinh h <= .75 h / ln 2
-- and e^h - 1 <= h / ln 2. The first two follow from it, along lines and entry by entry. For the third let H be the symmetric
-- matrix of blocks 0, X, X^T, 0, of eigenvalues +-s_i and 0: by Dyson's series and Hoelder's inequality e^H changes by at most
-- tr(e^H) (e^|E| - 1) in the nuclear norm when E is added to H, so sinh H by at most tr(cosh H) (e^|E| - 1), and
-- cosh <= 1 + |sinh|.

local mb = require "moonbow"

local M = {}

local LN2 = math.log(2)

local function cosh(x) return (mb.exp(x) + mb.exp(-x)) * 0.5 end
local function sinh(x) return (mb.exp(x) - mb.exp(-x)) * 0.5 end

-- norms: what mb.optim.ggnc calls the norm; look(X) -> f, gradient, its dual norm; size(X): the norm.
M.functions = {
  euclidean = {
    norms = "euclidean", L0 = function() return 0.75 / LN2 end,
    look = function(X)
      local r = X:square():sum():sqrt()
      local g = sinh(r)
      return cosh(r):item(), X * (g / r), g:item()
    end,
    size = function(X) return X:square():sum():sqrt():item() end,
  },
  sign = {
    norms = "sign_plain", L0 = function(m, n) return 0.75 * m * n / LN2 end,
    look = function(X)
      local g = sinh(X)
      return cosh(X):sum():item(), g, mb.abs(g):sum():item()
    end,
    size = function(X) return mb.abs(X):max():item() end,
  },
  spectral = {
    norms = "spectral", L0 = function(m, n) return (m + n) / 2 / LN2 end,
    look = function(X)
      local u, s, v = mb.linalg.svd(X)
      local g = sinh(s)
      return cosh(s):sum():item(), mb.matmul(u * g, v:transpose(1, 2)), g:sum():item()
    end,
    size = function(X) return mb.linalg.sigma_max(X) end,
  },
}
M.L1 = 1 / LN2

---Steps of algorithm 1 with lr = 1 / L0 and rho = L0 / L1 from a random start of norm `size`; or with a rho that is never
---reached. Stops where f is beyond all bounds. Matrices are n x n: there the scale of "spectral" is 1.
---@param o { name: string, seed: integer, n: integer, size: number, steps: integer, clipped: boolean }
---@return { values: number[], promised: number[] } f before each step and after the last, and by how much each step lowers
---  f at least: with l = lr min(rho, |g|_*), l |g|_* - (L0 + L1 |g|_*) l^2 / 2
function M.run(o)
  local f = M.functions[o.name]
  local model = mb.models.define {
    name = "point", parameters = function(add) add("X", { o.n, o.n }, { role = "matrix", init = "normal", std = 1 }) end,
    forward = function() end,
  } { dtype = "f64", seed = o.seed }
  local p = model:parameters()[1]
  local X = p.value
  X:mul_(o.size / f.size(X))
  local L0 = f.L0(o.n, o.n)
  local gamma, rho = 1 / L0, o.clipped and L0 / M.L1 or 1e300
  local optimizer = mb.optim.ggnc(model, { lr = gamma, rho = rho, momentum = 1, norms = f.norms, msign = "exact" })
  local values, promised = {}, {}
  for step = 1, o.steps do
    local value, gradient, dual = f.look(X)
    local length = gamma * math.min(rho, dual)
    values[step] = value
    promised[step] = length * dual - (L0 + M.L1 * dual) / 2 * length ^ 2
    optimizer:zero_grad()
    p.grad:copy_(gradient)
    optimizer:step()
    local after = X:square():sum():item()
    if after ~= after or after > 1e5 then break end
  end
  local size = f.size(X)
  values[#values + 1] = size < 300 and f.look(X) or math.huge
  return { values = values, promised = promised }
end

return M
