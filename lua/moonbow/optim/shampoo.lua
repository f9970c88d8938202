-- SPDX-License-Identifier: MIT
--
-- shampoo.lua: gradients scaled from both sides by roots of what they have been, for hidden matrices and filters.
--
--   L <- b L + c g g^T,   R <- b R + c g^T g     b = c = 1 with beta2 = 1, the original; else b = beta2, c = 1 - beta2
--   m <- momentum m + L^(-1/4) g R^(-1/4)        roots of L + eps I, R + eps I, anew every `every` steps
--   w <- w (1 - lr weight_decay) - lr m
--
-- A side longer than max_side has no root: the other's is then ^(-1/2). No grafting. Source: Gupta, Koren and Singer 2018, arXiv
-- 1802.09568, algorithm 1 (there L and R begin as eps I).

local define = require "moonbow.optim.define"
local linalg = require "moonbow.linalg"
local ops = require "bindings.ops"

-- (a + eps I)^exponent for symmetric positive semidefinite a (L, n, n); what rounding made negative counts as 0.
local function power(a, eps, exponent)
  local values, vectors = linalg.eigh(a)
  local scaled = ops.pow(ops.maximum(values, 0):affine_(1, eps), exponent)
  return ops.matmul(vectors * scaled:reshape { scaled.shape[1], 1, -1 }, vectors, { transpose_b = true })
end

-- a <- b a + c x x^T
local function gather(a, x, y, beta)
  local product = ops.matmul(x, y)
  if beta == 1 then return a:add_(product) end
  return a:lerp_(product, 1 - beta)
end

return define {
  name = "shampoo",
  defaults = { lr = 0.1, momentum = 0.9, beta2 = 1, eps = 1e-4, weight_decay = 0, every = 1, max_side = 8192 },
  limits = { lr = { min = 0 }, momentum = { min = 0, below = 1 }, beta2 = { min = 0, max = 1 }, eps = { above = 0 },
             weight_decay = { min = 0 }, every = { type = "integer", min = 1 }, max_side = { type = "integer", min = 1 } },
  state = { "m" },
  momentum = "m",
  decoupled_decay = "weight_decay",
  square = function(shape, o)
    local left, right = shape[2] <= o.max_side, shape[3] <= o.max_side
    return { l = left and "rows" or nil, left = left and "rows" or nil, r = right and "columns" or nil,
             right = right and "columns" or nil }
  end,
  update_group = function(P, h)
    local has_left, has_right = P.shape[2] <= h.max_side, P.shape[3] <= h.max_side
    local exponent, g = has_left and has_right and -0.25 or -0.5, P.g
    local is_due = (h.step - 1) % h.every == 0
    if has_left then
      P.l = gather(P.l, P.g, P.g:transpose(2, 3), h.beta2)
      if is_due then P.left = power(P.l, h.eps, exponent) end
      g = ops.matmul(P.left, g)
    end
    if has_right then
      P.r = gather(P.r, P.g:transpose(2, 3), P.g, h.beta2)
      if is_due then P.right = power(P.r, h.eps, exponent) end
      g = ops.matmul(g, P.right)
    end
    P.m = P.m:mul_(h.momentum):add_(g)
    P.update = P.m
  end,
}
