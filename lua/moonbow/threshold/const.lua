-- SPDX-License-Identifier: MIT
--
-- const.lua: always the same threshold. mb.threshold.const { tau = 1.0 } is what a plain number means.

local options = require "moonbow.options"
local policy = require "moonbow.threshold.policy"

---@class moonbow.ConstOptions
---@field tau number more than 0

---@param given moonbow.ConstOptions
---@return moonbow.Threshold
return function(given)
  local o = options.check("mb.threshold.const", given, { tau = { type = "number", required = true, above = 0 } })
  return policy.of("mb.threshold.const", o.tau)
end
