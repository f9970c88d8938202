-- SPDX-License-Identifier: MIT
--
-- program.lua: fused programs, expression graphs over flat buffers evaluated in one pass. Values are
-- integers from 0 that a program hands out in the order they are made; slots of arrays and scalars are
-- numbered from 1.
--
--   new() -> program
--   program:array(slot) -> value             element of array `slot`
--   program:scalar(slot) -> value            scalars[slot] of the run
--   program:constant(number) -> value
--   program:apply(op, a, b, c) -> value      op as mb.fuse names it, see `codes`; unused arguments nil
--   program:store(slot, value)               array `slot` = value, after all loads
--   program:size() -> operations left after sharing
--   program:run(arrays, scalars, ranges)     arrays: tensors; scalars: numbers; ranges: array of
--                                            { begin, end } in elements from 0, end not included, or nil
--                                            for everything

local ffi = require "ffi"
local handle = require "bindings.handle"
local load = require "bindings.load"
local ops = require "bindings.ops"
local status = require "bindings.status"
local types = require "bindings.types"

local C = load.C
local act, fail = handle.act, status.fail

local M = {}

--- The engine's number of each operation, by the name that fuse_apply gets. -- ORDER FUSE
M.codes = {
  add = C.MB_FUSE_ADD, sub = C.MB_FUSE_SUB, mul = C.MB_FUSE_MUL, div = C.MB_FUSE_DIV, minimum = C.MB_FUSE_MIN,
  maximum = C.MB_FUSE_MAX, pow = C.MB_FUSE_POW, less = C.MB_FUSE_LT, less_equal = C.MB_FUSE_LE,
  equal = C.MB_FUSE_EQ, neg = C.MB_FUSE_NEG, abs = C.MB_FUSE_ABS, sign = C.MB_FUSE_SIGN, sqrt = C.MB_FUSE_SQRT,
  rsqrt = C.MB_FUSE_RSQRT, reciprocal = C.MB_FUSE_RECIPROCAL, square = C.MB_FUSE_SQUARE, exp = C.MB_FUSE_EXP,
  log = C.MB_FUSE_LOG, tanh = C.MB_FUSE_TANH, sigmoid = C.MB_FUSE_SIGMOID, where = C.MB_FUSE_WHERE,
}

local out, value_out = ffi.new "mb_program *[1]", ffi.new "int[1]"
local double_array, int64_array = ffi.typeof "double[?]", ffi.typeof "int64_t[?]"

---@class moonbow.Program
local Program = {}
Program.__index = Program

---@return moonbow.Program
function M.new()
  act("mb_program_new", out)
  return setmetatable({ handle = ffi.gc(out[0], C.mb_program_release) }, Program)
end

local function value(name, ...)
  act(name, value_out, ...)
  return value_out[0]
end

function Program:array(slot) return value("mb_program_array", self.handle, slot - 1) end
function Program:scalar(slot) return value("mb_program_scalar", self.handle, slot - 1) end
function Program:constant(number) return value("mb_program_constant", self.handle, number) end

---@param op string
---@return integer value
function Program:apply(op, a, b, c)
  local code = M.codes[op] or fail("mb.fuse: '%s' cannot be fused", tostring(op))
  return value("mb_program_apply", self.handle, code, a or -1, b or -1, c or -1)
end

function Program:store(slot, v) act("mb_program_store", self.handle, slot - 1, v) end

---@return integer
function Program:size() return C.mb_program_size(self.handle) end

---@param arrays moonbow.Tensor[]
---@param scalars number[]
---@param ranges? { [1]: integer, [2]: integer }[]
function Program:run(arrays, scalars, ranges)
  local pointers, n_arrays = ops.pointers("mb.fuse", arrays)
  local numbers = double_array(math.max(#scalars, 1))
  for i = 1, #scalars do
    if type(scalars[i]) ~= "number" then
      fail("mb.fuse: scalar %d must be a number, not %s", i, types.describe(scalars[i]))
    end
    numbers[i - 1] = scalars[i]
  end
  local n = ranges and #ranges or 1
  local first, last = int64_array(math.max(n, 1)), int64_array(math.max(n, 1))
  if ranges then
    for i = 1, n do first[i - 1], last[i - 1] = ranges[i][1], ranges[i][2] end
  else
    first[0], last[0] = 0, C.mb_tensor_numel(arrays[1])
  end
  act("mb_program_run", self.handle, pointers, n_arrays, numbers, #scalars, first, last, n)
  return arrays
end

return M
