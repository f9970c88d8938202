-- SPDX-License-Identifier: MIT
--
-- init.lua: the models by name. Each is a file of this folder that returns a constructor, loaded when it is
-- first named: mb.models.gpt2 is moonbow/models/gpt2.lua.

local options = require "moonbow.options"

local names = { "define", "gpt2", "gpt_modern", "mlp" }

local known = {}
for _, name in ipairs(names) do known[name] = true end

return setmetatable({}, { __index = function(t, name)
  if not known[name] then
    options.fail("mb.models has no '%s'%s", tostring(name), options.suggest(tostring(name), names))
  end
  local constructor = require("moonbow.models." .. name)
  rawset(t, name, constructor)
  return constructor
end, __names = function() return names end })
