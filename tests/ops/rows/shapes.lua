-- SPDX-License-Identifier: MIT
--
-- shapes.lua: rows of the op table for views and copies, concat and gather. They take any dtype but for
-- gather.

local draw = require "tests.ops.draw"
local handle = require "bindings.handle"
local mb = require "moonbow"
local naive = require "tests.ops.naive"

local rows = {}

local function same(a) return a[1] end

-- A row over settings { shape, ... }: the rest becomes case.with.
local function over(op, settings, run, reference, more)
  local row = {
    op = op, run = run, reference = reference, any_dtype = true,
    cases = function()
      local cases = {}
      for i, s in ipairs(settings) do cases[i] = { inputs = { draw.uniform(s[1]) }, with = { unpack(s, 2) } } end
      return cases
    end,
  }
  for key, value in pairs(more or {}) do row[key] = value end
  rows[#rows + 1] = row
end

local plain = { { {} }, { { 1 } }, { { 5 } }, { { 3, 4 } }, { { 2, 1, 3 } }, { { 2, 3, 2, 2 } } }

-- ----- copies -----------------------------------------------------------------------------------------

over("mb_clone", plain, function(t) return t[1]:clone() end, same)
over("mb_contiguous", plain, function(t) return t[1]:contiguous() end, same)
over("mb_to_device", plain, function(t) return handle.produce("mb_to_device", t[1], 0) end, same,
  { bf16 = false }) -- the weights of the result meet it on the CPU
over("mb_detach", plain, function(t) return t[1]:detach() end, same, { gradient = false })
-- There and back, so that the result has the dtype of the input; values are exact in f32.
over("mb_cast", plain, function(t)
  local other = t[1].dtype == "f32" and "f64" or "f32"
  return t[1]:to(other):to(t[1].dtype)
end, same, { eps = 1 / 128, errors = {
  { "expected a dtype", function() return mb.zeros(2):to "f16" end },
} })

-- Of numbers that bf16 has; tests/lua/rounding_spec.lua looks at the others.
over("mb_round_stochastic", plain, function(t)
  return t[1]:to("bf16"):to(t[1].dtype):to("bf16", "stochastic"):to(t[1].dtype)
end, function(a)
  local out = { shape = a[1].shape }
  for i = 1, #a[1] do
    local _, exponent = math.frexp(a[1][i])
    local unit = 2 ^ (exponent - 8)
    local rest = a[1][i] / unit - math.floor(a[1][i] / unit)
    local even = math.floor(a[1][i] / unit) % 2 == 0
    out[i] = (math.floor(a[1][i] / unit) + ((rest > 0.5 or rest == 0.5 and not even) and 1 or 0)) * unit
  end
  return out
end, { gradient = false, any_dtype = false, errors = {
  { "mb_round_stochastic", function() return mb.zeros(2):to("i32"):to("bf16", "stochastic") end },
} })

-- ----- views ------------------------------------------------------------------------------------------

local function reshaped(a, case)
  local out = { shape = case.with[2] or case.with[1] }
  for i = 1, #a[1] do out[i] = a[1][i] end
  return out
end

over("mb_reshape", {
  { {}, { 1, 1 } }, { { 1 }, {} }, { { 6 }, { 2, 3 } }, { { 2, 3, 4 }, { 6, 4 } },
  { { 2, 3, 4 }, { 4, -1 }, { 4, 6 } },   { { 4, 6 }, { 2, 2, 1, 3, 2 } }, { { 2, 1, 3 }, { -1 }, { 6 } },
}, function(t, case) return t[1]:reshape(case.with[1]) end, reshaped, { errors = {
  { "mb_reshape: (2, 3) has 6 elements, which do not make (4)", function() return mb.zeros(2, 3):reshape(4) end },
  { "sizes above 0", function() return mb.zeros(2, 3):reshape(0, 6) end },
  { "at most one -1", function() return mb.zeros(2, 3):reshape(-1, -1) end },
} })

over("mb_transpose", {
  { { 3, 4 }, 1, 2 }, { { 1, 5 }, -1, -2 }, { { 2, 3, 4 }, 1, 3 }, { { 2, 3, 4 }, 2, 2 }, { { 19, 35 }, 1, 2 },
}, function(t, case) return t[1]:transpose(case.with[1], case.with[2]) end, function(a, case)
  local order, n = {}, #a[1].shape
  for d = 1, n do order[d] = d end
  local x, y = naive.dim(case.with[1], n), naive.dim(case.with[2], n)
  order[x], order[y] = order[y], order[x]
  return naive.permute(a[1], order)
end, { errors = { { "mb.transpose: dimension 3", function() return mb.zeros(2, 3):transpose(1, 3) end } } })

over("mb_permute", {
  { { 5 }, { 1 } }, { { 3, 4 }, { 2, 1 } }, { { 2, 3, 4 }, { 3, 1, 2 } }, { { 2, 1, 3, 2 }, { -1, 2, 1, 3 } },
}, function(t, case) return t[1]:permute(case.with[1]) end,
   function(a, case) return naive.permute(a[1], case.with[1]) end, { errors = {
  { "mb_permute: 1 dimensions were given, the tensor has 2", function() return mb.zeros(2, 3):permute(1) end },
  { "is given twice", function() return mb.zeros(2, 3):permute(2, 2) end },
} })

-- dim, first, last, step, all counted as string.sub counts.
over("mb_slice", {
  { { 5 }, 1, 1, 5, 1 }, { { 5 }, 1, 2, 4, 2 }, { { 5 }, -1, -2, -1, 1 }, { { 3, 4 }, 2, 3, 3, 1 },
  { { 3, 4, 2 }, 2, 1, 4, 3 }, { { 1, 6 }, 1, 1, 1, 5 },
}, function(t, case) return t[1]:slice(unpack(case.with)) end, function(a, case)
  local shape, dim, first, last, step = { unpack(a[1].shape) }, unpack(case.with)
  dim = naive.dim(dim, #shape)
  first, last = naive.dim(first, shape[dim]), naive.dim(last, shape[dim])
  shape[dim] = math.floor((last - first) / step) + 1
  return naive.build(shape, function(index)
    index[dim] = first + (index[dim] - 1) * step
    return a[1][naive.place(index, a[1].shape)]
  end)
end, { errors = {
  { "mb_slice: [2, 1) is empty", function() return mb.zeros(3):slice(1, 3, 1) end },
  { "mb.slice: position 4", function() return mb.zeros(3):slice(1, 1, 4) end },
  { "mb_slice: step is 0", function() return mb.zeros(3):slice(1, 1, 3, 0) end },
} })

over("mb_expand", {
  { {}, { 2, 3 } }, { { 1 }, { 4 } }, { { 3, 1 }, { 3, 4 } }, { { 2, 1, 3 }, { 5, 2, 2, 3 } }, { { 2, 3 }, { 2, 3 } },
}, function(t, case) return t[1]:expand(case.with[1]) end, function(a, case)
  return naive.build(case.with[1], function(index) return a[1][naive.place(index, a[1].shape)] end)
end, { errors = {
  { "mb_expand: (2, 3) cannot be stretched to (4, 3)", function() return mb.zeros(2, 3):expand(4, 3) end },
  { "mb_expand: shape (0, 3) has a size below 1", function() return mb.zeros(1, 3):expand(0, 3) end },
} })

-- ----- concat, gather -----------------------------------------------------------------------------------

rows[#rows + 1] = {
  op = "mb_concat", any_dtype = true,
  run = function(t, case) return mb.concat(t, case.dim) end,
  reference = function(a, case)
    local shape, dim = { unpack(a[1].shape) }, naive.dim(case.dim, #a[1].shape)
    shape[dim] = 0
    for i = 1, #a do shape[dim] = shape[dim] + a[i].shape[dim] end
    return naive.build(shape, function(index)
      local i = 1
      while index[dim] > a[i].shape[dim] do
        index[dim] = index[dim] - a[i].shape[dim]
        i = i + 1
      end
      local at = 0 -- not naive.place: a size of 1 is not stretched here
      for d = 1, #index do at = at * a[i].shape[d] + index[d] - 1 end
      return a[i][at + 1]
    end)
  end,
  cases = function()
    local cases = {}
    for i, s in ipairs {
      { 1, { 3 } }, { 1, { 1 }, { 1 } }, { -1, { 2, 3 }, { 2, 1 }, { 2, 2 } }, { 1, { 2, 3 }, { 1, 3 } },
      { 2, { 2, 1, 2 }, { 2, 3, 2 }, { 2, 2, 2 }, { 2, 1, 2 }, { 2, 1, 2 } },
    } do
      local inputs = {}
      for k = 2, #s do inputs[k - 1] = draw.uniform(s[k]) end
      cases[i] = { inputs = inputs, dim = s[1] }
    end
    return cases
  end,
  mixed_dtypes = "tensor 1 is f32, tensor 0 is f64",
  errors = {
    { "mb_concat: tensor 1 is (3), tensor 0 is (2, 3); they may differ in dimension 0 only",
      function() return mb.concat({ mb.zeros(2, 3), mb.zeros(3) }, 1) end },
  },
}

local function index(values, dtype) return mb.tensor(values, { dtype = dtype or "i32" }) end

rows[#rows + 1] = {
  op = "mb_gather",
  run = function(t, case) return t[1]:gather(case.dim, t[2]) end,
  reference = function(a, case)
    local dim = naive.dim(case.dim, #a[1].shape)
    return naive.build(a[2].shape, function(at)
      local from = { unpack(at) }
      from[dim] = a[2][naive.place(at, a[2].shape)] + 1
      return a[1][naive.place(from, a[1].shape)]
    end)
  end,
  cases = function()
    local cases = {}
    -- dim, shape of a, shape of the index
    for i, s in ipairs {
      { 1, { 5 }, { 7 } }, { 1, { 3, 4 }, { 2, 4 } }, { 2, { 3, 4 }, { 3, 6 } }, { -1, { 2, 3, 5 }, { 2, 2, 1 } },
      { 2, { 2, 3, 4 }, { 1, 5, 3 } },
      { 1, { 1, 1 }, { 3, 1 } },
    } do
      local dim = naive.dim(s[1], #s[2])
      cases[i] = { inputs = { draw.uniform(s[2]), draw.ids(s[3], 0, s[2][dim] - 1) }, dim = s[1] }
    end
    return cases
  end,
  errors = {
    { "mb_gather: index 3 at element 1 is outside 0..2 (elements count from 0)",
      function() return mb.zeros(3):gather(1, index { 0, 3 }) end },
    { "mb_gather: index is u8, i32 was expected",
      function() return mb.zeros(3):gather(1, index({ 0 }, "u8")) end },
    { "mb_gather: index (2) does not fit a (3, 2)", function() return mb.zeros(3, 2):gather(1, index { 0, 1 }) end },
  },
}

return rows
