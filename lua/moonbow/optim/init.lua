-- SPDX-License-Identifier: MIT
--
-- init.lua: optimizers by name, and the two doors beside them.
--
--   mb.optim.adamw(model, { lr = 3e-4 })       -- every parameter, one optimizer
--   mb.optim.groups(model, { ... })            -- parameters routed to several: groups.lua
--   mb.optim.define { ... }                    -- an optimizer of one's own: define.lua
--
-- A built-in optimizer is a file of this folder that says mb.optim.define { ... }, loaded when it is first
-- named. What all of them can do is in optimizer.lua.

local define = require "moonbow.optim.define"
local options = require "moonbow.options"
local registry = require "moonbow.optim.registry"

local M = { groups = require "moonbow.optim.groups" }

--- Makes a constructor of optimizers from a definition (define.lua), known to mb.optim.groups by its name.
---@param definition moonbow.DefinitionOptions
---@return moonbow.OptimizerConstructor
function M.define(definition)
  local constructor = define(definition)
  registry.add(constructor.name, constructor)
  return constructor
end

return setmetatable(M, { __index = function(t, name)
  local constructor = registry.built_in(name)
  if not constructor then
    local names = registry.names()
    names[#names + 1], names[#names + 2] = "define", "groups"
    options.fail("mb.optim has no '%s'%s", tostring(name), options.suggest(tostring(name), names))
  end
  rawset(t, name, constructor)
  return constructor
end, __names = registry.names })
