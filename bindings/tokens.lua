-- SPDX-License-Identifier: MIT
--
-- tokens.lua: token files of llm.c and nanoGPT, mapped into memory and read as windows.
--
--   open(paths, window, group, vocab_size) -> tokens      see mb_tokens_open; vocab_size 0: ids have no bound
--   tokens.count, tokens.windows
--   tokens:batch(inputs, targets, first, seed)            fills two i32 (rows, window) tensors on the CPU with the samples
--                                                         from number `first` on; a seed shuffles, nil does not
--   shuffled_index(index, count, seed, epoch) -> index

local ffi = require "ffi"
local handle = require "bindings.handle"
local host = require "bindings.host"
local load = require "bindings.load"

local C = load.C

local M = {}

local out = ffi.new "mb_tokens *[1]"
local path_array = ffi.typeof "const char *[?]"

---@class moonbow.Tokens
---@field count integer
---@field windows integer
local Tokens = {}
Tokens.__index = Tokens

---@param paths string[]
---@param window integer
---@param group integer
---@param vocab_size integer
---@return moonbow.Tokens
function M.open(paths, window, group, vocab_size)
  local list = path_array(math.max(#paths, 1))
  for i = 1, #paths do list[i - 1] = paths[i] end
  handle.act("mb_tokens_open", out, list, #paths, window, group, vocab_size)
  local pointer = ffi.gc(out[0], C.mb_tokens_release)
  return setmetatable({ handle = pointer, count = tonumber(C.mb_tokens_count(pointer)),
                        windows = tonumber(C.mb_tokens_windows(pointer)) }, Tokens)
end

---@param inputs moonbow.Tensor i32 (rows, window)
---@param targets moonbow.Tensor i32 (rows, window)
---@param first integer
---@param seed? integer
function Tokens:batch(inputs, targets, first, seed)
  handle.act("mb_tokens_batch", host.data(inputs), host.data(targets), self.handle, first, inputs.shape[1], seed and 1 or 0,
    seed or 0)
end

---@return integer from 0; -1 if `index` is not below `count`
function M.shuffled_index(index, count, seed, epoch) return tonumber(C.mb_shuffled_index(index, count, seed, epoch)) end

return M
