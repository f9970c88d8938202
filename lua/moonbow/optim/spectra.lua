-- SPDX-License-Identifier: MIT
--
-- spectra.lua: any optimizer, its update clipped spectrally.
--
--   local opt = mb.optim.spectra(model, { optimizer = { name = "adamw", lr = 1e-3 }, threshold = 0.5 })
--
--   U = (w - w+) / lr - decay w                  what the optimizer would do, without its decoupled decay
--   w <- w - lr (H_c(U) + decay w)               H_c: sigma -> sigma / sqrt(1 + sigma^2 / c^2) with method = "soft",
--                                                sigma -> min(sigma, c) with "exact", "polar" or "randomized"
--
-- threshold is c, a number or a function of the step. where is function(p), by default all but embeddings and head; view says
-- what is one matrix (moonbow/clip/view.lua). A threshold that remembers is a clipper with on = "update", for opt:step(clip).
-- Source: arXiv 2603.14315 (SPECTRA).

local optimizer = require "moonbow.optim.optimizer"
local options = require "moonbow.options"
local registry = require "moonbow.optim.registry"
local spectral = require "moonbow.clip.spectral"

local Spectra = { name = "spectra", who = "optimizer 'spectra'", definition = { whole = true } }
Spectra.__index = Spectra

Spectra.spec = {
  optimizer = { type = "table", required = true },
  threshold = { type = "number|function", required = true, above = 0 },
  method = { choices = { "soft", "exact", "polar", "randomized" }, default = "soft" },
  where = { type = "function" },
  view = { type = "string|function", default = "fused" },
  rank = { type = "integer", min = 1 },
}

-- The optimizer within: { name = , its options }.
local function inner_of(who, model, given)
  local o, constructor = {}, given.name
  for key, value in pairs(given) do
    if key ~= "name" then o[key] = value end
  end
  if type(constructor) ~= "table" or not constructor.definition then
    options.value(who, "'name' of option 'optimizer'", constructor, { type = "string" })
    constructor = registry.find(who, constructor)
  end
  if constructor.definition.whole then options.fail("%s: option 'optimizer' cannot be %s itself", who, constructor.name) end
  return constructor(model, o)
end

-- c at the step that the optimizer makes.
local function threshold_of(who, threshold, opt)
  if type(threshold) == "number" then return threshold end
  return function()
    local c = threshold(opt.updates + 1)
    options.value(who, ("option 'threshold' at step %d"):format(opt.updates + 1), c, { type = "number", above = 0 })
    return c
  end
end

function Spectra:__call(model, given)
  optimizer.check_model(self.who, model)
  local o = options.check(self.who, given, self.spec)
  local opt = inner_of(self.who, model, o.optimizer)
  opt:clip_updates(self.name, spectral {
    threshold = threshold_of(self.who, o.threshold, opt), method = o.method, where = o.where, view = o.view, rank = o.rank,
    on = "update",
  })
  return opt
end

function Spectra:__tostring() return self.who end

---@class moonbow.SpectraOptions
---@field optimizer table the optimizer within, { name = "adamw", lr = 1e-3 }; its name may be what mb.optim.define returned
---@field threshold number|fun(step: integer): number c
---@field method? "soft"|"exact"|"polar"|"randomized" default "soft"
---@field where? fun(p: moonbow.Parameter): boolean default: all but embeddings and head
---@field view? string|fun(p: moonbow.Parameter): string default "fused"
---@field rank? integer singular values that "randomized" computes

--- An optimizer whose every step clips its updates.
---@param model moonbow.Model
---@param options moonbow.SpectraOptions
---@return moonbow.Optimizer
return setmetatable({}, Spectra)
