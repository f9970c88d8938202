-- SPDX-License-Identifier: MIT
--
-- normalized_gd.lua: steps of one length along the gradient, or along its moving average.
--
--   m <- momentum m + (1 - momentum) g
--   w <- w - lr (m / (|m| + eps) + weight_decay w)      decoupled decay
--
-- |m| is the Euclidean norm over the optimizer's group, scope = "group": all parameters, unless mb.optim.groups divides them;
-- or of each parameter by itself, scope = "parameter". Without momentum m is g and no buffer is kept. Source: Cutkosky and
-- Mehta 2020, arXiv 2002.03305, algorithm 1.

local define = require "moonbow.optim.define"
local mb = require "moonbow"

return define {
  name = "normalized_gd",
  defaults = { lr = 0.01, momentum = 0, eps = 1e-8, weight_decay = 0, scope = "group" },
  limits = {
    lr = { min = 0 }, momentum = { min = 0, below = 1 }, eps = { above = 0 }, weight_decay = { min = 0 },
    scope = { choices = { "group", "parameter" } },
  },
  state = function(o) return o.momentum ~= 0 and { "m" } or {} end,
  momentum = "m",
  decoupled_decay = "weight_decay",
  update = function(p, h, o)
    local d = p.g
    if o.momentum ~= 0 then
      p.m = h.momentum * p.m + (1 - h.momentum) * p.g
      d = p.m
    end
    p.w = p.w * (1 - h.lr * h.weight_decay) - h.lr / (mb.norm(d, { over = o.scope }) + h.eps) * d
  end,
}
