-- SPDX-License-Identifier: MIT
--
-- init.lua: schedules by name. Each is a file of this folder, loaded when it is first named.
--
-- A schedule is any function of the step, and any number of an optimizer or threshold may be one. The first
-- update is step 1. The built-in ones are callable tables that print what they are: with `warmup` steps of
-- linear rise the peak is reached at step = warmup, and the final value at step = steps, where it stays.

local options = require "moonbow.options"

local names = { "const", "cosine", "linear" }

local known = {}
for _, name in ipairs(names) do known[name] = true end

return setmetatable({}, { __index = function(t, name)
  if not known[name] then
    options.fail("mb.schedule has no '%s'%s", tostring(name), options.suggest(tostring(name), names))
  end
  local make = require("moonbow.schedule." .. name)
  rawset(t, name, make)
  return make
end })
