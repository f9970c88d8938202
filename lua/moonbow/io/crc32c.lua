-- SPDX-License-Identifier: MIT
--
-- crc32c.lua: the cyclic redundancy check of Castagnoli, CRC-32C (polynomial 0x1EDC6F41, bits reflected; RFC 3720, B.4), which
-- guards every record of an event file. "123456789" has 0xE3069283.

local band, bxor, rshift, lshift, bor = bit.band, bit.bxor, bit.rshift, bit.lshift, bit.bor

local M = {}

local POLYNOMIAL = 0x82F63B78 -- reflected

-- What eight steps of the division make of each byte.
local remainders = {}
for byte = 0, 255 do
  local c = byte
  for _ = 1, 8 do c = bxor(rshift(c, 1), band(c, 1) == 1 and POLYNOMIAL or 0) end
  remainders[byte] = c
end

---@param s string
---@return integer crc 0 to 2^32 - 1
function M.of(s)
  local c = bit.bnot(0)
  for i = 1, #s do c = bxor(rshift(c, 8), remainders[band(bxor(c, s:byte(i)), 255)]) end
  return bit.bnot(c) % 2 ^ 32
end

--- The check as event files hold it: rotated by 15 bits and moved by a constant, so that the check of data that contain checks
--- is as good as any other (tensorflow/tsl/lib/hash/crc32c.h).
---@param s string
---@return integer
function M.masked(s)
  local c = M.of(s)
  return (bor(rshift(c, 15), lshift(c, 17)) % 2 ^ 32 + 0xA282EAD8) % 2 ^ 32
end

return M
