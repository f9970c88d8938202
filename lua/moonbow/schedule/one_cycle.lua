-- SPDX-License-Identifier: MIT
--
-- one_cycle.lua: up and down once (Smith and Topin 2017), as torch.optim.lr_scheduler.OneCycleLR with two phases.
--
--   mb.schedule.one_cycle { peak = 0.1, steps = 1000, rise = 0.3, start_factor = 25, final_factor = 1e4, shape = "cosine" }
--
-- With s the step, from peak / start_factor at s = 1 to the peak at s = rise steps, then to the beginning's value over
-- final_factor at s = steps, where it stays; along half a cosine or a line. The first update has PyTorch's step 0.

local base = require "moonbow.schedule.base"
local options = require "moonbow.options"

local shapes = {
  cosine = function(from, to, r) return to + (from - to) * (1 + math.cos(math.pi * r)) / 2 end,
  linear = function(from, to, r) return from + (to - from) * r end,
}

---@class moonbow.OneCycleOptions
---@field peak number
---@field steps integer at this step the final value is reached
---@field rise? number share of the steps until the peak; default 0.3
---@field start_factor? number peak over the first value; default 25
---@field final_factor? number first over the final value; default 1e4
---@field shape? "cosine"|"linear" default "cosine"

---@param given moonbow.OneCycleOptions
---@return moonbow.Schedule
return function(given)
  local who = "mb.schedule.one_cycle"
  local o = options.check(who, given, {
    peak = { type = "number", required = true }, steps = { type = "integer", required = true, min = 2 },
    rise = { type = "number", default = 0.3, above = 0, below = 1 }, start_factor = { type = "number", default = 25, min = 1 },
    final_factor = { type = "number", default = 1e4, min = 1 }, shape = { choices = options.keys(shapes), default = "cosine" },
  })
  local between, turn = shapes[o.shape], o.rise * o.steps
  if turn <= 1 then options.fail("%s: rise %g of %d steps is less than two steps", who, o.rise, o.steps) end
  local first = o.peak / o.start_factor
  local last = first / o.final_factor
  return base.new(("one_cycle(peak %g, steps %d, rise %g)"):format(o.peak, o.steps, o.rise), function(step)
    if step <= turn then return between(first, o.peak, (math.max(step, 1) - 1) / (turn - 1)) end
    return step >= o.steps and last or between(o.peak, last, (step - turn) / (o.steps - turn))
  end)
end
