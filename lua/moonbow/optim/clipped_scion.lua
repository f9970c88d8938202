-- SPDX-License-Identifier: MIT
--
-- clipped_scion.lua: steps of bounded norm by layers, shortened where the gradient is small: Scion with generalized gradient
-- norm clipping, in the authors' form.
--
--   d <- (1 - momentum) d + momentum g                       momentum is one minus the usual
--   v = r lmo(d)               constrained: v = w + r lmo(d)   r the layer's radius, lmo of its norm (norms.lua)
--   eta = min(1, sum <d, v> / rho)                           the sum over all layers of the group
--   w <- w - lr eta v
--
-- Constrained, weights stay in the ball of radius r of their norm, with lr at most 1 and an exact msign. Algorithm 1 as the
-- paper writes it is ggnc.lua, with lr and rho of another scale. Source: Pethick et al. 2025, arXiv 2506.01913, and its code.

local define = require "moonbow.optim.define"
local norms = require "moonbow.optim.norms"
local ops = require "bindings.ops"

return define(norms.definition {
  name = "clipped_scion",
  defaults = { rho = 40, constrained = false },
  limits = { rho = { above = 0 } },
  temporaries = { "v" },
  measure = function(P, h, o)
    local d = norms.average(P, h)
    local v = norms.lmo(d, P):mul_(P.radius)
    P.v = o.constrained and v:add_(P.w) or v
    return ops.sum(d * v)
  end,
  update_group = function(P, h)
    P.update = P.v:mul_(ops.minimum(h.total / h.rho, 1))
  end,
})
