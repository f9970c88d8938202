-- SPDX-License-Identifier: MIT
--
-- checks.lua: what every row of the op table goes through. Each check is a function of a row; it raises an
-- error that names the op, the case and the seed.

local gradcheck = require "tests.ops.gradcheck"
local helper = require "tests.helper"
local mb = require "moonbow"
local views = require "tests.ops.views"

local compare, values = gradcheck.compare, gradcheck.values
local tensors, is_float = gradcheck.tensors, gradcheck.is_float

local M = {}

local function label(row, case) return row.op .. " " .. gradcheck.describe(case) end

local function float_inputs(case)
  local list = {}
  for i, input in ipairs(case.inputs) do
    if is_float(input) then list[#list + 1] = i end
  end
  return list
end

-- ----- values -----------------------------------------------------------------------------------------

--- Forward in f64 and f32 against the independent formula; inputs are left as they were.
function M.forward(row, case)
  local want = row.reference(case.inputs, case)
  for _, dtype in ipairs { "f64", "f32" } do
    local t = tensors(case, dtype)
    local before = {}
    for i, x in pairs(t) do before[i] = values(x) end
    local out = row.run(t, case)
    local tolerance = row.tolerance or 1e-12
    if dtype == "f32" then tolerance = math.max(tolerance, row.tolerance32 or 1e-5) end
    assert(out.dtype == (row.result_dtype or dtype), label(row, case) .. ": the result is " .. out.dtype)
    compare(values(out), want, tolerance, label(row, case) .. " " .. dtype)
    if row.in_place then assert(out == t[1], label(row, case) .. ": another tensor was returned") end
    for i, x in pairs(t) do
      if not (row.in_place and i == 1) then
        compare(values(x), before[i], 0, label(row, case) .. ", input changed")
      end
    end
  end
end

-- A case whose floating inputs are what bf16 can hold.
local function rounded(case)
  local result = { inputs = {} }
  for key, value in pairs(case) do if key ~= "inputs" then result[key] = value end end
  for i, input in ipairs(case.inputs) do
    result.inputs[i] = is_float(input) and values(gradcheck.tensor(input, "bf16")) or input
  end
  return result
end

--- bf16 on devices that compute with it: forward against the formula, backward against float32's, within its rounding.
function M.bf16(row, given)
  local case, what = rounded(given), label(row, given) .. " bf16"
  local tolerance = row.tolerance16 or 0.02
  local t = tensors(case, "bf16")
  compare(values(row.run(t, case)), row.reference(case.inputs, case), tolerance, what)
  if row.gradient == false or row.in_place then return end
  local weights = rounded({ inputs = { gradcheck.weights(row, case) } }).inputs[1]
  local want = gradcheck.backward(row, case, tensors(case, "f32", true), weights)
  local got = gradcheck.backward(row, case, tensors(case, "bf16", true), weights)
  for i = 1, #want do
    if want[i] then compare(got[i], want[i], 3 * tolerance, ("%s, gradient of input %d"):format(what, i)) end
  end
end

--- Integers of every dtype, where the row allows them.
function M.integers(row, case)
  if not row.any_dtype then return end
  local whole = { inputs = {} }
  for key, value in pairs(case) do if key ~= "inputs" then whole[key] = value end end
  for i, input in ipairs(case.inputs) do
    local x = { shape = input.shape }
    for k = 1, #input do x[k] = math.floor(math.abs(input[k]) * 50) end
    whole.inputs[i] = x
  end
  local want = row.reference(whole.inputs, whole)
  for _, dtype in ipairs { "i32", "u16", "u8" } do
    local out = row.run(tensors(whole, dtype), whole)
    assert(out.dtype == dtype, label(row, case) .. ": the result is " .. out.dtype)
    compare(values(out), want, 0, label(row, case) .. " " .. dtype)
  end
end

-- ----- gradients --------------------------------------------------------------------------------------

local function compare_gradients(got, want, tolerance, what)
  for i = 1, #want do
    local is_there = got[i] ~= false
    assert(is_there == (want[i] ~= false), ("%s: input %d has a gradient: %s"):format(what, i, tostring(is_there)))
    if want[i] then compare(got[i], want[i], tolerance, ("%s, gradient of input %d"):format(what, i)) end
  end
end

--- Backward in f64 against central differences; the same again adds up; both twice bit for bit; f32 near f64.
function M.gradient(row, case)
  local what = label(row, case)
  local weights = gradcheck.weights(row, case)
  local t = tensors(case, "f64", true)
  local numeric = gradcheck.numeric(row, case, t, weights)
  local first, out = gradcheck.backward(row, case, t, weights)
  compare_gradients(first, numeric, row.gradient_tolerance or 1e-5, what)
  local twice = gradcheck.backward(row, case, t, weights)
  for i = 1, #first do
    for k = 1, first[i] and #first[i] or 0 do numeric[i][k] = 2 * first[i][k] end
  end
  compare_gradients(twice, numeric, 1e-12, what .. ", second backward")
  local again, out_again = gradcheck.backward(row, case, tensors(case, "f64", true), weights)
  compare(out_again, out, 0, what .. ", run again")
  compare_gradients(again, first, 0, what .. ", run again")
  local single = gradcheck.backward(row, case, tensors(case, "f32", true), weights)
  compare_gradients(single, first, 10 * (row.tolerance32 or 1e-5), what .. " f32")
end

--- Each gradient alone is what it is beside the others.
function M.partial(row, case)
  local floats = float_inputs(case)
  if #floats < 2 then return end
  local weights = gradcheck.weights(row, case)
  local all = gradcheck.backward(row, case, tensors(case, "f64", true), weights)
  for _, i in ipairs(floats) do
    local t = tensors(case, "f64")
    t[i].requires_grad = true
    local one = gradcheck.backward(row, case, t, weights)
    for k = 1, #case.inputs do
      assert(k == i or one[k] == false, label(row, case) .. ": a gradient nobody asked for")
    end
    compare(one[i], all[i], 1e-12, ("%s, only input %d"):format(label(row, case), i))
  end
end

--- One tensor given for all inputs of its shape gets the sum of their gradients.
function M.shared(row, case)
  local floats = float_inputs(case)
  local t, same = tensors(case, "f64", true), 0
  local first = floats[1]
  local shape = table.concat(case.inputs[first].shape, ",")
  local joined = { inputs = {} }
  for key, value in pairs(case) do if key ~= "inputs" then joined[key] = value end end
  for i, input in ipairs(case.inputs) do
    joined.inputs[i] = input
    if i ~= first and is_float(input) and table.concat(input.shape, ",") == shape then
      t[i], same = t[first], same + 1
    end
  end
  if same == 0 then return end
  local weights = gradcheck.weights(row, case)
  local numeric = gradcheck.numeric(row, joined, t, weights)
  local got = gradcheck.backward(row, joined, t, weights)
  compare(got[first], numeric[first], row.gradient_tolerance or 1e-5, label(row, case) .. ", one tensor for all")
end

-- ----- layouts ----------------------------------------------------------------------------------------

--- Views of every kind give what their contiguous copies give, forward and backward.
function M.views(row, case)
  for _, kind in ipairs(views.kinds) do
    for only = 0, #case.inputs do
      local leaves, direct, copied = { {}, {} }, {}, {}
      local changed = 0
      for i, input in ipairs(case.inputs) do
        local made = input and (only == 0 or only == i) and not (row.in_place and kind == "wide" and i == 1)
          and views.make(kind, input)
        if made then changed = changed + 1 end
        for pass = 1, 2 do
          local x
          if made then
            leaves[pass][i] = gradcheck.tensor(made.base, "f64", row.gradient ~= false and not row.in_place)
            x = made.view(leaves[pass][i])
            if pass == 2 then x = x:clone() end
          elseif input then
            x = gradcheck.tensor(input, "f64")
          end
          if pass == 1 then direct[i] = x else copied[i] = x end
        end
      end
      local what = ("%s, %s view of %s"):format(label(row, case), kind, only == 0 and "all" or "input " .. only)
      if changed > 0 and not (only > 0 and #case.inputs == 1) then
        local a, b = row.run(direct, case), row.run(copied, case)
        compare(values(a), values(b), 1e-12, what)
        if row.in_place and leaves[1][1] then
          views.check_rest_untouched(case.inputs[1], kind, leaves[1][1], what)
        elseif a.requires_grad then
          local weights = gradcheck.tensor(gradcheck.weights(row, case), "f64"):to(a.device)
          mb.sum(a * weights):backward()
          mb.sum(b * weights):backward()
          for i, leaf in pairs(leaves[1]) do
            if leaf.requires_grad then
              compare(values(leaf.grad), values(leaves[2][i].grad), 1e-11, what .. ", gradient")
            end
          end
        end
      end
    end
  end
end

-- ----- refusals ---------------------------------------------------------------------------------------

local function must_fail(what, parts, fn, ...)
  local ok, text = pcall(fn, ...)
  assert(not ok, what .. ": no error")
  for _, part in ipairs(parts) do
    assert(tostring(text):find(part, 1, true), ("%s: the error says '%s', not '%s'"):format(what, text, part))
  end
end

--- Integers where numbers are wanted, two precisions together, and tensors that were discarded.
function M.refusals(row, case)
  local floats = float_inputs(case)
  local what = label(row, case)
  for _, i in ipairs(row.any_dtype and {} or floats) do
    local t = tensors(case, "f64")
    t[i] = gradcheck.tensor(case.inputs[i], "f64"):to "i32"
    must_fail(what .. ", i32", { row.op .. ": ", "i32" }, row.run, t, case)
  end
  if #floats > 1 and row.mixed_dtypes ~= false then
    for _, i in ipairs(floats) do
      local t = tensors(case, "f64")
      t[i] = t[i]:to "f32"
      local parts = i == 2 and row.mixed_dtypes and { row.mixed_dtypes } or { "f32", "f64" }
      must_fail(what .. ", mixed dtypes", { row.op .. ": ", unpack(parts) }, row.run, t, case)
    end
  end
  for i = 1, #case.inputs do
    local t = tensors(case, "f64")
    if t[i] then
      t[i]:discard()
      must_fail(what .. ", discarded", { "released: it was discarded" }, row.run, t, case)
    end
  end
end

--- The row's own wrong calls.
function M.errors(row)
  for i, pair in ipairs(row.errors or {}) do
    must_fail(("%s, wrong call %d"):format(row.op, i), { pair[1] }, pair[2])
  end
end

--- Runs a check over all cases of a row, and fails if it leaves tensors behind.
function M.over_cases(row, check)
  helper.no_leaks(function()
    for _, case in ipairs(row.cases()) do check(row, case) end
  end)
end

return M
