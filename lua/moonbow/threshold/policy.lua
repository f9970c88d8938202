-- SPDX-License-Identifier: MIT
--
-- policy.lua: what all thresholds are made of: a name for print and the routing table, states by name for calls that
-- bring none, and two functions of a sample and its state:
--
--   look(sample, state) -> tau     changes nothing
--   learn(sample, state, tau)      takes the sample into the state; absent where nothing is remembered
--
-- so that a clipper looks for all matrices, changes them, and lets the policy learn only when nothing has failed. A
-- user's function does both at once: `edits` says that its state has to be copied before it is asked.

local options = require "moonbow.options"
local schedules = require "moonbow.schedule.base"

local M = {}

---@class moonbow.Sample what a policy is asked about
---@field name? string of the matrix
---@field shape? integer[]
---@field step? integer calls before this one
---@field sigma number largest singular value before clipping
---@field total? number norm of all gradients, of clipping by norms
---@field state? table what the policy remembers of this matrix

---@class moonbow.Threshold a policy: th(sample) is tau, or nil for "leave alone"
---@operator call(moonbow.Sample): number?
---@field device? moonbow.DevicePolicy
local Policy = {}
Policy.__index = Policy

function Policy:__call(sample)
  if type(sample) ~= "table" or type(sample.sigma) ~= "number" then
    options.fail("%s: a table with the number sigma was expected, not %s", self.text,
      type(sample) == "table" and "sigma = " .. options.describe(sample.sigma) or options.describe(sample))
  end
  local state = sample.state
  if not state then
    local name = sample.name or ""
    self.states[name] = self.states[name] or {}
    state = self.states[name]
  end
  local tau = self.look(sample, state)
  if self.learn then self.learn(sample, state, tau) end
  return tau
end

function Policy:__tostring() return self.text end

---@param text string "ema(0.9)"
---@param look fun(sample: moonbow.Sample, state: table): number?
---@param learn? fun(sample: moonbow.Sample, state: table, tau: number?)
---@param fields? table<string, "number"|"numbers"> what a state holds, if it is not empty; nil for anything
---@return moonbow.Threshold
function M.new(text, look, learn, fields)
  return setmetatable({ text = text, look = look, learn = learn, fields = fields, edits = false, states = {} }, Policy)
end

---The form of a policy that a device asks itself: what the binding is told, and its states as rows of numbers.
---@class moonbow.DevicePolicy
---@field rule table
---@field pack fun(state: table): number[]
---@field unpack fun(row: number[]): table

---One whose rows are these fields of a state, in order.
---@param rule table
---@param names string[]
---@return moonbow.DevicePolicy
function M.on_device(rule, names)
  return { rule = rule, pack = function(state)
    local row = {}
    for i, name in ipairs(names) do row[i] = state[name] or 0 end
    return row
  end, unpack = function(row)
    local state = {}
    for i, name in ipairs(names) do state[name] = row[i] end
    return state
  end }
end

local function holds(value, kind)
  if kind == "number" then return type(value) == "number" end
  if type(value) ~= "table" then return false end
  for key, item in pairs(value) do
    if type(item) ~= "number" or type(key) ~= "number" or (key ~= 1 and value[key - 1] == nil) then return false end
  end
  return true
end

---What is wrong with a state that this policy is to go on from, or nil.
---@param state any
---@return string?
function Policy:problem_of(state)
  if type(state) ~= "table" then return options.describe(state) .. ", a table was expected" end
  if not self.fields or next(state) == nil then return nil end
  for _, name in ipairs(options.keys(self.fields)) do
    if not holds(state[name], self.fields[name]) then
      return ("%s = %s, %s expected"):format(name, options.describe(state[name]),
        self.fields[name] == "number" and "a number was" or "an array of numbers was")
    end
  end
end

-- A threshold that follows a schedule: call k of the clipper, from 1, has the schedule's number at k.
local function scheduled(schedule)
  return M.new(tostring(schedule), function(sample)
    if not sample.step then options.fail("%s: as a threshold it needs the sample's step", tostring(schedule)) end
    return schedule(sample.step + 1)
  end)
end

---A number, a schedule, a policy or a function as a policy.
---@param who string
---@param threshold number|moonbow.Schedule|moonbow.Threshold|fun(sample: moonbow.Sample): number?
---@return moonbow.Threshold
function M.of(who, threshold)
  if type(threshold) == "number" then
    if threshold <= 0 or threshold ~= threshold then
      options.fail("%s: threshold is %s, a number above 0 was expected", who, tostring(threshold))
    end
    local made = M.new(("const(%s)"):format(options.number(threshold)), function() return threshold end)
    made.device = M.on_device({ kind = "const", tau = threshold }, {})
    return made
  end
  if getmetatable(threshold) == Policy then return threshold end
  if type(threshold) == "table" and schedules.is_schedule(threshold) then return scheduled(threshold) end
  if type(threshold) == "function" then
    local policy = M.new("function", function(sample) return threshold(sample) end)
    policy.edits = true
    return policy
  end
  options.fail("%s: threshold is %s, a number, a schedule, a policy of mb.threshold or a function was expected", who,
    options.describe(threshold))
end

-- " for 'w'", or nothing for what has no name.
local function of_name(name)
  return name and name ~= "" and (" for '%s'"):format(name) or ""
end
M.of_name = of_name

-- One line that says what went wrong, whose rule and where; never the rule's own traceback.
local function fail_raised(who, what, name, problem)
  local meta = type(problem) == "table" and getmetatable(problem)
  local text = (type(problem) == "string" or (meta and meta.__tostring)) and tostring(problem) or options.describe(problem)
  options.fail("%s: %s failed%s: %s", who, what, of_name(name), (text:gsub("%s*\n%s*", "; ")))
end

---What a policy says to a sample, which it does not learn from yet, checked: nil, or a number that is not negative.
---@param who string
---@param policy moonbow.Threshold
---@param sample moonbow.Sample
---@return number?
function M.ask(who, policy, sample)
  local ok, tau = pcall(policy.look, sample, sample.state)
  if not ok then fail_raised(who, "threshold " .. policy.text, sample.name, tau) end
  if tau == nil or (type(tau) == "number" and tau >= 0) then return tau end
  options.fail("%s: threshold %s returned %s%s, a number >= 0 or nil was expected", who, policy.text,
    options.describe(tau), of_name(sample.name))
end

M.fail_raised = fail_raised

return M
