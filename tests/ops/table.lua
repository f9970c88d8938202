-- SPDX-License-Identifier: MIT
--
-- table.lua: the op table: one row for every operation of moonbow.h. A new op needs a row in one of the
-- files of rows/ and gets every check of checks.lua with it.
--
-- A row:
--   op          name in moonbow.h
--   run         fn(tensors, case) -> tensor; tensors[i] made from case.inputs[i] (nil where that is false)
--   reference   fn(inputs, case) -> array, an independent formula on plain arrays (naive.lua)
--   cases       fn() -> array of { inputs = { array | false, ... }, whatever run and reference look at }; an
--               input with a dtype (draw.ids) is integer data, any other is floating and differentiable
--   errors      { { part of the text, function that must fail }, ... }
-- and where they differ from these:
--   gradient = true        false: the result has no history
--   tolerance = 1e-12      of the f64 forward against the reference, times 1 + |value|
--   tolerance32 = 1e-5     of the f32 forward; gradients in f32 get ten times that
--   points = 2             central differences of 4 points where 2 are too coarse
--   eps, gradient_tolerance   of the differences: 1e-6 (1e-3 with 4 points) and 1e-5
--   result_dtype           dtype of the result, if not that of the inputs
--   any_dtype = false      true: integers are allowed, and checked
--   mixed_dtypes           text of the error for f32 and f64 together; false: they are allowed
--   in_place = false       true: run changes tensors[1] and returns it; the reference gives its new values

local M = {}

for _, family in ipairs { "elementwise", "reductions", "shapes", "products", "layers", "inplace" } do
  for _, row in ipairs(require("tests.ops.rows." .. family)) do
    row.family = family
    M[#M + 1] = row
  end
end

return M
