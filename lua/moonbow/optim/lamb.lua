-- SPDX-License-Identifier: MIT
--
-- lamb.lua: Adam's direction at a length that follows each parameter's.
--
--   m <- b1 m + (1 - b1) g,   v <- b2 v + (1 - b2) g^2
--   u = m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay w
--   w <- w - lr |w| / |u| u, or w - lr u where |w| or |u| is zero
--
-- Source: You et al. 2020, arXiv 1904.00962, algorithm 2, with phi the identity.

local define = require "moonbow.optim.define"
local mb = require "moonbow"

return define {
  name = "lamb",
  defaults = { lr = 1e-3, betas = { 0.9, 0.999 }, eps = 1e-6, weight_decay = 0.01 },
  limits = { lr = { min = 0 }, betas = { min = 0, below = 1 }, eps = { min = 0 }, weight_decay = { min = 0 } },
  state = { "m", "v" },
  momentum = "m",
  update = function(p, h)
    local b1, b2 = h.betas[1], h.betas[2]
    p.m = b1 * p.m + (1 - b1) * p.g
    p.v = b2 * p.v + (1 - b2) * mb.square(p.g)
    local root = mb.sqrt(p.v) * (1 / mb.sqrt(1 - b2 ^ h.step))
    local u = p.m / (1 - b1 ^ h.step) / (root + h.eps) + h.weight_decay * p.w
    local w, length = mb.norm(p.w), mb.norm(u)
    p.w = p.w - h.lr * mb.where(mb.less(0, w * length), w / length, 1) * u
  end,
}
