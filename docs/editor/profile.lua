---@meta _
-- SPDX-License-Identifier: MIT
--
-- profile.lua: for editors, no program loads it; written by scripts/docs/api.lua from the comments of the sources.

---@class moonbow
local mb = {}

--- Where the time of a computation goes, kernel by kernel, and how near each comes to what the machine can do.
---@param fn function
---@param given? moonbow.ProfileOptions
---@return moonbow.Profile
function mb.profile(fn, given) end

--- What a device is, and the highest rates that follow from it.
---@param device? "cpu"|"cuda" default: mb.device()
---@return moonbow.DeviceInfo
function mb.device_info(device) end

--- Seconds between moments of a computation, without waiting for the device in between.
---@param device? "cpu"|"cuda" default: mb.device()
---@return moonbow.Timer
function mb.timer(device) end

