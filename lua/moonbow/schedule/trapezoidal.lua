-- SPDX-License-Identifier: MIT
--
-- trapezoidal.lua: the other name of wsd.lua with its linear fall.
--
--   mb.schedule.trapezoidal { peak = 3e-4, warmup = 200, steps = 5000, decay = 1000, final = 0 }

local options = require "moonbow.options"
local wsd = require "moonbow.schedule.wsd"

---@param given { peak: number, steps: integer, warmup?: integer, decay?: number, final?: number }
---@return moonbow.Schedule
return function(given)
  if type(given) == "table" and given.shape ~= nil then
    options.fail("mb.schedule.trapezoidal: it falls linearly; mb.schedule.wsd takes a shape")
  end
  return wsd(given)
end
