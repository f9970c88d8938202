-- SPDX-License-Identifier: MIT
--
-- quantile.lua: a lower quantile of the last largest singular values (arXiv 2605.11838, eqs. 9-10).
--
--   tau = sorted(history)[floor(q (len - 1))], counted from 0; an empty history clips nothing
--   then the unclipped sigma is appended, and the last `window` values are kept
--
-- State: history, oldest first.

local history = require "moonbow.threshold.history"
local options = require "moonbow.options"
local policy = require "moonbow.threshold.policy"

---@param given? { q?: number, window?: integer } defaults 0.85, 100
---@return moonbow.Threshold
return function(given)
  local o = options.check("mb.threshold.quantile", given, {
    q = { type = "number", default = 0.85, min = 0, max = 1 },
    window = { type = "integer", default = 100, min = 1 },
  })
  local q, window = o.q, o.window
  return policy.new(("quantile(%g, %d)"):format(q, window), function(sample, state)
    local past = state.history
    if not past then
      past = {}
      state.history = past
    end
    local n, sigma = #past, sample.sigma
    local tau = n > 0 and history.sorted(past)[math.floor(q * (n - 1)) + 1] or nil
    if sigma == sigma then history.push(past, sigma, window) end
    return tau
  end)
end
