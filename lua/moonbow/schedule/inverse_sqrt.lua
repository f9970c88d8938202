-- SPDX-License-Identifier: MIT
--
-- inverse_sqrt.lua: linear warm-up, then decay by the square root of the step (Vaswani et al. 2017, section 5.3, scaled
-- so that the peak is `peak`).
--
--   mb.schedule.inverse_sqrt { peak = 3e-4, warmup = 4000 }
--
-- with s the step: peak s / warmup before the warm-up ends, then peak sqrt(warmup / s). It has no last step. Without a
-- warm-up it is peak / sqrt(s) from step 1 on.

local base = require "moonbow.schedule.base"
local options = require "moonbow.options"

---@param given { peak: number, warmup?: integer }
---@return moonbow.Schedule
return function(given)
  local o = options.check("mb.schedule.inverse_sqrt", given, {
    peak = { type = "number", required = true }, warmup = { type = "integer", default = 1, min = 0 },
  })
  local turn = math.max(o.warmup, 1)
  return base.new(("inverse_sqrt(peak %g, warmup %d)"):format(o.peak, o.warmup), function(step)
    return step < turn and o.peak * math.max(step, 0) / turn or o.peak * math.sqrt(turn / step)
  end)
end
