-- SPDX-License-Identifier: MIT
--
-- soap.lua: Adam in the eigenbasis of Shampoo's matrices, for hidden matrices and filters.
--
--   g' = QL^T g QR,   m <- b1 m + (1 - b1) g,   m' = QL^T m QR,   v <- b2 v + (1 - b2) g'^2
--   w <- w (1 - lr weight_decay) - lr sqrt(1 - b2^t) / (1 - b1^t) QL (m' / (sqrt(v) + eps)) QR^T
--   L <- bs L + (1 - bs) g g^T,   R <- bs R + (1 - bs) g^T g
--   QL, QR <- qr(L QL), qr(R QR) every `every` steps
--
-- The first step only sets L, R and their eigenvectors, and t counts from the second: a gradient never meets its own basis, as
-- in the authors' code. The momentum is kept in the weights' basis and v is not reordered, as in the paper's algorithm 3. A side
-- longer than max_side keeps its basis. betas = { b1, b2 }, bs = shampoo_beta. Source: Vyas et al. 2024, arXiv 2409.11321.

local define = require "moonbow.optim.define"
local linalg = require "moonbow.linalg"
local ops = require "bindings.ops"

local function transposed(t) return t:transpose(2, 3) end

-- L and QL, R and QR of a batch, after the step.
local function gather(P, h, name, basis, product)
  P[name] = P[name]:lerp_(product, 1 - h.shampoo_beta)
  if h.step == 1 then
    local _, vectors = linalg.eigh(P[name])
    P[basis] = vectors
  elseif h.step % h.every == 0 then
    P[basis] = linalg.qr(ops.matmul(P[name], P[basis]))
  end
end

return define {
  name = "soap",
  defaults = { lr = 3e-3, betas = { 0.95, 0.95 }, shampoo_beta = 0.95, eps = 1e-8, weight_decay = 0.01, every = 10,
               max_side = 8192 },
  limits = { lr = { min = 0 }, betas = { min = 0, below = 1 }, shampoo_beta = { min = 0, below = 1 }, eps = { above = 0 },
             weight_decay = { min = 0 }, every = { type = "integer", min = 1 }, max_side = { type = "integer", min = 1 } },
  state = { "m", "v" },
  momentum = "m",
  decoupled_decay = "weight_decay",
  square = function(shape, o)
    local left, right = shape[2] <= o.max_side, shape[3] <= o.max_side
    return { l = left and "rows" or nil, ql = left and "rows" or nil, r = right and "columns" or nil,
             qr = right and "columns" or nil }
  end,
  update_group = function(P, h)
    local has_left, has_right, t = P.shape[2] <= h.max_side, P.shape[3] <= h.max_side, h.step - 1
    local function rotated(x)
      if has_left then x = ops.matmul(P.ql, x, { transpose_a = true }) end
      return has_right and ops.matmul(x, P.qr) or x
    end
    local function rotated_back(x)
      if has_left then x = ops.matmul(P.ql, x) end
      return has_right and ops.matmul(x, P.qr, { transpose_b = true }) or x
    end
    if t > 0 then
      P.m = P.m:lerp_(P.g, 1 - h.betas[1])
      P.v = P.v:lerp_(ops.square(rotated(P.g)), 1 - h.betas[2])
      local scale = math.sqrt(1 - h.betas[2] ^ t) / (1 - h.betas[1] ^ t)
      P.update = rotated_back(rotated(P.m) / ops.sqrt(P.v):affine_(1, h.eps)):mul_(scale)
    else
      P.m = P.m -- a clipper of momenta finds it, zero
    end
    if has_left then gather(P, h, "l", "ql", ops.matmul(P.g, transposed(P.g))) end
    if has_right then gather(P, h, "r", "qr", ops.matmul(transposed(P.g), P.g)) end
  end,
}
