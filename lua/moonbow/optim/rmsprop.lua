-- SPDX-License-Identifier: MIT
--
-- rmsprop.lua: the gradient over the root of its mean square, as torch.optim.RMSprop.
--
--   g <- g + weight_decay w                       coupled decay
--   v <- alpha v + (1 - alpha) g^2
--   centered: a <- alpha a + (1 - alpha) g, and v - a^2 stands for v below
--   d = g / (sqrt(v) + eps)
--   momentum: buf <- momentum buf + d, and buf stands for d below
--   w <- w - lr d
--
-- Source: Tieleman and Hinton 2012; centered: Graves 2013, arXiv 1308.0850, eq. 40, in PyTorch's form.

local define = require "moonbow.optim.define"
local mb = require "moonbow"

return define {
  name = "rmsprop",
  defaults = { lr = 1e-2, alpha = 0.99, eps = 1e-8, momentum = 0, centered = false, weight_decay = 0 },
  limits = {
    lr = { min = 0 }, alpha = { min = 0, max = 1 }, eps = { min = 0 }, momentum = { min = 0 }, weight_decay = { min = 0 },
  },
  state = function(o)
    local states = { "v" }
    if o.centered then states[#states + 1] = "a" end
    if o.momentum ~= 0 then states[#states + 1] = "buf" end
    return states
  end,
  momentum = "buf",
  update = function(p, h, o)
    local g = p.g + h.weight_decay * p.w
    p.v = h.alpha * p.v + (1 - h.alpha) * mb.square(g)
    local v = p.v
    if o.centered then
      p.a = h.alpha * p.a + (1 - h.alpha) * g
      v = mb.maximum(v - mb.square(p.a), 0) -- rounding may make it negative
    end
    local d = g / (mb.sqrt(v) + h.eps)
    if o.momentum ~= 0 then
      p.buf = h.momentum * p.buf + d
      d = p.buf
    end
    p.w = p.w - h.lr * d
  end,
}
