---@meta _
-- SPDX-License-Identifier: MIT
--
-- logs.lua: for editors, no program loads it; written by scripts/docs/api.lua from the comments of the sources.

---@class moonbow.jsonl
local mb_jsonl = {}

---@class moonbow.tensorboard
local mb_tensorboard = {}

