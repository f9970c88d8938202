-- SPDX-License-Identifier: MIT
--
-- signsgd.lua: steps along the sign of the gradient.
--
--   w <- w - lr (sign(g) + weight_decay w)        decoupled decay
--
-- Source: Bernstein et al. 2018, arXiv 1802.04434, algorithm 1. With momentum it is signum.

local define = require "moonbow.optim.define"
local mb = require "moonbow"

return define {
  name = "signsgd",
  defaults = { lr = 1e-3, weight_decay = 0 },
  limits = { lr = { min = 0 }, weight_decay = { min = 0 } },
  decoupled_decay = "weight_decay",
  update = function(p, h)
    p.w = p.w * (1 - h.lr * h.weight_decay) - h.lr * mb.sign(p.g)
  end,
}
