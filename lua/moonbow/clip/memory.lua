-- SPDX-License-Identifier: MIT
--
-- memory.lua: a clipper's threshold and what it remembers: the number of calls so far, and a state by name, of a
-- matrix, of a group of them, or "*" for all gradients. Clippers ask it, and save and load it in checkpoints.

local options = require "moonbow.options"
local policies = require "moonbow.threshold.policy"
local types = require "bindings.types"

---@class moonbow.ClipMemory
---@field policy moonbow.Threshold
---@field identity table<string, string> what a state must agree with: clip, and what decides on the names in it
---@field step integer calls so far
---@field states table<string, table> what the threshold remembers, by name
local Memory = {}
Memory.__index = Memory

local M = {}

---@param who string
---@param identity table<string, string> clip, the clipper's name, and more for which states differ
---@param threshold number|moonbow.Threshold|function
---@return moonbow.ClipMemory
function M.new(who, identity, threshold)
  local policy = policies.of(who, threshold)
  identity.threshold = tostring(policy)
  return setmetatable({ who = who, identity = identity, policy = policy, step = 0, states = {} }, Memory)
end

---tau of one sample, checked; nil for "leave alone".
---@param name string
---@param shape integer[]
---@param sigma number
---@return number?
function Memory:ask(name, shape, sigma)
  local state = self.states[name]
  if not state then
    state = {}
    self.states[name] = state
  end
  local sample = { name = name, shape = shape, step = self.step, sigma = sigma, state = state }
  return policies.ask(self.who, self.policy, sample)
end

-- A state of its own: what one clipper goes on to remember is no business of another.
local function copy(value)
  if types.is_tensor(value) then return value:clone() end
  if type(value) ~= "table" then return value end
  local result = {}
  for key, inner in pairs(value) do result[key] = copy(inner) end
  return result
end
M.copy = copy

---The step and what the threshold remembers, by name, as of now.
function Memory:state_dict()
  local state = { step = self.step, states = copy(self.states) }
  for key, value in pairs(self.identity) do state[key] = value end
  return state
end

function Memory:load_state_dict(state)
  if type(state) ~= "table" then options.fail("%s: a state was expected, not %s", self.who, options.describe(state)) end
  for _, key in ipairs(options.keys(self.identity)) do -- `clip` is the first of them
    if state[key] ~= self.identity[key] then
      options.fail("%s: the state has %s '%s', this clipper '%s'", self.who, key, tostring(state[key]), self.identity[key])
    end
  end
  if not types.is_integer(state.step) or type(state.states) ~= "table" then
    options.fail("%s: the state needs an integer step and a table states, not %s and %s", self.who,
      options.describe(state.step), options.describe(state.states))
  end
  self.step, self.states = state.step, copy(state.states)
end

return M
