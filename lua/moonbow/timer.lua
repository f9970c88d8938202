-- SPDX-License-Identifier: MIT
--
-- mb.timer: seconds between moments of a computation, without waiting for the device in between.
--
--   local timer = mb.timer()          -- on mb.device(), or mb.timer "cuda"
--   for _ = 1, 20 do
--     timer:mark()
--     step()
--   end
--   timer:mark()
--   local seconds = timer:seconds()   -- 20 numbers
--
-- On a GPU a mark is an event in its queue, behind the work given so far: what lies between two marks is the device's time, and
-- that of its waiting for the host where there is any.

local create = require "moonbow.create"
local profile = require "bindings.profile"
local runtime = require "bindings.runtime"

---@class moonbow.Timer seconds between moments
---@field device string
local Timer = {}
Timer.__index = Timer

--- Marks this moment.
function Timer:mark() self.stamps[#self.stamps + 1] = profile.stamp(self.device) end

--- Waits for the device, and gives the seconds between each mark and the next one; the timer begins anew.
---@return number[]
function Timer:seconds()
  local seconds, stamps = {}, self.stamps
  for i = 2, #stamps do seconds[i - 1] = profile.stamp_seconds(self.device, stamps[i - 1], stamps[i]) end
  for _, stamp in ipairs(stamps) do profile.release(self.device, stamp) end
  self.stamps = {}
  return seconds
end

---@param device? "cpu"|"cuda" default: mb.device()
---@return moonbow.Timer
return function(device)
  device = device or create.device()
  runtime.check_device(device)
  return setmetatable({ device = device, stamps = {} }, Timer)
end
