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
--   program:declare(slot, shape)             array `slot` has one number a row, a column or a parameter
--   program:reduce(how, over, value) -> value   how: sum, mean, norm, max, min; over: see `overs`
--   program:count(of) -> value               rows, columns or elements ("parameter") of a parameter
--   program:random(is_normal) -> value       a random number for each element
--   program:extent(value) -> integer         what it differs by: see `extents`
--   program:set_key(seed, step, stream)      random numbers of later runs
--   program:size() -> operations left after sharing
--   program:run(arrays, scalars, ranges)     arrays: tensors; scalars: numbers; ranges: array of
--                                            { begin, end } in elements from 0, end not included, or nil
--                                            for everything
--   program:run_parts(arrays, scalars, parts, phases, guard)   parts: what parts() made; phases: 1 reduces,
--                                            2 stores, nil both; guard: a model or nil
--   parts(list) -> parts                     of { begin, rows, columns, is_group, is_stored, set }; those of set k
--                                            take the k-th of equally long stretches of `scalars`
--   program:is_same(other) -> boolean        computes the same of arrays and scalars
--
-- program.is_random says whether the program draws random numbers, program.reduces whether it reduces,
-- program.over_group whether it does so over the group or all parameters, program.over_all whether beyond the group.

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
  log = C.MB_FUSE_LOG, tanh = C.MB_FUSE_TANH, sigmoid = C.MB_FUSE_SIGMOID, normal_cdf = C.MB_FUSE_NORMAL_CDF,
  where = C.MB_FUSE_WHERE,
}

--- What the engine calls the ways to reduce, what it reduces over, and the extents of arrays and values.
M.reduces = {
  sum = C.MB_FUSE_SUM, mean = C.MB_FUSE_MEAN, norm = C.MB_FUSE_NORM, max = C.MB_FUSE_GREATEST,
  min = C.MB_FUSE_LEAST,
}
M.overs = {
  rows = C.MB_FUSE_ROWS, columns = C.MB_FUSE_COLUMNS, parameter = C.MB_FUSE_PART, group = C.MB_FUSE_GROUP,
  all = C.MB_FUSE_ALL,
}
M.extents = {
  number = tonumber(C.MB_FUSE_NUMBER), group = tonumber(C.MB_FUSE_PER_GROUP),
  parameter = tonumber(C.MB_FUSE_PER_PART), rows = tonumber(C.MB_FUSE_PER_ROW),
  columns = tonumber(C.MB_FUSE_PER_COLUMN), elements = tonumber(C.MB_FUSE_PER_ELEMENT),
}

local out, value_out = ffi.new "mb_program *[1]", ffi.new "int[1]"
local double_array, int64_array = ffi.typeof "double[?]", ffi.typeof "int64_t[?]"
local part_array = ffi.typeof "mb_fuse_part[?]"

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

---@param shape "rows"|"columns"|"parameter"|"elements"
function Program:declare(slot, shape) act("mb_program_declare", self.handle, slot - 1, M.extents[shape]) end

---@return integer value
function Program:reduce(how, over, v)
  self.reduces = true
  if over == "all" then self.over_all = true end
  if over == "group" or over == "all" then self.over_group = true end
  return value("mb_program_reduce", self.handle, M.reduces[how], M.overs[over], v)
end

---@return integer value
function Program:count(of)
  self.reduces = true -- formulas of sizes are computed with what is reduced
  return value("mb_program_count", self.handle, M.overs[of])
end

---@return integer value
function Program:random(is_normal)
  self.is_random = true
  return value("mb_program_random", self.handle, is_normal and 1 or 0)
end

---@return integer
function Program:extent(v) return tonumber(C.mb_program_extent(self.handle, v)) end

function Program:set_key(seed, step, stream) C.mb_program_set_key(self.handle, seed, step, stream) end

---@return integer
function Program:passes() return C.mb_program_passes(self.handle) end

--- Numbers as a C array that the program keeps until the next call.
---@param scalars number[]
---@return ffi.cdata*
function Program:numbers_of(scalars)
  if not self.numbers or #scalars > self.n_numbers then
    self.n_numbers = #scalars
    self.numbers = double_array(math.max(#scalars, 1))
  end
  for i = 1, #scalars do
    if type(scalars[i]) ~= "number" then
      fail("mb.fuse: scalar %d must be a number, not %s", i, types.describe(scalars[i]))
    end
    self.numbers[i - 1] = scalars[i]
  end
  return self.numbers
end

---@param arrays moonbow.Tensor[]
---@param scalars number[]
---@param ranges? { [1]: integer, [2]: integer }[]
function Program:run(arrays, scalars, ranges)
  local pointers, n_arrays = ops.pointers("mb.fuse", arrays)
  local n = ranges and #ranges or 1
  local first, last = int64_array(math.max(n, 1)), int64_array(math.max(n, 1))
  if ranges then
    for i = 1, n do first[i - 1], last[i - 1] = ranges[i][1], ranges[i][2] end
  else
    first[0], last[0] = 0, C.mb_tensor_numel(arrays[1])
  end
  act("mb_program_run", self.handle, pointers, n_arrays, self:numbers_of(scalars), #scalars, first, last, n)
  return arrays
end

---@class moonbow.ProgramParts
---@field n_sets integer

---@param list { begin: integer, rows: integer, columns: integer, is_group: boolean?, is_stored: boolean?, set: integer? }[]
---@return moonbow.ProgramParts
function M.parts(list)
  local array, n_sets = part_array(math.max(#list, 1)), 1
  for i, part in ipairs(list) do
    local to = array[i - 1]
    to.begin, to.rows, to.columns = part.begin, part.rows, part.columns
    to.is_group, to.is_stored = part.is_group and 1 or 0, part.is_stored and 1 or 0
    to.set = (part.set or 1) - 1
    n_sets = math.max(n_sets, part.set or 1)
  end
  return { array = array, n = #list, n_sets = n_sets }
end

---@param other moonbow.Program
---@return boolean
function Program:is_same(other) return C.mb_program_same(self.handle, other.handle) ~= 0 end

---@param arrays moonbow.Tensor[]
---@param scalars number[] of each set in turn
---@param parts moonbow.ProgramParts
---@param phases? 1|2|3
---@param guard? ffi.cdata* a model whose gradients may have been refused: then nothing is stored
function Program:run_parts(arrays, scalars, parts, phases, guard)
  local pointers, n_arrays = ops.pointers("mb.fuse", arrays)
  act("mb_program_run_sets", self.handle, pointers, n_arrays, self:numbers_of(scalars), #scalars / parts.n_sets,
      parts.n_sets, parts.array, parts.n, phases or 3, guard)
  return arrays
end

return M
