-- SPDX-License-Identifier: MIT
--
-- settable.lua: what may be assigned on a clipper that is in use: `clip.threshold = 0.5`, a number, a policy of mb.threshold or
-- a function, from the next call on. Other options belong to how a clipper was made: assigning one is an error, not a field
-- that nobody reads. They are kept apart, where no assignment finds them.

local options = require "moonbow.options"

local M = {}

local SETTLED = {} -- the key of what a clipper was made with

---A clipper.
---@param class table that install() was called for
---@param fields table<string, any> its options, and what else is no state
---@return table
function M.new(class, fields) return setmetatable({ [SETTLED] = fields }, class) end

---Changes such a field, from within.
---@param self table
---@param name string
---@param value any
function M.put(self, name, value) rawget(self, SETTLED)[name] = value end

---Gives a class of clippers the field `threshold`, and refuses unknown ones.
---@param class table whose metamethod __index is itself so far
---@param fields string[] what its own methods assign
---@param set fun(self: table, threshold: any) takes a new threshold, or raises an error
---@param get fun(self: table): any what reading the threshold gives
---@param alias? string another name of the threshold, of those that have it
function M.install(class, fields, set, get, alias)
  local own = {}
  for _, name in ipairs(fields) do own[name] = true end
  function class.__index(self, key)
    if key == "threshold" then return get(self) end
    local settled = rawget(self, SETTLED)
    if settled and settled[key] ~= nil then return settled[key] end
    return class[key]
  end
  function class.__newindex(self, key, value)
    if key == "threshold" or key == alias and self[key] then return set(self, value) end
    if own[key] then return rawset(self, key, value) end
    local near = options.nearest(tostring(key), { "threshold" })
    options.fail("%s: '%s' of a clipper cannot be set%s", self.who, tostring(key),
      near and (", did you mean '%s'?"):format(near) or "; only 'threshold' can, for the rest make a new one")
  end
  class.__names = function() return { "threshold" } end
end

return M
