-- SPDX-License-Identifier: MIT
--
-- adam.lua: Adam with coupled weight decay, as torch.optim.Adam.
--
--   g <- g + weight_decay w
--   m <- b1 m + (1 - b1) g,   v <- b2 v + (1 - b2) g^2
--   w <- w - lr / (1 - b1^t) m / (sqrt(v) / sqrt(1 - b2^t) + eps)
--
-- eps stands outside the bias correction of v. Source: Kingma and Ba 2015, in PyTorch's form.

local define = require "moonbow.optim.define"
local mb = require "moonbow"

return define {
  name = "adam",
  defaults = { lr = 1e-3, betas = { 0.9, 0.999 }, eps = 1e-8, weight_decay = 0 },
  limits = { lr = { min = 0 }, betas = { min = 0, below = 1 }, eps = { min = 0 }, weight_decay = { min = 0 } },
  state = { "m", "v" },
  momentum = "m",
  update = function(p, h)
    local b1, b2 = h.betas[1], h.betas[2]
    local g = p.g + h.weight_decay * p.w
    p.m = b1 * p.m + (1 - b1) * g
    p.v = b2 * p.v + (1 - b2) * mb.square(g)
    local root = mb.sqrt(p.v) * (1 / mb.sqrt(1 - b2 ^ h.step))
    p.w = p.w - h.lr / (1 - b1 ^ h.step) * (p.m / (root + h.eps))
  end,
}
