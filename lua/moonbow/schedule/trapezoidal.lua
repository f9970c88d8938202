-- SPDX-License-Identifier: MIT
--
-- trapezoidal.lua: the other name of wsd.lua with its linear fall.
--
--   mb.schedule.trapezoidal { peak = 3e-4, warmup = 200, steps = 5000, decay = 1000, final = 0 }

local options = require "moonbow.options"
local wsd = require "moonbow.schedule.wsd"

---@class moonbow.TrapezoidalOptions
---@field peak number
---@field steps integer at this step the final value is reached
---@field warmup? integer steps of linear rise; default 0
---@field decay? number steps of the fall, or below 1 a share of the steps; default 0.2
---@field final? number default 0

---@param given moonbow.TrapezoidalOptions
---@return moonbow.Schedule
return function(given)
  if type(given) == "table" and given.shape ~= nil then
    options.fail("mb.schedule.trapezoidal: it falls linearly; mb.schedule.wsd takes a shape")
  end
  return wsd(given)
end
