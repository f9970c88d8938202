-- SPDX-License-Identifier: MIT
--
-- wsd.lua: warm-up, stable, decay: a trapezoid (Hu et al. 2024, MiniCPM; Hägele et al. 2024).
--
--   mb.schedule.wsd { peak = 3e-4, warmup = 200, steps = 5000, decay = 1000, final = 0, shape = "linear" }
--
-- with s the step: peak s / warmup before the warm-up ends, peak until step = steps - decay, then
-- final + (peak - final) fall(r), r = (s - steps + decay) / decay; final from s = steps on. decay below 1 is a share of
-- the steps, as it is by default: 0.2. shape, what fall(r) is: "linear" 1 - r, "sqrt" 1 - sqrt(r), "cosine" (1 + cos(pi r)) / 2.

local base = require "moonbow.schedule.base"
local options = require "moonbow.options"

local falls = {
  linear = function(r) return 1 - r end,
  sqrt = function(r) return 1 - math.sqrt(r) end,
  cosine = function(r) return (1 + math.cos(math.pi * r)) / 2 end,
}

local function whole_or_share(value)
  if value > 1 and value % 1 ~= 0 then return "a whole number of steps, or a share of them up to 1" end
end

---@class moonbow.WsdOptions
---@field peak number
---@field steps integer at this step the final value is reached
---@field warmup? integer steps of linear rise; default 0
---@field decay? number steps of the fall, or below 1 a share of the steps; default 0.2
---@field final? number default 0
---@field shape? "linear"|"sqrt"|"cosine" of the fall; default "linear"

---@param given moonbow.WsdOptions
---@return moonbow.Schedule
return function(given)
  local who = "mb.schedule.wsd"
  local o = options.check(who, given, {
    peak = { type = "number", required = true }, steps = { type = "integer", required = true, min = 1 },
    warmup = { type = "integer", default = 0, min = 0 }, final = { type = "number", default = 0 },
    decay = { type = "number", default = 0.2, min = 0, check = whole_or_share },
    shape = { choices = options.keys(falls), default = "linear" },
  })
  local decay = o.decay < 1 and math.floor(o.decay * o.steps + 0.5) or o.decay
  if o.warmup + decay > o.steps then
    options.fail("%s: warmup %d and decay %d are more than the %d steps", who, o.warmup, decay, o.steps)
  end
  local fall, start = falls[o.shape], o.steps - decay
  local text = ("wsd(peak %g, warmup %d, steps %d, decay %d %s, final %g)"):format(o.peak, o.warmup, o.steps, decay, o.shape,
    o.final)
  return base.new(text, function(step)
    if step < o.warmup then return o.peak * math.max(step, 0) / o.warmup end
    if step <= start and step < o.steps then return o.peak end
    return step >= o.steps and o.final or o.final + (o.peak - o.final) * fall((step - start) / decay)
  end)
end
