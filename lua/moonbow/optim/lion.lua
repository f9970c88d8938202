-- SPDX-License-Identifier: MIT
--
-- lion.lua: steps along the sign of a mean of momentum and gradient; the momentum itself forgets more slowly.
--
--   w <- w - lr (sign(b1 m + (1 - b1) g) + weight_decay w)      decoupled decay
--   m <- b2 m + (1 - b2) g
--
-- Source: Chen et al. 2023, arXiv 2302.06675, algorithm 2.

local define = require "moonbow.optim.define"
local mb = require "moonbow"

return define {
  name = "lion",
  defaults = { lr = 1e-4, betas = { 0.9, 0.99 }, weight_decay = 0 },
  limits = { lr = { min = 0 }, betas = { min = 0, below = 1 }, weight_decay = { min = 0 } },
  state = { "m" },
  decoupled_decay = "weight_decay",
  update = function(p, h)
    local direction = mb.sign(h.betas[1] * p.m + (1 - h.betas[1]) * p.g)
    p.w = p.w * (1 - h.lr * h.weight_decay) - h.lr * direction
    p.m = h.betas[2] * p.m + (1 - h.betas[2]) * p.g
  end,
}
