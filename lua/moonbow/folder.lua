-- SPDX-License-Identifier: MIT
--
-- folder.lua: what a folder of the library holds, one file a member, found by its name and loaded when it is first asked
-- for. Who adds a member adds a file, and no list.
--
--   local members = folder.of("moonbow.schedule", function(value) return type(value) == "function" end)
--   members.find "cosine"  -> what schedule/cosine.lua returns, or nil if there is no such member
--   members.names()        -> { "const", "cosine", ... }; loads every file, for the text of an error
--
-- A file whose value is not a member, by the function given, is a part of the folder's own works.

local options = require "moonbow.options"
local system = require "bindings.system"

local M = {}

-- The path of the folder of a module such as "moonbow.schedule".
local function folder_of(module)
  local path = assert(package.searchpath(module .. ".init", package.path))
  return (path:match "^(.*)/init%.lua$")
end

---@param module string the folder's name as require takes it
---@param is_member fun(value: any): boolean
---@return { find: (fun(name: any): any), names: (fun(): string[]) }
function M.of(module, is_member)
  local members = {}

  function members.find(name)
    if type(name) ~= "string" or not name:find "^[%a_][%w_]*$" or name == "init" then return nil end
    local full = module .. "." .. name
    if package.loaded[full] == nil and not package.searchpath(full, package.path) then return nil end
    local value = require(full)
    return is_member(value) and value or nil
  end

  function members.names()
    local names = {}
    for _, file in ipairs(system.list(folder_of(module))) do
      local name = file:match "^(.*)%.lua$"
      if name and members.find(name) ~= nil then names[#names + 1] = name end
    end
    return names
  end

  return members
end

---A table whose fields are the members of a folder; an unknown field is an error that names the nearest. __names of its
---metatable lists them, for completion at a prompt.
---@param who string what users call it, "mb.schedule"
---@param module string
---@param is_member fun(value: any): boolean
---@return table
function M.table_of(who, module, is_member)
  local members = M.of(module, is_member)
  return setmetatable({}, { __index = function(t, name)
    local member = members.find(name)
    if member == nil then
      options.fail("%s has no '%s'%s", who, tostring(name), options.suggest(tostring(name), members.names()))
    end
    rawset(t, name, member)
    return member
  end, __names = members.names })
end

return M
