-- SPDX-License-Identifier: MIT
--
-- mucon.lua: Muon with its momentum clipped instead of made orthogonal, for hidden matrices and filters.
--
--   form = "lerp"      m <- momentum m + (1 - momentum) g,   d = m      nesterov: d = (1 - momentum) g + momentum m
--   form = "jordan"    m <- momentum m + g,                  d = m      nesterov: d = g + momentum m
--   w <- w (1 - lr weight_decay) - lr s clip_tau(d)          d = U diag(sigma) V^T -> U diag(min(sigma, tau)) V^T
--
-- scale = "none" is s = 1; the others are Muon's (muon.lua), which suit tau near 1: the largest singular values of the update
-- are then Muon's, and small ones stay small. method is "exact", "polar" or "soft" (moonbow/clip/method.lua). Source: arXiv
-- 2605.26459, the hard clip of Muon's momentum; for other rules and thresholds: mb.clip.spectral { on = "momentum" }.

local define = require "moonbow.optim.define"
local muon = require "moonbow.optim.muon"
local spectral = require "bindings.spectral"

local scales = { none = function() return 1 end }
for name, scale in pairs(muon.scales) do scales[name] = scale end

-- The matrices of d (L, m, n), clipped.
local function clipped(d, tau, method)
  local result, matrices, thresholds = d:clone(), {}, {}
  for i = 1, d.shape[1] do
    matrices[i], thresholds[i] = result:slice(1, i, i):reshape(d.shape[2], d.shape[3]), tau
  end
  local plan = spectral.plan(matrices, { method = method })
  plan:probe()
  plan:clamp(thresholds)
  plan:release()
  return result
end

return define {
  name = "mucon",
  defaults = { lr = 0.01, momentum = 0.9, weight_decay = 0, tau = 1, nesterov = false, form = "lerp", scale = "none",
               method = "polar" },
  limits = {
    lr = { min = 0 }, momentum = { min = 0, below = 1 }, weight_decay = { min = 0 }, tau = { above = 0 },
    form = muon.limits.form, scale = { choices = { "none", unpack(muon.limits.scale.choices) } },
    method = { choices = { "exact", "polar", "soft" } },
  },
  state = { "m" },
  momentum = "m",
  decoupled_decay = "weight_decay",
  update_group = function(P, h, o)
    local d = muon.average(P, h, o)
    P.update = clipped(d, h.tau, o.method):mul_(scales[o.scale](P.shape[2], P.shape[3]))
  end,
}
