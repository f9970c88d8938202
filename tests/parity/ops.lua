-- SPDX-License-Identifier: MIT
--
-- ops.lua: every row of the op table on the device beside the CPU: the result, and every gradient of
-- sum(result * weights).

local draw = require "tests.ops.draw"
local gradcheck = require "tests.ops.gradcheck"
local helper = require "tests.helper"
local mb = require "moonbow"
local measure = require "tests.parity.measure"

local M = {}

-- Rows with a limit of their own.
local from_result = { bf16 = { limit = 3e-4, reason = "the gradient is made from the result, which is rounded near 1" } }
local own = { mb_sigmoid = from_result, mb_tanh = from_result }

-- Tensors of a case on `device`; absent inputs stay nil. `held` is the dtype that can hold the numbers.
local function tensors(case, dtype, held, device, wants_grad)
  local t = {}
  for i, input in ipairs(case.inputs) do
    if input then
      local values, is_float = { unpack(input) }, gradcheck.is_float(input)
      local made = mb.tensor(values, { shape = input.shape, dtype = input.dtype or held, device = "cpu" })
      if is_float then made = made:to(dtype) end
      t[i] = made:to(device)
      if is_float and wants_grad then t[i]:requires_grad_() end
    end
  end
  return t
end

-- Result and gradients of one case on one device.
local function run(row, case, dtype, held, device, weights)
  mb.device(device)
  local has_gradient = row.gradient ~= false and not row.in_place
  local t = tensors(case, dtype, held, device, has_gradient)
  local out = row.run(t, case)
  local gradients = {}
  if has_gradient then
    weights = weights or draw.uniform(out.shape)
    local factors = mb.tensor({ unpack(weights) }, { shape = weights.shape, dtype = held, device = "cpu" })
    mb.sum(out * factors:to(out.dtype):to(out.device)):backward()
    for i in pairs(t) do gradients[i] = t[i].grad end
  end
  return out, gradients, weights
end

---Compares a row in `dtype`.
function M.compare(row, dtype)
  local result = measure.row(row.op, dtype, own[row.op] and own[row.op][dtype])
  draw.start(row.op)
  for _, case in ipairs(row.cases()) do
    mb.scope(function()
      local want, want_gradients, weights = run(row, case, "f32", dtype, "cpu")
      local got, got_gradients = run(row, case, dtype, dtype, helper.device, weights)
      measure.add(result, "forward", got, want)
      for i, gradient in pairs(want_gradients) do
        assert(got_gradients[i], row.op .. ": no gradient on the device")
        measure.add(result, "gradient " .. i, got_gradients[i], gradient)
      end
    end)
  end
  measure.check(result)
end

return M
