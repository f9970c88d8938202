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

-- Values that a device keeps of each threshold, twice.
local MOST_ON_DEVICE = 4096

---@class moonbow.QuantileOptions
---@field q? number from 0, the least value, to 1, the largest; default 0.85
---@field window? integer values that are remembered; default 100

---@param given? moonbow.QuantileOptions
---@return moonbow.Threshold
return function(given)
  local o = options.check("mb.threshold.quantile", given, {
    q = { type = "number", default = 0.85, min = 0, max = 1 },
    window = { type = "integer", default = 100, min = 1 },
  })
  local q, window = o.q, o.window
  local made = policy.new(("quantile(%s, %d)"):format(options.number(q), window), function(_, state)
    local past = state.history
    return past and past[1] and history.sorted(past)[math.floor(q * (#past - 1)) + 1] or nil
  end, function(sample, state)
    state.history = state.history or {}
    if sample.sigma == sample.sigma then history.push(state.history, sample.sigma, window) end
  end, { history = "numbers" })
  if window > MOST_ON_DEVICE then return made end
  made.device = { rule = { kind = "quantile", q = q, window = window }, pack = function(state)
    local past, row = state.history or {}, { 0 }
    for i = math.max(1, #past - window + 1), #past do row[#row + 1] = past[i] end
    row[1] = #row - 1
    return row
  end, unpack = function(row)
    local past = {}
    for i = 1, row[1] do past[i] = row[i + 1] end
    return { history = past }
  end }
  return made
end
