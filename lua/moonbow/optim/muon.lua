-- SPDX-License-Identifier: MIT
--
-- muon.lua: momentum made orthogonal, for hidden matrices and filters.
--
--   form = "lerp"      m <- momentum m + (1 - momentum) g,   d = m      nesterov: d = (1 - momentum) g + momentum m
--   form = "jordan"    m <- momentum m + g,                  d = m      nesterov: d = g + momentum m
--   w <- w (1 - lr weight_decay) - lr s msign(d)
--   scale = "match_rms_adamw"  s = 0.2 sqrt(max(out, in))               Liu et al. 2025, arXiv 2502.16982
--           "original"         s = sqrt(max(1, out / in))               Jordan
--           "spectral"         s = sqrt(out / in)                       Bernstein and Newhouse 2024, arXiv 2409.20325
--
-- msign is five Newton-Schulz steps ("ns5"), Polar Express (arXiv 2505.16932) or exact. With split = "qkv" GPT-2's c_attn is
-- three matrices. torch.optim.Muon is form = "lerp", nesterov = true, scale "original" or "match_rms_adamw", in bfloat16.
-- Source: Jordan et al. 2024, kellerjordan.github.io/posts/muon.

local define = require "moonbow.optim.define"
local linalg = require "moonbow.linalg"
local norms = require "moonbow.optim.norms"

local scales = {
  match_rms_adamw = function(rows, columns) return 0.2 * math.sqrt(math.max(rows, columns)) end,
  original = function(rows, columns) return math.sqrt(math.max(1, rows / columns)) end,
  spectral = function(rows, columns) return math.sqrt(rows / columns) end,
}

local limits = {
  lr = { min = 0 }, momentum = { min = 0, below = 1 }, weight_decay = { min = 0 }, form = { choices = { "lerp", "jordan" } },
  scale = { choices = { "match_rms_adamw", "original", "spectral" } }, msign = norms.limits.msign, steps = norms.limits.steps,
}

-- d, and the momentum moved on.
local function average(P, h, o)
  if o.form == "lerp" then
    P.m = P.m:lerp_(P.g, 1 - h.momentum)
    return o.nesterov and P.g:mul(1 - h.momentum):add_(P.m, h.momentum) or P.m
  end
  P.m = P.m:mul_(h.momentum):add_(P.g)
  return o.nesterov and P.g:add(P.m * h.momentum) or P.m
end

local muon = define {
  name = "muon",
  defaults = { lr = 0.01, momentum = 0.9, weight_decay = 0, nesterov = false, form = "lerp", scale = "match_rms_adamw",
               msign = "ns5", steps = 5 },
  limits = limits,
  state = { "m" },
  momentum = "m",
  decoupled_decay = "weight_decay",
  update_group = function(P, h, o)
    local d = average(P, h, o)
    P.update = linalg.msign(d, { method = o.msign, steps = h.steps }):mul_(scales[o.scale](P.shape[2], P.shape[3]))
  end,
}

-- For mucon.lua.
muon.scales, muon.limits, muon.average = scales, limits, average
return muon
