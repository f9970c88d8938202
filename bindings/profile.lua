-- SPDX-License-Identifier: MIT
--
-- profile.lua: what the engine's devices were asked to do, as tables; and what a device is.

local ffi = require "ffi"
local handle = require "bindings.handle"
local load = require "bindings.load"
local types = require "bindings.types"

local C = load.C

local M = {}

local row = ffi.new "mb_profile_row"
local facts = ffi.new "mb_device_facts"

--- Runs fn(...) while every call of a device is noted.
---@param fn function
---@param ... any arguments of fn
---@return table[] rows name, shape, device, dtype, is_product, calls, launches, seconds, bytes, flops; the slowest first
---@return boolean ok whether fn came to its end
---@return any problem what it raised if not
function M.record(fn, ...)
  handle.act "mb_profile_begin"
  local ok, problem = pcall(fn, ...)
  handle.act "mb_profile_end"
  local rows = {}
  for i = 1, tonumber(C.mb_profile_count()) do
    handle.act("mb_profile_row_at", row, i - 1)
    rows[i] = {
      name = ffi.string(row.name), shape = ffi.string(row.shape), device = types.device_name(row.device),
      dtype = types.dtype_name(row.dtype), is_product = row.is_product ~= 0, calls = tonumber(row.calls),
      launches = tonumber(row.launches), seconds = row.seconds, bytes = row.bytes, flops = row.flops,
    }
  end
  return rows, ok, problem
end

--- What a device is; numbers that are not known are 0.
---@param device string
---@return table<string, any> facts the fields of mb_device_facts
function M.device(device)
  handle.act("mb_device_info", facts, types.device(device))
  return {
    name = ffi.string(facts.name), capability = facts.capability / 10, multiprocessors = facts.multiprocessors,
    clock = facts.clock, memory_clock = facts.memory_clock, memory_bus = tonumber(facts.memory_bus),
    bytes = tonumber(facts.bytes), cache = tonumber(facts.cache),
  }
end

local stamp, seconds = ffi.new "int64_t[1]", ffi.new "double[1]"

--- A moment in a device's queue; -1 while work is recorded.
---@param device string
---@return integer
function M.stamp(device)
  handle.act("mb_stamp", stamp, types.device(device))
  return stamp[0] -- 64 bits: the clock's nanoseconds do not all fit a number
end

--- Seconds between two, when the device has come so far.
---@return number
function M.stamp_seconds(device, from, to)
  handle.act("mb_stamp_seconds", seconds, types.device(device), from, to)
  return seconds[0]
end

---@param device string
function M.release(device, number) C.mb_stamp_release(types.device(device), number) end

return M
