-- SPDX-License-Identifier: MIT
--
-- clipped_spectral.lua: spectral descent whose step shrinks with the gradient: generalized gradient norm clipping of the
-- largest singular value, for hidden matrices and filters.
--
--   d <- (1 - momentum) d + momentum g           momentum is one minus the usual
--   w <- w - lr min(rho, |d|_S1) msign(d)        |d|_S1 the sum of all singular values: of one matrix, or of all together
--
-- scope = "global" is algorithm 1 of arXiv 2506.01913 with the norm max s_1; scope = "matrix" the same for each matrix alone.

local define = require "moonbow.optim.define"
local linalg = require "moonbow.linalg"
local norms = require "moonbow.optim.norms"
local ops = require "bindings.ops"

return define {
  name = "clipped_spectral",
  defaults = { lr = 0.01, momentum = 0.1, rho = 1, scope = "global", msign = "ns5", steps = 5 },
  limits = { lr = { min = 0 }, momentum = { above = 0, max = 1 }, rho = { above = 0 }, msign = norms.limits.msign,
             steps = norms.limits.steps, scope = { choices = { "global", "matrix" } } },
  state = { "d" },
  momentum = "d",
  temporaries = { "v" },
  measure = function(P, h, o)
    P.d = P.d:lerp_(P.g, h.momentum)
    P.v = linalg.msign(P.d, { method = o.msign, steps = h.steps })
    return ops.sum(P.d * P.v)
  end,
  update_group = function(P, h, o)
    local dual = o.scope == "global" and h.total or ops.sum(P.d * P.v, { 2, 3 }, true)
    P.update = P.v:mul_(ops.minimum(dual, h.rho))
  end,
}
