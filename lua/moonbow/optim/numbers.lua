-- SPDX-License-Identifier: MIT
--
-- numbers.lua: the options of an optimizer that are numbers of the run: given as numbers, or as functions of the step that
-- are evaluated before each update. They are read from the table of options each time: settable.lua changes them there.

local options = require "moonbow.options"

local M = {}

---@class moonbow.OptionNumber
---@field name string "lr", or "betas[1]" of an array
---@field key string the option: "lr", "betas"
---@field index? integer in an array
---@field holder table the table of options
---@field slot string|integer where in it: a number, a function of the step, or an array of such
---@field row table of the spec
---@field checked? number the last number that the row was checked for

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
      list[#list + 1] = { name = name, key = name, holder = { function(step) return step end }, slot = 1,
                          row = { type = "number" } }
    elseif type(scalars[name]) == "number" then
      for i = 1, #o[name] do
        list[#list + 1] = { name = ("%s[%d]"):format(name, i), key = name, index = i, holder = o, slot = name, row = row.element }
      end
    elseif scalars[name] == true then
      list[#list + 1] = { name = name, key = name, holder = o, slot = name, row = row }
    end
  end
  return scalars, list
end

local NUMBER = { type = "number|function" }

local function is_callable(value)
  local meta = type(value) == "table" and getmetatable(value)
  return type(value) == "function" or meta and meta.__call ~= nil
end

--- The number that an entry of the list has at a step.
---@param who string begins the text of errors
---@param entry moonbow.OptionNumber
---@param step integer
---@return number
function M.at(who, entry, step)
  local given = entry.holder[entry.slot]
  if entry.index then given = given[entry.index] end
  if given == entry.checked and given ~= nil then return given end
  if type(given) == "number" then
    options.value(who, ("option '%s'"):format(entry.name), given, entry.row)
    entry.checked = given
    return given
  end
  if not is_callable(given) then options.value(who, ("option '%s'"):format(entry.name), given, NUMBER) end
  local value = given(step)
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
