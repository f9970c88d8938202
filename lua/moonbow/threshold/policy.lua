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

local M = {}

---@class moonbow.Sample
---@field name? string of the matrix
---@field shape? integer[]
---@field step? integer calls before this one
---@field sigma number largest singular value before clipping
---@field state? table what the policy remembers of this matrix

---@class moonbow.Threshold
---@operator call(moonbow.Sample): number?
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
---@return moonbow.Threshold
function M.new(text, look, learn)
  return setmetatable({ text = text, look = look, learn = learn, edits = false, states = {} }, Policy)
end

---A number, a policy or a function as a policy.
---@param who string
---@param threshold number|moonbow.Threshold|fun(sample: moonbow.Sample): number?
---@return moonbow.Threshold
function M.of(who, threshold)
  if type(threshold) == "number" then
    if threshold <= 0 or threshold ~= threshold then
      options.fail("%s: threshold is %s, a number above 0 was expected", who, tostring(threshold))
    end
    return M.new(("const(%g)"):format(threshold), function() return threshold end)
  end
  if getmetatable(threshold) == Policy then return threshold end
  if type(threshold) == "function" then
    local policy = M.new("function", function(sample) return threshold(sample) end)
    policy.edits = true
    return policy
  end
  options.fail("%s: threshold is %s, a number, a policy of mb.threshold or a function was expected", who,
    options.describe(threshold))
end

-- One line that says what went wrong, whose rule and where; never the rule's own traceback.
local function fail_raised(who, what, name, problem)
  options.fail("%s: %s failed for '%s': %s", who, what, tostring(name), (tostring(problem):gsub("%s*\n%s*", "; ")))
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
  options.fail("%s: threshold %s returned %s for '%s', a number >= 0 or nil was expected", who, policy.text,
    tostring(tau), tostring(sample.name))
end

M.fail_raised = fail_raised

return M
