---@meta _
-- SPDX-License-Identifier: MIT
--
-- models.lua: for editors, no program loads it; written by scripts/docs/api.lua from the comments of the sources.

---@class moonbow.models
local mb_models = {}

--- Makes a constructor of models from a definition.
---@param given moonbow.ModelOptions
---@return fun(options?: table): moonbow.Model
function mb_models.define(given) end

--- GPT-2: tanh GELU, layernorm, GPT-2's initial values, or the weights of a file.
---@param given moonbow.GPT2Options
---@return moonbow.GPT2
function mb_models.gpt2(given) end

--- A GPT as modded-nanogpt has it (Jordan et al. 2024): rotary positions, RMS norms without weights, also of queries and keys,
--- squared ReLU, no biases. Queries, keys and values are matrices of their own, attn.c_q, c_k and c_v.
---@param given moonbow.GPTModernOptions
---@return moonbow.LanguageModel
function mb_models.gpt_modern(given) end

--- Fully connected layers; weights and biases start uniform in +-1/sqrt(inputs of the layer).
---@param given moonbow.MLPOptions
---@return moonbow.Model
function mb_models.mlp(given) end

