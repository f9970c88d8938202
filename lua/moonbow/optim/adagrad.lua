-- SPDX-License-Identifier: MIT
--
-- adagrad.lua: the gradient over the root of the sum of its squares, as torch.optim.Adagrad.
--
--   g <- g + weight_decay w                       coupled decay
--   sum <- sum + g^2                              from `initial` on
--   w <- w - lr / (1 + (t - 1) lr_decay) g / (sqrt(sum) + eps)
--
-- Source: Duchi, Hazan and Singer 2011, in PyTorch's form (initial: its initial_accumulator_value).

local define = require "moonbow.optim.define"
local mb = require "moonbow"

return define {
  name = "adagrad",
  defaults = { lr = 1e-2, lr_decay = 0, initial = 0, eps = 1e-10, weight_decay = 0 },
  limits = { lr = { min = 0 }, lr_decay = { min = 0 }, initial = { min = 0 }, eps = { min = 0 }, weight_decay = { min = 0 } },
  check = function(o)
    if type(o.initial) == "function" then return "option 'initial' is used once and cannot be a function of the step" end
  end,
  state = function(o) return { sum = o.initial } end,
  update = function(p, h)
    local g = p.g + h.weight_decay * p.w
    p.sum = p.sum + mb.square(g)
    p.w = p.w - h.lr / (1 + (h.step - 1) * h.lr_decay) * (g / (mb.sqrt(p.sum) + h.eps))
  end,
}
