-- SPDX-License-Identifier: MIT
--
-- convert.lua: the dtypes of safetensors, and how each becomes a tensor. The engine has f32, f64, i32, u16
-- and u8; half floats widen to f32 exactly, other integers become i32 where their values fit.

local create = require "bindings.create"
local system = require "bindings.system"

local M = {}

-- ----- half floats ------------------------------------------------------------------------------------

-- Value of each of the 65536 patterns of sign, exponent and fraction bits; a format is made once.
local function value_table(exponent_bits, fraction_bits)
  local bias, top = 2 ^ (exponent_bits - 1) - 1, 2 ^ exponent_bits - 1
  local values = {}
  for bits = 0, 65535 do
    local sign = bits >= 32768 and -1 or 1
    local exponent = math.floor(bits / 2 ^ fraction_bits) % 2 ^ exponent_bits
    local fraction = bits % 2 ^ fraction_bits / 2 ^ fraction_bits
    if exponent == top then
      values[bits] = fraction == 0 and sign * math.huge or 0 / 0
    elseif exponent == 0 then
      values[bits] = sign * fraction * 2 ^ (1 - bias)
    else
      values[bits] = sign * (1 + fraction) * 2 ^ (exponent - bias)
    end
  end
  return values
end

local tables = {}

local function half(name, exponent_bits, fraction_bits)
  return function(to, from, n)
    local values = tables[name] or value_table(exponent_bits, fraction_bits)
    tables[name] = values
    for i = 0, n - 1 do to[i] = values[from[i]] end
  end
end

-- ----- integers ---------------------------------------------------------------------------------------
-- A converter writes i32 and returns the index of the first value that does not fit, or nil.

local function from_i8(to, from, n)
  for i = 0, n - 1 do to[i] = from[i] < 128 and from[i] or from[i] - 256 end
end

local function from_i16(to, from, n)
  for i = 0, n - 1 do to[i] = from[i] < 32768 and from[i] or from[i] - 65536 end
end

local function from_u32(to, from, n)
  for i = 0, n - 1 do
    if from[i] < 0 then return i end
    to[i] = from[i]
  end
end

-- 64 bits as two i32, the low half first.
local function from_i64(to, from, n)
  for i = 0, n - 1 do
    local low, high = from[2 * i], from[2 * i + 1]
    if high ~= (low < 0 and -1 or 0) then return i end
    to[i] = low
  end
end

local function from_u64(to, from, n)
  for i = 0, n - 1 do
    if from[2 * i + 1] ~= 0 or from[2 * i] < 0 then return i end
    to[i] = from[2 * i]
  end
end

local function from_bool(to, from, n)
  for i = 0, n - 1 do
    if from[i] > 1 then return i end
    to[i] = from[i]
  end
end

-- ----- the table --------------------------------------------------------------------------------------

---@class moonbow.FileDType
---@field size integer bytes of an element in the file
---@field raw string dtype its bytes are read as
---@field to? string dtype it becomes, if another
---@field fill? fun(to: ffi.cdata*, from: ffi.cdata*, n: integer): integer?

M.dtypes = {
  F32 = { size = 4, raw = "f32" },
  F64 = { size = 8, raw = "f64" },
  I32 = { size = 4, raw = "i32" },
  U16 = { size = 2, raw = "u16" },
  U8 = { size = 1, raw = "u8" },
  F16 = { size = 2, raw = "u16", to = "f32", fill = half("F16", 5, 10) },
  BF16 = { size = 2, raw = "u16", to = "f32", fill = half("BF16", 8, 7) },
  BOOL = { size = 1, raw = "u8", to = "u8", fill = from_bool },
  I8 = { size = 1, raw = "u8", to = "i32", fill = from_i8 },
  I16 = { size = 2, raw = "u16", to = "i32", fill = from_i16 },
  U32 = { size = 4, raw = "i32", to = "i32", fill = from_u32 },
  I64 = { size = 8, raw = "i32", to = "i32", fill = from_i64 },
  U64 = { size = 8, raw = "i32", to = "i32", fill = from_u64 },
}

--- What the engine's dtypes are called in a file.
M.name_of = { f32 = "F32", f64 = "F64", i32 = "I32", u16 = "U16", u8 = "U8" }

local names = {}
for name in pairs(M.dtypes) do names[#names + 1] = name end
table.sort(names)
M.names = table.concat(names, ", ")

--- Reads one tensor of a file whose header has been checked, or nil and a problem.
---@param path string
---@param entry moonbow.SafetensorsEntry
---@return moonbow.Tensor?
---@return string? problem
function M.read(path, entry)
  local dtype = M.dtypes[entry.dtype]
  if not dtype.fill then
    local t = create.empty(entry.shape, dtype.raw, "cpu")
    system.read_tensor(t, path, entry.first)
    return t
  end
  local raw_size = M.dtypes[M.name_of[dtype.raw]].size
  local raw = create.empty({ entry.bytes / raw_size }, dtype.raw, "cpu")
  system.read_tensor(raw, path, entry.first)
  local t = create.empty(entry.shape, dtype.to, "cpu")
  local bad = dtype.fill(t:data(), raw:data(), entry.numel)
  if bad then
    return nil, ("it is %s and element %d does not fit %s"):format(entry.dtype, bad, dtype.to)
  end
  return t
end

return M
