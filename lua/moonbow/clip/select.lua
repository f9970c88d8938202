-- SPDX-License-Identifier: MIT
--
-- select.lua: which parameters a clipper takes, and how it complains of values that are not finite.

local options = require "moonbow.options"
local policies = require "moonbow.threshold.policy"

local M = {}

---By default everything but embeddings and an output head (arXiv 2605.11838, as in the authors' code).
function M.default(p)
  return p.role ~= "embedding" and p.role ~= "head"
end

---Raises an error unless `model` is one.
---@param who string
function M.check_model(who, model)
  if type(model) ~= "table" or not model.handle or not model.parameters then
    local meaning = type(model) == "table" and model.model and model.step and "an optimizer: write opt:step(clip), or clip(model)"
    options.fail("%s: a model was expected, not %s", who, meaning or options.describe(model))
  end
end

---What `where` says of a parameter.
---@param who string
---@param where fun(p: moonbow.Parameter): boolean
---@param p moonbow.Parameter
---@return boolean
function M.takes(who, where, p)
  local ok, answer = pcall(where, p)
  if not ok then policies.fail_raised(who, "where", p.name, answer) end
  return answer
end

---The parameters of `model` that `where` takes; an error if there are none.
---@param who string
---@param model moonbow.Model
---@param where fun(p: moonbow.Parameter): boolean
---@return moonbow.Parameter[]
function M.parameters(who, model, where)
  M.check_model(who, model)
  local taken = {}
  for _, p in ipairs(model:parameters()) do
    if M.takes(who, where, p) then taken[#taken + 1] = p end
  end
  if #taken == 0 then options.fail("%s: `where` takes no parameter of model '%s'", who, model.name) end
  return taken
end

local plural = { gradient = "gradients", momentum = "momenta", update = "updates" }

---Raises the error for values whose norm is not finite, naming the parameter that holds NaN or Inf.
---@param who string
---@param source moonbow.ClipSource
function M.fail_nonfinite(who, source)
  local name = source:find_nonfinite()
  if name then options.fail("%s: the %s of %s is not finite; nothing was changed", who, source.what, name) end
  options.fail("%s: the squares of the %s are beyond float64's range; nothing was changed", who, plural[source.what])
end

return M
