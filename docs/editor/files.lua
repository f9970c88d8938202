---@meta _
-- SPDX-License-Identifier: MIT
--
-- files.lua: for editors, no program loads it; written by scripts/docs/api.lua from the comments of the sources.

---@class moonbow.safetensors
local mb_safetensors = {}

---@class moonbow.checkpoint
local mb_checkpoint = {}

