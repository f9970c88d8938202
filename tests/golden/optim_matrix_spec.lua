-- SPDX-License-Identifier: MIT
--
-- optim_matrix_spec.lua: twenty steps of every optimizer on matrices beside the same in PyTorch, in float64 and float32. The
-- runs are those of make_optim_matrix.py, by name.

local helper = require "tests.helper"
local mb = require "moonbow"

local FILE = (os.getenv "MOONBOW_ROOT" or ".") .. "/tests/golden/optim_matrix.safetensors"

local roles = { embed = "embedding", filter = "conv", head = "head", ["h.0.bias"] = "vector", ["h.1.bias"] = "vector",
                scale = "vector" }

local Model = mb.models.define {
  name = "layers",
  parameters = function(add)
    for _, row in ipairs { { "embed", 11, 3 }, { "h.0.weight", 7, 5 }, { "h.0.bias", 3 }, { "h.1.weight", 7, 5 },
                           { "h.1.bias", 3 }, { "wide", 4, 9 }, { "square", 6, 6 }, { "filter", 3, 2, 2, 2 },
                           { "head", 6, 5 }, { "scale", 1 } } do
      add(row[1], { unpack(row, 2) }, { role = roles[row[1]] or "matrix", init = "zeros" })
    end
  end,
  forward = function(p) return mb.sum(p.scale) end,
}

local norms = { embedding = "col_norm_transposed", head = "row_norm", wide = "spectral_max", ["h.1.bias"] = "euclidean" }
local radii = { matrix = 1, conv = 1, vector = 1, embedding = 1, head = 3, ["h.1.weight"] = 0.5 }
local others = { matrix = "col_norm", conv = "sign_plain", vector = "sign", embedding = "sign", head = "euclidean" }

-- Each run: the optimizer, its options.
local function hidden(name, o)
  o.rest = { name = "sgd", lr = 0.05 }
  return { name, o }
end

local function muon(o)
  o.lr, o.momentum, o.precision = 0.02, 0.8, "f32"
  return hidden("muon", o)
end

local function mucon(o)
  o.lr, o.momentum, o.method = 0.2, 0.8, "exact"
  return hidden("mucon", o)
end

local function scion(name, o)
  o.lr, o.momentum, o.msign = o.lr or 0.05, 0.3, o.msign or "exact"
  return { name, o }
end

local function short_step(o)
  o.beta, o.rho, o.lr = 2, 0.4, 0.5
  return scion("short_step", o)
end

local function shampoo(o)
  o.lr, o.momentum, o.eps, o.weight_decay = 0.05, 0.8, 0.01, 0.1
  return hidden("shampoo", o)
end

local function spectra(method)
  return { "spectra", { threshold = 0.7, method = method,
    optimizer = { name = "adamw", lr = 0.02, betas = { 0.9, 0.99 }, weight_decay = 0.1 } } }
end

local runs = {
  muon_lerp = muon { weight_decay = 0.1 },
  muon_nesterov = muon { nesterov = true, scale = "original", msign = "exact" },
  muon_jordan = muon { form = "jordan", scale = "spectral", msign = "exact", weight_decay = 0.1 },
  muon_jordan_nesterov = muon { form = "jordan", nesterov = true, scale = "original" },
  mucon = mucon { tau = 0.8, weight_decay = 0.1 },
  mucon_jordan = mucon { form = "jordan", nesterov = true, scale = "original", tau = 1.5 },
  scion = scion("scion", { msign = "ns5" }),
  scion_constrained = scion("scion", { constrained = true, norms = norms, radius = radii }),
  scion_others = scion("scion", { norms = others, radius = 2 }),
  clipped_scion = scion("clipped_scion", { rho = 20, norms = norms, radius = radii }),
  clipped_scion_constrained = scion("clipped_scion", { rho = 100, constrained = true, norms = others, radius = 2 }),
  ggnc = scion("ggnc", { rho = 8, lr = 0.02, norms = norms, radius = radii }),
  ggnc_euclidean = scion("ggnc", { rho = 4, lr = 0.02, norms = "euclidean" }),
  short_step_1 = short_step { variant = 1 },
  short_step_2 = short_step { variant = 2 },
  short_step_radius = short_step { variant = 1, radius = { matrix = 1, head = 3 } },
  short_step_euclidean_1 = short_step { variant = 1, norms = "euclidean" },
  short_step_euclidean_2 = short_step { variant = 2, norms = "euclidean" },
  clipped_sign = { "clipped_sign", { lr = 0.001, momentum = 0.3, rho = 40 } },
  clipped_spectral_global = hidden("clipped_spectral", { lr = 0.02, momentum = 0.3, rho = 6, msign = "exact" }),
  clipped_spectral_matrix = hidden("clipped_spectral", { lr = 0.02, momentum = 0.3, rho = 2, msign = "exact", scope = "matrix" }),
  spectral_descent = hidden("spectral_descent", { lr = 0.01, momentum = 0.3, weight_decay = 0.1, msign = "exact" }),
  shampoo = shampoo {},
  shampoo_average = shampoo { beta2 = 0.9, every = 3 },
  shampoo_one_side = shampoo { beta2 = 0.9, max_side = 8 },
  soap = hidden("soap", { lr = 0.02, betas = { 0.8, 0.9 }, shampoo_beta = 0.85, weight_decay = 0.1, every = 3, max_side = 6 }),
  spectra_soft = spectra "soft",
  spectra_exact = spectra "exact",
}

local function read()
  local all, device = mb.safetensors.load(FILE), {}
  for name, t in pairs(all) do device[name] = t:to(helper.device) end
  return device
end

local function start_of(tensors, dtype)
  local model = Model { dtype = dtype }
  for _, p in ipairs(model:parameters()) do p.value:copy_(tensors["start." .. p.name]) end
  return model
end

local function set_gradients(model, tensors, step)
  for _, p in ipairs(model:parameters()) do
    p.grad:copy_(tensors["gradient." .. p.name]:slice(1, step, step):reshape(p.shape))
  end
end

-- The largest distance from the fixture's weights, relative to the largest of the parameter.
local function check(model, tensors, run, tolerance, takes)
  for _, p in ipairs(model:parameters()) do
    if not takes or takes(p) then
      local wanted = tensors[run .. "/" .. p.name]
      local distance = mb.max(mb.abs(p.value:to "f64" - wanted)):item() / mb.max(mb.abs(wanted)):item()
      if distance > tolerance then error(("%s is off by %.3g in %s"):format(p.name, distance, p.value.dtype), 2) end
    end
  end
end

local function steps(opt, model, tensors)
  for step = 1, 20 do
    set_gradients(model, tensors, step)
    opt:step()
  end
end

describe("twenty steps are PyTorch's float64:", function()
  local tensors = read()
  local names = {}
  for name in pairs(runs) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    it(name, function()
      for dtype, tolerance in pairs { f64 = 1e-9, f32 = 2e-4 } do
        local model = start_of(tensors, dtype)
        steps(mb.optim[runs[name][1]](model, runs[name][2]), model, tensors)
        check(model, tensors, name, tolerance)
      end
    end)
  end

  it("scion_light is scion, its gradient the average", function()
    local model = start_of(tensors, "f64")
    local opt = mb.optim.scion_light(model, { lr = 0.05, momentum = 0.3 })
    for step = 1, 20 do
      opt:zero_grad()
      for _, p in ipairs(model:parameters()) do
        p.grad:add_(tensors["gradient." .. p.name]:slice(1, step, step):reshape(p.shape))
      end
      opt:step()
    end
    check(model, tensors, "scion", 1e-6) -- 1e-7 is added to norms, and the average has another length here
  end)

  it("torch.optim.Muon, to its bfloat16", function()
    local model = start_of(tensors, "f32")
    local opt = mb.optim.muon(model, { lr = 0.02, momentum = 0.8, nesterov = true, weight_decay = 0.1, rest = { name = "sgd" } })
    steps(opt, model, tensors)
    check(model, tensors, "torch_muon", 0.02, function(p) return p.role == "matrix" end)
  end)
end)
