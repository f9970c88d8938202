-- SPDX-License-Identifier: MIT
--
-- scion_light.lua: Scion without a buffer: the gradient's own memory holds the average.
--
--   w <- w - lr r lmo(g)                         constrained: w <- (1 - lr) w - lr r lmo(g)
--   g <- (1 - momentum) g                        to which the next backward adds
--
-- g is Scion's d divided by the momentum, and oracles do not see the size of g. opt:zero_grad() leaves these gradients alone;
-- model:zero_grad() would take the average away. Checkpoints hold them as states. What clips gradients clips the average
-- here. Source: Pethick et al. 2025, arXiv 2502.07529, and its code (ScionLight).

local define = require "moonbow.optim.define"
local norms = require "moonbow.optim.norms"

local definition = norms.definition {
  name = "scion_light",
  defaults = { constrained = false },
  keeps_gradient = true,
  update_group = function(P, h, o)
    local v = norms.lmo(P.g, P):mul_(P.radius)
    P.update = o.constrained and v:add_(P.w) or v
    P.g = P.g:mul_(1 - h.momentum)
  end,
}
definition.state, definition.momentum = {}, nil
return define(definition)
