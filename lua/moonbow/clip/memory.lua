-- SPDX-License-Identifier: MIT
--
-- memory.lua: a clipper's threshold and what it remembers: the number of calls so far, and a state by name, of a
-- matrix, of a group of them, or "*" for all gradients. Clippers ask it, and save and load it in checkpoints.
--
-- A call is a transaction: what is asked within attempt(call) is learned when the call has ended well. When it raises, every
-- state and the generator's position are what they were. The library's policies learn late, which costs nothing; the
-- states of a user's function are copied before it is asked.

local create = require "bindings.create"
local options = require "moonbow.options"
local policies = require "moonbow.threshold.policy"
local types = require "bindings.types"

---@class moonbow.ClipMemory
---@field policy moonbow.Threshold
---@field identity table<string, string> what a state must agree with: clip, and what decides on the names in it
---@field step integer calls so far
---@field states table<string, table> what the threshold remembers, by name
---@field asked table[] the samples of the call under way; `before`, a state as it was, of functions
local Memory = {}
Memory.__index = Memory

local M = {}

-- A state of its own: what one clipper goes on to remember is no business of another.
local function copy(value, seen)
  if types.is_tensor(value) then return value:clone() end
  if type(value) ~= "table" then return value end
  seen = seen or {}
  if seen[value] then return seen[value] end
  local result = {}
  seen[value] = result
  for key, inner in pairs(value) do result[key] = copy(inner, seen) end
  return result
end
M.copy = copy

---@param who string
---@param identity table<string, string> clip, the clipper's name, and more for which states differ
---@param threshold number|moonbow.Threshold|function
---@return moonbow.ClipMemory
function M.new(who, identity, threshold)
  local policy = policies.of(who, threshold)
  identity.threshold = tostring(policy)
  return setmetatable({ who = who, identity = identity, policy = policy, step = 0, states = {}, asked = {} }, Memory)
end

---tau of one sample, checked; nil for "leave alone".
---@param name string
---@param shape integer[]
---@param sigma number
---@param total? number the norm of all gradients, where it is known
---@return number?
function Memory:ask(name, shape, sigma, total)
  local state, policy = self.states[name] or {}, self.policy
  local asked = { name = name, state = state, before = policy.edits and next(state) and copy(state) or nil }
  local sample = { name = name, shape = shape, step = self.step, sigma = sigma, total = total, state = state }
  self.asked[#self.asked + 1], asked.sample = asked, sample
  asked.tau = policies.ask(self.who, policy, sample)
  return asked.tau
end

-- What a policy is, without its numbers: "ema" of "ema(0.9)".
local function kind_of(policy) return (policy.text:match "^[%a_]+") end

---Goes on with another threshold. What is remembered stays where the new one is of the same kind (an average with another
---beta, another function) and can go on from it; otherwise it begins anew.
---@param threshold number|moonbow.Threshold|function
function Memory:set_threshold(threshold)
  local policy, states = policies.of(self.who, threshold), {}
  if kind_of(policy) == kind_of(self.policy) then
    for name, state in pairs(self.states) do
      if not policy:problem_of(state) then states[name] = state end
    end
  end
  self.policy, self.states, self.identity.threshold = policy, states, tostring(policy)
end

local function learn(self)
  local policy = self.policy
  for _, asked in ipairs(self.asked) do
    if policy.learn then policy.learn(asked.sample, asked.state, asked.tau) end
    self.states[asked.name] = asked.state
  end
  self.step = self.step + 1
end

-- The table stays the same one: a function may have put it elsewhere too.
local function unlearn(self)
  for _, asked in ipairs(self.policy.edits and self.asked or {}) do
    local state = asked.state
    for key in pairs(state) do state[key] = nil end
    for key, value in pairs(asked.before or {}) do state[key] = value end
  end
end

---Makes a call of the clipper, which asks for its thresholds, and learns from it or forgets it.
---@param forget? fun() what else there is to do when it fails
---@param call fun(...): ...
---@return any ... the call's results
function Memory:attempt(forget, call, ...)
  local seed, step, stream = create.rng_get()
  self.asked = {}
  local ok, first, second = pcall(call, ...)
  if ok then learn(self) else unlearn(self) end
  self.asked = {}
  if ok then return first, second end
  create.rng_set(seed, step, stream)
  if forget then forget() end
  error(first, 0)
end

---The step and what the threshold remembers, by name, as of now.
function Memory:state_dict()
  local state = { step = self.step, states = copy(self.states) }
  for key, value in pairs(self.identity) do state[key] = value end
  return state
end

-- A table whose keys are names of matrices or groups.
local function check_names(who, what, list)
  if type(list) ~= "table" then
    options.fail("%s: the state's %s are %s, a table was expected", who, what, options.describe(list))
  end
  for key in pairs(list) do
    if type(key) ~= "string" then
      options.fail("%s: the state's %s go by name, and one has %s", who, what, options.describe(key))
    end
  end
end
M.check_names = check_names

---Raises an error unless a state is one that this clipper can go on from.
function Memory:check(state)
  if type(state) ~= "table" then options.fail("%s: a state was expected, not %s", self.who, options.describe(state)) end
  for _, key in ipairs(options.keys(self.identity)) do -- `clip` is the first of them
    if state[key] ~= self.identity[key] then
      options.fail("%s: the state has %s '%s', this clipper '%s'", self.who, key, tostring(state[key]), self.identity[key])
    end
  end
  if not types.is_integer(state.step) or state.step < 0 then
    options.fail("%s: the state's step is %s, an integer of at least 0 was expected", self.who, options.describe(state.step))
  end
  check_names(self.who, "states", state.states)
  for _, name in ipairs(options.keys(state.states)) do
    local problem = self.policy:problem_of(state.states[name])
    if problem then options.fail("%s: the state of '%s' for %s has %s", self.who, name, self.policy.text, problem) end
  end
end

function Memory:load_state_dict(state)
  self:check(state)
  self.step, self.states = state.step, copy(state.states)
end

return M
