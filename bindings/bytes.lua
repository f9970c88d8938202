-- SPDX-License-Identifier: MIT
--
-- bytes.lua: numbers as the little-endian bytes of files, and back; and floating-point numbers counted by their leading bits,
-- which is how histograms of millions of elements are made without a logarithm for each.

local ffi = require "ffi"
local host = require "bindings.host"
local types = require "bindings.types"

local M = {}

local F32, F64 = types.dtype "f32", types.dtype "f64"
local f32, f64, u32 = ffi.new "float[1]", ffi.new "double[1]", ffi.new "uint32_t[2]"

--- The four bytes of a float, rounded from `x`.
---@param x number
---@return string
function M.f32(x)
  f32[0] = x
  return ffi.string(f32, 4)
end

--- The eight bytes of a double.
---@param x number
---@return string
function M.f64(x)
  f64[0] = x
  return ffi.string(f64, 8)
end

--- The four bytes of a whole number, 0 to 2^32 - 1.
---@param x integer
---@return string
function M.u32(x)
  u32[0] = x
  return ffi.string(u32, 4)
end

--- The eight bytes of a whole number, 0 to 2^53.
---@param x integer
---@return string
function M.u64(x)
  u32[0], u32[1] = x % 2 ^ 32, math.floor(x / 2 ^ 32)
  return ffi.string(u32, 8)
end

--- The float in bytes at, at + 1, ... of a string, counted from 1; the caller knows that they are there.
---@param s string
---@param at integer
---@return number
function M.read_f32(s, at)
  ffi.copy(f32, s:sub(at, at + 3), 4)
  host.plain_nans(f32, 1, F32)
  return f32[0]
end

---@param s string
---@param at integer
---@return number
function M.read_f64(s, at)
  ffi.copy(f64, s:sub(at, at + 7), 8)
  host.plain_nans(f64, 1, F64)
  return f64[0]
end

---@param s string
---@param at integer
---@return integer
function M.read_u32(s, at)
  ffi.copy(u32, s:sub(at, at + 3), 4)
  return tonumber(u32[0])
end

--- A number of eight bytes as a double: exact up to 2^53.
---@param s string
---@param at integer
---@return number
function M.read_u64(s, at)
  ffi.copy(u32, s:sub(at, at + 7), 8)
  return tonumber(u32[0]) + tonumber(u32[1]) * 2 ^ 32
end

-- ----- leading bits -------------------------------------------------------------------------------------

---@class moonbow.BinKind
---@field words integer 32-bit words of an element
---@field shift integer bits of the highest word below the three leading ones of the fraction
---@field bias integer of the exponent
---@field sign integer bin of -0.0: bins from here on are of negative numbers

---@type table<string, moonbow.BinKind>
M.kinds = {
  f32 = { words = 1, shift = 20, bias = 127, sign = 2048 },
  f64 = { words = 2, shift = 17, bias = 1023, sign = 16384 },
}

--- Counts n elements by sign, exponent and the three leading bits of their fraction: eight bins from one power of two to the
--- next, ordered by magnitude, 2 * kind.sign in all. NaN and infinities are in the last eight of each sign.
---@param pointer ffi.cdata* to float or double, as `kind` says
---@param n integer
---@param kind moonbow.BinKind
---@return ffi.cdata* counts double, from 0
function M.count_bins(pointer, n, kind)
  local words, counts = ffi.cast("const uint32_t *", pointer), ffi.new("double[?]", 2 * kind.sign)
  local step, at, shift = kind.words, kind.words - 1, kind.shift
  for _ = 1, n do
    local bin = bit.rshift(words[at], shift)
    counts[bin] = counts[bin] + 1
    at = at + step
  end
  return counts
end

--- A list of numbers as doubles in memory.
---@param values number[]
---@return ffi.cdata*
function M.doubles(values) return ffi.new("double[?]", math.max(1, #values), values) end

return M
