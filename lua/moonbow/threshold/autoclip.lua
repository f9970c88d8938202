-- SPDX-License-Identifier: MIT
--
-- autoclip.lua: AutoClip (Seetharaman, Wichern, Pardo, Le Roux, MLSP 2020, arXiv 2007.14469): the p-th percentile
-- of the whole history, the present sample among it, so that the first step clips nothing.
--
--   append sigma, unclipped, to the history of length n
--   x = p/100 (n - 1);  tau = sorted[floor x] + (x - floor x) (sorted[floor x + 1] - sorted[floor x])
--
-- counted from 0: the interpolating percentile that the authors' code takes. Defined by them on the norm of all
-- gradients, mb.clip.norm { threshold = mb.threshold.autoclip() }. The paper forgets nothing: a history without
-- window is two heaps, below and above the percentile, and costs log n comparisons a step; `window` keeps
-- the last values only. State: low and high, the heaps; or history, oldest first.

local heap = require "moonbow.threshold.heap"
local history = require "moonbow.threshold.history"
local options = require "moonbow.options"
local policy = require "moonbow.threshold.policy"

-- sorted[floor x] and sorted[floor x + 1] lie at the tops: low holds the floor x + 1 smallest values.
local function whole(state, sigma, quantile)
  local low, high = state.low, state.high
  if not low then
    low, high = {}, {}
    state.low, state.high = low, high
  end
  if sigma == sigma then
    if low[1] and sigma < low[1] then heap.push(low, sigma, heap.more) else heap.push(high, sigma, heap.less) end
  end
  local x = quantile * math.max(#low + #high - 1, 0)
  local below = math.floor(x)
  while #low < below + 1 and high[1] do heap.push(low, heap.pop(high, heap.less), heap.more) end
  while #low > below + 1 do heap.push(high, heap.pop(low, heap.more), heap.less) end
  return low[1], high[1], x - below
end

local function windowed(state, sigma, quantile, window)
  local past = state.history
  if not past then
    past = {}
    state.history = past
  end
  if sigma == sigma then history.push(past, sigma, window) end
  local x, sorted = quantile * math.max(#past - 1, 0), history.sorted(past)
  local below = math.floor(x)
  return sorted[below + 1], sorted[below + 2], x - below
end

local function integer_or_huge(value)
  if value ~= math.huge and value % 1 ~= 0 then return "an integer or math.huge" end
end

---@param given? { p?: number, window?: integer } p in percent, default 10; window: default math.huge, all
---@return moonbow.Threshold
return function(given)
  local o = options.check("mb.threshold.autoclip", given, {
    p = { type = "number", default = 10, min = 0, max = 100 },
    window = { type = "number", default = math.huge, min = 1, check = integer_or_huge },
  })
  local quantile, window = o.p / 100, o.window
  local find = window == math.huge and whole or windowed
  local text = window == math.huge and ("autoclip(%g)"):format(o.p) or ("autoclip(%g, %d)"):format(o.p, window)
  return policy.new(text, function(sample, state)
    local low, high, share = find(state, sample.sigma, quantile, window)
    return high and share > 0 and low + share * (high - low) or low
  end)
end
