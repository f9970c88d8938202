-- SPDX-License-Identifier: MIT
--
-- ops_spec.lua: every operation of moonbow.h through every check of the op table. One op alone:
--   busted -f ... tests/ops/ops_spec.lua --filter mb_softmax
-- MB_SEED changes the random inputs; a failure prints the seed it had.

local helper = require "tests.helper"
local checks = require "tests.ops.checks"
local draw = require "tests.ops.draw"
local load = require "bindings.load"
local rows = require "tests.ops.table"

-- It writes into one of its arguments and is not recorded: tests/c/test_attention_cached.c and tests/parity/ have it.
local elsewhere = { mb_attention_cached = true }

-- Functions that turn tensors into a tensor, or change one: the sections of the header from the copies to
-- autograd, results first.
local function public_ops()
  local file = assert(io.open(load.root .. "/engine/include/moonbow.h", "rb"))
  local text = file:read "*a"
  file:close()
  text = text:sub(assert(text:find("// ----- tensors", 1, true)), assert(text:find("// ----- autograd", 1, true)))
  local ops = {}
  for name, arguments in text:gmatch "MB_CALL mb_status (mb_[%w_]+)(%b())" do
    local is_pure = arguments:find "^%(mb_tensor %*%*out, mb_tensor %*"
    local in_place = name:find "_$" and arguments:find "^%(mb_tensor %*t"
    if (is_pure or in_place) and not elsewhere[name] then ops[#ops + 1] = name end
  end
  return ops
end

describe("the op table", function()
  it("has one row for each public operation", function()
    local has_row = {}
    for _, row in ipairs(rows) do
      assert(not has_row[row.op], row.op .. " has two rows")
      has_row[row.op] = true
    end
    local ops = public_ops()
    assert(#ops > 50, "the header was not understood")
    for _, op in ipairs(ops) do
      assert(has_row[op], op .. " has no row in tests/ops/rows/")
      has_row[op] = nil
    end
    assert(next(has_row) == nil, tostring(next(has_row)) .. " has a row but is not in moonbow.h")
  end)

  it("has cases of more than one shape in every row", function()
    for _, row in ipairs(rows) do
      draw.start(row.op)
      local shapes = {}
      for _, case in ipairs(row.cases()) do shapes[table.concat(case.inputs[1].shape, ",")] = true end
      local first = next(shapes)
      assert(first and next(shapes, first), row.op .. " has one shape")
    end
  end)
end)

for _, row in ipairs(rows) do
  describe(row.op, function()
    before_each(function() draw.start(row.op) end)

    it("computes its formula in f64 and f32", function() checks.over_cases(row, checks.forward) end)
    it("gives the same for views as for their copies", function() checks.over_cases(row, checks.views) end)
    it("refuses wrong dtypes and discarded tensors", function() checks.over_cases(row, checks.refusals) end)
    if helper.device == "cuda" and row.bf16 ~= false then
      it("computes in bf16", function() checks.over_cases(row, checks.bf16) end)
    end
    if row.any_dtype then
      it("takes integers", function() checks.over_cases(row, checks.integers) end)
    end
    if row.errors then
      it("says what is wrong with a call", function() checks.errors(row) end)
    end
    if row.gradient ~= false and not row.in_place then
      it("has the gradient that differences show", function() checks.over_cases(row, checks.gradient) end)
      it("gives each gradient alone", function() checks.over_cases(row, checks.partial) end)
      it("adds up the gradients of one tensor given twice", function() checks.over_cases(row, checks.shared) end)
    end
  end)
end
