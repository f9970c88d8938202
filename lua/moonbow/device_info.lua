-- SPDX-License-Identifier: MIT
--
-- mb.device_info: what a device is, and the highest rates that follow from it.
--
--   local d = mb.device_info "cuda"
--   print(d.name, d.multiprocessors, d.clock, d.bytes)
--   print(d.peak.bf16, d.peak.f32, d.peak.bytes)    -- FLOP/s and bytes/s; nil where the device does not say
--
--   name              as its maker calls it
--   capability        compute capability, 9.0
--   multiprocessors   SMs
--   clock             Hz, the highest that the cores may run at; under load it is lower
--   memory_clock, memory_bus      Hz, bits
--   bytes, cache      of memory, of the level-2 cache
--   peak              rates at that clock: SMs x clock x operations a clock of one SM (NVIDIA's white papers of A100, H100 and
--                     B200, dense products): bf16 and tf32 in tensor cores, f32 in cores for single numbers, f64 in tensor
--                     cores; bytes: 2 x memory_clock x memory_bus / 8
--
-- Numbers that are not known are 0, and of the CPU nothing is: `peak` is empty there. What a machine reaches is measured: see the
-- ceilings of mb.profile.

local create = require "moonbow.create"
local profile = require "bindings.profile"

-- Operations of one SM in a clock, by compute capability.
local per_clock = {
  [8.0] = { bf16 = 2048, tf32 = 1024, f32 = 128, f64 = 128 },
  [9.0] = { bf16 = 4096, tf32 = 2048, f32 = 256, f64 = 256 },
  [10.0] = { bf16 = 8192, tf32 = 4096, f32 = 256, f64 = 128 },
}

---@class moonbow.DeviceInfo
---@field name string
---@field capability number
---@field multiprocessors integer
---@field clock number Hz
---@field memory_clock number Hz
---@field memory_bus integer bits
---@field bytes integer
---@field cache integer
---@field peak table<string, number> bf16, tf32, f32, f64 in FLOP/s, bytes in bytes/s

---@param device? "cpu"|"cuda" default: mb.device()
---@return moonbow.DeviceInfo
return function(device)
  local d = profile.device(device or create.device())
  d.peak = {}
  for name, operations in pairs(per_clock[d.capability] or {}) do
    d.peak[name] = d.multiprocessors * d.clock * operations
  end
  if d.memory_clock > 0 then d.peak.bytes = 2 * d.memory_clock * d.memory_bus / 8 end
  return d
end
