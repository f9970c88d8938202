---@meta _
-- SPDX-License-Identifier: MIT
--
-- system.lua: for editors, no program loads it; written by scripts/docs/api.lua from the comments of the sources.

---@class moonbow.system
local mb_system = {}

