-- SPDX-License-Identifier: MIT
--
-- sketch_budget_spec.lua: what float32 costs a sketch of many rows, whose products go through tensor cores on the GPU: values and
-- clamped matrices beside those that float64 finds from the same random numbers, over hard spectra and at any scale.

local helper = require "tests.helper"
local mb = require "moonbow"
local spectra = require "tests.spectra"
local spectral = require "bindings.spectral"

local device, it = helper.device, helper.it_on_device

local kinds = {
  flat = function() return 1 end,
  geometric = function(i) return 0.93 ^ i end,
  steep = function(i, k) return 1e-6 ^ ((i - 1) / (k - 1)) end,
  deficient = function(i) return i <= 9 and 1 / i or 0 end,
  spike = function(i) return i == 1 and 1 or 1e-3 end,
}

-- Of the largest value: of values, of elements of the clamped matrix.
local BUDGET_VALUE, BUDGET_CLAMPED = 3e-6, 1e-6

local function clamped(matrices, options, dtype)
  local list = {}
  for i, g in ipairs(matrices) do list[i] = g:clone():to(device):to(dtype) end
  mb.seed(helper.seed)
  local plan = spectral.plan(list, options)
  local found, width, values, tau = plan:probe(), plan:width(), {}, {}
  for i = 1, #list do
    values[i] = {}
    for j = 1, width do values[i][j] = found[(i - 1) * width + j - 1] end
    tau[i] = 0.3 * values[i][1]
  end
  plan:clamp(tau)
  plan:release()
  return list, values
end

describe("a sketch in float32", function()
  for _, q in ipairs { { 12, 8 }, { 40, 9 }, { 64, 10 } } do
    for _, power_iters in ipairs { 1, 2 } do
      it(("of %d rows is within its budget of float64's, %d rounds"):format(q[1] + q[2], power_iters), function()
        local options = { method = "randomized", rank = q[1], oversample = q[2], power_iters = power_iters }
        for name, kind in pairs(kinds) do
          local matrices, scales = {}, { 1, 1e-30, 1e30, 1 }
          for i, shape in ipairs { { 150, 170 }, { 150, 170 }, { 170, 150 }, { 151, 333 } } do
            local values, k = {}, math.min(shape[1], shape[2])
            for j = 1, k do values[j] = kind(j, k) end
            matrices[i] = (spectra.compose(spectra.factored(shape[1], shape[2], values)) * scales[i]):to "f32"
          end
          local narrow, values = clamped(matrices, options, "f32")
          local wide, wanted = clamped(matrices, options, "f64")
          for i = 1, #matrices do
            local top, what = wanted[i][1], ("%s, matrix %d"):format(name, i)
            for j = 1, q[1] do
              local off = math.abs(values[i][j] - wanted[i][j]) / top
              assert(off <= BUDGET_VALUE, ("%s: value %d is off by %.3g of the largest"):format(what, j, off))
            end
            local off = ((narrow[i]:to "f64" - wide[i]) * (1 / top)):abs():max():item()
            -- Of equal values any directions may be the largest.
            assert(name == "flat" or off <= BUDGET_CLAMPED,
              ("%s: the clamped matrix is off by %.3g of the largest value"):format(what, off))
          end
        end
      end)
    end
  end
end)
