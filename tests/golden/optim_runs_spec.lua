-- SPDX-License-Identifier: MIT
--
-- optim_runs_spec.lua: twenty steps of a small GPT-2 beside PyTorch's: SGD with momentum, AdamW, Muon and Clipped Scion, without
-- clipping, clipped by the norm, and clipped spectrally with every policy. Two steps have a loss twenty times
-- as large, so that clipping matters. Compared: the loss of each step, the norm or every sigma and threshold.

local helper = require "tests.helper"
local json = require "moonbow.io.json"
local mb = require "moonbow"

local config = { vocab_size = 97, block_size = 32, n_layer = 3, n_head = 4, n_embd = 64, seed = 1 }

-- The fixture's runs, the batches, and the folder.
local function fixture()
  local folder = helper.fixtures()
  if not folder then pending "the fixtures are not in this checkout" end
  local file = assert(io.open(folder .. "/gpt2_runs.json", "rb"))
  local runs = assert(json.decode(file:read "*a"))
  file:close()
  return runs, mb.safetensors.load(folder .. "/gpt2_step.safetensors").batches, folder
end

local function close(what, got, wanted, distance)
  if math.abs(got - wanted) > distance * math.abs(wanted) then
    error(("%s is %.9g, %.9g was expected"):format(what, got, wanted), 2)
  end
end

local optimizers = {
  sgdm = function(model) return mb.optim.sgd(model, { lr = 0.05, momentum = 0.9 }) end,
  adamw = function(model)
    return mb.optim.adamw(model, { lr = 1e-3, betas = { 0.9, 0.95 }, eps = 1e-8, weight_decay = 0.1 })
  end,
  muon = function(model)
    return mb.optim.muon(model, { lr = 0.01, momentum = 0.9, scale = "match_rms_adamw", precision = "f32",
      rest = { name = "adamw", lr = 1e-3, betas = { 0.9, 0.95 }, eps = 1e-8, weight_decay = 0 } })
  end,
}

for _, form in ipairs { "unconstrained", "constrained" } do
  optimizers["clipped_scion_" .. form] = function(model)
    return mb.optim.clipped_scion(model, { lr = 0.01, momentum = 0.1, rho = 40, radius = 3, constrained = form == "constrained",
      norms = { ["wte.weight"] = "sign", ["wpe.weight"] = "col_norm", matrix = "spectral", vector = "bias_rms" } })
  end
end

local clippers = {
  none = function() return nil end,
  norm = function(_, optimizer) return mb.clip.norm { max_norm = optimizer == "sgdm" and 0.5 or 1 } end,
  spectral_const = function(runs) return mb.clip.spectral { method = "exact", threshold = runs.tau } end,
  spectral_ema = function()
    return mb.clip.spectral { method = "exact", threshold = mb.threshold.ema { beta = 0.9 } }
  end,
  spectral_quantile = function()
    return mb.clip.spectral { method = "exact", threshold = mb.threshold.quantile { q = 0.85, window = 7 } }
  end,
}

-- What the clipper reports of a step against the fixture's record: a norm, or [sigma, tau] by parameter.
local function check_report(step, report, wanted)
  if wanted == json.null or wanted == nil then return end
  if type(wanted) == "number" then return close(("norm of step %d"):format(step), report.norm, wanted, 1e-4) end
  local seen = {}
  for _, entry in ipairs(report) do
    local pair = wanted[entry.name] or error(("step %d reports %s, the fixture does not"):format(step, entry.name))
    local what = ("of %s in step %d"):format(entry.name, step)
    close("sigma " .. what, entry.sigma, pair[1], 2e-4)
    if pair[2] == json.null then
      assert(entry.tau == nil, "there is a threshold " .. what)
    else
      close("tau " .. what, entry.tau, pair[2], 2e-4)
    end
    seen[entry.name] = true
  end
  for name in pairs(wanted) do assert(seen[name], ("step %d does not report %s"):format(step, name)) end
end

local function check_run(optimizer, clipper)
  local runs, batches, folder = fixture()
  local wanted = runs.runs[optimizer .. "_" .. clipper] or runs.runs[optimizer]
  local model = mb.models.gpt2(config)
  model:load_hf(folder .. "/gpt2_weights.safetensors")
  local opt, clip = optimizers[optimizer](model), clippers[clipper](runs, optimizer)
  for step = 1, 20 do
    local batch = batches:slice(1, step, step):reshape(4, 33)
    opt:zero_grad()
    local loss = model:loss { inputs = batch:slice(2, 1, 32), targets = batch:slice(2, 2, 33) }
    close(("loss of step %d"):format(step), loss:item(), wanted.losses[step], 1e-5)
    local scaled = loss * runs.loss_scale[step]
    scaled:backward()
    if clip then check_report(step, clip(model), wanted.clip[step]) end
    opt:step()
  end
end

describe("twenty steps are PyTorch's:", function()
  for _, run in ipairs {
    { "sgdm", "none" }, { "sgdm", "norm" }, { "sgdm", "spectral_const" }, { "sgdm", "spectral_ema" },
    { "sgdm", "spectral_quantile" }, { "adamw", "norm" }, { "adamw", "spectral_const" },
    { "muon", "none" }, { "muon", "spectral_const" },
    { "clipped_scion_unconstrained", "none" }, { "clipped_scion_constrained", "none" },
  } do
    it(run[1] .. ", clipping " .. run[2], function() check_run(run[1], run[2]) end)
  end
end)
