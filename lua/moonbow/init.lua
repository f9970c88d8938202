-- SPDX-License-Identifier: MIT
--
-- init.lua: the one table that scripts see, `local mb = require "moonbow"`.
--
-- Functions on tensors come from bindings/ops.lua as they are, so that mb.sqrt(x) takes tensors, numbers
-- and the symbolic values of mb.fuse. Creation and defaults are in create.lua. The other parts of the
-- library (mb.optim, mb.models, ...) are loaded when they are first named.

-- The folder that holds bindings/, by this file's own location: beside lua/, or this one where luarocks has put them.
local here = debug.getinfo(1, "S").source:match "^@(.*)$" or ""
local root = here:match "^(.*)/lua/moonbow/init%.lua$" or (here:match "^lua/moonbow/" and ".")
  or here:match "^(.*)/init%.lua$" or "."
if not package.searchpath("bindings.load", package.path) then
  package.path = package.path .. ";" .. root .. "/?.lua"
end

require "bindings.tensor"
local create = require "moonbow.create"
local handle = require "bindings.handle"
local ops = require "bindings.ops"
local options = require "moonbow.options"
local rng = require "bindings.create"
local runtime = require "bindings.runtime"
local types = require "bindings.types"

---@class moonbow
local M = {}

for _, name in ipairs {
  "neg", "abs", "sign", "exp", "log", "sqrt", "rsqrt", "square", "reciprocal", "tanh", "sigmoid", "silu",
  "relu", "gelu", "gelu_tanh", "gelu_erf", "add", "sub", "mul", "div", "pow", "minimum", "maximum", "less",
  "less_equal", "greater", "greater_equal", "equal", "lt", "le", "gt", "ge", "eq", "where", "clamp", "affine",
  "sum", "mean", "max", "min", "argmax", "norm", "matmul", "linear", "linear_aligned", "gelu_linear", "gelu_mlp",
  "embedding", "layernorm", "rmsnorm", "add_layernorm", "add_rmsnorm",
  "rotary", "softmax", "log_softmax", "attention", "attention_packed", "attention_cached", "dropout", "reshape",
  "transpose", "permute", "concat", "stack", "gather",
} do M[name] = ops[name] end

for name, fn in pairs(create) do M[name] = fn end

-- ----- losses -------------------------------------------------------------------------------------------

--- Cross entropy of logits (..., V) and targets (...), ids from 0, which may be nested tables.
---
---   mb.cross_entropy(logits, targets, { label_smoothing = 0.1, ignore_index = 0, reduction = "sum" })
---   mb.cross_entropy { logits = l, targets = t, label_smoothing = 0.1 }
---@param logits moonbow.Tensor|table
---@param targets? moonbow.Tensor|table
---@param given? { label_smoothing?: number, ignore_index?: integer, reduction?: "mean"|"sum" }
---@return moonbow.Tensor loss a tensor without dimensions
function M.cross_entropy(logits, targets, given)
  if type(logits) == "table" then
    if targets ~= nil then
      options.fail("mb.cross_entropy: give one table, or logits, targets and options")
    end
    given = {}
    for key, value in pairs(logits) do given[key] = value end
    logits, targets = given.logits, given.targets
    given.logits, given.targets = nil, nil
  end
  local o = options.check("mb.cross_entropy", given, {
    label_smoothing = { type = "number", default = 0, min = 0, below = 1 },
    ignore_index = { type = "integer", min = 0 },
    reduction = { choices = { "mean", "sum" }, default = "mean" },
  })
  if type(targets) == "table" then targets = create.ids(targets) end
  return ops.cross_entropy(logits, targets, o.label_smoothing, o.ignore_index, o.reduction)
end

--- The cross entropy of the logits x W^T, x (..., C), weight (V, C), whose rows go through in chunks: the logits are in memory a
--- chunk at a time, in training and without. Takes the options of mb.cross_entropy, and how many chunks.
---
---   mb.linear_cross_entropy(x, weight, targets, { chunks = 8, ignore_index = 0 })
---@param x moonbow.Tensor
---@param weight moonbow.Tensor
---@param targets moonbow.Tensor|table ids (...) from 0
---@param given? { chunks?: integer, label_smoothing?: number, ignore_index?: integer, reduction?: "mean"|"sum", scale?: number }
--- chunks: default 8; scale: by which the loss is multiplied
---@return moonbow.Tensor loss a tensor without dimensions
function M.linear_cross_entropy(x, weight, targets, given)
  local o = options.check("mb.linear_cross_entropy", given, {
    chunks = { type = "integer", default = 8, min = 1 },
    label_smoothing = { type = "number", default = 0, min = 0, below = 1 },
    ignore_index = { type = "integer", min = 0 },
    reduction = { choices = { "mean", "sum" }, default = "mean" },
    scale = { type = "number", default = 1 },
  })
  if type(targets) == "table" then targets = create.ids(targets) end
  return ops.linear_cross_entropy(x, weight, targets, o.chunks, o.label_smoothing, o.ignore_index, o.reduction, o.scale)
end

-- ----- memory and history -------------------------------------------------------------------------------

--- Runs fn(...) without recording for backward, and returns what it returns.
---@param fn fun(...): any
---@param ... any arguments of fn
---@return any what fn returns
M.no_grad = handle.no_grad

--- Runs fn(...) and returns what it returns; tensors made inside that are neither returned nor kept with
--- mb.keep give their memory back at once, without waiting for the collector.
---@param fn fun(...): any
---@param ... any arguments of fn
---@return any what fn returns
M.scope = handle.scope

--- Exempts a tensor, or those in a table, from the scopes that are open, and returns it.
---@param value moonbow.Tensor|table
---@return moonbow.Tensor|table value
M.keep = handle.keep

--- Is `x` a tensor?
---@param x any
---@return boolean
M.is_tensor = types.is_tensor

--- Bytes and counts: bytes_live, bytes_peak, bytes_cached, bytes_budget, bytes_allocated (since start),
--- live_tensors, allocations (since start). Of one device, mb.memory "cuda": bytes_live, bytes_cached, bytes_scratch
--- (work memory of operations), bytes_peak (of live, scratch and graphs), bytes_free (what it could still give), bytes_total,
--- bytes_limit (the environment's MOONBOW_MEMORY_LIMIT, 0 for none), requests (times the device itself was asked),
--- bytes_graphs (free, but kept for graphs).
---@param device? "cpu"|"cuda"
---@return table<string, integer>
function M.memory(device)
  if device then return runtime.memory_of(device) end
  return runtime.memory()
end
M.memory_report = runtime.memory_report
--- The peak of bytes_peak begins anew from what is live now.
M.memory_reset_peak = runtime.memory_reset_peak
--- Gives the blocks that the allocator keeps for later use back to the system.
M.memory_trim = runtime.memory_trim
--- Limits the bytes in tensors, 0 for no limit; beyond it the library collects, then raises an error.
M.memory_budget = runtime.memory_budget
--- Frees every tensor that nothing refers to.
M.collect = handle.collect

-- ----- the rest -----------------------------------------------------------------------------------------

--- Seeds the generator that all random numbers come from.
---@param seed integer 0 to 2^53
M.seed = rng.seed

--- Starts the random streams of a training step: what is drawn in step n depends on the seed and n alone.
---@param step integer
M.set_step = rng.rng_set_step

--- State of the generator: seed, step and stream, integers. With three arguments, sets it.
---@param seed? integer
---@param step? integer default 0
---@param stream? integer default 0
---@return integer seed
---@return integer step
---@return integer stream
function M.random_state(seed, step, stream)
  if seed ~= nil then rng.rng_set(seed, step or 0, stream or 0) end
  return rng.rng_get()
end

--- Number of threads of the CPU backend; sets it when one is given.
M.threads = runtime.threads
--- May products of f32 matrices on CUDA round their factors to TF32, which has 10 bits of fraction? Off at first, unless
--- MOONBOW_TF32=1; sets it when a boolean is given. bf16 and f64 are not concerned.
M.tf32 = runtime.tf32
--- Must the same build, seed, device and choices give the same bits? They do at first, unless MOONBOW_DETERMINISTIC=0; sets it
--- when a boolean is given. Without, the gradient of bf16 attention on CUDA may be summed in no fixed order, which can be faster.
M.deterministic = runtime.deterministic
--- What the device has to say of how it works, in lines: on cuda which cuDNN there is, or why none is, and what computes the
--- attention of each shape so far. "" where that is nothing.
---@return string
function M.device_notes() return runtime.notes(M.device()) end

--- Seconds of a clock that never goes back.
M.time = runtime.time

--- Waits until the device has done what it was given: on cuda calls return before that. For timing.
---@param device? "cpu"|"cuda" default: mb.device()
function M.synchronize(device) runtime.synchronize(device or create.device()) end

--- The version, "0.1.0".
M.version = runtime.version

--- One line: compiler, BLAS, instruction set, threads.
M.build_info = runtime.build_info

-- Parts of the library, loaded when first named.
local modules = {
  optim = "moonbow.optim", clip = "moonbow.clip", threshold = "moonbow.threshold",
  schedule = "moonbow.schedule", models = "moonbow.models", safetensors = "moonbow.io.safetensors",
  checkpoint = "moonbow.io.checkpoint", jsonl = "moonbow.io.jsonl", system = "bindings.system",
  tensorboard = "moonbow.io.tensorboard", data = "moonbow.data", fuse = "moonbow.fuse",
  graph = "moonbow.graph", linalg = "moonbow.linalg", spectrum = "moonbow.spectrum", profile = "moonbow.profile",
  device_info = "moonbow.device_info", timer = "moonbow.timer",
}

local function load_part(t, key)
  local path = modules[key]
  if path then
    local part = require(path)
    rawset(t, key, part)
    return part
  end
  local there = {}
  for name in pairs(modules) do there[name] = true end
  for name in pairs(t) do there[name] = true end -- those already loaded are in both
  options.fail("moonbow has no '%s'%s", tostring(key), options.suggest(key, options.keys(there)))
end

-- __names is for completion at a prompt: what __index answers to.
return setmetatable(M, { __index = load_part, __names = function() return options.keys(modules) end })
