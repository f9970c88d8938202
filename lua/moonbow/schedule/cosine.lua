-- SPDX-License-Identifier: MIT
--
-- cosine.lua: linear warm-up, then half a cosine (Loshchilov and Hutter 2017, without restarts).
--
--   mb.schedule.cosine { peak = 3e-4, warmup = 200, steps = 5000, final = 3e-5 }    -- min is final's other name
--
-- with s the step: peak s / warmup before the warm-up ends, then final + (peak - final) (1 + cos(pi r)) / 2,
-- r = (s - warmup) / (steps - warmup); final from s = steps on.

local base = require "moonbow.schedule.base"

---@param given moonbow.ScheduleOptions
---@return moonbow.Schedule
return function(given)
  return base.rise_and_fall("cosine", given, function(r) return (1 + math.cos(math.pi * r)) / 2 end)
end
