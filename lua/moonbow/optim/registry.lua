-- SPDX-License-Identifier: MIT
--
-- registry.lua: which optimizers there are by name: the files of this folder, and what scripts have defined.
-- A definition of the script wins over a built-in of the same name where a group names it.

local folder = require "moonbow.folder"
local options = require "moonbow.options"

local M = {}

local files = folder.of("moonbow.optim", function(value) return type(value) == "table" and value.spec and value.definition end)
local defined = {}

--- The constructor of a built-in optimizer, or nil.
---@param name string
---@return moonbow.OptimizerConstructor?
function M.built_in(name)
  return files.find(name)
end

--- Makes a constructor known by its name.
---@param name string
---@param constructor moonbow.OptimizerConstructor
function M.add(name, constructor)
  defined[name] = constructor
end

--- The built-in ones.
---@return string[]
function M.built_ins() return files.names() end

---@return string[]
function M.names()
  local all = {}
  for _, name in ipairs(M.built_ins()) do all[name] = true end
  for name in pairs(defined) do all[name] = true end
  return options.keys(all)
end

--- The constructor called `name`; an error that suggests the nearest if there is none.
---@param who string begins the text of the error
---@param name string
---@return moonbow.OptimizerConstructor
function M.find(who, name)
  return defined[name] or M.built_in(name)
    or options.fail("%s: there is no optimizer '%s'%s", who, name, options.suggest(name, M.names()))
end

return M
