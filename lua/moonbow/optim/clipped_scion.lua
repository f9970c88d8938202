-- SPDX-License-Identifier: MIT
--
-- clipped_scion.lua: steps of bounded norm by layers, shortened where the gradient is small: Scion with generalized gradient
-- norm clipping, in the authors' form.
--
--   d <- (1 - momentum) d + momentum g                       momentum is one minus the usual
--   v = r lmo(d)               constrained: v = w + r lmo(d)   r the layer's radius, lmo of its norm (norms.lua)
--   eta = min(1, sum <d, v> / rho)                           the sum over all layers: one number for all
--   w <- w - lr eta v
--
-- Constrained, weights stay in the ball of radius r of their norm, with lr at most 1. Source: Pethick et al. 2025,
-- arXiv 2506.01913, and the code of its authors.

local define = require "moonbow.optim.define"
local norms = require "moonbow.optim.norms"
local ops = require "bindings.ops"

return define {
  name = "clipped_scion",
  takes = { "matrix", "conv", "embedding", "head", "vector" },
  defaults = { lr = 0.01, momentum = 0.1, rho = 40, constrained = false, msign = "ns5", steps = 5 },
  limits = { lr = { min = 0 }, momentum = { above = 0, max = 1 }, rho = { above = 0 }, msign = norms.limits.msign,
             steps = norms.limits.steps },
  options = norms.options,
  layer = norms.layer,
  check_parameters = norms.check,
  state = { "d" },
  momentum = "d",
  temporaries = { "v" },
  measure = function(P, h, o)
    P.d = P.d:lerp_(P.g, h.momentum)
    local v = norms.lmo(P.d, P):mul_(P.radius)
    P.v = o.constrained and v:add_(P.w) or v
    return ops.sum(P.d * v)
  end,
  update_group = function(P, h)
    P.update = P.v:mul_(ops.minimum(h.total / h.rho, 1))
  end,
}
