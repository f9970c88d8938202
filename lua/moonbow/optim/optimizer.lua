-- SPDX-License-Identifier: MIT
--
-- optimizer.lua: the object that every constructor returns: groups of parameters, each with its own rule, and
-- the states they keep.
--
-- State k of every group lies in flat buffer k, which has the layout of the model's arena: groups do not
-- overlap, so two optimizers with two states each need two buffers, not four. An update is one run of one
-- program over whole stretches of the arena, for each group, or for several that differ in numbers alone (together.lua).
--
-- The options that are numbers can be changed between steps, opt.lr = 1e-4: settable.lua.
--
-- A parameter that no backward has reached has gradient zero, and is updated with it.

local binding = require "bindings.model"
local clipping = require "moonbow.optim.clipping"
local elementwise = require "moonbow.optim.elementwise"
local handle = require "bindings.handle"
local matrixwise = require "moonbow.optim.matrixwise"
local options = require "moonbow.options"
local recording = require "moonbow.recording"
local settable = require "moonbow.optim.settable"
local together = require "moonbow.optim.together"
local tree = require "moonbow.models.tree"
local types = require "bindings.types"

local M = {}

---@class moonbow.Optimizer what changes the weights of a model, step by step
---@field model moonbow.Model
---@field updates integer made so far
---@field halfway boolean? an error left the last step there: the clipper has learned, weights or states may have moved
local Optimizer = {}
settable.install(Optimizer, { "values", "gradients", "inner", "clipping", "buffer", "halfway", "runs" })

--- Raises an error unless `model` is a model.
---@param who string
function M.check_model(who, model)
  if type(model) ~= "table" or not model.handle or not model.parameters then
    options.fail("%s: a model was expected as the first argument, not %s", who, options.describe(model))
  end
end

-- ----- updating -------------------------------------------------------------------------------------------

local function prepare(self)
  self.halfway = false
  for _, group in ipairs(self.groups) do group.rule:prepare(self.updates + 1) end
end

-- Gradients as a clipper leaves them. One that asks the host is a part of its own when a step is captured.
local function clip_gradients(self, clip)
  if type(clip) == "table" and clip.records_itself then return clip(self.model) end
  return recording.host(function()
    local report = clip(self.model)
    self.halfway = true
    return report
  end)
end

local function needs_finite(self)
  for _, group in ipairs(self.groups) do
    if group.rule.needs_finite then return true end
  end
end

-- Rules on matrices take no NaN and no Inf, and would refuse them half-way.
local function check_finite(self)
  for _, group in ipairs(self.groups) do
    local bad = group.rule.needs_finite and self:find_nonfinite()
    if bad then
      options.fail("opt:step: the gradient of '%s' is not finite, which %s refuses; nothing was updated%s", bad,
                   group.constructor.who, group.constructor.definition.keeps_gradient
                     and ". It keeps its average there: model:zero_grad() gives that up and goes on" or "")
    end
  end
end

local function update(self)
  -- What goes over all parameters is found before any group moves its own.
  for _, one in ipairs(self.runs) do
    if one.reduce then one:reduce() end
  end
  for _, one in ipairs(self.runs) do one:run() end
end

local function is_for_graphs(self)
  for _, group in ipairs(self.groups) do
    if not group.rule:is_for_graphs() then return false end
  end
  return true
end

--- Changes the weights by their gradients. Options that are functions of the step are evaluated first: the
--- first update is step 1. A clipper, mb.clip.spectral { on = ... } or another one, clips gradients, momenta or
--- updates on the way, and its report is returned; a function clip(model) -> report does too.
---@param clip? table|fun(model: moonbow.Model): any
---@return any report
function Optimizer:step(clip)
  local report
  local is_inside = clip ~= nil and clipping.is_inside(clip)
  if is_inside and self.inner then
    options.fail("opt:step: '%s' clips updates itself; a clipper of gradients may come before", self.inner.name)
  end
  prepare(self)
  recording.check(function() prepare(self) end)
  recording.before(function() prepare(self) end)
  if clip ~= nil and not is_inside then
    report = clip_gradients(self, clip)
    self.halfway = not recording.is_on()
  end
  binding.settle_gradients(self.model.handle)
  if needs_finite(self) then recording.host(check_finite, self) end
  if self.inner then
    local inner_report = recording.host(clipping.step, self, self.inner.clip)
    report = clip ~= nil and report or inner_report
  elseif is_inside then
    report = recording.host(clipping.step, self, clip)
  elseif is_for_graphs(self) then
    self.halfway = not recording.is_on()
    update(self)
  else
    recording.host(function()
      self.halfway = true
      update(self)
    end)
  end
  recording.after(function() self.updates, self.halfway = self.updates + 1, false end)
  return report
end

--- From now on every step clips its updates: what mb.optim.spectra makes of an optimizer. step() returns the report.
---@param name string what the optimizer is called with it
---@param clip table a clipper with on = "update"
function Optimizer:clip_updates(name, clip)
  self.inner = { name = name, clip = clip }
  clipping.check(self, clip)
end

--- Makes every gradient of the model zero, but those that are an optimizer's state.
function Optimizer:zero_grad()
  local keeps = false
  for _, group in ipairs(self.groups) do keeps = keeps or group.constructor.definition.keeps_gradient end
  if not keeps then
    self.model:zero_grad()
    return
  end
  for _, group in ipairs(self.groups) do
    for _, p in ipairs(group.constructor.definition.keeps_gradient and {} or group.parameters) do p.value:zero_grad() end
  end
  binding.forgive(self.model.handle)
end

--- Gives the weights the initial values of their norms, where an optimizer has such (optim/norms.lua); others are left alone.
function Optimizer:initialize()
  local found = false
  for _, group in ipairs(self.groups) do
    if group.constructor.definition.initialize then
      group.rule:initialize()
      found = true
    end
  end
  if not found then options.fail("opt:initialize: %s has no initial values of its own", self.groups[1].constructor.who) end
end

--- Name of the first parameter whose gradient holds NaN or Inf, or nil.
---@return string?
function Optimizer:find_nonfinite()
  binding.settle_gradients(self.model.handle)
  local i = binding.find_nonfinite(self.model.handle, self.gradients)
  return i and self.model:parameters()[i].name
end

--- The learning rate, as it is set by now, at the last update, before the first one at the first: of the first group that
--- has an option 'lr'.
---@return number?
function Optimizer:learning_rate()
  for _, group in ipairs(self.groups) do
    local lr = group.rule:number("lr", math.max(self.updates, 1))
    if lr then return lr end
  end
end

-- ----- states ---------------------------------------------------------------------------------------------

-- Calls visit(key, view) for each state of each parameter, key "parameter name/state name".
local function each_state(self, visit)
  for _, group in ipairs(self.groups) do
    for k, state in ipairs(group.states) do
      for _, p in ipairs(group.parameters) do
        visit(p.name .. "/" .. state.name, binding.view(self.model.handle, self.buffers[k], p.index), state)
      end
    end
    if group.rule.each_state then group.rule:each_state(visit) end
  end
end

-- "adamw", or "muon+adamw" for groups.
local function kind(self)
  local names, seen = {}, {}
  for _, group in ipairs(self.groups) do
    local name = group.constructor.name
    if not seen[name] then names[#names + 1] = name end
    seen[name] = true
  end
  local text = table.concat(names, "+")
  return self.inner and ("%s(%s)"):format(self.inner.name, text) or text
end

--- What a run needs to go on: tensors by "parameter name/state name", which are views and not copies; `step`,
--- the number of updates; `optimizer`, what this is.
---@return table<string, moonbow.Tensor|integer|string>
function Optimizer:state_dict()
  local state = { step = self.updates, optimizer = kind(self) }
  each_state(self, function(key, view) state[key] = view end)
  return state
end

local function check_state(key, from, to)
  local who = "load_state_dict"
  if not types.is_tensor(from) then options.fail("%s: '%s' must be a tensor, not %s", who, key, types.describe(from)) end
  if types.shape_text(from.shape) ~= types.shape_text(to.shape) or from.dtype ~= to.dtype then
    options.fail("%s: '%s' is %s, %s is needed", who, key, types.describe(from), types.describe(to))
  end
end

--- Continues from what state_dict returned: copies the states, sets the number of updates. All is checked
--- before anything is changed.
---@param state table
function Optimizer:load_state_dict(state)
  local who = "load_state_dict"
  options.value(who, "the state", state, { type = "table" })
  if state.optimizer ~= kind(self) then
    options.fail("%s: the state is of optimizer '%s', this is '%s'", who, tostring(state.optimizer), kind(self))
  end
  options.value(who, "'step' of the state", state.step, { type = "integer", min = 0 })
  local views = {}
  each_state(self, function(key, view)
    if state[key] == nil then options.fail("%s: there is no '%s', which this optimizer keeps", who, key) end
    check_state(key, state[key], view)
    views[key] = view
  end)
  for _, key in ipairs(options.keys(state)) do
    if not views[key] and key ~= "step" and key ~= "optimizer" then
      options.fail("%s: the state has '%s', which this optimizer does not keep", who, key)
    end
  end
  for key, view in pairs(views) do view:copy_(state[key]) end
  self.updates = state.step
end

-- ----- saying what it is ----------------------------------------------------------------------------------

--- Which optimizer moves which parameter, in the order of the model.
---@return { name: string, role: string, optimizer: string }[]
function Optimizer:routing()
  local moved = {}
  for _, group in ipairs(self.groups) do
    for _, p in ipairs(group.parameters) do moved[p.index] = group.constructor.name end
  end
  local routes = {}
  for i, p in ipairs(self.model:parameters()) do
    routes[i] = { name = p.name, role = p.role, optimizer = moved[i] }
  end
  return routes
end

local function option_text(value)
  if type(value) == "number" then return ("%g"):format(value) end
  if type(value) == "function" then return "function" end
  if type(value) ~= "table" or getmetatable(value) then return tostring(value) end
  local texts = {}
  for i, element in ipairs(value) do texts[i] = option_text(element) end
  for _, key in ipairs(#value == 0 and options.keys(value) or {}) do
    texts[#texts + 1] = tostring(key) .. " = " .. option_text(value[key])
  end
  return "{" .. table.concat(texts, ", ") .. "}"
end

function Optimizer:__tostring()
  local lines = { ("%s of model '%s', %d updates"):format(kind(self), self.model.name, self.updates) }
  for i, group in ipairs(self.groups) do
    local weights, texts = 0, {}
    for _, p in ipairs(group.parameters) do weights = weights + p.value.numel end
    for _, name in ipairs(options.keys(group.options)) do
      texts[#texts + 1] = name .. " = " .. option_text(group.options[name])
    end
    lines[i + 1] = ("  %d: %s for %d tensors, %s weights: %s"):format(i, group.constructor.name, #group.parameters,
      tree.group_digits(weights), table.concat(texts, ", "))
  end
  return table.concat(lines, "\n")
end

-- ----- making ---------------------------------------------------------------------------------------------

-- Of the list of groups, where another one would be one that nobody has made states for.
local complete = { __newindex = function()
  options.fail("opt.groups: a group cannot be added to an optimizer; make a new one of all groups (mb.optim.groups)")
end }

--- An optimizer of groups { constructor = , options = , parameters = }, which cover each parameter once.
---@param model moonbow.Model
---@param groups table[]
---@return moonbow.Optimizer
function M.new(model, groups)
  local self = setmetatable({ model = model, groups = groups, buffers = {}, updates = 0 }, Optimizer)
  self.values, self.gradients = binding.values(model.handle), binding.gradients(model.handle)
  for _, group in ipairs(groups) do
    group.states = group.constructor:states(group.options)
    for k = #self.buffers + 1, #group.states do self.buffers[k] = binding.state(model.handle) end
  end
  handle.keep { self.values, self.gradients, self.buffers }
  for _, group in ipairs(groups) do
    local rules = group.constructor.definition.update_group and matrixwise or elementwise
    group.rule = rules.new(group.constructor, group.options, model, group.parameters, group.states, self)
    settable.group(group)
  end
  self.runs = together.of(groups)
  setmetatable(groups, complete)
  each_state(self, function(_, view, state)
    if state.initial ~= 0 then view:fill_(state.initial) end
  end)
  return self
end

return M
