-- SPDX-License-Identifier: MIT
--
-- matrices.lua: definitions of optimizers that work on whole matrices (define.lua), and where the other parameters go.
--
--   local Signed = mb.optim.define {
--     name = "polar", defaults = { lr = 0.01, beta = 0.9 }, state = { "m" }, momentum = "m",
--     update_group = function(P, h)
--       P.m = P.m:lerp_(P.g, 1 - h.beta)                -- in place, or P.m = h.beta * P.m + (1 - h.beta) * P.g
--       P.update = mb.linalg.msign(P.m)                 -- w <- w - lr update; or P.w = P.w - h.lr * mb.linalg.msign(P.m)
--     end,
--   }
--   local opt = Signed(model, { lr = 0.02, rest = { name = "adamw", lr = 1e-3 } })
--
--   update_group  fn(P, h, o), called once a step for each batch of equal-shaped matrices. P.w, P.g and the states are
--             tensors (L, m, n), views of the arena; batches.lua says more. h holds the numbers of the step, o the options.
--             Any function of mb may be used, and Lua's control flow too
--   takes     roles that the method is for; default matrix and conv. The others go to the optimizer that option `rest`
--             names, { name = "adamw" } by default
--   measure   fn(P, h, o) -> sum, largest: numbers or tensors, called for every batch before update_group is for any; h.total is
--             then the sum of the first over the batches, h.largest the maximum of the second, if it is not nil. What it
--             assigns to P.<temporary> is there in update_group
--   together  fn(list, h, o) -> boolean, called once between measure and update_group, with the P of every batch; true: it
--             has done update_group's work, which is not called
--   temporaries   names of such fields
--   layer     fn(p, o) -> table of constants of a parameter, P.<key>; parameters that differ in them are in different batches
--   check_parameters   fn(who, parameters, o), raises an error if the options do not fit the parameters
--   square    states that are no part of the arena: { l = "rows", r = "columns" } are (L, m, m) and (L, n, n), zeros at first;
--             or a function(shape, o) that returns such a table
--   keeps_gradient   true: the gradient is a state. P.g may be assigned, opt:zero_grad() leaves it, checkpoints hold it
--   in_graphs   fn(o), true where update_group and measure can be part of a graph (mb.graph): they read no values and decompose
--             nothing; otherwise they run behind the graph, as they are
--   initialize   fn(P, o), sets P.w: opt:initialize() calls it for every batch
--   split     default of option `split`: what is one matrix, as clippers have it (moonbow/clip/view.lua): "fused", "qkv",
--             "heads" or function(p). Blocks are views: nothing is copied

local options = require "moonbow.options"
local registry = require "moonbow.optim.registry"
local views = require "moonbow.clip.view"

local M = {}

--- Rows that a definition may have beside those of define.lua.
M.definition_spec = {
  update_group = { type = "function" },
  takes = { type = "table" },
  measure = { type = "function" },
  together = { type = "function" },
  temporaries = { type = "table", default = {} },
  layer = { type = "function" },
  check_parameters = { type = "function" },
  square = { type = "table|function", default = {} },
  keeps_gradient = { type = "boolean" },
  in_graphs = { type = "function" },
  initialize = { type = "function" },
  split = { type = "string|function", default = views.row.default },
}

local roles = { "matrix", "conv", "embedding", "head", "vector" }

--- Raises an error unless the parts of a definition go together.
---@param who string
---@param definition table
function M.check(who, definition)
  if (definition.update == nil) == (definition.update_group == nil) then
    options.fail("%s: one of update and update_group is needed%s", who, definition.update and ", not both" or "")
  end
  if definition.update then
    for _, name in ipairs { "takes", "measure", "together", "layer", "keeps_gradient", "initialize" } do
      if definition[name] then options.fail("%s: '%s' is for definitions with update_group", who, name) end
    end
    return
  end
  definition.takes = definition.takes or { "matrix", "conv" }
  for _, role in ipairs(definition.takes) do options.value(who, "each of 'takes'", role, { choices = roles }) end
end

local function takes(definition, p)
  for _, role in ipairs(definition.takes) do
    if role == p.role then return true end
  end
  return false
end

---@class moonbow.MatrixOptions what optimizers with update_group take beside their own
---@field split? string|fun(p: moonbow.Parameter): integer what is one matrix: "qkv" and "heads" take GPT-2's c_attn apart

---@class moonbow.RestOptions
---@field rest? table optimizer of the other parameters, { name = "adamw", lr = 1e-3 }; default { name = "adamw" }

--- Options that every such optimizer has.
---@param definition table
---@return table<string, table> rows
function M.options(definition)
  if not definition.update_group then return {} end
  local rows = { split = { type = "string|function", default = definition.split } }
  if #definition.takes < #roles then rows.rest = { type = "table", default = { name = "adamw" } } end
  return rows
end

-- ----- routing --------------------------------------------------------------------------------------------------

-- The group of the parameters that are left.
local function rest_group(who, rest, parameters)
  who = who .. ": rest"
  local given = {}
  for key, value in pairs(rest) do
    if key ~= "name" then given[key] = value end
  end
  local constructor = rest.name
  if type(constructor) ~= "table" or not constructor.definition then
    options.value(who, "'name'", constructor, { type = "string" })
    constructor = registry.find(who, constructor)
  end
  who = ("%s (%s)"):format(who, constructor.name)
  if constructor.definition.whole then options.fail("%s: it is an optimizer of a whole model", who) end
  M.refuse_rest(who, constructor, given)
  local group = { constructor = constructor, options = constructor:options(who, given), parameters = parameters }
  M.check_group(group)
  return group
end

--- The groups of an optimizer that is given a whole model.
---@param constructor moonbow.OptimizerConstructor
---@param model moonbow.Model
---@param o table options
---@return table[]
function M.groups(constructor, model, o)
  local own = { constructor = constructor, options = o, parameters = {} }
  if not constructor.definition.update_group then
    own.parameters = model:parameters()
    return { own }
  end
  local others = {}
  for _, p in ipairs(model:parameters()) do
    table.insert(takes(constructor.definition, p) and own.parameters or others, p)
  end
  if #own.parameters == 0 then
    options.fail("%s takes parameters of role %s, model '%s' has none", constructor.who,
      table.concat(constructor.definition.takes, ", "), model.name)
  end
  local rest = o.rest
  o.rest = nil
  if #others == 0 then return { own } end
  return { own, rest_group(constructor.who, rest, others) }
end

--- Raises an error if a group of several names what its list says already.
function M.refuse_rest(who, constructor, given)
  if constructor.definition.update_group and given.rest ~= nil then
    options.fail("%s: 'rest' is for an optimizer of a whole model; here another group takes the other parameters", who)
  end
end

--- Raises an error if a group holds parameters that its optimizer is not for.
function M.check_group(group)
  local definition = group.constructor.definition
  if not definition.update_group then return end
  group.options.rest = nil
  for _, p in ipairs(group.parameters) do
    if not takes(definition, p) then
      options.fail("%s takes parameters of role %s, '%s' is of role %s: it needs another group", group.constructor.who,
        table.concat(definition.takes, ", "), p.name, p.role)
    end
  end
end

return M
