-- SPDX-License-Identifier: MIT
--
-- mlp.lua: a stack of fully connected layers (models/mlp.c) for scripts.
--
--   local model = mb.models.mlp { n_input = 100, n_hidden = 100, n_layer = 3, n_output = 1, bias = false }
--   local y = model:logits { inputs = x }                        -- x (B, n_input), a tensor or nested tables
--   local loss = (y - target):square():mean()
-- model:loss is the cross entropy with targets (B), class ids from 0.

local base = require "moonbow.models.base"
local create = require "moonbow.create"
local networks = require "bindings.networks"
local options = require "moonbow.options"
local rng = require "bindings.create"

local size = { type = "integer", required = true, min = 1 }
local spec = {
  n_input = size, n_hidden = size, n_output = size,
  n_layer = { type = "integer", default = 1, min = 0 }, -- hidden layers
  bias = { type = "boolean", default = true },
  activation = { choices = { "relu", "tanh", "gelu", "silu" }, default = "relu" },
  seed = { type = "integer", min = 0 }, -- default: that of mb.seed
  dtype = { choices = { "f32", "f64", "bf16" }, default = "f32" },
  rounding = { choices = { "nearest", "stochastic" }, default = "nearest" }, -- of weights to bf16, in training
  device = { choices = { "cpu", "cuda" } },
}
local config_names = { "n_input", "n_hidden", "n_layer", "n_output", "bias", "activation" }

local function logits(self, batch)
  return networks.mlp_forward(self.handle, base.numbers(self, "model:logits: inputs", batch.inputs))
end

---@class moonbow.MLPOptions
---@field n_input integer
---@field n_hidden integer width of the hidden layers
---@field n_output integer
---@field n_layer? integer hidden layers; default 1, 0 for a linear map
---@field bias? boolean default true
---@field activation? "relu"|"tanh"|"gelu"|"silu" default "relu"
---@field seed? integer of the initial values; default: that of mb.seed
---@field dtype? "f32"|"f64"|"bf16" default "f32"
---@field rounding? "nearest"|"stochastic" of weights to bf16, in training; default "nearest"
---@field device? "cpu"|"cuda" default mb.device()

--- Fully connected layers; weights and biases start uniform in +-1/sqrt(inputs of the layer).
---@param given moonbow.MLPOptions
---@return moonbow.Model
return function(given)
  local o = options.check("mb.models.mlp", given, spec)
  local config = {}
  for _, name in ipairs(config_names) do config[name] = o[name] end
  return base.new {
    handle = networks.mlp_new(config, o.dtype, o.device or create.device(), o.seed or (rng.rng_get())),
    name = "mlp", config = config, logits = logits, rounding = o.rounding,
  }
end
