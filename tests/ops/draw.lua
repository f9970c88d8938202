-- SPDX-License-Identifier: MIT
--
-- draw.lua: random inputs of the op tests. An input is an array of numbers in row-major order with a field
-- `shape`, and `dtype` if it is not floating. Numbers are multiples of 2^-12, so that float32 holds them
-- exactly and both precisions compute from the same values. All come from one generator (Park and Miller's)
-- whose seed is MB_SEED and the name of the op: rows can be run alone or in any order.

local helper = require "tests.helper"

local M = {}

local GRID = 4096
local state

--- Starts the numbers of `name`.
---@param name string
function M.start(name)
  state = helper.seed % 2147483646 + 1
  for i = 1, #name do state = (state * 31 + name:byte(i)) % 2147483646 + 1 end
end

--- A number in [0, 1).
---@return number
function M.unit()
  state = state * 16807 % 2147483647
  return (state - 1) / 2147483646
end

--- An integer of low..high.
---@return integer
function M.integer(low, high)
  return low + math.floor(M.unit() * (high - low + 1))
end

function M.count(shape)
  local n = 1
  for i = 1, #shape do n = n * shape[i] end
  return n
end

local function filled(shape, next_value, dtype)
  local values = { shape = shape, dtype = dtype }
  for i = 1, M.count(shape) do values[i] = next_value(i) end
  return values
end

local function on_grid(x) return math.floor(x * GRID + 0.5) / GRID end

--- Numbers in [low, high] (-2, 2).
function M.uniform(shape, low, high)
  low, high = low or -2, high or 2
  return filled(shape, function() return on_grid(low + (high - low) * M.unit()) end)
end

--- The same, but none closer than `gap` (0.1) to zero: for functions with a kink there.
function M.off_zero(shape, high, gap)
  high, gap = high or 2, gap or 0.1
  return filled(shape, function()
    return on_grid((gap + (high - gap) * M.unit()) * (M.unit() < 0.5 and -1 or 1))
  end)
end

--- Different multiples of 1/16, in any order, plus an offset: for maxima, and for pairs that are compared.
function M.distinct(shape, offset)
  local n = M.count(shape)
  local order = {}
  for i = 1, n do order[i] = i end
  for i = n, 2, -1 do
    local j = M.integer(1, i)
    order[i], order[j] = order[j], order[i]
  end
  return filled(shape, function(i) return on_grid((order[i] - math.floor(n / 2)) / 16 + (offset or 0)) end)
end

--- Integers of low..high as data of `dtype` (i32).
function M.ids(shape, low, high, dtype)
  return filled(shape, function() return M.integer(low, high) end, dtype or "i32")
end

--- A floating input of whole numbers of low..high, where equal elements are wanted.
function M.whole(shape, low, high)
  return filled(shape, function() return M.integer(low, high) end)
end

return M
