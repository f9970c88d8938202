-- SPDX-License-Identifier: MIT
--
-- clipped_sign.lua: sign descent whose step shrinks with the gradient: generalized gradient norm clipping of the largest entry.
--
--   d <- (1 - momentum) d + momentum g           momentum is one minus the usual
--   w <- w - lr min(rho, |d|_1) sign(d)          |d|_1 over all weights
--
-- Source: arXiv 2506.01913, algorithm 1 with the norm max |w_i|; ggnc with norms = "sign_plain".

local define = require "moonbow.optim.define"
local ops = require "bindings.ops"

return define {
  name = "clipped_sign",
  takes = { "matrix", "conv", "embedding", "head", "vector" },
  defaults = { lr = 1e-4, momentum = 0.1, rho = 1 },
  limits = { lr = { min = 0 }, momentum = { above = 0, max = 1 }, rho = { above = 0 } },
  state = { "d" },
  momentum = "d",
  measure = function(P, h)
    P.d = P.d:lerp_(P.g, h.momentum)
    return ops.sum(ops.abs(P.d))
  end,
  update_group = function(P, h)
    P.update = ops.sign(P.d):mul_(ops.minimum(h.total, h.rho))
  end,
}
