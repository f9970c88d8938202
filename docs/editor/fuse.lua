---@meta _
-- SPDX-License-Identifier: MIT
--
-- fuse.lua: for editors, no program loads it; written by scripts/docs/api.lua from the comments of the sources.

---@class moonbow
local mb = {}

--- A Lua function over tensors, run as few passes over memory.
---@param fn fun(p: table<string, moonbow.Symbol>, h: table<string, moonbow.Symbol>)
---@param given? { shapes?: table<string, "rows"|"columns"|"parameter"> } fields with one number a row, a column or a parameter
---@return moonbow.Fused
function mb.fuse(fn, given) end

--- The function in the form that runs fastest on mb.device(): captured as a graph where the device can, as it is on the CPU.
---@param fn F
---@param given? moonbow.GraphOptions
---@return F
function mb.graph(fn, given) end

