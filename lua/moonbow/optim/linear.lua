-- SPDX-License-Identifier: MIT
--
-- linear.lua: a traced value x as slope w + rest, with a slope that is one number for all elements.
--
-- What a step changes, w - x, is lost to rounding where it is much smaller than w: in float32, with lr = 1e-5, AdamW's
-- (w - w+) / lr is off by 0.5 % in layers of weights near 1. With the sum taken apart, ((1 - slope) w - rest) / lr is
-- as exact as the step itself. Sums, differences and products with numbers are looked into; where w enters otherwise
-- it stays in the rest.

local fuse = require "moonbow.fuse"

local M = {}

-- Terms are numbers, symbols, or nil for zero.

local function negative(x)
  if x == nil or type(x) == "number" then return x and -x end
  local op, a = fuse.parts(x)
  return op == "neg" and a or -x
end

local function sum(op, a, b)
  if op == "sub" then b = negative(b) end
  if a == nil or b == nil then return a or b end
  return a + b
end

local function scaled(x, factor, op)
  if x == nil then return nil end
  return op == "div" and x / factor or x * factor
end

--- x = slope w + rest; nil stands for zero.
---@param x moonbow.Symbol
---@param w moonbow.Symbol an array's element
---@return moonbow.Symbol|number|nil slope
---@return moonbow.Symbol? rest
function M.split(x, w)
  if x.value == w.value then return 1, nil end
  local op, a, b = fuse.parts(x)
  if not fuse.contains(x, w) then return nil, x end
  if op == "add" or op == "sub" then
    local slope_a, rest_a = M.split(a, w)
    local slope_b, rest_b = M.split(b, w)
    return sum(op, slope_a, slope_b), sum(op, rest_a, rest_b)
  elseif op == "neg" then
    local slope, rest = M.split(a, w)
    return negative(slope), negative(rest)
  elseif op == "mul" or op == "div" then
    if op == "mul" and fuse.is_number(a) then a, b = b, a end
    if fuse.is_number(b) then
      local slope, rest = M.split(a, w)
      return scaled(slope, b, op), scaled(rest, b, op)
    end
  end
  return nil, x
end

--- (w - x) / lr - decay w.
---@param w moonbow.Symbol
---@param x moonbow.Symbol
---@param lr moonbow.Symbol
---@param decay? moonbow.Symbol
---@return moonbow.Symbol
function M.change(w, x, lr, decay)
  local slope, rest = M.split(x, w)
  if slope == nil then
    local change = (w - x) / lr
    return decay and change - decay * w or change
  end
  local factor -- of w
  if slope ~= 1 then factor = (1 - slope) / lr end
  if decay then factor = sum("sub", factor, decay) end
  return sum("add", factor and factor * w, rest and negative(rest) / lr) or 0 * w
end

return M
