-- SPDX-License-Identifier: MIT
--
-- define.lua: a model written in Lua over the engine's operations and the same arena as the built-in ones.
--
--   local Tiny = mb.models.define {
--     name = "tiny",
--     options = { width = 20 },                       -- defaults of the constructor's own options
--     parameters = function(add, o)                   -- o: dtype, device, seed and the options
--       add("w", { 10, o.width }, { role = "matrix", init = "normal", std = 0.02 })
--       add("b", { 10 }, { role = "vector" })         -- init defaults to zeros
--       add("qkv", { 30, 10 }, { role = "matrix", parts = { qkv = 3 } })   -- 3 equal blocks of rows: clip/view.lua
--     end,
--     forward = function(p, batch, model)             -- p.w, p["h.0.w"]: tensors; returns the logits
--       return mb.linear(batch.inputs, p.w, p.b)
--     end,
--     loss = function(logits, batch, o, model) ... end,  -- optional; default: cross entropy with
--   }                                                    -- batch.targets
--   local model = Tiny { width = 30, seed = 1 }
--
-- forward and loss run in a scope: what they make and do not return gives its memory back as they end.
-- Nested tables of integers in a batch become tensors of i32 on the model's device before forward sees them;
-- numbers with fractions are given as mb.tensor(...).

local base = require "moonbow.models.base"
local binding = require "bindings.model"
local create = require "moonbow.create"
local handle = require "bindings.handle"
local options = require "moonbow.options"
local ops = require "bindings.ops"
local rng = require "bindings.create"
local types = require "bindings.types"

local definition_spec = {
  name = { type = "string", required = true },
  options = { type = "table", default = {} },
  parameters = { type = "function", required = true },
  forward = { type = "function", required = true },
  loss = { type = "function" },
}

local parameter_spec = {
  role = { choices = { "matrix", "embedding", "head", "vector", "conv" }, required = true },
  init = { choices = { "zeros", "ones", "normal", "uniform" }, default = "zeros" },
  std = { type = "number", min = 0 },
  width = { type = "number", min = 0 },
  parts = { type = "table" },
}

-- Numbers of equal blocks of rows by name.
local function checked_parts(here, parts, rows)
  for name, count in pairs(parts) do
    options.value(here, ("part '%s'"):format(tostring(name)), count, { type = "integer", min = 1 })
    if rows % count ~= 0 then
      options.fail("%s: part '%s' is %d blocks, which do not divide %d rows", here, tostring(name), count, rows)
    end
  end
  return parts
end

-- Adds one parameter as the script describes it, and what it is made of to `parts`.
local function adder(who, h, parts)
  return function(name, shape, given)
    local here = ("%s: add '%s'"):format(who, tostring(name))
    options.value(here, "the name", name, { type = "string" })
    options.value(here, "the shape", shape, { type = "table" })
    local o = options.check(here, given, parameter_spec)
    local scale = 0
    if o.init == "normal" then
      scale = o.std or options.fail("%s: init 'normal' needs option 'std'", here)
    elseif o.init == "uniform" then
      scale = o.width or options.fail("%s: init 'uniform' needs option 'width', numbers in [-width, width)", here)
    end
    binding.add(h, name, shape, o.role, o.init, scale)
    if o.parts then parts[name] = checked_parts(here, o.parts, shape[1] or 1) end
  end
end

-- The batch with nested tables of ids made tensors.
local function tensors_of(model, batch)
  local result = {}
  for key, value in pairs(batch) do
    result[key] = type(value) == "table" and create.ids(value, model.device) or value
  end
  return result
end

local function check_result(who, what, t)
  if not types.is_tensor(t) then
    options.fail("%s: %s must return a tensor, not %s", who, what, types.describe(t))
  end
  return t
end

-- The parameters' tensors by name; an unknown name is an error that suggests the nearest.
local function values_of(model)
  local values = {}
  for _, p in ipairs(model:parameters()) do values[p.name] = p.value end
  return setmetatable(values, { __index = function(_, name) return model:parameter(name).value end })
end

---@class moonbow.ModelOptions
---@field name string
---@field options? table<string, any> defaults of the constructor's own options; it has dtype, device and seed too
---@field parameters fun(add: fun(name: string, shape: integer[], given: moonbow.AddOptions), o: table) adds each parameter
---@field forward fun(p: table<string, moonbow.Tensor>, batch: table, model: moonbow.Model): moonbow.Tensor the logits
---@field loss? fun(logits: moonbow.Tensor, batch: table, o: moonbow.LossOptions, model: moonbow.Model): moonbow.Tensor

---@class moonbow.AddOptions
---@field role "matrix"|"embedding"|"head"|"vector"|"conv"
---@field init? "zeros"|"ones"|"normal"|"uniform" default "zeros"
---@field std? number of "normal"
---@field width? number of "uniform": numbers in [-width, width)
---@field parts? table<string, integer> numbers of equal blocks of rows by name

--- Makes a constructor of models from a definition.
---@param given moonbow.ModelOptions
---@return fun(options?: table): moonbow.Model
return function(given)
  local definition = options.check("mb.models.define", given, definition_spec)
  local who = ("model '%s'"):format(definition.name)
  local spec = {
    dtype = { choices = { "f32", "f64" }, default = "f32" },
    device = { choices = { "cpu", "cuda" } },
    seed = { type = "integer", min = 0 },
  }
  for name, default in pairs(definition.options) do spec[name] = { type = "any", default = default } end

  return function(chosen)
    local o = options.check(who, chosen, spec)
    o.device = o.device or create.device()
    o.seed = o.seed or (rng.rng_get())
    local h, parts = binding.new(definition.name), {}
    definition.parameters(adder(who, h, parts), o)
    binding.build(h, o.dtype, o.device, o.seed)

    local model, values
    local function forward(batch)
      return check_result(who, "forward", definition.forward(values, batch, model))
    end
    local function loss_of(batch, loss_options)
      local logits = forward(batch)
      if definition.loss then
        return check_result(who, "loss", definition.loss(logits, batch, loss_options, model))
      end
      local targets = base.ids(model, who .. ": 'targets' of the batch", batch.targets)
      return ops.cross_entropy(logits, targets, loss_options.label_smoothing, loss_options.ignore_index,
                               loss_options.reduction, loss_options.scale)
    end
    model = base.new {
      handle = h, name = definition.name, config = o, parts = parts,
      logits = function(self, batch)
        return handle.scope(function() return forward(tensors_of(self, batch)) end)
      end,
      loss = function(self, batch, loss_options)
        return handle.scope(function() return loss_of(tensors_of(self, batch), loss_options) end)
      end,
    }
    values = values_of(model)
    return model
  end
end
