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

-- Which values count, from 0, among n, and the second one's share.
local function place(n, quantile)
  local x = quantile * math.max(n - 1, 0)
  local below = math.floor(x)
  return below, x - below
end

-- The nearer of a heap's second values, its top's children.
local function second(list, before)
  local a, b = list[2], list[3]
  return b and before(b, a) and b or a
end

local none = {}

-- Two heaps: low holds the floor x + 1 smallest values. A sample moves floor x by one at most, so that the two values
-- that count with it are among the tops, the seconds and the sample.
local whole = { fields = { low = "numbers", high = "numbers" } }

function whole.look(state, sigma, quantile)
  local low, high = state.low or none, state.high or none
  local n = #low + #high
  if sigma ~= sigma then return low[1], high[1], select(2, place(n, quantile)) end
  local near = { sigma, low[1] }
  local before_low = second(low, heap.more)
  near[#near + 1] = before_low
  near[#near + 1] = high[1]
  near[#near + 1] = second(high, heap.less)
  table.sort(near)
  local below, share = place(n + 1, quantile)
  local at = below + 1 - math.max(#low - (before_low and 2 or 1), 0) -- that many are smaller than the nearest
  return near[at], near[at + 1], share
end

function whole.learn(state, sigma, quantile)
  state.low, state.high = state.low or {}, state.high or {}
  local low, high = state.low, state.high
  if sigma ~= sigma then return end
  if low[1] and sigma < low[1] then heap.push(low, sigma, heap.more) else heap.push(high, sigma, heap.less) end
  local below = place(#low + #high, quantile)
  while #low < below + 1 and high[1] do heap.push(low, heap.pop(high, heap.less), heap.more) end
  while #low > below + 1 do heap.push(high, heap.pop(low, heap.more), heap.less) end
end

-- The last values only.
local windowed = { fields = { history = "numbers" } }

function windowed.look(state, sigma, quantile, window)
  local past = state.history or none
  if sigma ~= sigma then
    local below, share = place(#past, quantile)
    local sorted = history.sorted(past)
    return sorted[below + 1], sorted[below + 2], share
  end
  local below, share = place(history.count_after(past, window), quantile)
  return history.peek(past, sigma, window, below + 1), history.peek(past, sigma, window, below + 2), share
end

function windowed.learn(state, sigma, _, window)
  state.history = state.history or {}
  if sigma == sigma then history.push(state.history, sigma, window) end
end

local function integer_or_huge(value)
  if value ~= math.huge and value % 1 ~= 0 then return "an integer or math.huge" end
end

---@class moonbow.AutoclipOptions
---@field p? number percentile, 0 to 100; default 10
---@field window? integer values that are remembered; default math.huge, all

---@param given? moonbow.AutoclipOptions
---@return moonbow.Threshold
return function(given)
  local o = options.check("mb.threshold.autoclip", given, {
    p = { type = "number", default = 10, min = 0, max = 100 },
    window = { type = "number", default = math.huge, min = 1, check = integer_or_huge },
  })
  local quantile, window = o.p / 100, o.window
  local way = window == math.huge and whole or windowed
  local text = "autoclip(" .. options.number(o.p) .. (window == math.huge and ")" or (", %d)"):format(window))
  return policy.new(text, function(sample, state)
    local low, high, share = way.look(state, sample.sigma, quantile, window)
    return high and share > 0 and low + share * (high - low) or low
  end, function(sample, state)
    way.learn(state, sample.sigma, quantile, window)
  end, way.fields)
end
