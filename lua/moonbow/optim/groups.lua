-- SPDX-License-Identifier: MIT
--
-- groups.lua: one optimizer made of several, each for its own parameters.
--
--   mb.optim.groups(model, {
--     { where = "vector",        name = "adamw", lr = 1e-3, weight_decay = 0 },
--     { where = "^h%.%d+%.attn", name = Lion,    lr = 1e-4 },           -- what mb.optim.define returned
--     { where = function(p) return p.shape[1] > 100 end, name = "sgd", lr = 0.1 },
--     { where = "rest",          name = "adamw", lr = 1e-3 },
--   })
--
-- where is a role (matrix, embedding, head, vector, conv), the name of a parameter, a Lua pattern on names, a
-- function of the parameter { name, role, shape, index, value }, "rest", or an array of these. A parameter goes to the
-- first group that takes it; one that none takes is an error. The other keys are the optimizer's own options.

local matrices = require "moonbow.optim.matrices"
local optimizer = require "moonbow.optim.optimizer"
local options = require "moonbow.options"
local registry = require "moonbow.optim.registry"

local roles = { matrix = true, embedding = true, head = true, vector = true, conv = true }

local function is_constructor(x)
  return type(x) == "table" and x.spec ~= nil and x.definition ~= nil
end

-- A function of a parameter that says whether `where` takes it.
local function taker(who, model, where)
  if type(where) == "function" then return where end
  if type(where) == "table" then
    local takers = {}
    for i, one in ipairs(where) do takers[i] = taker(who, model, one) end
    return function(p)
      for _, takes in ipairs(takers) do
        if takes(p) then return true end
      end
      return false
    end
  end
  options.value(who, "'where'", where, { type = "string|function|table" })
  if where == "rest" then return function() return true end end
  if roles[where] then return function(p) return p.role == where end end
  local function by_name(p)
    if p.name == where then return true end
    local ok, found = pcall(string.find, p.name, where)
    if not ok then options.fail("%s: where = '%s' is no Lua pattern: %s", who, where, (found:gsub("^.-:%d+: ", ""))) end
    return found ~= nil
  end
  local names = options.keys(roles)
  for _, p in ipairs(model:parameters()) do
    if by_name(p) then return by_name end
    names[#names + 1] = p.name
  end
  options.fail("%s: where = '%s' is no role and fits no parameter of model '%s'%s", who, where, model.name,
               options.suggest(where, names))
end

-- One entry of the list as a group without parameters yet.
local function group_of(model, i, entry)
  local who = ("mb.optim.groups: group %d"):format(i)
  options.value(who, "the group", entry, { type = "table" })
  local given = {}
  for key, value in pairs(entry) do
    if key ~= "where" and key ~= "name" then given[key] = value end
  end
  if entry.where == nil then
    options.fail("%s: 'where' is missing: a role, a name, a pattern, a function or \"rest\"", who)
  end
  local constructor = entry.name
  if not is_constructor(constructor) then
    options.value(who, "'name'", constructor, { type = "string" })
    constructor = registry.find(who, constructor)
  end
  who = ("%s (%s)"):format(who, constructor.name)
  if constructor.definition.whole then
    options.fail("%s: %s is of a whole model; clippers with on = \"update\" choose by `where`", who, constructor.name)
  end
  matrices.refuse_rest(who, constructor, given)
  return { constructor = constructor, options = constructor:options(who, given),
           takes = taker(who, model, entry.where), parameters = {} }
end

--- One optimizer made of several, each for its own parameters.
---@param model moonbow.Model
---@param list { where: string|function|table, name: string|moonbow.OptimizerConstructor }[] with each one's own options
---@return moonbow.Optimizer
return function(model, list)
  optimizer.check_model("mb.optim.groups", model)
  options.value("mb.optim.groups", "the list of groups", list, { type = "table" })
  if list.where ~= nil or list.name ~= nil then
    options.fail("mb.optim.groups: a list of groups was expected, { { where = ..., name = ... } }, not one group")
  end
  local groups = {}
  for i, entry in ipairs(list) do groups[i] = group_of(model, i, entry) end
  for _, p in ipairs(model:parameters()) do
    local taken = false
    for _, group in ipairs(groups) do
      if group.takes(p) then
        group.parameters[#group.parameters + 1], taken = p, true
        break
      end
    end
    if not taken then
      options.fail("mb.optim.groups: parameter '%s' (%s) is in no group; a last group with where = \"rest\" takes "
        .. "what is left", p.name, p.role)
    end
  end
  local used = {}
  for _, group in ipairs(groups) do
    if #group.parameters > 0 then
      matrices.check_group(group)
      used[#used + 1] = group
    end
  end
  return optimizer.new(model, used)
end
