-- SPDX-License-Identifier: MIT
--
-- matrixwise.lua: how an update of whole matrices is run: update_group(P, h) of define.lua, called once for each batch of
-- equal-shaped matrices (batches.lua), with tensors and not with a trace of them. A group of an optimizer holds one of
-- these; it offers what elementwise.lua does.
--
-- With `measure` a step has two halves: measure(P, h) of every batch, whose numbers are added up, then update_group of every
-- batch, where h.total is that sum. `together` is in between, or in place of the second half. All temporaries of a step are given
-- back when it ends.
--
-- With a clipper in the middle (clipping.lua):
--   momentum   the function runs on copies until it assigns the momentum; later the whole function runs, the state is stored as
--              computed, and reading it after the assignment gives what was clipped
--   update     the function runs on copies; U = P.update, or (w - w+) / lr - decay w where the function assigns P.w; later the
--              copied states are stored, and w <- w - lr (U + decay w) with U as it was clipped

local batches = require "moonbow.optim.batches"
local fuse = require "moonbow.fuse"
local handle = require "bindings.handle"
local inplace = require "bindings.inplace"
local numbers = require "moonbow.optim.numbers"
local ops = require "bindings.ops"
local options = require "moonbow.options"
local recording = require "moonbow.recording"
local views = require "moonbow.clip.view"

local M = {}

---@class moonbow.Matrixwise
---@field batches moonbow.Batch[]
local Matrixwise = {}
Matrixwise.__index = Matrixwise

--- NaN or Inf is refused before the step: a decomposition would stop it half-way.
Matrixwise.needs_finite = true

-- w <- w (1 - lr decay) - lr u
local descend = fuse(function(p, h) p.w = p.w * (1 - h.lr * h.decay) - h.lr * p.u end)

-- ----- making -------------------------------------------------------------------------------------------------

-- The second argument of update_group: numbers by name, which prepare fills in.
local function new_numbers(who, names)
  return setmetatable({}, { __index = function(_, key)
    if key == "total" or key == "largest" then
      options.fail("%s: h.%s is there for a definition with 'measure' that returns it, in update_group", who, key)
    end
    options.fail("%s: there is no number '%s'%s", who, tostring(key), options.suggest(tostring(key), names))
  end })
end

local function set_of(names)
  local set = {}
  for _, name in ipairs(names) do set[name] = true end
  return set
end

-- A name must be one that some parameter has blocks by.
local function check_split(who, split, parameters)
  if type(split) ~= "string" then return end
  local found = { fused = true }
  for _, p in ipairs(parameters) do
    for name in pairs(p.parts or {}) do found[name] = true end
  end
  if not found[split] then
    options.fail("%s: split = '%s' splits none of its parameters%s", who, split, options.suggest(split, options.keys(found)))
  end
end

--- The update of one group; arguments as elementwise.lua's.
function M.new(constructor, o, model, parameters, states, flat)
  local d, who = constructor.definition, constructor.who
  local scalars, list = numbers.of(constructor, o)
  local arrays = { w = flat.values, g = flat.gradients }
  for k, state in ipairs(states) do arrays[state.name] = flat.buffers[k] end
  local h = new_numbers(who, options.keys(scalars))
  for name, like in pairs(scalars) do
    if type(like) == "table" then h[name] = like.value elseif like ~= true then h[name] = {} end
  end
  check_split(who, o.split, parameters)
  if d.check_parameters then d.check_parameters(who, parameters, o) end
  return setmetatable({
    who = who, definition = d, options = o, h = h, list = list, states = states, has_lr = scalars.lr == true,
    batches = batches.of {
      who = who, model = model, parameters = parameters, arrays = arrays, temporaries = set_of(d.temporaries),
      keeps_gradient = d.keeps_gradient,
      layer = d.layer and function(p) return d.layer(p, o) end,
      parts = function(p) return views.count(who, o.split, p) end,
      square = function(shape) return type(d.square) == "function" and d.square(shape, o) or d.square end,
    },
  }, Matrixwise)
end

--- Evaluates the options for an update.
---@param step integer
function Matrixwise:prepare(step)
  for _, entry in ipairs(self.list) do
    local value = numbers.at(self.who, entry, step)
    if entry.index then self.h[entry.key][entry.index] = value else self.h[entry.key] = value end
  end
  for _, b in ipairs(self.batches) do b.step = step end
end

---@param name string
---@param step integer
---@return number?
function Matrixwise:number(name, step)
  return numbers.named(self.who, self.list, name, step)
end

--- States that have no place in the arena, and gradients that are states, for checkpoints.
---@param visit fun(key: string, view: moonbow.Tensor, state: table)
function Matrixwise:each_state(visit)
  for _, b in ipairs(self.batches) do
    for name, t in pairs(b.fields) do
      if not b.in_arena[name] or name == "g" and b.keeps_gradient then
        for i, p in ipairs(b.parameters) do visit(p.name .. "/" .. name, b:member(t, i), { name = name, initial = 0 }) end
      end
    end
  end
end

--- Gives the weights the initial values of the definition.
function Matrixwise:initialize()
  local fn = self.definition.initialize
  handle.no_grad(function()
    for _, b in ipairs(self.batches) do handle.scope(fn, b.p, self.options) end
  end)
end

--- Whether run() can be part of a graph.
---@return boolean
function Matrixwise:is_for_graphs()
  local fn = self.definition.in_graphs
  return fn ~= nil and fn(self.options)
end

-- ----- a step -------------------------------------------------------------------------------------------------

local function decay_of(self)
  local name = self.definition.decoupled_decay
  return name and self.h[name] or 0
end

-- Applies P.update.
local function apply(self, b)
  local u = b.values.update
  if not u then return end
  if not self.has_lr then options.fail("%s: P.update was set, but there is no number 'lr' to go with it", self.who) end
  local function numbers_now() return { lr = self.h.lr, decay = decay_of(self) } end
  descend({ w = b.fields.w, u = u }, numbers_now(), numbers_now)
end

-- What the functions of a definition are given for numbers. They compute with them in Lua: a graph holds for as long as those
-- that were read when it was captured stay as they are.
local function numbers_of(self)
  if not recording.is_on() then return self.h end
  return setmetatable({}, { __index = function(_, name)
    local value = self.h[name]
    if name == "total" or name == "largest" then return value end
    local seen = type(value) == "table" and { unpack(value) } or { value }
    recording.check(function()
      local now = type(value) == "table" and self.h[name] or { self.h[name] }
      for i = 1, #seen do
        if now[i] ~= seen[i] then return ("'%s' of %s has changed, which it computes with"):format(name, self.who) end
      end
    end)
    return value
  end })
end

-- First halves of a step: the sum and the maximum of what measure returned.
local function measure(self)
  local fn, total, largest = self.definition.measure, nil, nil
  for _, b in ipairs(fn and self.batches or {}) do
    local sum, most = handle.scope(function()
      local first, second = fn(b.p, numbers_of(self), self.options)
      return first, second, b.values, b.overlay
    end)
    total = total and sum and total + sum or total or sum
    largest = largest and most and ops.maximum(largest, most) or largest or most
  end
  self.h.total, self.h.largest = total, largest
end

-- What is computed of all batches at once: whether there is nothing left for update_group.
local function together(self)
  local fn, list, kept = self.definition.together, {}, {}
  if not fn then return false end
  for i, b in ipairs(self.batches) do list[i], kept[i] = b.p, { b.values, b.overlay } end
  return (handle.scope(function() return fn(list, numbers_of(self), self.options), kept end))
end

-- The functions of all batches; finish(b) is called after each. Within a scope.
local function pass(self, finish)
  measure(self)
  local is_done = together(self)
  for _, b in ipairs(self.batches) do
    handle.scope(function()
      if not is_done then self.definition.update_group(b.p, numbers_of(self), self.options) end
      finish(b)
    end)
  end
end

-- Ends a step, or what was left of one that failed.
local function reset(self)
  self.h.total, self.h.largest = nil, nil
  for _, b in ipairs(self.batches) do b:reset() end
  for _, t in ipairs(self.held or {}) do inplace.discard(t) end
  self.held = nil
end

local function finished(self, ok, ...)
  reset(self)
  if not ok then error((...), 0) end
end

-- Calls fn without recording, in a scope, and forgets the step.
local function attempt(self, fn)
  return finished(self, pcall(handle.no_grad, handle.scope, fn))
end

--- Changes weights and states by the numbers of the last prepare.
function Matrixwise:run()
  reset(self)
  attempt(self, function() pass(self, function(b) apply(self, b) end) end)
end

-- ----- with a clipper: momentum -----------------------------------------------------------------------------------

local STOP = {}

local function by_index(parameters)
  local taken = {}
  for _, p in ipairs(parameters) do taken[p.index] = true end
  return function(p) return taken[p.index] == true end
end

-- Writes the momentum of a batch to the buffer, for the parameters taken.
local function write_momentum(self, b, buffer, takes)
  local name = self.definition.momentum
  b.shadowed = true
  b.on_assign = function(key)
    if key == name then error(STOP, 0) end
  end
  local ok, problem = pcall(self.definition.measure or self.definition.update_group, b.p, self.h, self.options)
  if ok then options.fail("%s never assigns its momentum, P.%s", self.who, name) end
  if problem ~= STOP then error(problem, 0) end
  b:copy_members(b:view(buffer), b:get(name), takes)
end

-- From the assignment of the momentum on, it reads as clipped.
local function use_momentum(self, b, buffer, is_changed)
  local name = self.definition.momentum
  if not b:has(is_changed) then return end
  b.on_assign = function(key)
    if key ~= name then return end
    if b.overlay[name] then options.fail("%s assigns its momentum, P.%s, twice", self.who, name) end
    local clipped = b.fields[name]:clone()
    b:copy_members(clipped, b:view(buffer), is_changed)
    b.overlay[name] = clipped
  end
end

-- ----- with a clipper: update -------------------------------------------------------------------------------------

-- What has become of a batch on copies, kept for the second phase.
local function hold(self, b, buffer, takes)
  local u, w = b.values.update, b.overlay.w
  if u and w and b.assigned_w then options.fail("%s: both P.w and P.update were set", self.who) end
  if u then
    b.pending = { update = u:clone() }
  else
    b.pending = { w = w or b:get "w", is_still = w == nil } -- a step that leaves w alone has nothing to clip
    u = (b.fields.w - b.pending.w):mul_(1 / self.h.lr)
    if w and decay_of(self) ~= 0 then u:sub_(b.fields.w, decay_of(self)) end
  end
  b.pending.states = {}
  for name, t in pairs(b.overlay) do
    if name ~= "w" then b.pending.states[name] = t end
  end
  b:copy_members(b:view(buffer), u, takes)
  handle.keep(b.pending)
  local function note(t) self.held[#self.held + 1] = t end
  for _, t in pairs(b.pending.states) do note(t) end
  note(b.pending.update or b.pending.w)
end

local function write_update(self, buffer, takes)
  local lr = self.h.lr
  if lr == 0 then self.h.lr = 1 end -- what is clipped is the same for every lr
  self.held = {}
  for _, b in ipairs(self.batches) do
    b.shadowed, b.assigned_w = true, nil
    b.on_assign = function(key)
      if key == "w" then b.assigned_w = true end
    end
  end
  pass(self, function(b) hold(self, b, buffer, takes) end)
  self.h.lr = lr
end

local function use_update(self, b, buffer, is_changed)
  for name, t in pairs(b.pending.states) do b.fields[name]:copy_(t) end
  local numbers_now = { lr = self.h.lr, decay = decay_of(self) }
  local u, w = b.pending.update, b.fields.w
  if u then
    b:copy_members(u, b:view(buffer), is_changed)
    return descend({ w = w, u = u }, numbers_now)
  end
  if b.pending.is_still then return end
  local clipped = w:clone()
  descend({ w = clipped, u = b:view(buffer) }, numbers_now)
  b:copy_members(w, b.pending.w, function(p) return not is_changed(p) end)
  b:copy_members(w, clipped, is_changed)
end

-- ----- with a clipper: the rule's side ------------------------------------------------------------------------------

--- True, or nil and why a clipper with this `on` is refused.
---@param on "momentum"|"update"
---@return boolean?
---@return string? refusal
function Matrixwise:phases(on)
  local who, name = self.who, self.definition.momentum
  if on == "update" then
    if self.has_lr then return true end
    return nil, ("%s has no number 'lr', by which its update is divided"):format(who)
  end
  if not name then
    return nil, ('%s has no momentum that it names; momentum = "<state>" in its definition does'):format(who)
  end
  for _, state in ipairs(self.states) do
    if state.name == name then return true end
  end
  return nil, ("%s keeps no '%s' with these options: it has no momentum"):format(who, name)
end

--- Writes what is to be clipped of these parameters, and changes nothing else.
---@param on "momentum"|"update"
---@param buffer moonbow.Tensor
---@param parameters moonbow.Parameter[]
function Matrixwise:write(on, buffer, parameters)
  local takes = by_index(parameters)
  reset(self)
  if on == "update" then
    local ok, problem = pcall(handle.no_grad, handle.scope, write_update, self, buffer, takes)
    for _, b in ipairs(self.batches) do b:reset() end
    if not ok then finished(self, false, problem) end
    return
  end
  attempt(self, function()
    for _, b in ipairs(self.batches) do
      if b:has(takes) then handle.scope(write_momentum, self, b, buffer, takes) end
    end
  end)
end

--- Changes weights and states, with the buffer in its place for the parameters that were changed there.
---@param on "momentum"|"update"
---@param buffer moonbow.Tensor
---@param changed table<integer, boolean> by index of the parameter
function Matrixwise:run_with(on, buffer, changed)
  local function is_changed(p) return changed[p.index] == true end
  attempt(self, function()
    if on == "update" and self.held then
      for _, b in ipairs(self.batches) do handle.scope(use_update, self, b, buffer, is_changed) end
      return
    end
    if on == "momentum" then
      for _, b in ipairs(self.batches) do use_momentum(self, b, buffer, is_changed) end
    end
    pass(self, function(b) apply(self, b) end)
  end)
end

return M
