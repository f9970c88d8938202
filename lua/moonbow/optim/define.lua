-- SPDX-License-Identifier: MIT
--
-- define.lua: an optimizer from a description; the built-in ones are made here too.
--
--   local Lion = mb.optim.define {
--     name = "lion",
--     defaults = { lr = 1e-4, b1 = 0.9, b2 = 0.99, wd = 0 },
--     state = { "m" },
--     update = function(p, h)
--       p.w = p.w - h.lr * (mb.sign(h.b1 * p.m + (1 - h.b1) * p.g) + h.wd * p.w)
--       p.m = h.b2 * p.m + (1 - h.b2) * p.g
--     end,
--   }
--   local opt = Lion(model, { lr = 1e-3 })
--
--   name      what print, routing and errors call it
--   defaults  its options. A number may be given as a function of the step, evaluated before each update; an
--             array of numbers likewise, element by element; booleans and strings are fixed. Other keys are errors
--   state     buffers kept for each parameter: names that begin as zeros, or name = number that they begin with;
--             or a function of the options that returns such a table. name = "rows", "columns" or "parameter" is a state of
--             one number a row, a column or a parameter, from zero: { r = "rows" }; a vector is one row, a filter
--             (out, in k k)
--   update    fn(p, h, o), traced once (moonbow/fuse.lua, which says how to reduce: mb.norm(p.g), ...; and how to draw
--             random numbers) and run as one pass over the arena, or few with reductions. p.w is the weight,
--             p.g the gradient (read-only), p.<state> a state; assigning to a field of p changes it.
--             h.<option> is the number of this step (h.betas[1] of an array; booleans and strings as they are),
--             h.step counts updates from 1. o holds the options as they were given, for choices that are fixed
--             when the optimizer is made
--   update_group  fn(P, h, o) instead of update, for methods on matrices: matrices.lua says what P is and what else such a
--             definition may have
--   momentum  the state that is the momentum, for clippers with on = "momentum". The update assigns it first and then
--             reads it wherever the new momentum is meant; without this such clippers are refused
--   decoupled_decay  the option that is a decoupled weight decay, lr decay w beside the update: no part of what
--             clippers with on = "update" clip
--   limits    bounds of options, as moonbow/options.lua names them: { lr = { min = 0 } }; of arrays, for each element
--   options   rows of moonbow/options.lua for options that defaults cannot describe, { norms = { type = "table" } };
--             fixed = true in a row whose default is a number: it may be something else, and is no number of the run
--   check     fn(o) -> nil, or a text that says what is wrong with the options

local matrices = require "moonbow.optim.matrices"
local optimizer = require "moonbow.optim.optimizer"
local options = require "moonbow.options"

---@class moonbow.DefinitionOptions
---@field name string what print, routing and errors call it
---@field defaults? table<string, number|number[]|boolean|string> its options; numbers may be given as functions of the step
---@field state? table|fun(o: table): table buffers by name: "m", or v = 1 with the number that it begins with
---@field update? fun(p: table, h: table, o: table) traced once: assigns to p.w and states from p.g, h.lr, h.step
---@field update_group? fun(P: table, h: table, o: table) instead of update, for methods on matrices (optim/matrices.lua)
---@field momentum? string the state that is the momentum, for clippers with on = "momentum"
---@field decoupled_decay? string the option that is a decoupled weight decay, for clippers with on = "update"
---@field limits? table<string, table> bounds of options: { lr = { min = 0 } }
---@field options? table<string, table> rows of moonbow/options.lua for options that defaults cannot describe
---@field check? fun(o: table): string? what is wrong with the options

---@class moonbow.OptimizerOptions names that optimizers share; each takes those that its own page lists
---@field lr? number|fun(step: integer): number learning rate
---@field momentum? number|fun(step: integer): number share of the past that is kept; scion and its kin: one minus that
---@field betas? number[] decay rates of the averages of the gradient and of its square
---@field eps? number|fun(step: integer): number is added to what is divided by
---@field weight_decay? number|fun(step: integer): number weight decay, decoupled or not as the formula says
---@field nesterov? boolean looks one step ahead

local definition_spec = {
  name = { type = "string", required = true, check = function(name)
    if not name:find "^[%a_][%w_]*$" then return "a name of letters, digits and '_'" end
  end },
  defaults = { type = "table", default = {} },
  state = { type = "table|function", default = {} },
  update = { type = "function" },
  momentum = { type = "string" },
  decoupled_decay = { type = "string" },
  limits = { type = "table", default = {} },
  options = { type = "table", default = {} },
  check = { type = "function" },
}
for name, row in pairs(matrices.definition_spec) do definition_spec[name] = row end

-- ----- options --------------------------------------------------------------------------------------------

-- A row of a spec for the elements of an array.
local function array_row(default, limits)
  local element = { type = "number|function" }
  for key, value in pairs(limits) do element[key] = value end
  return { type = "table", default = default, element = element, check = function(value)
    if #value ~= #default then return ("an array of %d numbers"):format(#default) end
  end }
end

-- The rows that options.check needs, from the defaults.
local function option_spec(who, defaults, limits)
  local spec = {}
  for name, default in pairs(defaults) do
    if name == "step" then options.fail("%s: 'step' cannot be an option: h.step counts the updates", who) end
    if type(default) == "table" then
      spec[name] = array_row(default, limits[name] or {})
    elseif type(default) == "number" or type(default) == "boolean" or type(default) == "string" then
      spec[name] = { type = type(default) == "number" and "number|function" or type(default), default = default }
      for key, value in pairs(limits[name] or {}) do spec[name][key] = value end
    else
      options.fail("%s: default of '%s' must be a number, an array of numbers, a boolean or a string, not %s", who,
                   tostring(name), options.describe(default))
    end
  end
  for name in pairs(limits) do
    if spec[name] == nil then options.fail("%s: limits name '%s', which has no default", who, tostring(name)) end
  end
  return spec
end

-- ----- states ---------------------------------------------------------------------------------------------

local shapes = { rows = true, columns = true, parameter = true }

-- { "m", v = 1, r = "rows" } -> { { name = "m", initial = 0 }, { name = "r", shape = "rows" }, { name = "v", initial = 1 } }
local function state_list(who, state)
  local list, seen = {}, {}
  local function add(name, initial)
    if type(name) ~= "string" or name == "w" or name == "g" or not name:find "^[%a_][%w_]*$" then
      options.fail("%s: a state must be a name other than w and g, not %s", who, options.describe(name))
    end
    if seen[name] then options.fail("%s: state '%s' is named twice", who, name) end
    seen[name] = true
    if shapes[initial] then
      list[#list + 1] = { name = name, shape = initial }
      return
    end
    if type(initial) ~= "number" then
      options.fail("%s: state '%s' must be the number that it begins with, or \"rows\", \"columns\" or \"parameter\", not %s",
                   who, name, options.describe(initial))
    end
    list[#list + 1] = { name = name, initial = initial }
  end
  options.value(who, "state", state, { type = "table" })
  for _, name in ipairs(state) do add(name, 0) end
  for _, name in ipairs(options.keys(state)) do add(name, state[name]) end
  return list
end

-- The momentum must be one of the states, as far as these are known without the options.
local function check_momentum(who, definition)
  if type(definition.state) == "function" then return end
  local names, momentum = {}, definition.momentum
  for i, state in ipairs(state_list(who, definition.state)) do
    if state.name == momentum and not state.shape then return end
    names[i] = state.name
  end
  if momentum then
    options.fail("%s: momentum names '%s', which is no state%s", who, momentum, options.suggest(momentum, names))
  end
end

local function check_decay(who, definition)
  local decay = definition.decoupled_decay
  if decay and type(definition.defaults[decay]) ~= "number" then
    options.fail("%s: decoupled_decay names '%s', which is no option with a number as its default%s", who, decay,
                 options.suggest(decay, options.keys(definition.defaults)))
  end
end

-- ----- the constructor ------------------------------------------------------------------------------------

---@class moonbow.OptimizerConstructor what mb.optim.define returns: call it with a model and options
---@field name string
---@operator call(...): moonbow.Optimizer
local Constructor = {}
Constructor.__index = Constructor

--- Options as given over the defaults, checked.
---@param who string
---@param given? table
---@return table
function Constructor:options(who, given)
  local o = options.check(who, given, self.spec)
  for name, row in pairs(self.spec) do
    if row.element then
      for i, value in ipairs(o[name]) do
        options.value(who, ("element %d of option '%s'"):format(i, name), value, row.element)
      end
    end
  end
  local problem = self.definition.check and self.definition.check(o)
  if problem then options.fail("%s: %s", who, problem) end
  return o
end

--- The states that an optimizer with these options keeps: those with a number for each element, and others.
---@return { name: string, initial: number }[]
---@return { name: string, shape: "rows"|"columns"|"parameter" }[]
function Constructor:states(o)
  local state, of_elements, shaped = self.definition.state, {}, {}
  if type(state) == "function" then state = state(o) end
  for _, one in ipairs(state_list(self.who, state)) do
    local list = one.shape and shaped or of_elements
    list[#list + 1] = one
    if one.shape and self.definition.update_group then
      options.fail("%s: state '%s' has one number for each of the %s, which update_group does not know", self.who, one.name,
                   one.shape == "parameter" and "parameters" or one.shape)
    end
  end
  return of_elements, shaped
end

function Constructor:__call(model, given)
  optimizer.check_model(self.who, model)
  return optimizer.new(model, matrices.groups(self, model, self:options(self.who, given)))
end

function Constructor:__tostring()
  return self.who
end

--- Makes a constructor from a definition; see the head of this file.
---@param given table
---@return moonbow.OptimizerConstructor
return function(given)
  local definition = options.check("mb.optim.define", given, definition_spec)
  local who = ("optimizer '%s'"):format(definition.name)
  check_momentum(who, definition)
  check_decay(who, definition)
  matrices.check(who, definition)
  local spec = option_spec(who, definition.defaults, definition.limits)
  for name, row in pairs(definition.options) do spec[name] = row end
  for name, row in pairs(matrices.options(definition)) do spec[name] = row end
  return setmetatable({
    name = definition.name, who = who, definition = definition, update = definition.update, spec = spec,
  }, Constructor)
end
