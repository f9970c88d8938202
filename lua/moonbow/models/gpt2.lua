-- SPDX-License-Identifier: MIT
--
-- gpt2.lua: GPT-2 (models/gpt2.c) for scripts.
--
--   local model = mb.models.gpt2 { vocab_size = 65, block_size = 256, n_layer = 6, n_head = 6, n_embd = 384 }
--   local model = mb.models.gpt2 { size = "medium" }              -- "gpt2", "medium", "large", "xl"
--   local model = mb.models.gpt2 { weights = "model.safetensors" } -- sizes and weights from a file, see gpt2_config.lua
--   model:load_hf "model.safetensors"    model:save_hf "out.safetensors"
--   model:load_llmc "model.bin"          model:save_llmc "out.bin"
--   local loss = model:loss { inputs = x, targets = y }          -- ids (B, T), tensors or nested tables
--   local ids = model:generate({ 1, 2, 3 }, { max_tokens = 20, temperature = 0.8, top_k = 50, seed = 1 })

local configs = require "moonbow.models.gpt2_config"
local create = require "moonbow.create"
local decoder = require "moonbow.models.decoder"
local networks = require "bindings.networks"
local options = require "moonbow.options"
local rng = require "bindings.create"

local spec = decoder.spec {
  size = { choices = configs.names },
  weights = { type = "string" },
  tied = { type = "boolean" }, -- default: what the weights have, else true
  recompute = { type = "boolean" }, -- default: with bf16
}

-- ----- methods ------------------------------------------------------------------------------------------

---@class moonbow.GPT2: moonbow.LanguageModel with weights of other programs, in and out
local methods = {}

--- Sets the weights from Hugging Face's files: a safetensors file, an index of shards or a folder; see hf.lua.
---@param path string
---@return moonbow.GPT2 self
function methods:load_hf(path)
  require("moonbow.models.hf").load(self, path)
  return self
end

--- Writes the weights with Hugging Face's names: a safetensors file, or a folder with its config.json.
---@param path string
---@param given? { prefix?: boolean, max_shard_size?: integer|string } names begin with "transformer."; in a folder, shards
--- of so many bytes, or "5GB"
---@return moonbow.GPT2 self
function methods:save_hf(path, given)
  require("moonbow.models.hf").save(self, path, given)
  return self
end

--- Sets the weights from a model file of llm.c; see llmc.lua.
---@param path string
---@return moonbow.GPT2 self
function methods:load_llmc(path)
  require("moonbow.models.llmc").load(self, path)
  return self
end

--- Writes a model file of llm.c.
---@param path string
---@param given? { dtype?: "f32"|"bf16" }
---@return moonbow.GPT2 self
function methods:save_llmc(path, given)
  require("moonbow.models.llmc").save(self, path, given)
  return self
end

--- Sets the weights from a file of either kind.
---@param path string
---@return moonbow.GPT2 self
function methods:load_weights(path)
  return configs.is_llmc(path) and self:load_llmc(path) or self:load_hf(path)
end

-- ----- construction -------------------------------------------------------------------------------------

-- c_attn holds queries, keys and values in this order, each head by head.
local function parts_of(config)
  local parts, made_of = {}, { qkv = 3, heads = 3 * config.n_head }
  for layer = 0, config.n_layer - 1 do
    parts[("h.%d.attn.c_attn.weight"):format(layer)] = made_of
    parts[("h.%d.attn.c_attn.bias"):format(layer)] = made_of
  end
  return parts
end

---@class moonbow.GPT2Options
---@field vocab_size? integer this and the four below are needed, unless size or weights stand for them
---@field block_size? integer longest text, T
---@field n_layer? integer
---@field n_head? integer which divides n_embd
---@field n_embd? integer
---@field size? "gpt2"|"medium"|"large"|"xl" 124, 355, 774 and 1558 million weights
---@field weights? string a file: safetensors of Hugging Face, or .bin of llm.c; its sizes are the model's
---@field tied? boolean head and token embedding are one matrix; default: what the weights have, else true
---@field dropout? number default 0
---@field seed? integer of the initial values; default: that of mb.seed
---@field dtype? "f32"|"f64"|"bf16" default "f32"
---@field rounding? "nearest"|"stochastic" of weights to bf16, in training; default "nearest"
---@field device? "cpu"|"cuda" default mb.device()
---@field head_chunks? integer chunks of tokens that the loss goes through, one's logits in memory at a time; default 1
---@field recompute? boolean GELUs are computed again in the backward, for a quarter less memory; default: with bf16

--- GPT-2: tanh GELU, layernorm, GPT-2's initial values, or the weights of a file.
---@param given moonbow.GPT2Options
---@return moonbow.GPT2
---@usage local model = mb.models.gpt2 { vocab_size = 65, block_size = 64, n_layer = 4, n_head = 4, n_embd = 128 }
return function(given)
  local o = options.check("mb.models.gpt2", given, spec)
  local config, recompute = configs.complete(o), o.recompute
  if recompute == nil then recompute = o.dtype == "bf16" end
  local model = decoder.new {
    handle = networks.gpt2_new(config, o.dtype, o.device or create.device(), o.seed or (rng.rng_get()),
      o.head_chunks, recompute),
    network = networks.gpt2, name = "gpt2", config = config, methods = methods, parts = parts_of(config),
    rounding = o.rounding,
  }
  return o.weights and model:load_weights(o.weights) or model
end
