-- SPDX-License-Identifier: MIT
--
-- scion.lua: steps along the oracle of each layer's norm.
--
--   d <- (1 - momentum) d + momentum g           momentum is one minus the usual; 1: the gradient itself
--   w <- w - lr r lmo(d)                         r the layer's radius, lmo of its norm (norms.lua)
--   constrained: w <- (1 - lr) w - lr r lmo(d)   weights stay in the ball of radius r, with lr at most 1
--
-- opt:initialize() gives weights the norms' own initial values, times r. Source: Pethick et al. 2025, arXiv 2502.07529,
-- algorithms 1 (constrained) and 2, and its code.

local define = require "moonbow.optim.define"
local norms = require "moonbow.optim.norms"

return define(norms.definition {
  name = "scion",
  defaults = { constrained = false },
  update_group = function(P, h, o)
    local v = norms.lmo(norms.average(P, h), P):mul_(P.radius)
    P.update = o.constrained and v:add_(P.w) or v
  end,
})
