-- SPDX-License-Identifier: MIT
--
-- settable.lua: what may be assigned on an optimizer that is in use, from its next step on:
--
--   opt.lr = 5e-4                             -- a number, a schedule or a function of the step
--   opt.betas = { 0.9, 0.95 }   opt.betas[2] = 0.95
--   opt.groups[2].lr = 1e-4                   -- of one group (mb.optim.groups, option `rest`)
--
-- An option of the optimizer itself is set in every group that has it, as long as these agree; where they differ, only
-- groups[i] tells which is meant. Reading gives what was set: opt.lr may be a schedule, opt:learning_rate() is the number.
-- Options that are no numbers, and numbers that states or layers were made by, stay as they are. Any other field is an error,
-- not one that nobody reads.

local options = require "moonbow.options"

local M = {}

-- Options of a group that are numbers of the run.
local function number_names(group)
  local names, seen = {}, {}
  for _, entry in ipairs(group.rule.list) do
    if entry.name ~= "step" and not seen[entry.key] then
      names[#names + 1], seen[entry.key] = entry.key, true
    end
  end
  return names
end

local function is_number_of(group, key)
  for _, entry in ipairs(group.rule.list) do
    if entry.key == key and entry.name ~= "step" then return true end
  end
  return false
end

-- ----- what a group was made by -------------------------------------------------------------------------------

local function is_same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" or getmetatable(a) then
    return a == b or type(a) == "table" and type(b) == "table" and tostring(a) == tostring(b)
  end
  for key, value in pairs(a) do
    if not is_same(value, b[key]) then return false end
  end
  for key in pairs(b) do
    if a[key] == nil then return false end
  end
  return true
end

-- Whether states, or constants of layers, would have been others with these options.
local function is_built_in(group, o)
  local d, before = group.constructor.definition, group.options
  if not is_same({ group.constructor:states(before) }, { group.constructor:states(o) }) then return true end
  for _, p in ipairs(d.layer and group.parameters or {}) do
    if not is_same(d.layer(p, before), d.layer(p, o)) then return true end
  end
  for _, b in ipairs(type(d.square) == "function" and group.rule.batches or {}) do
    if not is_same(d.square(b.shape, before), d.square(b.shape, o)) then return true end
  end
  return false
end

-- Raises an error unless a group can take the value.
local function check(group, key, value)
  local constructor = group.constructor
  local who, row = constructor.who, constructor.spec[key]
  options.value(who, ("'%s'"):format(key), value, row)
  for i, element in ipairs(row.element and value or {}) do
    options.value(who, ("element %d of '%s'"):format(i, key), element, row.element)
  end
  local o = {}
  for name, old in pairs(group.options) do o[name] = old end
  o[key] = value
  local problem = constructor.definition.check and constructor.definition.check(o)
  if problem then options.fail("%s: %s", who, problem) end
  if is_built_in(group, o) then
    options.fail("%s: '%s' cannot become %s, its states were made for another one; make a new optimizer", who, key,
      type(value) == "number" and options.number(value) or options.describe(value))
  end
end

local function put(group, key, value)
  if group.constructor.spec[key].element then
    local array = {}
    for i, element in ipairs(value) do array[i] = element end
    value = array
  end
  group.options[key] = value
  group.set = group.set or {}
  group.set[key] = true
end

local function refuse(who, key, names, is_option)
  if is_option then
    options.fail("%s: '%s' was settled when the optimizer was made; %s can be set", who, key, table.concat(names, ", "))
  end
  options.fail("%s: '%s' cannot be set%s", who, tostring(key), options.suggest(tostring(key), names))
end

-- ----- groups -------------------------------------------------------------------------------------------------

local Group = {}

function Group.__index(group, key)
  if type(key) ~= "string" then return nil end
  return rawget(group, "constructor").spec[key] and rawget(group, "options")[key]
end

function Group.__newindex(group, key, value)
  if key == "set" then return rawset(group, key, value) end
  if not is_number_of(group, key) then
    refuse(group.constructor.who, key, number_names(group), group.constructor.spec[key] ~= nil)
  end
  check(group, key, value)
  put(group, key, value)
end

function Group.__names(group) return number_names(group) end

---Makes the numbers of a group settable.
---@param group table complete but for what is set later
function M.group(group) return setmetatable(group, Group) end

-- ----- the optimizer --------------------------------------------------------------------------------------------

local function names_of(self)
  local names, seen = {}, {}
  for _, group in ipairs(self.groups) do
    for _, name in ipairs(number_names(group)) do
      if not seen[name] then names[#names + 1], seen[name] = name, true end
    end
  end
  return names
end

-- The groups that have a number, and whether they agree on it.
local function owners(self, key)
  local list, agree, texts = {}, true, {}
  for i, group in ipairs(self.groups) do
    if is_number_of(group, key) then
      list[#list + 1] = group
      agree = agree and is_same(list[1].options[key], group.options[key])
      texts[#texts + 1] = ("groups[%d].%s"):format(i, key)
    end
  end
  return list, agree, table.concat(texts, ", ")
end

local function fail_apart(self, key, texts)
  options.fail("%s: its groups differ in '%s': %s are apart", self.groups[1].constructor.who, key, texts)
end

---Gives the class of optimizers its options as fields, and refuses unknown ones.
---@param class table
---@param fields string[] what its own methods assign
function M.install(class, fields)
  local own = {}
  for _, name in ipairs(fields) do own[name] = true end
  function class.__index(self, key)
    local method = class[key]
    local groups = method == nil and type(key) == "string" and rawget(self, "groups")
    if not groups then return method end
    local list, agree, texts = owners(self, key)
    if not list[1] then return #groups == 1 and groups[1][key] or nil end
    if not agree then fail_apart(self, key, texts) end
    return list[1].options[key]
  end
  function class.__newindex(self, key, value)
    if own[key] then return rawset(self, key, value) end
    local list, agree, texts = owners(self, key)
    if not list[1] then
      refuse(self.groups[1].constructor.who, key, names_of(self), #self.groups == 1 and self.groups[1].constructor.spec[key])
    end
    if not agree then fail_apart(self, key, texts) end
    for _, group in ipairs(list) do check(group, key, value) end
    for _, group in ipairs(list) do put(group, key, value) end
  end
  class.__names = names_of
end

---The numbers that were set since an optimizer was made, in order: { "groups[1].lr" } or { "lr" } of a single group.
---@param optimizer moonbow.Optimizer
---@return string[]
function M.changed(optimizer)
  local names = {}
  for i, group in ipairs(optimizer.groups) do
    for _, key in ipairs(options.keys(rawget(group, "set") or {})) do
      names[#names + 1] = #optimizer.groups > 1 and ("groups[%d].%s"):format(i, key) or key
    end
  end
  return names
end

return M
