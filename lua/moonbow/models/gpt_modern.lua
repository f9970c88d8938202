-- SPDX-License-Identifier: MIT
--
-- gpt_modern.lua: a GPT with rotary positions, RMS norms, normed queries and keys, squared ReLU and no biases
-- (models/gpt_modern.c) for scripts.
--
--   local model = mb.models.gpt_modern { vocab_size = 65, block_size = 256, n_layer = 6, n_head = 3, n_embd = 384 }
--   local loss = model:loss { inputs = x, targets = y }          -- ids (B, T), tensors or nested tables
--   local ids = model:generate({ 1, 2, 3 }, { max_tokens = 20 })

local create = require "moonbow.create"
local decoder = require "moonbow.models.decoder"
local networks = require "bindings.networks"
local options = require "moonbow.options"
local rng = require "bindings.create"

local size = { type = "integer", required = true, min = 1 }
local spec = decoder.spec {
  vocab_size = size, block_size = size, n_layer = size, n_head = size, n_embd = size,
  rotary_base = { type = "number", default = 10000, above = 0 },
  qk_norm = { type = "boolean", default = true },
  tied = { type = "boolean", default = true }, -- the head is the token embedding
}
local config_names = { "vocab_size", "block_size", "n_layer", "n_head", "n_embd", "dropout", "rotary_base", "qk_norm", "tied" }

-- The rows of queries, keys and values are head by head.
local function parts_of(config)
  local parts, made_of = {}, { heads = config.n_head }
  for layer = 0, config.n_layer - 1 do
    for _, name in ipairs { "q", "k", "v" } do parts[("h.%d.attn.c_%s.weight"):format(layer, name)] = made_of end
  end
  return parts
end

---@class moonbow.GPTModernOptions
---@field vocab_size integer
---@field block_size integer longest text, T
---@field n_layer integer
---@field n_head integer which divides n_embd
---@field n_embd integer
---@field dropout? number default 0
---@field rotary_base? number default 10000
---@field qk_norm? boolean queries and keys are normed; default true
---@field tied? boolean the head is the token embedding; default true
---@field seed? integer of the initial values; default: that of mb.seed
---@field dtype? "f32"|"f64"|"bf16" default "f32"
---@field rounding? "nearest"|"stochastic" of weights to bf16, in training; default "nearest"
---@field device? "cpu"|"cuda" default mb.device()
---@field head_chunks? integer as of mb.models.gpt2

--- A GPT as modded-nanogpt has it (Jordan et al. 2024): rotary positions, RMS norms without weights, also of queries and keys,
--- squared ReLU, no biases. Queries, keys and values are matrices of their own, attn.c_q, c_k and c_v.
---@param given moonbow.GPTModernOptions
---@return moonbow.LanguageModel
---@usage local model = mb.models.gpt_modern { vocab_size = 65, block_size = 64, n_layer = 4, n_head = 4, n_embd = 128 }
return function(given)
  local o = options.check("mb.models.gpt_modern", given, spec)
  local config = {}
  for _, name in ipairs(config_names) do config[name] = o[name] end
  return decoder.new {
    handle = networks.gpt_modern_new(config, o.dtype, o.device or create.device(), o.seed or (rng.rng_get()),
      o.head_chunks),
    network = networks.gpt_modern, name = "gpt_modern", config = config, rounding = o.rounding,
    parts = parts_of(config),
  }
end
