-- SPDX-License-Identifier: MIT
--
-- ggnc.lua: generalized gradient norm clipping, algorithm 1 of arXiv 2506.01913: as long as the gradient's dual norm is below
-- rho the step is steepest descent of the norm, above it a step of fixed length.
--
--   d <- (1 - momentum) d + momentum g           momentum is one minus the usual
--   eta = min(rho, |d|_*)
--   w <- w - lr eta r lmo(d)                     r the layer's radius
--
-- The norm of all weights together is the largest |w_layer| / r of any layer, whose dual is the sum |d|_* = sum r <d, lmo(d)>.
-- norms = "euclidean" is the Euclidean norm of all weights as one vector: clipped gradient descent. On an (L0, L1)-smooth
-- function lr = 1 / L0 and rho = L0 / L1 descend with every step of full gradients (momentum = 1, exact msign).

local define = require "moonbow.optim.define"
local norms = require "moonbow.optim.norms"
local ops = require "bindings.ops"

-- Beside it every gradient is zero, and so is the step.
local LEAST = 1e-30

return define(norms.definition {
  name = "ggnc",
  defaults = { rho = 1 },
  limits = { rho = { above = 0 } },
  check = function(o)
    if norms.is_joint(o) and type(o.radius) == "table" then
      return "norms = 'euclidean' is of all weights, a table of radii is for layers"
    end
  end,
  temporaries = { "v" },
  measure = function(P, h, o)
    local d = norms.average(P, h)
    if norms.is_joint(o) then return ops.sum(ops.square(d)) end
    P.v = norms.lmo(d, P):mul_(P.radius)
    return ops.sum(d * P.v)
  end,
  update_group = function(P, h, o)
    if norms.is_joint(o) then -- r d / |d| min(rho, r |d|)
      local length = ops.sqrt(h.total)
      P.update = P.d * (ops.minimum(length * P.radius, h.rho) / ops.maximum(length, LEAST) * P.radius)
    else
      P.update = P.v:mul_(ops.minimum(h.total, h.rho))
    end
  end,
})
