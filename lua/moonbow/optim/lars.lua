-- SPDX-License-Identifier: MIT
--
-- lars.lua: SGD whose rate follows the length of each parameter.
--
--   trust = trust_coefficient |w| / (|g| + weight_decay |w| + eps), or 1 where |w| or |g| is zero
--   m <- momentum m + lr trust (g + weight_decay w)
--   w <- w - m
--
-- Source: You, Gitman and Ginsburg 2017, arXiv 1708.03888, algorithm 1 (weight_decay is its beta). Its authors leave biases and
-- norms' weights to plain SGD: mb.optim.groups sends them there.

local define = require "moonbow.optim.define"
local mb = require "moonbow"

return define {
  name = "lars",
  defaults = { lr = 0.1, momentum = 0.9, trust_coefficient = 1e-3, eps = 1e-8, weight_decay = 0 },
  limits = {
    lr = { min = 0 }, momentum = { min = 0 }, trust_coefficient = { above = 0 }, eps = { min = 0 }, weight_decay = { min = 0 },
  },
  state = { "m" },
  momentum = "m",
  update = function(p, h)
    local w, g = mb.norm(p.w), mb.norm(p.g)
    local ratio = h.trust_coefficient * w / (g + h.weight_decay * w + h.eps)
    local trust = mb.where(mb.less(0, w * g), ratio, 1)
    p.m = h.momentum * p.m + h.lr * trust * (p.g + h.weight_decay * p.w)
    p.w = p.w - p.m
  end,
}
