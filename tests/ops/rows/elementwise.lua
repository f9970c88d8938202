-- SPDX-License-Identifier: MIT
--
-- elementwise.lua: rows of the op table for functions of one, two or three tensors, element by element.
-- tests/ops/table.lua says what the fields of a row mean.

local draw = require "tests.ops.draw"
local mb = require "moonbow"
local naive = require "tests.ops.naive"

local rows = {}

-- ----- one argument -----------------------------------------------------------------------------------

local shapes = { {}, { 1 }, { 7 }, { 1, 5 }, { 3, 1, 4 }, { 2, 3, 5 }, { 1, 1, 1, 1, 1, 1 }, { 131 } }

local function sigmoid(x) return 1 / (1 + math.exp(-x)) end

-- op, formula, maker of an input of a given shape, fields to add to the row
local function unary(op, formula, make, more)
  local name = op:sub(4) -- in Lua
  local row = {
    op = op,
    run = function(t) return mb[name](t[1]) end,
    reference = function(a) return naive.map(formula, a[1]) end,
    cases = function()
      local cases = {}
      for i, shape in ipairs(shapes) do cases[i] = { inputs = { make(shape) } } end
      return cases
    end,
  }
  for key, value in pairs(more or {}) do row[key] = value end
  rows[#rows + 1] = row
end

local function any(shape) return draw.uniform(shape) end
local function wide(shape) return draw.uniform(shape, -9, 9) end
local function positive(shape) return draw.uniform(shape, 0.2, 3) end
local function off_zero(shape) return draw.off_zero(shape) end

unary("mb_neg", function(x) return -x end, any)
unary("mb_abs", math.abs, off_zero)
unary("mb_sign", function(x) return x > 0 and 1 or x < 0 and -1 or 0 end, off_zero)
unary("mb_exp", math.exp, wide, { tolerance32 = 2e-6 })
unary("mb_log", math.log, positive)
unary("mb_sqrt", math.sqrt, positive)
unary("mb_square", function(x) return x * x end, any)
unary("mb_reciprocal", function(x) return 1 / x end, off_zero, { points = 4 })
unary("mb_tanh", math.tanh, wide)
unary("mb_sigmoid", sigmoid, wide)
unary("mb_silu", function(x) return x * sigmoid(x) end, wide)
unary("mb_relu", function(x) return math.max(x, 0) end, off_zero)
unary("mb_gelu_tanh", naive.gelu_tanh, wide)
unary("mb_gelu_erf", function(x) return x / 2 * (1 + naive.erf(x / math.sqrt(2))) end, wide)

-- Scalars of the formula come with the case.
local function with_scalars(op, scalars, formula, make, run)
  rows[#rows + 1] = {
    op = op, run = run,
    reference = function(a, case)
      return naive.map(function(x) return formula(x, unpack(case.scalars)) end, a[1])
    end,
    cases = function()
      local cases = {}
      for _, values in ipairs(scalars) do
        for _, shape in ipairs(shapes) do
          cases[#cases + 1] = { inputs = { make(shape) }, scalars = values }
        end
      end
      return cases
    end,
  }
end

with_scalars("mb_affine", { { 1, 0 }, { -2.5, 0.75 }, { 0, 3 } },
             function(x, scale, shift) return scale * x + shift end, any,
             function(t, case) return mb.affine(t[1], unpack(case.scalars)) end)
with_scalars("mb_pow_scalar", { { 2 }, { 3 }, { 0.5 }, { -1.5 }, { 0 }, { 1 } },
             function(x, p) return x ^ p end, positive,
             function(t, case) return mb.pow(t[1], case.scalars[1]) end)
rows[#rows].points = 4

-- ----- two arguments ----------------------------------------------------------------------------------

-- Pairs of shapes that broadcast: equal, scalars, either or both stretched, of different rank.
local pairs_of_shapes = {
  { {}, {} }, { { 5 }, {} }, { {}, { 2, 3 } }, { { 2, 3 }, { 2, 3 } }, { { 2, 3 }, { 3 } },
  { { 3 }, { 2, 3 } },
  { { 4, 1 }, { 1, 5 } }, { { 2, 1, 3 }, { 4, 1 } }, { { 1 }, { 1, 1, 1 } }, { { 2, 3, 2 }, { 2, 1, 2 } },
  { { 7, 19 }, { 7, 1 } },
}

local function binary(op, formula, first, second, more)
  local name = op:sub(4) -- in Lua
  local row = {
    op = op,
    run = function(t) return mb[name](t[1], t[2]) end,
    reference = function(a) return naive.map(formula, a[1], a[2]) end,
    cases = function()
      local cases = {}
      for i, shape in ipairs(pairs_of_shapes) do
        cases[i] = { inputs = { first(shape[1]), second(shape[2]) } }
      end
      return cases
    end,
    errors = {
      { op .. ": shapes do not fit, a is (2, 3), b is (2)",
        function() return mb[name](mb.zeros(2, 3), mb.zeros(2)) end },
    },
  }
  for key, value in pairs(more or {}) do row[key] = value end
  rows[#rows + 1] = row
end

-- a and b never closer than 1/32 to each other.
local function apart_a(shape) return draw.distinct(shape) end
local function apart_b(shape) return draw.distinct(shape, 1 / 32) end
local function divisor(shape) return draw.off_zero(shape, 3, 0.5) end
local function whole(shape) return draw.whole(shape, 0, 2) end
local function flag(x) return x and 1 or 0 end

binary("mb_add", function(x, y) return x + y end, any, any)
binary("mb_sub", function(x, y) return x - y end, any, any)
binary("mb_mul", function(x, y) return x * y end, any, any)
binary("mb_div", function(x, y) return x / y end, any, divisor, { points = 4 })
binary("mb_pow", function(x, y) return x ^ y end, positive, any, { points = 4, tolerance32 = 2e-6 })
binary("mb_minimum", math.min, apart_a, apart_b)
binary("mb_maximum", math.max, apart_a, apart_b)
binary("mb_less", function(x, y) return flag(x < y) end, whole, whole, { gradient = false })
binary("mb_less_equal", function(x, y) return flag(x <= y) end, whole, whole, { gradient = false })
binary("mb_equal", function(x, y) return flag(x == y) end, whole, whole, { gradient = false })

-- ----- where ------------------------------------------------------------------------------------------

rows[#rows + 1] = {
  op = "mb_where",
  run = function(t) return mb.where(t[1], t[2], t[3]) end,
  reference = function(a)
    return naive.map(function(c, x, y)
      if c ~= 0 then return x end
      return y
    end, a[1], a[2], a[3])
  end,
  cases = function()
    local cases = {}
    for _, shape in ipairs {
      { {}, {}, {} }, { { 6 }, { 6 }, { 6 } }, { { 2, 3 }, { 3 }, {} }, { { 3 }, { 2, 3 }, { 2, 1 } },
      { { 1, 4 }, { 3, 1 }, { 3, 4 } },
      { { 40 }, {}, { 40 } },
    } do
      for _, dtype in ipairs { "u8", "i32" } do
        cases[#cases + 1] = { inputs = { draw.ids(shape[1], 0, 1, dtype), any(shape[2]), any(shape[3]) } }
      end
    end
    return cases
  end,
  errors = {
    { "mb_where: shapes do not fit, condition is (2), a is (3), b is (3)",
      function() return mb.where(mb.zeros(2), mb.zeros(3), mb.zeros(3)) end },
  },
}

return rows
