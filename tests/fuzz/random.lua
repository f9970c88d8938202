-- SPDX-License-Identifier: MIT
--
-- random.lua: draws of the fuzzers, a function of (seed, number of the execution) alone, and mutations of bytes that any
-- format may meet: bits flipped, bytes cut, repeated, moved, put in; numbers and lengths that are too large.

local bxor, lshift, rshift, tobit = bit.bxor, bit.lshift, bit.rshift, bit.tobit

local M = {}
local Random = {}
Random.__index = Random

---@param seed integer
---@param execution integer
function M.new(seed, execution)
  local self = setmetatable({ state = tobit(seed * 2654435761 % 2 ^ 32 + execution * 40503 % 2 ^ 32 + 1) }, Random)
  if self.state == 0 then self.state = 1 end
  for _ = 1, 8 do self:bits() end
  return self
end

-- Marsaglia's xorshift, 32 bits.
function Random:bits()
  local x = self.state
  x = bxor(x, lshift(x, 13))
  x = bxor(x, rshift(x, 17))
  x = bxor(x, lshift(x, 5))
  self.state = x
  return x % 2 ^ 32
end

---@return integer from 1 to n
function Random:to(n) return self:bits() % n + 1 end

--- True once in n draws.
function Random:once_in(n) return self:bits() % n == 0 end

function Random:pick(list) return list[self:to(#list)] end

--- n bytes of any value.
function Random:bytes(n)
  local list = {}
  for i = 1, n do list[i] = string.char(self:bits() % 256) end
  return table.concat(list)
end

-- ----- mutations of bytes -------------------------------------------------------------------------------

M.numbers = {
  "0", "-0", "1", "-1", "7", "8", "9", "64", "127", "128", "255", "256", "1000", "65535", "65536", "2147483647", "2147483648",
  "-2147483648", "4294967295", "4294967296", "9007199254740991", "9007199254740992", "9007199254740993", "9223372036854775807",
  "9223372036854775808", "18446744073709551615", "18446744073709551616", "1e15", "1e16", "1e22", "1e308", "1e309", "-1e400",
  "1e-400", "0.5", "1.0", "1E2", "00", "1e99999999999999999999", "0e99999999999999999999", "NaN", "0x10", "1.", ".5", "-",
  ("9"):rep(400), "0." .. ("0"):rep(400) .. "1",
}

local pieces = {
  "", "\0", "\255", "\127", "\128", "\255\255\255\255", "\0\0\0\0\0\0\0\0", "\255\255\255\255\255\255\255\255",
  "\255\255\255\255\255\255\255\127", "\0\0\0\0\0\0\0\128", "\192\128", "\237\160\128", "\244\144\128\128", "\239\187\191",
  "\240\159",
  "{", "}", "[", "]", ":", ",", '"', "\\", "\\u0000", "\\ud800", "\\udc00", "\\n", "null", "true", " ", "\n", "\r", "\r\n",
  "__metadata__", "__index", "__gc", "%s%s%n", "../../", "<|endoftext|>",
}

local mutations = {
  function(r, s, at) -- one bit
    return s:sub(1, at - 1) .. string.char(bxor(s:byte(at), lshift(1, r:bits() % 8))) .. s:sub(at + 1)
  end,
  function(r, s, at) return s:sub(1, at - 1) .. string.char(r:bits() % 256) .. s:sub(at + 1) end,
  function(_, s, at) return s:sub(1, at - 1) end,
  function(_, s, at) return s:sub(at) end,
  function(r, s, at) return s:sub(1, at - 1) .. s:sub(at + r:to(r:once_in(2) and 4 or 64)) end,
  function(r, s, at) -- repeated
    return s:sub(1, at) .. s:sub(at, at + r:to(32)):rep(r:once_in(20) and r:to(300) or 1) .. s:sub(at + 1)
  end,
  function(r, s, at) return s:sub(1, at - 1) .. r:pick(pieces) .. s:sub(at) end,
  function(r, s, at)
    local piece = r:pick(pieces)
    return s:sub(1, at - 1) .. piece .. s:sub(at + #piece)
  end,
  function(r, s, at) return s:sub(1, at - 1) .. r:pick(M.numbers) .. s:sub(at) end,
  function(r, s) -- one number of the text
    local first, last
    for _ = 1, r:to(20) do
      local from, to = s:find("%-?%d+", (last or 0) + 1)
      if not from then break end
      first, last = from, to
    end
    return first and s:sub(1, first - 1) .. r:pick(M.numbers) .. s:sub(last + 1) or s
  end,
  function(r, s, at) -- moved
    local length, to = r:to(40), r:to(#s)
    local rest = s:sub(1, at - 1) .. s:sub(at + length)
    return rest:sub(1, to - 1) .. s:sub(at, at + length - 1) .. rest:sub(to)
  end,
  function(r, s, at) -- a length of eight bytes
    local length = r:pick { 0, 1, 2, 7, 8, 255, 256, 65536, 16777216, 100000000, 100000001, 2 ^ 31, 2 ^ 32 - 1 }
    local text = ""
    for i = 0, 7 do text = text .. string.char(math.floor(length / 256 ^ i) % 256) end
    if r:once_in(2) then at = 1 end
    return s:sub(1, at - 1) .. text .. s:sub(at + 8)
  end,
}

--- The input after a few mutations; `other` is one to take a part from.
---@param r table
---@param s string
---@param other string
---@return string
function M.mutate(r, s, other)
  if r:once_in(8) and #s > 0 and #other > 0 then s = s:sub(1, r:to(#s)) .. other:sub(r:to(#other)) end
  for _ = 1, r:once_in(3) and r:to(8) or 1 do
    if #s == 0 then return r:bytes(r:to(20)) end
    s = r:pick(mutations)(r, s, r:to(#s))
  end
  return s:sub(1, 65536)
end

return M
