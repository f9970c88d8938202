-- SPDX-License-Identifier: MIT
--
-- graph.lua: mb.graph(fn), a function that may be captured once and replayed by a device that can. The CPU
-- has nothing to capture: there the function is run as it is, so that one script serves both.

local create = require "moonbow.create"
local options = require "moonbow.options"

--- The function in the form that runs fastest on mb.device().
---@generic F: function
---@param fn F
---@return F
return function(fn)
  options.value("mb.graph", "the argument", fn, { type = "function" })
  if create.device() ~= "cpu" then
    options.fail("mb.graph: this version captures nothing on %s; call the function itself", create.device())
  end
  return fn
end
