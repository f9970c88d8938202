-- SPDX-License-Identifier: MIT
--
-- runtime.lua: the library as a whole: version, devices, threads, memory, clock.

local ffi = require "ffi"
local handle = require "bindings.handle"
local load = require "bindings.load"
local status = require "bindings.status"
local types = require "bindings.types"

local C = load.C

local M = {}

M.version = ffi.string(C.mb_version())

---@return string
function M.build_info() return ffi.string(C.mb_build_info()) end

--- Raises an error that says why if a device cannot be used.
---@param name string
function M.check_device(name)
  handle.act("mb_device_check", types.device(name))
end

--- Can a device be used?
---@return boolean
function M.has_device(name)
  return tonumber(C.mb_device_check(types.device(name))) == status.OK
end

--- Waits until a device has done what it was given.
function M.synchronize(name)
  handle.act("mb_device_synchronize", types.device(name))
end

--- How many times the host has waited for a device so far.
---@return integer
function M.waits(name)
  return tonumber(C.mb_device_waits(types.device(name)))
end

--- Number of threads of the CPU backend; sets it when one is given.
---@param n? integer
---@return integer
function M.threads(n)
  if n ~= nil then
    if not types.is_integer(n) then
      status.fail("mb.threads: an integer was expected, not %s", types.describe(n))
    end
    handle.act("mb_threads_set", n)
  end
  return C.mb_threads()
end

--- May products of f32 matrices on CUDA round their factors to TF32? Sets it when a boolean is given.
---@param allowed? boolean
---@return boolean
function M.tf32(allowed)
  if allowed ~= nil then
    if type(allowed) ~= "boolean" then status.fail("mb.tf32: a boolean was expected, not %s", types.describe(allowed)) end
    C.mb_tf32_set(allowed and 1 or 0)
  end
  return C.mb_tf32() ~= 0
end

--- Must the same build, seed, device and choices give the same bits? Sets it when a boolean is given.
---@param wanted? boolean
---@return boolean
function M.deterministic(wanted)
  if wanted ~= nil then
    if type(wanted) ~= "boolean" then
      status.fail("mb.deterministic: a boolean was expected, not %s", types.describe(wanted))
    end
    C.mb_deterministic_set(wanted and 1 or 0)
  end
  return C.mb_deterministic() ~= 0
end

local text = ffi.new "const char *[1]"

--- What a device has to say of how it works, in lines: "" where that is nothing.
---@param name string
---@return string
function M.notes(name)
  handle.act("mb_device_notes", text, types.device(name))
  return ffi.string(text[0])
end

--- Which of a library's algorithms products and attention take on a device: a text for a checkpoint, "" where nothing was chosen.
---@param name string
---@return string
function M.choices(name)
  handle.act("mb_choices", text, types.device(name))
  return ffi.string(text[0])
end

--- Takes over the choices of such a text.
---@param name string
---@param choices string
---@return string? problem nil, or why another machine's cannot be
function M.set_choices(name, choices)
  local code = tonumber(C.mb_choices_set(types.device(name), choices))
  if code == tonumber(C.MB_ERR_STATE) then return ffi.string(C.mb_last_error()) end
  status.check(code)
end

local stats = ffi.new "mb_memory_stats"
local fields = { "bytes_live", "bytes_peak", "bytes_cached", "bytes_budget", "bytes_allocated",
                 "live_tensors", "allocations" }

--- Bytes in tensors and counts, by the names of mb_memory_stats.
---@return table<string, integer>
function M.memory()
  C.mb_memory(stats)
  local result = {}
  for _, name in ipairs(fields) do result[name] = tonumber(stats[name]) end
  return result
end

local device_stats = ffi.new "mb_device_memory"
local device_fields = { "bytes_live", "bytes_cached", "bytes_scratch", "bytes_peak", "bytes_free", "bytes_total", "bytes_limit",
                        "requests", "bytes_graphs" }

--- Memory of one device, by the names of mb_device_memory.
---@param device string
---@return table<string, integer>
function M.memory_of(device)
  handle.act("mb_memory_of", device_stats, types.device(device))
  local result = {}
  for _, name in ipairs(device_fields) do result[name] = tonumber(device_stats[name]) end
  return result
end

--- The largest live tensors, one a line.
---@return string
function M.memory_report() return ffi.string(C.mb_memory_report()) end

function M.memory_reset_peak() C.mb_memory_reset_peak() end
function M.memory_trim() C.mb_memory_trim() end

--- Limits the bytes in tensors; 0 is no limit.
---@param bytes integer
function M.memory_budget(bytes)
  if type(bytes) ~= "number" or bytes < 0 then
    status.fail("mb.memory_budget: a number of bytes was expected, not %s", types.describe(bytes))
  end
  C.mb_memory_set_budget(bytes)
end

--- Makes the n-th allocation from now fail (1 is the next); 0 turns that off. For tests.
---@param n integer
function M.fail_allocation(n) C.mb_debug_fail_allocation(n) end

--- Seconds of a clock that never goes back.
---@return number
function M.time() return C.mb_time() end

return M
