-- SPDX-License-Identifier: MIT
--
-- base.lua: what the built-in schedules share: a callable table that prints what it is, and the shape "rise
-- to the peak, then fall to the final value".

local options = require "moonbow.options"

local M = {}

---@class moonbow.Schedule a function of the step that prints what it is
---@operator call(integer): number

---@class moonbow.ScheduleOptions
---@field peak number largest value, reached at step = warmup
---@field steps integer at this step the final value is reached
---@field warmup? integer steps of linear rise; default 0
---@field final? number default 0; min is its other name

local made = setmetatable({}, { __mode = "k" })

--- Is this one of the library's schedules, or a plain function, which serves as well?
---@param x any
---@return boolean
function M.is_schedule(x) return type(x) == "function" or made[x] == true end

--- A schedule that prints as `text`.
---@param text string
---@param at fun(step: number): number
---@return moonbow.Schedule
function M.new(text, at)
  local schedule = setmetatable({}, {
    __call = function(_, step)
      if type(step) ~= "number" then options.fail("%s: a step is a number, not %s", text, options.describe(step)) end
      return at(step)
    end,
    __tostring = function() return text end,
  })
  made[schedule] = true
  return schedule
end

local number = { type = "number" }

--- A schedule that rises linearly to `peak` at step = warmup and falls to `final` at step = steps:
--- final + (peak - final) * fall(r), where r goes from 0 to 1 and fall from 1 to 0.
---@param name string
---@param given { peak: number, steps: integer, warmup?: integer, final?: number, min?: number }
---@param fall fun(r: number): number
---@return moonbow.Schedule
function M.rise_and_fall(name, given, fall)
  local who = "mb.schedule." .. name
  local o = options.check(who, given, {
    peak = { type = "number", required = true }, steps = { type = "integer", required = true, min = 1 },
    warmup = { type = "integer", default = 0, min = 0 }, final = number, min = number,
  })
  if o.final and o.min then options.fail("%s: 'final' and 'min' are the same option; give one", who) end
  if o.warmup > o.steps then options.fail("%s: warmup is %d, more than the %d steps", who, o.warmup, o.steps) end
  local final = o.final or o.min or 0
  local text = ("%s(peak %g, warmup %d, steps %d, final %g)"):format(name, o.peak, o.warmup, o.steps, final)
  return M.new(text, function(step)
    if step < o.warmup then return o.peak * math.max(step, 0) / o.warmup end
    if step >= o.steps then return o.warmup == o.steps and step == o.steps and o.peak or final end
    return final + (o.peak - final) * fall((step - o.warmup) / (o.steps - o.warmup))
  end)
end

return M
