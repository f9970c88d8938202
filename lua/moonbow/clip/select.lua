-- SPDX-License-Identifier: MIT
--
-- select.lua: which parameters a clipper takes, and how it complains of a gradient that is not finite.

local options = require "moonbow.options"

local M = {}

---By default everything but embeddings and an output head (arXiv 2605.11838, as in the authors' code).
function M.default(p)
  return p.role ~= "embedding" and p.role ~= "head"
end

---The parameters of `model` that `where` takes; an error if there are none.
---@param who string
---@param model moonbow.Model
---@param where fun(p: moonbow.Parameter): boolean
---@return moonbow.Parameter[]
function M.parameters(who, model, where)
  if type(model) ~= "table" or not model.handle or not model.parameters then
    options.fail("%s: a model was expected, not %s", who, options.describe(model))
  end
  local taken = {}
  for _, p in ipairs(model:parameters()) do
    if where(p) then taken[#taken + 1] = p end
  end
  if #taken == 0 then options.fail("%s: `where` takes no parameter of model '%s'", who, model.name) end
  return taken
end

---Raises the error for gradients whose norm is not finite, naming the parameter that holds NaN or Inf.
function M.fail_nonfinite(who, model)
  local name = model:find_nonfinite_gradient()
  if name then options.fail("%s: the gradient of %s is not finite; nothing was changed", who, name) end
  options.fail("%s: the squares of the gradients are beyond float64's range; nothing was changed", who)
end

return M
