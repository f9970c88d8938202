-- SPDX-License-Identifier: MIT
--
-- base.lua: what every model is to a script, whether its network is written in C or in Lua.
--
-- A model's file makes an object over a handle of bindings/model.lua:
--
--   return base.new {
--     handle = h, name = "gpt2", config = { ... },        -- config: what print(model) and checkpoints show
--     logits = function(self, batch) ... end,             -- batch as the script gave it
--     loss = function(self, batch, o) ... end,            -- optional; o: label_smoothing, ignore_index,
--                                                         -- reduction. Default: cross entropy of the
--                                                         -- logits and batch.targets
--     parts = { w = { qkv = 3 } },                        -- optional: what a parameter's rows are made of, see below
--     rounding = "nearest",                               -- optional: or "stochastic", of weights to bf16
--     buffers = { ["bn.mean"] = tensor },                 -- optional: state without gradient
--     methods = { generate = function(self, ...) end },   -- optional
--   }
--
-- A parameter is a table { name, role, index (from 1), shape, value, grad }; `value` is the tensor itself,
-- `grad` is looked up whenever it is read. The list and its entries are the same in every call. A parameter whose rows
-- are equal blocks of a meaning of their own has `parts`, their number by name: { qkv = 3, heads = 3 * n_head };
-- clip/view.lua takes them apart.

local binding = require "bindings.model"
local spectral = require "bindings.spectral"
local create = require "moonbow.create"
local options = require "moonbow.options"
local ops = require "bindings.ops"
local tree = require "moonbow.models.tree"
local types = require "bindings.types"

local M = {}

---@class moonbow.Parameter a weight of a model, with its gradient
---@field name string
---@field role "matrix"|"embedding"|"head"|"vector"|"conv"
---@field index integer in the order of the model, from 1
---@field shape integer[] (out, in) of a matrix
---@field value moonbow.Tensor
---@field grad moonbow.Tensor a view of the model's gradients, found anew in each reading
---@field parts? table<string, integer> numbers of equal blocks of rows, by name

---@class moonbow.BatchInput: { [string]: any } what a model is fed: of data:batch(), or made by hand
---@field inputs moonbow.Tensor|table tensor, or nested tables: ids (B, T) for a GPT-2, numbers (B, n_input) for an MLP
---@field targets? moonbow.Tensor|table ids of the next tokens (B, T), or of classes (B)

---@class moonbow.LossOptions
---@field label_smoothing? number share of the target that is spread over all classes; default 0
---@field ignore_index? integer targets of this id do not count
---@field reduction? "mean"|"sum" default "mean"
---@field scale? number more than 0, by which the loss is multiplied; default 1

---@class moonbow.Model a network: its parameters, its loss, its state
---@field name string
---@field handle ffi.cdata* for bindings/model.lua
---@field config table what it was made with: print and checkpoints show it
---@field buffers table<string, moonbow.Tensor>
---@field dtype "f32"|"f64"|"bf16"
---@field device "cpu"|"cuda"
local Model = {}

-- ----- parameters -----------------------------------------------------------------------------------------

local function new_parameter(handle, i, parts)
  local value, name = binding.parameter(handle, i), binding.name(handle, i)
  return setmetatable({ name = name, role = binding.role(handle, i), index = i, shape = value.shape, value = value,
                        parts = parts[name] }, {
    __index = function(_, key)
      if key == "grad" then return binding.gradient(handle, i) end
    end,
    __names = function() return { "grad" } end,
    __tostring = function(p)
      return ("parameter %s %s %s"):format(p.name, p.role, types.shape_text(p.shape))
    end,
  })
end

--- All parameters, in the order of the model.
---@return moonbow.Parameter[]
function Model:parameters()
  return self.list
end

--- The parameter with a name.
---@param name string
---@return moonbow.Parameter
function Model:parameter(name)
  local p = self.by_name[name]
  if p then return p end
  local names = {}
  for i, q in ipairs(self.list) do names[i] = q.name end
  options.fail("model '%s' has no parameter '%s'%s", self.name, tostring(name), options.suggest(name, names))
end

--- Number of weights: the elements of all parameters.
---@return integer
function Model:count()
  local n = 0
  for _, p in ipairs(self.list) do n = n + p.value.numel end
  return n
end

--- Makes every gradient zero.
function Model:zero_grad()
  binding.zero_grad(self.handle)
end

--- Name of the first parameter whose gradient holds NaN or Inf, or nil.
---@return string?
function Model:find_nonfinite_gradient()
  local i = binding.find_nonfinite(self.handle, binding.gradients(self.handle))
  return i and self.list[i].name
end

--- Euclidean norm of all gradients as one vector; NaN or infinite if one of them is.
---@return number
function Model:gradient_norm()
  return math.sqrt(spectral.sum_squares { binding.gradients(self.handle) }[1])
end

--- Name of the first parameter that holds NaN or Inf, or nil.
---@return string?
function Model:find_nonfinite_value()
  local i = binding.find_nonfinite(self.handle, binding.values(self.handle))
  return i and self.list[i].name
end

-- ----- modes ------------------------------------------------------------------------------------------------

local function finish_mode(self, before, ok, ...)
  binding.set_training(self.handle, before)
  if not ok then error((...), 0) end
  return ...
end

local function set_mode(self, training, fn, ...)
  local before = binding.training(self.handle)
  binding.set_training(self.handle, training)
  if fn == nil then return self end
  return finish_mode(self, before, pcall(fn, ...))
end

--- Training mode, in which dropout acts; with a function, only while it runs: model:train(fn, ...).
---@param fn? function
---@param ... any arguments of fn
---@return any the model; with a function what it returns
function Model:train(fn, ...) return set_mode(self, true, fn, ...) end

--- Evaluation mode; with a function, only while it runs: model:eval(function() ... end).
---@param fn? function
---@param ... any arguments of fn
---@return any the model; with a function what it returns
function Model:eval(fn, ...) return set_mode(self, false, fn, ...) end

--- Is the model in training mode?
---@return boolean
function Model:is_training() return binding.training(self.handle) end

-- ----- running ----------------------------------------------------------------------------------------------

--- Ids as a tensor on the model's device: an integer tensor, or nested tables of integers.
---@param who string
---@param ids any
---@return moonbow.Tensor
function M.ids(self, who, ids)
  if type(ids) == "table" then return create.ids(ids, self.device) end
  if not types.is_tensor(ids) then
    options.fail("%s must be a tensor of integers or nested tables, not %s", who, types.describe(ids))
  end
  return ids:to(self.device)
end

--- Numbers as a tensor of the model's dtype on its device: a tensor, or nested tables.
---@return moonbow.Tensor
function M.numbers(self, who, x)
  if type(x) == "table" then return create.tensor(x, { dtype = self.dtype, device = self.device }) end
  if not types.is_tensor(x) then
    options.fail("%s must be a tensor or nested tables of numbers, not %s", who, types.describe(x))
  end
  return x:to(self.device)
end

local function check_batch(self, batch, what)
  if type(batch) ~= "table" then
    options.fail("%s of model '%s': a table { inputs = , targets = } was expected, not %s", what, self.name,
                 types.describe(batch))
  end
end

local loss_spec = {
  label_smoothing = { type = "number", default = 0, min = 0, below = 1 },
  ignore_index = { type = "integer", min = 0 },
  reduction = { choices = { "mean", "sum" }, default = "mean" },
  scale = { type = "number", default = 1, above = 0 },
}

-- Options of the loss from the batch's own fields and a second table.
local function loss_options(batch, given)
  local merged = {}
  for name in pairs(loss_spec) do merged[name] = batch[name] end
  for name, value in pairs(given or {}) do merged[name] = value end
  return options.check("model:loss", merged, loss_spec)
end

local function default_loss(self, batch, o)
  local logits = self:logits(batch)
  local targets = M.ids(self, "targets", batch.targets)
  return ops.cross_entropy(logits, targets, o.label_smoothing, o.ignore_index, o.reduction, o.scale)
end

--- Logits of a batch { inputs = }: (B, T, vocab_size) of a GPT-2, (B, n_output) of an MLP.
---@param batch moonbow.BatchInput
---@return moonbow.Tensor
function Model:logits(batch)
  check_batch(self, batch, "logits")
  return self.run_logits(self, batch)
end

--- Loss of a batch { inputs = , targets = }: mean cross entropy unless the model defines another.
--- label_smoothing, ignore_index, reduction and scale may stand in the batch or in a second table. The loss is multiplied
--- by scale: 1 / n where n micro-batches are a step, which costs less than a division afterwards.
---@param batch moonbow.BatchInput
---@param given? moonbow.LossOptions
---@return moonbow.Tensor loss a tensor without dimensions
function Model:loss(batch, given)
  check_batch(self, batch, "loss")
  return self.run_loss(self, batch, loss_options(batch, given))
end

--- Adds the gradients of a batch's loss to the parameters', and returns the loss.
---@param batch moonbow.BatchInput
---@param given? moonbow.LossOptions
---@return moonbow.Tensor loss
function Model:backward(batch, given)
  local loss = self:loss(batch, given)
  loss:backward()
  return loss
end

-- ----- state ------------------------------------------------------------------------------------------------

--- Every parameter and buffer by name: the tensors themselves, not copies.
---@return table<string, moonbow.Tensor>
function Model:state()
  local state = {}
  for _, p in ipairs(self.list) do state[p.name] = p.value end
  for name, t in pairs(self.buffers) do state[name] = t end
  return state
end

-- The tensors of `t` by the model's names: those under the prefix where any key has it, else all.
local function entries(t)
  local found, prefixed = {}, {}
  for key, value in pairs(t) do
    if type(key) ~= "string" then options.fail("model:load_state: tensors by name were expected") end
    local name = key:match "^param%.(.+)$" or key:match "^state%.(.+)$"
    if name then prefixed[name] = value end
    found[key] = value
  end
  return next(prefixed) and prefixed or found, next(prefixed) ~= nil
end

local function check_entry(self, name, from, to)
  if not types.is_tensor(from) then
    options.fail("model:load_state: '%s' must be a tensor, not %s", name, types.describe(from))
  end
  local found, expected = types.shape_text(from.shape), types.shape_text(to.shape)
  if found ~= expected then
    options.fail("model:load_state: '%s' has shape %s, model '%s' expects %s", name, found, self.name, expected)
  end
  if from.dtype ~= to.dtype then
    options.fail("model:load_state: '%s' is %s, model '%s' expects %s; convert it with t:to '%s'", name, from.dtype,
                 self.name, to.dtype, to.dtype)
  end
end

--- Copies values into the parameters and buffers. Keys are names, or names after "param." or "state."; where
--- such a prefix is used, keys without one are ignored. All is checked before anything is changed.
---@param t table<string, moonbow.Tensor>
---@param given? { strict?: boolean } strict = false: missing and unknown names are allowed
function Model:load_state(t, given)
  options.value("model:load_state", "the state", t, { type = "table" })
  local o = options.check("model:load_state", given, { strict = { type = "boolean", default = true } })
  local own, from = self:state(), entries(t)
  local names = options.keys(own)
  for _, name in ipairs(names) do
    if from[name] ~= nil then
      check_entry(self, name, from[name], own[name])
    elseif o.strict then
      options.fail("model:load_state: there is no '%s', which model '%s' has", name, self.name)
    end
  end
  for _, name in ipairs(options.keys(from)) do
    if o.strict and own[name] == nil then
      options.fail("model:load_state: model '%s' has no '%s'%s", self.name, name, options.suggest(name, names))
    end
  end
  for _, name in ipairs(names) do
    if from[name] ~= nil then own[name]:copy_(from[name]) end
  end
end

-- ----- making -----------------------------------------------------------------------------------------------

local function to_text(self)
  local numels = {}
  for i, p in ipairs(self.list) do numels[i] = p.value.numel end
  return ("%s: %s parameters in %d tensors, %s on %s\n%s"):format(
    self.name, tree.group_digits(self:count()), #self.list, self.dtype, self.device, tree.render(self.list, numels))
end

--- An object over a handle; see the head of this file.
---@param o table
---@return moonbow.Model
function M.new(o)
  local list, by_name = {}, {}
  for i = 1, binding.count(o.handle) do
    local p = new_parameter(o.handle, i, o.parts or {})
    list[i], by_name[p.name] = p, p
  end
  local first = list[1].value
  if o.rounding then binding.set_rounding(o.handle, o.rounding) end
  local methods = setmetatable(o.methods or {}, { __index = Model })
  return setmetatable({
    handle = o.handle, name = o.name, config = o.config or {}, buffers = o.buffers or {},
    dtype = first.dtype, device = first.device, list = list, by_name = by_name,
    run_logits = o.logits, run_loss = o.loss or default_loss,
  }, { __index = methods, __tostring = to_text })
end

return M
