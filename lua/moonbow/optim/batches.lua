-- SPDX-License-Identifier: MIT
--
-- batches.lua: parameters as batches of equal-shaped matrices (L, m, n), views of the arena: what P is in
-- update_group(P, h).
--
-- Parameters that lie next to each other and are treated alike make one batch. A vector (n) is a matrix (n, 1), a filter
-- (out, in, k, k) is (out, in k k), and a parameter that is split in blocks of rows is that many matrices.
--
--   P.w, P.g, P.<state>   tensors (L, m, n). Assigning copies into the arena, and a change in place is there already
--   P.update              assigned only: w <- w - lr (P.update + decay w) when the function has ended, in one pass
--   P.<temporary>         what `temporaries` names: from measure to update_group of the same step
--   P.<constant>          what the definition's `layer` returned; P.shape = { L, m, n }, P.role, P.names

local binding = require "bindings.model"
local create = require "moonbow.create"
local handle = require "bindings.handle"
local options = require "moonbow.options"
local recording = require "moonbow.recording"
local types = require "bindings.types"

local M = {}

-- A number of a layer that changes with the step.
local OfStep = {}
OfStep.__index = OfStep

function OfStep:at(who, step)
  local value = self.value(step)
  options.value(who, ("%s at step %d"):format(self.name, step), value, self.row)
  return value
end

function OfStep:__tostring() return tostring(self.value) end

--- A constant of a layer that is a function of the step: P.<key> is its number now.
---@param name string in errors
---@param value fun(step: integer): number
---@param row table what moonbow/options.lua checks it by
function M.of_step(name, value, row)
  return setmetatable({ name = name, value = value, row = row }, OfStep)
end

---@class moonbow.Batch
---@field p table what update_group gets
---@field parameters moonbow.Parameter[] in the order of the arena
---@field parts integer matrices of each of them
---@field shape integer[] L, m, n
---@field fields table<string, moonbow.Tensor> w, g and the states
---@field in_arena table<string, any> which of them are views of the arena
---@field values table<string, moonbow.Tensor> temporaries and `update`, of this step
---@field keeps_gradient? boolean
---@field step integer of the optimizer, from 1
---@field shadowed? boolean w and the states are not to be changed: they are copied when they are read
---@field overlay table<string, moonbow.Tensor> what is read instead of the fields
---@field on_assign? fun(key: string) called after a field was assigned
local Batch = {}
Batch.__index = Batch

-- ----- fields -------------------------------------------------------------------------------------------------

local function fail_unknown(b, key)
  local names = options.keys(b.fields)
  for name in pairs(b.temporaries) do names[#names + 1] = name end
  for name in pairs(b.constants) do names[#names + 1] = name end
  names[#names + 1] = "update"
  options.fail("%s: there is no field '%s'%s", b.who, tostring(key), options.suggest(tostring(key), names))
end

function Batch:get(key)
  if self.overlay[key] then return self.overlay[key] end
  local field = self.fields[key]
  if field then
    if not self.shadowed or key == "g" and not self.keeps_gradient then return field end
    self.overlay[key] = field:clone()
    return self.overlay[key]
  end
  if self.values[key] then return self.values[key] end
  local constant = self.constants[key]
  if constant ~= nil then
    if getmetatable(constant) == OfStep then return self:of_step(key, constant) end
    return constant
  end
  if self.temporaries[key] or key == "update" then
    options.fail("%s: field '%s' is read before it is set in this step", self.who, key)
  end
  fail_unknown(self, key)
end

-- A graph holds for as long as the number is what it was when it was captured.
function Batch:of_step(key, constant)
  local value = constant:at(self.who, self.step)
  recording.check(function()
    if constant:at(self.who, self.step) ~= value then return ("'%s' of %s has changed"):format(key, self.who) end
  end)
  return value
end

local function check_shape(b, key, x)
  local found, wanted = types.shape_text(x.shape), types.shape_text(b.shape)
  local field = b.fields[key]
  if field then wanted = types.shape_text(field.shape) end
  if found ~= wanted then
    options.fail("%s: field '%s' is %s, it cannot be set to a tensor of shape %s", b.who, key, wanted, found)
  end
end

function Batch:set(key, x)
  if key == "g" and not self.keeps_gradient then options.fail("%s: field 'g' is read-only", self.who) end
  if not types.is_tensor(x) and not (type(x) == "number" and self.fields[key]) then
    options.fail("%s: field '%s' must be set to a tensor, not %s", self.who, tostring(key), options.describe(x))
  end
  if self.fields[key] then
    local field = self:get(key)
    if type(x) == "number" then
      field:fill_(x)
    elseif x ~= field then -- the same after a change in place
      check_shape(self, key, x)
      field:copy_(x)
    end
    if self.on_assign then self.on_assign(key) end
  elseif key == "update" then
    check_shape(self, key, x)
    self.values.update = x
  elseif self.temporaries[key] then
    self.values[key] = x
  else
    fail_unknown(self, key)
  end
end

--- Forgets what belongs to a step.
function Batch:reset()
  self.values, self.overlay, self.shadowed, self.on_assign = {}, {}, nil, nil
end

-- ----- views --------------------------------------------------------------------------------------------------

-- (L, m, n) of a flat buffer.
local function view_of(b, flat)
  local all = binding.group_view(b.model.handle, flat, b.group)
  local members = all:slice(1, b.first, b.first + #b.parameters - 1)
  return members:reshape(b.shape)
end

--- This batch in another flat buffer.
---@param flat moonbow.Tensor
---@return moonbow.Tensor
function Batch:view(flat)
  if self.viewed ~= flat then
    self.viewed, self.last_view = flat, handle.keep(view_of(self, flat))
  end
  return self.last_view
end

--- Copies the matrices of the parameters for which takes(p) holds.
---@param to moonbow.Tensor
---@param from moonbow.Tensor
---@param takes fun(p: moonbow.Parameter): boolean
function Batch:copy_members(to, from, takes)
  local all = true
  for _, p in ipairs(self.parameters) do all = all and takes(p) end
  if all then return to:copy_(from) end
  for i, p in ipairs(self.parameters) do
    if takes(p) then
      local first, last = (i - 1) * self.parts + 1, i * self.parts
      to:slice(1, first, last):copy_(from:slice(1, first, last))
    end
  end
end

--- Is there a parameter for which takes(p) holds?
function Batch:has(takes)
  for _, p in ipairs(self.parameters) do
    if takes(p) then return true end
  end
  return false
end

--- The part of a tensor (L, ...) that belongs to parameter i of the batch: (...), or (parts, ...) where it is split.
function Batch:member(t, i)
  local part = t:slice(1, (i - 1) * self.parts + 1, i * self.parts)
  if self.parts > 1 then return part end
  local shape = part.shape
  table.remove(shape, 1)
  return part:reshape(shape)
end

-- ----- making -------------------------------------------------------------------------------------------------

local function rows_and_columns(p)
  local columns = 1
  for i = 2, #p.shape do columns = columns * p.shape[i] end
  return p.shape[1], columns
end

local function key_of(constants)
  local texts = {}
  for i, name in ipairs(options.keys(constants)) do texts[i] = name .. "=" .. tostring(constants[name]) end
  return table.concat(texts, ",")
end

-- Entries { parameter, group, begin, parts, constants, key } in the order of the arena.
local function entries_of(spec)
  local list = {}
  for i, p in ipairs(spec.parameters) do
    local constants, parts, model = spec.layer and spec.layer(p) or {}, spec.parts(p), spec.model.handle
    list[i] = {
      parameter = p, group = binding.group_of(model, p.index), begin = binding.range(model, p.index), parts = parts,
      constants = constants, key = parts .. ";" .. key_of(constants),
    }
  end
  table.sort(list, function(a, b) return a.begin < b.begin end)
  return list
end

-- The position, from 1, of a parameter within its group of the arena.
local function position(model, entry)
  local first = entry.begin
  for _, p in ipairs(model:parameters()) do
    if binding.group_of(model.handle, p.index) == entry.group then
      first = math.min(first, (binding.range(model.handle, p.index)))
    end
  end
  return (entry.begin - first) / entry.parameter.value.numel + 1
end

local function new_batch(spec, entries)
  local first = entries[1]
  local rows, columns = rows_and_columns(first.parameter)
  local b = setmetatable({
    who = spec.who, model = spec.model, group = first.group, first = position(spec.model, first), parts = first.parts,
    shape = { #entries * first.parts, rows / first.parts, columns }, parameters = {}, fields = {}, temporaries = spec.temporaries,
    keeps_gradient = spec.keeps_gradient,
  }, Batch)
  b.constants = { shape = b.shape, role = first.parameter.role, names = {} }
  for key, value in pairs(first.constants) do b.constants[key] = value end
  for i, entry in ipairs(entries) do
    b.parameters[i], b.constants.names[i] = entry.parameter, entry.parameter.name
  end
  b.in_arena = spec.arrays
  for name, flat in pairs(spec.arrays) do b.fields[name] = handle.keep(view_of(b, flat)) end
  local sides, like = { rows = b.shape[2], columns = b.shape[3] }, { dtype = b.fields.w.dtype, device = b.fields.w.device }
  for name, side in pairs(spec.square(b.shape)) do
    b.fields[name] = handle.keep(create.zeros({ b.shape[1], sides[side], sides[side] }, like))
  end
  b.p = setmetatable({}, {
    __index = function(_, key) return b:get(key) end,
    __newindex = function(_, key, x) b:set(key, x) end,
  })
  b.step = 1
  b:reset()
  return b
end

---@class moonbow.BatchSpec
---@field who string begins the text of errors
---@field model moonbow.Model
---@field parameters moonbow.Parameter[]
---@field arrays table<string, moonbow.Tensor> flat buffers by the name of their field
---@field layer? fun(p: moonbow.Parameter): table constants of a parameter
---@field parts fun(p: moonbow.Parameter): integer blocks of rows
---@field temporaries table<string, boolean>
---@field keeps_gradient? boolean g may be assigned
---@field square fun(shape: integer[]): table<string, "rows"|"columns"> states (L, m, m) or (L, n, n) of a batch

---@param spec moonbow.BatchSpec
---@return moonbow.Batch[]
function M.of(spec)
  local list, run = {}, nil
  for _, entry in ipairs(entries_of(spec)) do
    local last = run and run[#run]
    local joins = last and last.group == entry.group and last.key == entry.key
      and last.begin + last.parameter.value.numel == entry.begin
    if joins then
      run[#run + 1] = entry
    else
      run = { entry }
      list[#list + 1] = run
    end
  end
  for i, entries in ipairs(list) do list[i] = new_batch(spec, entries) end
  return list
end

return M
