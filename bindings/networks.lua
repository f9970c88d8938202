-- SPDX-License-Identifier: MIT
--
-- networks.lua: the models written in C (models/*.c). A handle made here works with bindings/model.lua.
--
--   gpt2_new(config, dtype, device, seed, recompute) -> handle
--     config { vocab_size, block_size, n_layer, n_head, n_embd, dropout, tied }   tied false: a head of its own
--   gpt2_logits(h, inputs) -> (B, T, V)      inputs (B, T) ids
--   gpt2_loss(h, inputs, targets, ce) -> scalar
--     ce: nil, or { label_smoothing, ignore_index, reduction } as ops.cross_entropy takes them
--   gpt2_cache(h, batch) -> cache            keys and values of `batch` sequences
--   gpt2_next(h, cache, first, inputs) -> (B, V)   after inputs (B, T) at positions first, counted from 0, and on
--   mlp_new(config, dtype, device, seed) -> handle
--     config { n_input, n_hidden, n_layer, n_output, bias (true), activation "relu"|"tanh"|"gelu"|"silu" }
--   mlp_forward(h, x) -> (B, n_output)

local ffi = require "ffi"
local handle = require "bindings.handle"
local load = require "bindings.load"
local model = require "bindings.model"
local ops = require "bindings.ops"
local status = require "bindings.status"
local types = require "bindings.types"

local C = load.C
local produce, fail = handle.produce, status.fail

local M = {}

local function need_tensor(who, argument, x)
  if not types.is_tensor(x) then fail("%s: %s must be a tensor, not %s", who, argument, types.describe(x)) end
  return x
end

-- A config struct from a table that holds every field.
local function fill(struct, config, fields)
  for _, name in ipairs(fields) do struct[name] = config[name] end
  return struct
end

function M.gpt2_new(config, dtype, device, seed, recompute)
  local c = fill(ffi.new "mb_gpt2_config", config,
                 { "vocab_size", "block_size", "n_layer", "n_head", "n_embd", "dropout" })
  c.untied_head, c.recompute = config.tied == false and 1 or 0, recompute and 1 or 0
  return model.produce("mb_gpt2_new", c, types.dtype(dtype).code, types.device(device), seed)
end

function M.gpt2_logits(h, inputs)
  return produce("mb_gpt2_logits", h, need_tensor("logits", "inputs", inputs))
end

function M.gpt2_loss(h, inputs, targets, ce)
  local c = ce and ops.cross_entropy_options(ce.label_smoothing, ce.ignore_index, ce.reduction) or nil
  return produce("mb_gpt2_loss", h, need_tensor("loss", "inputs", inputs), need_tensor("loss", "targets", targets), c)
end

function M.gpt2_cache(h, batch) return produce("mb_gpt2_cache", h, batch) end

function M.gpt2_next(h, cache, first, inputs)
  return produce("mb_gpt2_next", h, need_tensor("next", "cache", cache), first, need_tensor("next", "inputs", inputs))
end

local activations = { relu = C.MB_ACT_RELU, tanh = C.MB_ACT_TANH, gelu = C.MB_ACT_GELU, silu = C.MB_ACT_SILU }

function M.mlp_new(config, dtype, device, seed)
  local c = fill(ffi.new "mb_mlp_config", config, { "n_input", "n_hidden", "n_layer", "n_output" })
  c.bias = config.bias == false and 0 or 1
  c.activation = activations[config.activation]
    or fail("mb.models.mlp: activation must be relu, tanh, gelu or silu, not %s", types.describe(config.activation))
  return model.produce("mb_mlp_new", c, types.dtype(dtype).code, types.device(device), seed)
end

function M.mlp_forward(h, x)
  return produce("mb_mlp_forward", h, need_tensor("logits", "x", x))
end

return M
