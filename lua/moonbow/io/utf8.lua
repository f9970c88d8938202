-- SPDX-License-Identifier: MIT
--
-- utf8.lua: reading UTF-8 strictly (RFC 3629): no overlong forms, no surrogates, nothing above U+10FFFF.
-- Works on Lua strings and on bytes in memory; positions count from 0.

local M = {}

local byte, char, floor = string.byte, string.char, math.floor

--- Reads byte i of a string, and of a pointer to bytes: what next_code wants as `at`.
function M.of_string(s, i) return byte(s, i + 1) end
function M.of_pointer(p, i) return p[i] end

--- The code point that begins at byte i of the n bytes of `source`, and the position behind it; nil where
--- no valid sequence begins.
---@param at fun(source: any, i: integer): integer
---@param source any
---@param i integer
---@param n integer
---@return integer? code
---@return integer? next
function M.next_code(at, source, i, n)
  local a = at(source, i)
  if a < 0x80 then return a, i + 1 end
  if a < 0xC2 or a > 0xF4 then return nil end
  local length = a < 0xE0 and 2 or a < 0xF0 and 3 or 4
  if i + length > n then return nil end
  -- The second byte's range keeps out overlong forms, surrogates and what lies above U+10FFFF.
  local b = at(source, i + 1)
  local low = a == 0xE0 and 0xA0 or a == 0xF0 and 0x90 or 0x80
  local high = a == 0xED and 0x9F or a == 0xF4 and 0x8F or 0xBF
  if b < low or b > high then return nil end
  if length == 2 then return (a - 0xC0) * 64 + b - 0x80, i + 2 end
  local c = at(source, i + 2)
  if c < 0x80 or c > 0xBF then return nil end
  if length == 3 then return (a - 0xE0) * 4096 + (b - 0x80) * 64 + c - 0x80, i + 3 end
  local d = at(source, i + 3)
  if d < 0x80 or d > 0xBF then return nil end
  return (a - 0xF0) * 262144 + (b - 0x80) * 4096 + (c - 0x80) * 64 + d - 0x80, i + 4
end

--- Position of the first byte of `s` that begins no valid sequence, or nil if all is UTF-8.
---@param s string
---@return integer? offset counted from 0
function M.invalid_at(s)
  local i, n = 0, #s
  while i < n do
    local _, next_i = M.next_code(M.of_string, s, i, n)
    if not next_i then return i end
    i = next_i
  end
end

--- The string with every byte that begins no valid sequence replaced by U+FFFD.
---@param s string
---@return string
function M.mend(s)
  local i, n, pieces = 0, #s, {}
  while i < n do
    local _, next_i = M.next_code(M.of_string, s, i, n)
    pieces[#pieces + 1] = next_i and s:sub(i + 1, next_i) or M.char(0xFFFD)
    i = next_i or i + 1
  end
  return table.concat(pieces)
end

--- The UTF-8 form of a code point.
---@param code integer
---@return string
function M.char(code)
  if code < 0x80 then return char(code) end
  local d = 0x80 + code % 64
  if code < 0x800 then return char(0xC0 + floor(code / 64), d) end
  local c = 0x80 + floor(code / 64) % 64
  if code < 0x10000 then return char(0xE0 + floor(code / 4096), c, d) end
  return char(0xF0 + floor(code / 262144), 0x80 + floor(code / 4096) % 64, c, d)
end

return M
