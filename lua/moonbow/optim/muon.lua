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
-- precision, of msign's products (moonbow/linalg.lua), is "f16" for float32 on the GPU and "f32" elsewhere unless it is given:
-- there the iteration is most of the step. m, the norm and the weights are float32 in any case. In "f16" the matrices of
-- all shapes are iterated together.
-- Source: Jordan et al. 2024, kellerjordan.github.io/posts/muon.

local binding = require "bindings.linalg"
local create = require "moonbow.create"
local define = require "moonbow.optim.define"
local fuse = require "moonbow.fuse"
local norms = require "moonbow.optim.norms"
local options = require "moonbow.options"

local scales = {
  match_rms_adamw = function(rows, columns) return 0.2 * math.sqrt(math.max(rows, columns)) end,
  original = function(rows, columns) return math.sqrt(math.max(1, rows / columns)) end,
  spectral = function(rows, columns) return math.sqrt(rows / columns) end,
}

local limits = {
  lr = { min = 0 }, momentum = { min = 0, below = 1 }, weight_decay = { min = 0 }, form = { choices = { "lerp", "jordan" } },
  scale = { choices = { "match_rms_adamw", "original", "spectral" } }, msign = norms.limits.msign, steps = norms.limits.steps,
  precision = { choices = { "auto", "f32", "tf32", "bf16", "f16" } },
}

-- m moved on, and d where it is not m, in one pass.
local passes = {
  lerp = fuse(function(p, h) p.m = p.m + (1 - h.momentum) * (p.g - p.m) end),
  jordan = fuse(function(p, h) p.m = h.momentum * p.m + p.g end),
  lerp_nesterov = fuse(function(p, h)
    p.m = p.m + (1 - h.momentum) * (p.g - p.m)
    p.d = (1 - h.momentum) * p.g + h.momentum * p.m
  end),
  jordan_nesterov = fuse(function(p, h)
    p.m = h.momentum * p.m + p.g
    p.d = p.g + h.momentum * p.m
  end),
}

-- d, and the momentum moved on.
local function average(P, h, o)
  local m, arrays = P.m, { g = P.g }
  arrays.m = m
  if o.nesterov then arrays.d = create.empty_like(m) end
  passes[o.nesterov and o.form .. "_nesterov" or o.form](arrays, { momentum = h.momentum })
  P.m = m
  return arrays.d or P.m
end

-- What products are computed in, for a tensor of directions.
local function precision_of(o, d)
  if o.precision ~= "auto" then return o.precision end
  return o.msign ~= "exact" and d.dtype == "f32" and d.device == "cuda" and "f16" or "f32"
end

-- Elements that are iterated together, for which ten bytes are needed each: larger models' matrices fill a GPU shape by shape.
local MOST_TOGETHER = 2 ^ 27

local function scale_of(P, o) return scales[o.scale](P.shape[2], P.shape[3]) end

-- msign's options for a direction; on the GPU the step has been checked before.
local function options_of(d, h, o)
  return { method = o.msign, steps = h.steps, precision = precision_of(o, d), unchecked = d.device == "cuda" }
end

local muon = define {
  name = "muon",
  defaults = { lr = 0.01, momentum = 0.9, weight_decay = 0, nesterov = false, form = "lerp", scale = "match_rms_adamw",
               msign = "ns5", steps = 5, precision = "auto" },
  limits = limits,
  state = { "m" },
  momentum = "m",
  temporaries = { "d" },
  decoupled_decay = "weight_decay",
  check_parameters = function(who, parameters, o)
    if o.msign ~= "exact" and (o.precision == "f16" or o.precision == "bf16") and parameters[1].value.device == "cpu" then
      options.fail("%s: precision = %q is for a GPU; the model is on the cpu, for which there are \"f32\" and \"auto\"", who,
        o.precision)
    end
  end,
  in_graphs = function(o) return o.msign ~= "exact" end,
  measure = function(P, h, o) P.d = average(P, h, o) end,
  together = function(list, h, o)
    local directions, factors, elements = {}, {}, 0
    for i, P in ipairs(list) do
      directions[i], factors[i], elements = P.d, scale_of(P, o), elements + P.d.numel
    end
    if precision_of(o, directions[1]) ~= "f16" or elements > MOST_TOGETHER then return false end
    local made = binding.msign_many(directions, factors, options_of(directions[1], h, o))
    for i, P in ipairs(list) do P.update = made[i] end
    return true
  end,
  update_group = function(P, h, o)
    local given = options_of(P.d, h, o)
    given.scale = scale_of(P, o)
    P.update = binding.msign(P.d, given)
  end,
}

-- For mucon.lua.
muon.scales, muon.limits, muon.average = scales, limits, average
return muon
