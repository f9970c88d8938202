-- SPDX-License-Identifier: MIT
--
-- sampling.lua: draws ids from logits. Numbers are Lua's doubles; randomness comes from the engine's
-- generator, one word a token, so that a seed gives the same tokens on every machine's backend that gives
-- the same logits.

local M = {}

-- Position of the largest value; the first of equals.
local function argmax(values)
  local best = 1
  for i = 2, #values do
    if values[i] > values[best] then best = i end
  end
  return best
end

-- The k-th largest value: what is below it is not drawn.
local function kth_largest(values, k)
  local sorted = {}
  for i = 1, #values do sorted[i] = values[i] end
  table.sort(sorted) -- without a comparison of its own it stays in C
  return sorted[#sorted - k + 1]
end

--- Draws from softmax(logits / temperature) over the top_k largest. Temperature 0 takes the largest.
---@param logits number[]
---@param options { temperature: number, top_k?: integer }
---@param u number uniform in [0, 1)
---@return integer id counted from 0
function M.draw(logits, options, u)
  local largest = argmax(logits)
  local top, temperature = logits[largest], options.temperature
  if temperature == 0 or options.top_k == 1 then return largest - 1 end
  local least = options.top_k and options.top_k < #logits and kth_largest(logits, options.top_k) or -math.huge
  local weights, sum = {}, 0
  for i = 1, #logits do
    local weight = logits[i] >= least and math.exp((logits[i] - top) / temperature) or 0
    weights[i] = weight
    sum = sum + weight
  end
  local left = u * sum
  for i = 1, #weights do
    left = left - weights[i]
    if left < 0 and weights[i] > 0 then return i - 1 end
  end
  return largest - 1 -- rounding left a little over
end

return M
