-- SPDX-License-Identifier: MIT
--
-- numbers.lua: the options of an optimizer that are numbers of the run: given as numbers, or as functions of the step that
-- are evaluated before each update.

local options = require "moonbow.options"

local M = {}

---@class moonbow.OptionNumber
---@field name string "lr", or "betas[1]" of an array
---@field key string the option: "lr", "betas"
---@field index? integer in an array
---@field value number|fun(step: integer): number
---@field row table of the spec

--- How a trace sees the options (moonbow/fuse.lua), and the list of those that are numbers of the run, in the order of
--- names and of arrays. The step is one of them.
---@param constructor moonbow.OptimizerConstructor
---@param o table
---@return table scalars
---@return moonbow.OptionNumber[] list
function M.of(constructor, o)
  local scalars, list = { step = true }, {}
  for name, value in pairs(o) do
    local row = constructor.spec[name]
    if row.element then
      scalars[name] = #value
    elseif type(row.default) == "number" and not row.fixed then
      scalars[name] = true
    else
      scalars[name] = { value = value }
    end
  end
  for _, name in ipairs(options.keys(scalars)) do
    local row = constructor.spec[name]
    if name == "step" then
      list[#list + 1] = { name = name, key = name, value = function(step) return step end, row = { type = "number" } }
    elseif type(scalars[name]) == "number" then
      for i, value in ipairs(o[name]) do
        list[#list + 1] = { name = ("%s[%d]"):format(name, i), key = name, index = i, value = value, row = row.element }
      end
    elseif scalars[name] == true then
      list[#list + 1] = { name = name, key = name, value = o[name], row = row }
    end
  end
  return scalars, list
end

--- The number that an entry of the list has at a step.
---@param who string begins the text of errors
---@param entry moonbow.OptionNumber
---@param step integer
---@return number
function M.at(who, entry, step)
  if type(entry.value) == "number" then return entry.value end
  local value = entry.value(step)
  if type(value) ~= "number" then
    options.fail("%s: option '%s' is a function that returned %s at step %d, a number is needed", who, entry.name,
                 options.describe(value), step)
  end
  options.value(who, ("option '%s' at step %d"):format(entry.name, step), value, entry.row)
  return value
end

--- The number that an option has at a step, or nil if it is no number.
---@param who string
---@param list moonbow.OptionNumber[]
---@param name string
---@param step integer
---@return number?
function M.named(who, list, name, step)
  for _, entry in ipairs(list) do
    if entry.name == name then return M.at(who, entry, step) end
  end
end

return M
