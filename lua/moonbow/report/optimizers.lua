-- SPDX-License-Identifier: MIT
--
-- optimizers.lua: the optimizer of a training script, from its settings: any of mb.optim by its name.
--
--   --optimizer muon --lr 0.01 --rest_lr 1e-3 --optim split=qkv,scale=spectral,rest.eps=1e-7
--   --optimizer clipped_scion --optim rho=100,constrained=true,norms.embedding=col_norm,radius.matrix=3
--
-- lr, weight_decay, momentum and betas come from options of those names where the optimizer has them; optim says the others, and
-- wins. Vectors have no weight decay. An optimizer of matrices has AdamW beside it for the rest.

local cli = require "moonbow.cli"
local options = require "moonbow.options"

local M = {}

-- "true", "0.5", "0.9:0.95" and "word" as Lua values.
local function value_of(text)
  if text == "true" or text == "false" then return text == "true" end
  if not text:find ":" then return tonumber(text) or text end
  local array = {}
  for part in text:gmatch "[^:]+" do
    array[#array + 1] = tonumber(part) or cli.fail(2, "--optim: '%s' in '%s' is not a number", part, text)
  end
  return array
end

-- "a=1,rest.b=2" -> { a = 1, rest = { b = 2 } }
local function parsed(text)
  local given = {}
  for item in (text or ""):gmatch "[^,]+" do
    local key, value = item:match "^%s*([%w_][^=]*)=(.*)$"
    if not key then cli.fail(2, "--optim: '%s' is not NAME=VALUE", item) end
    local outer, inner = key:match "^([^.]+)%.(.+)$"
    if outer then
      if type(given[outer]) ~= "table" then given[outer] = {} end
      given[outer][inner] = value_of(value)
    else
      given[key] = value_of(value)
    end
  end
  return given
end

local function constructor_of(name)
  local registry = require "moonbow.optim.registry"
  local found = registry.built_in(name)
  if not found then
    local names = registry.names()
    local near = options.nearest(name, names)
    cli.fail(2, "--optimizer: '%s' is not one of %s%s", name, table.concat(names, ", "),
      near and ("; did you mean " .. near .. "?") or "")
  end
  if found.definition.whole then
    cli.fail(2, "--optimizer %s: give the optimizer within, and --clip spectral --clip_on update --method soft", name)
  end
  return found
end

-- What the settings say about options that the optimizer has. A momentum that may not be 0 is one minus the usual.
local function from_settings(spec, settings, lr)
  local o = { lr = lr }
  if spec.momentum then
    o.momentum = spec.momentum.above and math.max(1 - settings.momentum, 1e-3) or settings.momentum
  end
  if spec.betas then o.betas = { settings.beta1, settings.beta2 } end
  if spec.weight_decay then o.weight_decay = settings.weight_decay end
  return o
end

local function merged(base, more, where, name)
  local group = { where = where, name = name }
  for key, value in pairs(base) do group[key] = value end
  for key, value in pairs(more) do group[key] = value end
  return group
end

-- The groups of one optimizer for these roles, vectors apart where there is a decay to leave out.
local function groups_of(list, constructor, o, more, where)
  local decay = more.weight_decay or o.weight_decay
  if where == "rest" and decay and decay ~= 0 then
    local plain = merged(o, more, "vector", constructor.name)
    plain.weight_decay = 0
    list[#list + 1] = plain
  end
  list[#list + 1] = merged(o, more, where, constructor.name)
end

-- The groups of the settings, as mb.optim.groups takes them; schedule(peak) is what a learning rate is given as.
local function groups_for(settings, schedule)
  local constructor, given, list = constructor_of(settings.optimizer), parsed(settings.optim), {}
  local rest = given.rest or {}
  given.rest = nil
  local takes = constructor.spec.rest and constructor.definition.takes
  if not takes and next(rest) then cli.fail(2, "--optim: rest is for optimizers of matrices, and %s is not", constructor.name) end
  if not takes and settings.rest_lr then
    cli.fail(2, "--rest_lr is for optimizers of matrices, and %s is not", constructor.name)
  end
  groups_of(list, constructor, from_settings(constructor.spec, settings, schedule(settings.lr)), given, takes or "rest")
  if takes then
    local other = constructor_of(rest.name or "adamw")
    rest.name = nil
    groups_of(list, other, from_settings(other.spec, settings, schedule(settings.rest_lr or settings.lr)), rest, "rest")
  end
  return list
end

-- Calls fn(...); an error is one of usage.
local function as_usage(settings, fn, ...)
  local ok, result = pcall(fn, ...)
  if ok then return result end
  cli.fail(2, "--optimizer %s: %s", settings.optimizer, (tostring(result):gsub("^[^:]+:%d+: ", "")))
end

---How many buffers of the size of the parameters the optimizer keeps: groups share them. Square states of Shampoo and SOAP are
---not among them.
---@param settings table
---@return integer
function M.states(settings)
  local most = 0
  for _, group in ipairs(groups_for(settings, function(peak) return peak end)) do
    local constructor, o = constructor_of(group.name), {}
    for key, value in pairs(group) do
      if key ~= "where" and key ~= "name" then o[key] = value end
    end
    o = as_usage(settings, constructor.options, constructor, ("optimizer '%s'"):format(group.name), o)
    most = math.max(most, #constructor:states(o))
  end
  return most
end

---@param settings table
---@param model moonbow.Model
---@param schedule fun(peak: number): number|function the learning rate of a peak
---@return moonbow.Optimizer
function M.make(settings, model, schedule)
  return as_usage(settings, require("moonbow.optim").groups, model, groups_for(settings, schedule))
end

return M
