-- SPDX-License-Identifier: MIT
--
-- signum.lua: steps along the sign of a moving average of the gradients.
--
--   m <- momentum m + (1 - momentum) g
--   w <- w - lr (sign(m) + weight_decay w)        decoupled decay
--
-- Source: Bernstein et al. 2018, arXiv 1802.04434, algorithm 2.

local define = require "moonbow.optim.define"
local mb = require "moonbow"

return define {
  name = "signum",
  defaults = { lr = 1e-3, momentum = 0.9, weight_decay = 0 },
  limits = { lr = { min = 0 }, momentum = { min = 0, below = 1 }, weight_decay = { min = 0 } },
  state = { "m" },
  momentum = "m",
  decoupled_decay = "weight_decay",
  update = function(p, h)
    p.m = h.momentum * p.m + (1 - h.momentum) * p.g
    p.w = p.w * (1 - h.lr * h.weight_decay) - h.lr * mb.sign(p.m)
  end,
}
