-- SPDX-License-Identifier: MIT
--
-- linear.lua: linear warm-up, then linear decay.
--
--   mb.schedule.linear { peak = 3e-4, warmup = 200, steps = 5000, final = 0 }
--
-- with s the step: peak s / warmup before the warm-up ends, then final + (peak - final) (1 - r),
-- r = (s - warmup) / (steps - warmup); final from s = steps on.

local base = require "moonbow.schedule.base"

---@param given moonbow.ScheduleOptions
---@return moonbow.Schedule
return function(given)
  return base.rise_and_fall("linear", given, function(r) return 1 - r end)
end
