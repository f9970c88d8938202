-- SPDX-License-Identifier: MIT
--
-- create.lua: tensors made from nothing, and the generator's state. Shapes are Lua arrays, dtypes and
-- devices names; nothing has a default here.

local ffi = require "ffi"
local handle = require "bindings.handle"
local load = require "bindings.load"
local status = require "bindings.status"
local types = require "bindings.types"

local C = load.C
local produce = handle.produce

local M = {}

function M.empty(shape, dtype, device)
  local n, sizes = types.shape("mb.empty", shape)
  return produce("mb_empty", types.dtype(dtype).code, n, sizes, types.device(device))
end

function M.full(shape, value, dtype, device)
  local n, sizes = types.shape("mb.full", shape)
  return produce("mb_full", types.dtype(dtype).code, n, sizes, types.device(device), value)
end

function M.randn(shape, dtype, device)
  local n, sizes = types.shape("mb.randn", shape)
  return produce("mb_randn", types.dtype(dtype).code, n, sizes, types.device(device))
end

function M.uniform(shape, low, high, dtype, device)
  local n, sizes = types.shape("mb.uniform", shape)
  return produce("mb_uniform", types.dtype(dtype).code, n, sizes, types.device(device), low, high)
end

--- start, start + step, ...: count numbers.
function M.arange(start, step, count, dtype, device)
  return produce("mb_arange", types.dtype(dtype).code, types.device(device), start, step, count)
end

-- ----- the generator ------------------------------------------------------------------------------------
-- Its state is (seed, step, stream), three integers; seeds of up to 2^53 are exact in Lua.

function M.seed(seed)
  if not types.is_integer(seed) or seed < 0 then
    status.fail("mb.seed: an integer of 0 to 2^53 was expected, not %s", types.describe(seed))
  end
  C.mb_rng_seed(seed)
end

function M.rng_set_step(step) C.mb_rng_set_step(step) end
function M.rng_set(seed, step, stream) C.mb_rng_set(seed, step, stream) end

local state = ffi.new "uint64_t[3]"

---@return integer seed
---@return integer step
---@return integer stream
function M.rng_get()
  C.mb_rng_get(state, state + 1, state + 2)
  return tonumber(state[0]), tonumber(state[1]), tonumber(state[2])
end

--- The first `count` words of a stream, integers below 2^32: a pure function of its arguments.
---@return integer[]
function M.rng_words(count, seed, step, stream)
  if not types.is_integer(count) or count < 1 then
    status.fail("rng_words: count must be an integer of at least 1, not %s", types.describe(count))
  end
  local words, values = ffi.new("uint32_t[?]", count), {}
  C.mb_rng_words(words, count, seed, step, stream)
  for i = 1, count do values[i] = words[i - 1] end
  return values
end

return M
