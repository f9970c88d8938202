-- SPDX-License-Identifier: MIT
--
-- quantile.lua: a lower quantile of the last largest singular values (arXiv 2605.11838, eqs. 9-10).
--
--   tau = sorted(history)[floor(q (len - 1))], counted from 0; an empty history clips nothing
--   then the unclipped sigma is appended, and the last `window` values are kept
--
-- State: history, oldest first. The sorted copy is kept beside it, by insertion and removal, and made
-- again from the history after a load: it is no part of the state.

local options = require "moonbow.options"
local policy = require "moonbow.threshold.policy"

local sorted_of = setmetatable({}, { __mode = "k" }) -- history -> the same values in order

local function sorted_copy(history)
  local sorted = {}
  for i, value in ipairs(history) do sorted[i] = value end
  table.sort(sorted)
  sorted_of[history] = sorted
  return sorted
end

-- Where `value` stands, or would be put, in ascending `list`: the first index with list[i] >= value.
local function place(list, value)
  local low, high = 1, #list + 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    if list[middle] < value then low = middle + 1 else high = middle end
  end
  return low
end

---@param given? { q?: number, window?: integer } defaults 0.85, 100
---@return moonbow.Threshold
return function(given)
  local o = options.check("mb.threshold.quantile", given, {
    q = { type = "number", default = 0.85, min = 0, max = 1 },
    window = { type = "integer", default = 100, min = 1 },
  })
  local q, window = o.q, o.window
  return policy.new(("quantile(%g, %d)"):format(q, window), function(sample, state)
    local history = state.history
    if not history then
      history = {}
      state.history = history
    end
    local sorted = sorted_of[history]
    if not sorted or #sorted ~= #history then sorted = sorted_copy(history) end
    local n, sigma = #history, sample.sigma
    local tau = n > 0 and sorted[math.floor(q * (n - 1)) + 1] or nil
    if sigma == sigma then
      history[n + 1] = sigma
      table.insert(sorted, place(sorted, sigma), sigma)
      if n + 1 > window then table.remove(sorted, place(sorted, table.remove(history, 1))) end
    end
    return tau
  end)
end
