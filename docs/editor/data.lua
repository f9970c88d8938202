---@meta _
-- SPDX-License-Identifier: MIT
--
-- data.lua: for editors, no program loads it; written by scripts/docs/api.lua from the comments of the sources.

---@class moonbow.data
local mb_data = {}

--- Opens a text.
---@param given moonbow.TextOptions
---@return moonbow.Text
function mb_data.text(given) end

--- Opens token files.
---@param given moonbow.ShardsOptions
---@return moonbow.Shards
function mb_data.shards(given) end

--- Text of tokens that come one by one: a character is given out when its last byte is there.
---@param decoder { decode: fun(self, ids: integer[]): string }
---@return moonbow.Stream
function mb_data.stream(decoder) end

--- The documents and sources below a folder that has the project's layout, one after the other.
---@param root? string default: this checkout
---@return string
function mb_data.corpus(root) end

