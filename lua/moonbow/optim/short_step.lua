-- SPDX-License-Identifier: MIT
--
-- short_step.lua: the short step of conditional gradients, clipped: algorithm 2 of arXiv 2506.01913. Weight decay is a part of
-- it: weights stay in the ball of radius beta, if they begin there, lr rho is at most 1 and msign is exact.
--
--   d <- (1 - momentum) d + momentum g           momentum is one minus the usual
--   v = w + beta r lmo(d)                        r the layer's radius, 1 by default
--   variant = 1    eta = min(rho, <d, v> / |v|^2)
--   variant = 2    eta = min(rho, <d, v> / (2 beta)^2), as |v| is at most 2 beta
--   w <- w - lr eta v
--
-- <d, v> is the sum over all layers, |v| the largest |v_layer| / r of any layer. norms = "euclidean" is the Euclidean norm of all
-- weights as one vector.

local define = require "moonbow.optim.define"
local norms = require "moonbow.optim.norms"
local ops = require "bindings.ops"

local LEAST = 1e-30

-- Three sums that make up <d, v> and |v|^2 where v = w + beta d / |d|.
local function joint_sums(d, w)
  return ops.stack { ops.sum(ops.square(d)), ops.sum(d * w), ops.sum(ops.square(w)) }
end

-- v of a batch, and <d, v> and |v|^2 of all weights.
local function joint(P, h)
  local dd, dw, ww = h.total:slice(1, 1, 1), h.total:slice(1, 2, 2), h.total:slice(1, 3, 3)
  local length = ops.maximum(ops.sqrt(dd), LEAST)
  local v = P.w + P.d * (h.beta / length)
  return v, dw + length * h.beta, ww + dw / length * (2 * h.beta) + h.beta ^ 2
end

return define(norms.definition {
  name = "short_step",
  defaults = { rho = 1, beta = 1, variant = 2 },
  limits = { rho = { above = 0 }, beta = { above = 0 }, variant = { check = function(x)
    if x ~= 1 and x ~= 2 then return "1 or 2" end
  end } },
  check = function(o)
    if norms.is_joint(o) and o.radius ~= 1 then return "norms = 'euclidean' is of all weights, option radius is for layers" end
  end,
  temporaries = { "v" },
  measure = function(P, h, o)
    local d = norms.average(P, h)
    if norms.is_joint(o) then return joint_sums(d, P.w) end
    P.v = norms.lmo(d, P):mul_(h.beta * P.radius):add_(P.w)
    return ops.sum(d * P.v), o.variant == 1 and ops.max(norms.norm(P.v, P)) / P.radius or nil
  end,
  update_group = function(P, h, o)
    local v, dot, square
    if norms.is_joint(o) then
      v, dot, square = joint(P, h)
    else
      v, dot, square = P.v, h.total, o.variant == 1 and ops.square(h.largest)
    end
    local eta = dot / (o.variant == 1 and ops.maximum(square, LEAST) or (2 * h.beta) ^ 2)
    P.update = v:mul_(ops.minimum(eta, h.rho))
  end,
})
