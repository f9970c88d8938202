-- SPDX-License-Identifier: MIT
--
-- histogram.lua: how numbers are distributed, as TensorBoard shows it: buckets, with their sum and their sum of squares. There
-- are eight buckets from each power of two to the next (bindings/bytes.lua), so that one pass over the bits of the elements
-- is enough whatever their size. A bucket has a right edge; the left edge of the first, and of one behind a gap, is that of an
-- empty bucket before it.

local bytes = require "bindings.bytes"
local host = require "bindings.host"
local status = require "bindings.status"
local types = require "bindings.types"

local M = {}

---@class moonbow.Histogram counts of values in buckets
---@field min number
---@field max number
---@field num number of finite values
---@field sum number
---@field sum_squares number
---@field limits number[] right edges, ascending
---@field counts number[]
---@field nonfinite integer values that are NaN or infinite, which are in no bucket

-- Smallest magnitude of bin b of one sign: 2^e (1 + k / 8), and multiples of the smallest eighth below the normal numbers.
local function edge(kind, b)
  local exponent, eighths = math.floor(b / 8), b % 8
  if exponent == 0 then return eighths / 8 * 2 ^ (1 - kind.bias) end
  return (1 + eighths / 8) * 2 ^ (exponent - kind.bias)
end

local function sums(p, n)
  local min, max, sum, squares = math.huge, -math.huge, 0, 0
  for i = 0, n - 1 do
    local x = p[i]
    if x - x == 0 then
      min, max = math.min(min, x), math.max(max, x)
      sum, squares = sum + x, squares + x * x
    end
  end
  return min, max, sum, squares
end

-- Appends bin b of values from `left` to `right`, an empty one before it if nothing ends where it begins.
local function append(h, left, right, count)
  if count == 0 then return end
  if h.limits[#h.limits] ~= left then
    h.limits[#h.limits + 1], h.counts[#h.counts + 1] = left, 0
  end
  h.limits[#h.limits + 1], h.counts[#h.counts + 1] = right, count
  h.num = h.num + count
end

local function of_memory(p, n, kind)
  local counts, half = bytes.count_bins(p, n, kind), kind.sign
  local h = { num = 0, limits = {}, counts = {} }
  for b = half - 9, 0, -1 do append(h, -edge(kind, b + 1), -edge(kind, b) + 0, counts[half + b]) end
  for b = 0, half - 9 do append(h, edge(kind, b), edge(kind, b + 1), counts[b]) end
  h.nonfinite = n - h.num
  h.min, h.max, h.sum, h.sum_squares = sums(p, n)
  return h
end

--- The histogram of a tensor or of a list of numbers; nil where no value is finite.
---@param values moonbow.Tensor|number[]
---@return moonbow.Histogram?
function M.of(values)
  local h
  if types.is_tensor(values) then
    local t = values.device == "cpu" and values or values:to "cpu"
    if t.dtype ~= "f32" and t.dtype ~= "f64" then t = t:to "f32" end
    t = t:contiguous()
    h = of_memory(host.data(t), t.numel, bytes.kinds[t.dtype])
  else
    for i, x in ipairs(values) do
      if type(x) ~= "number" then status.fail("histogram: value %d is %s, a number was expected", i, types.describe(x)) end
    end
    h = of_memory(bytes.doubles(values), #values, bytes.kinds.f64)
  end
  return h.num > 0 and h or nil
end

return M
