-- SPDX-License-Identifier: MIT
--
-- ema.lua: the bias-corrected moving average of past largest singular values (arXiv 2605.11838, eq. 8).
--
--   step 0       tau = sigma: nothing is clipped
--   step k >= 1  tau = m / (1 - beta^k)
--   then         m <- beta m + (1 - beta) sigma, with the unclipped sigma
--
-- State: m, and k, the number of samples in it.

local options = require "moonbow.options"
local policy = require "moonbow.threshold.policy"

---@class moonbow.EmaOptions
---@field beta? number share of the past that is kept; default 0.9

---@param given? moonbow.EmaOptions
---@return moonbow.Threshold
return function(given)
  local o = options.check("mb.threshold.ema", given, { beta = { type = "number", default = 0.9, min = 0, below = 1 } })
  local beta = o.beta
  local made = policy.new(("ema(%s)"):format(options.number(beta)), function(sample, state)
    local k, sigma = state.k or 0, sample.sigma
    if k > 0 then return state.m / (1 - beta ^ k) end
    return sigma == sigma and sigma or nil
  end, function(sample, state)
    local sigma = sample.sigma
    if sigma ~= sigma then return end
    state.m, state.k = beta * (state.m or 0) + (1 - beta) * sigma, (state.k or 0) + 1
  end, { m = "number", k = "number" })
  made.device = policy.on_device({ kind = "ema", beta = beta }, { "m", "k" })
  return made
end
