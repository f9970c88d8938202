-- SPDX-License-Identifier: MIT
--
-- networks.lua: the models written in C (models/*.c). A handle made here works with bindings/model.lua.
--
--   gpt2_new(config, dtype, device, seed, head_chunks, recompute) -> handle
--     config { vocab_size, block_size, n_layer, n_head, n_embd, dropout, tied }   tied false: a head of its own
--   gpt_modern_new(config, dtype, device, seed, head_chunks) -> handle
--     config: the same, rotary_base, qk_norm
--   gpt2, gpt_modern: tables of what a language model does
--     logits(h, inputs) -> (B, T, V)         inputs (B, T) ids
--     loss(h, inputs, targets, ce) -> scalar
--       ce: nil, or { label_smoothing, ignore_index, reduction, scale } as ops.cross_entropy takes them
--     cache(h, batch) -> cache               keys and values of `batch` sequences
--     next(h, cache, first, inputs) -> (B, V)   after inputs (B, T) at positions first, counted from 0, and on
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

function M.gpt2_new(config, dtype, device, seed, head_chunks, recompute)
  local c = fill(ffi.new "mb_gpt2_config", config,
                 { "vocab_size", "block_size", "n_layer", "n_head", "n_embd", "dropout" })
  c.untied_head, c.recompute, c.head_chunks = config.tied == false and 1 or 0, recompute and 1 or 0, head_chunks
  return model.produce("mb_gpt2_new", c, types.dtype(dtype).code, types.device(device), seed)
end

function M.gpt_modern_new(config, dtype, device, seed, head_chunks)
  local c = fill(ffi.new "mb_gpt_modern_config", config,
                 { "vocab_size", "block_size", "n_layer", "n_head", "n_embd", "dropout", "rotary_base" })
  c.untied_head, c.plain_qk = config.tied == false and 1 or 0, config.qk_norm == false and 1 or 0
  c.head_chunks = head_chunks
  return model.produce("mb_gpt_modern_new", c, types.dtype(dtype).code, types.device(device), seed)
end

-- The functions of a language model in C, whose names begin with `prefix`.
local function decoder(prefix)
  local logits, loss, cache, following = prefix .. "_logits", prefix .. "_loss", prefix .. "_cache", prefix .. "_next"
  local D = {}
  function D.logits(h, inputs) return produce(logits, h, need_tensor("logits", "inputs", inputs)) end
  function D.loss(h, inputs, targets, ce)
    local c = ce and ops.cross_entropy_options(ce.label_smoothing, ce.ignore_index, ce.reduction, ce.scale) or nil
    return produce(loss, h, need_tensor("loss", "inputs", inputs), need_tensor("loss", "targets", targets), c)
  end
  function D.cache(h, batch) return produce(cache, h, batch) end
  function D.next(h, kept, first, inputs)
    return produce(following, h, need_tensor("next", "cache", kept), first, need_tensor("next", "inputs", inputs))
  end
  return D
end

M.gpt2, M.gpt_modern = decoder "mb_gpt2", decoder "mb_gpt_modern"

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
