-- SPDX-License-Identifier: MIT
--
-- decoder.lua: what the language models that are written in C share: logits and losses of batches of ids, generation, and
-- the options of their sizes. `network` is their table in bindings/networks.lua.

local base = require "moonbow.models.base"

local M = {}

local size = { type = "integer", min = 1 }

--- Options that every one of them takes, for options.check; a model adds its own.
---@param more table
---@return table
function M.spec(more)
  local spec = {
    vocab_size = size, block_size = size, n_layer = size, n_head = size, n_embd = size,
    dropout = { type = "number", default = 0, min = 0, below = 1 },
    seed = { type = "integer", min = 0 }, -- default: that of mb.seed
    dtype = { choices = { "f32", "f64", "bf16" }, default = "f32" },
    rounding = { choices = { "nearest", "stochastic" }, default = "nearest" }, -- of weights to bf16, in training
    device = { choices = { "cpu", "cuda" } },
    head_chunks = { type = "integer", default = 1, min = 1, max = 2 ^ 30 },
  }
  for name, rule in pairs(more) do spec[name] = rule end
  return spec
end

local function logits(self, batch)
  return self.network.logits(self.handle, base.ids(self, "model:logits: inputs", batch.inputs))
end

local function loss(self, batch, o)
  local inputs = base.ids(self, "model:loss: inputs", batch.inputs)
  local targets = base.ids(self, "model:loss: targets", batch.targets)
  return self.network.loss(self.handle, inputs, targets, o)
end

---@class moonbow.LanguageModel: moonbow.Model a model of tokens that can write
local LanguageModel = { generate = require "moonbow.models.generate" }

--- An object over a handle, as base.new makes it from `o`, with o.network and the methods of a language model.
---@param o table
---@return moonbow.LanguageModel
function M.new(o)
  o.logits, o.loss, o.methods = logits, loss, o.methods or {}
  for name, fn in pairs(LanguageModel) do o.methods[name] = fn end
  local model = base.new(o)
  model.network = o.network
  return model
end

return M
