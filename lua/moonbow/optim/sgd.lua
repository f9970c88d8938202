-- SPDX-License-Identifier: MIT
--
-- sgd.lua: stochastic gradient descent with momentum, as torch.optim.SGD (dampening 0).
--
--   g <- g + weight_decay w                       coupled decay
--   buf <- momentum buf + g                       the first update sets buf = g, as buf begins at zero
--   w <- w - lr buf                               nesterov: w - lr (g + momentum buf)
--
-- Without momentum no buffer is kept. Source: Sutskever et al. 2013, in PyTorch's form.

local define = require "moonbow.optim.define"

return define {
  name = "sgd",
  defaults = { lr = 1e-3, momentum = 0, nesterov = false, weight_decay = 0 },
  limits = { lr = { min = 0 }, momentum = { min = 0 }, weight_decay = { min = 0 } },
  check = function(o)
    if o.nesterov and o.momentum == 0 then return "nesterov needs a momentum above 0" end
  end,
  state = function(o) return o.momentum ~= 0 and { "buf" } or {} end,
  momentum = "buf",
  update = function(p, h, o)
    local d = p.g + h.weight_decay * p.w
    if o.momentum ~= 0 then
      p.buf = h.momentum * p.buf + d
      d = h.nesterov and d + h.momentum * p.buf or p.buf
    end
    p.w = p.w - h.lr * d
  end,
}
