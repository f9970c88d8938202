-- SPDX-License-Identifier: MIT
--
-- const.lua: one number for all steps, after an optional warm-up.
--
--   mb.schedule.const(3e-4)
--   mb.schedule.const { value = 3e-4, warmup = 100 }     -- value * step / 100 before step 100

local base = require "moonbow.schedule.base"
local options = require "moonbow.options"

---@param given number|{ value: number, warmup?: integer }
---@return moonbow.Schedule
return function(given)
  if type(given) == "number" then given = { value = given } end
  local o = options.check("mb.schedule.const", given, {
    value = { type = "number", required = true }, warmup = { type = "integer", default = 0, min = 0 },
  })
  local text = o.warmup > 0 and ("const(%g, warmup %d)"):format(o.value, o.warmup) or ("const(%g)"):format(o.value)
  return base.new(text, function(step)
    return step < o.warmup and o.value * math.max(step, 0) / o.warmup or o.value
  end)
end
