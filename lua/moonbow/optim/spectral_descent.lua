-- SPDX-License-Identifier: MIT
--
-- spectral_descent.lua: stochastic spectral descent, for hidden matrices and filters: the steepest descent of the largest
-- singular value.
--
--   d <- (1 - momentum) d + momentum g           momentum is one minus the usual; 1, the default: the gradient itself
--   w <- w (1 - lr weight_decay) - lr |d|_S1 U V^T    d = U diag(s) V^T, |d|_S1 the sum of its singular values
--
-- Source: Carlson, Cevher and Carin 2015, "Stochastic spectral descent for restricted Boltzmann machines".

local define = require "moonbow.optim.define"
local linalg = require "moonbow.linalg"
local norms = require "moonbow.optim.norms"
local ops = require "bindings.ops"

return define {
  name = "spectral_descent",
  defaults = { lr = 1e-3, momentum = 1, weight_decay = 0, msign = "ns5", steps = 5 },
  limits = { lr = { min = 0 }, momentum = { above = 0, max = 1 }, weight_decay = { min = 0 }, msign = norms.limits.msign,
             steps = norms.limits.steps },
  state = { "d" },
  momentum = "d",
  decoupled_decay = "weight_decay",
  update_group = function(P, h, o)
    P.d = P.d:lerp_(P.g, h.momentum)
    local v = linalg.msign(P.d, { method = o.msign, steps = h.steps })
    P.update = v:mul_(ops.sum(P.d * v, { 2, 3 }, true))
  end,
}
