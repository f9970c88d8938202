-- SPDX-License-Identifier: MIT
--
-- gradcheck.lua: tensors from the arrays of a case, comparison of arrays, and gradients of
-- L = sum(result * weights), by backward and by central differences in float64.

local draw = require "tests.ops.draw"
local helper = require "tests.helper"
local mb = require "moonbow"

local M = {}

--- Is this input of a case differentiable?
function M.is_float(input) return input ~= nil and input ~= false and input.dtype == nil end

--- One tensor from an array; floating ones get `dtype`.
---@param input table
---@param dtype string
---@param wants_grad? boolean
function M.tensor(input, dtype, wants_grad)
  local values = {}
  for i = 1, #input do values[i] = input[i] end
  return mb.tensor(values, {
    shape = input.shape, dtype = input.dtype or dtype, device = helper.device,
    requires_grad = (wants_grad and M.is_float(input)) or false,
  })
end

--- The tensors of a case; absent inputs stay nil.
function M.tensors(case, dtype, wants_grad)
  local t = {}
  for i, input in ipairs(case.inputs) do
    if input then t[i] = M.tensor(input, dtype, wants_grad) end
  end
  return t
end

--- A tensor's values as a flat array with its shape.
function M.values(t)
  local flat = t:detach():reshape(-1):totable()
  flat.shape = t.shape
  return flat
end

--- Shapes and settings of a case, for the text of a failure.
function M.describe(case)
  local parts = {}
  for i, input in ipairs(case.inputs) do
    parts[i] = input and ("(%s)%s"):format(table.concat(input.shape, ", "), input.dtype or "") or "none"
  end
  for key, value in pairs(case) do
    if key ~= "inputs" and type(value) ~= "table" then parts[#parts + 1] = key .. "=" .. tostring(value) end
    if key ~= "inputs" and type(value) == "table" then
      for k, v in pairs(value) do
        parts[#parts + 1] = ("%s.%s=%s"):format(key, k, type(v) == "table" and table.concat(v, ",") or tostring(v))
      end
    end
  end
  return table.concat(parts, " ")
end

--- Fails unless the arrays agree to tolerance * (1 + |want|), or bit by bit when it is 0.
function M.compare(got, want, tolerance, what)
  local function fail(text, ...)
    error(("%s: " .. text .. "; MB_SEED=%d"):format(what, ...), 0)
  end
  local shapes = { table.concat(got.shape, ", "), table.concat(want.shape, ", ") }
  if shapes[1] ~= shapes[2] then fail("shape (%s), expected (%s)", shapes[1], shapes[2], helper.seed) end
  for i = 1, #want do
    local x, y = got[i], want[i]
    local same = x == y or (x ~= x and y ~= y)
    local near = math.abs(x - y) <= tolerance * (1 + math.abs(y)) -- false for a NaN
    if not (same or near) then
      fail("element %d is %.17g, expected %.17g", i, x, y, helper.seed)
    end
  end
end

-- L as a plain number.
local function loss_of(row, case, t, weights)
  local out = row.run(t, case)
  local dense = out:contiguous()
  local p, sum = dense:data(), 0
  for i = 1, #weights do sum = sum + p[i - 1] * weights[i] end
  return sum
end

--- Weights for the result of a case, of its shape.
function M.weights(row, case)
  return draw.uniform(mb.no_grad(row.run, M.tensors(case, "f64"), case).shape)
end

--- Gradients by backward: an array for each input, false where there is none. `t` are leaves that may hold
--- gradients already.
function M.backward(row, case, t, weights)
  local out = row.run(t, case)
  local loss = mb.sum(mb.mul(out, M.tensor(weights, out.dtype):to(out.device)))
  loss:backward()
  local gradients = {}
  for i = 1, #case.inputs do
    local g = t[i] and M.is_float(case.inputs[i]) and t[i].grad
    gradients[i] = g and M.values(g) or false
  end
  return gradients, M.values(out)
end

-- The same tensors where differences can be made by changing elements; one given twice stays one.
local function on_cpu(t, count)
  local copies, moved = {}, {}
  for i = 1, count do
    if t[i] then
      moved[t[i].id] = moved[t[i].id] or (t[i].device == "cpu" and t[i] or t[i]:detach():to "cpu")
      copies[i] = moved[t[i].id]
    end
  end
  return copies
end

--- Gradients of the f64 leaves `t` by central differences, made on the CPU.
function M.numeric(row, case, t, weights)
  t = on_cpu(t, #case.inputs)
  local points = row.points or 2
  local eps = row.eps or (points == 4 and 1e-3 or 1e-6)
  local gradients = {}
  mb.no_grad(function()
    for i = 1, #case.inputs do
      gradients[i] = false
      if t[i] and M.is_float(case.inputs[i]) then
        local p, g = t[i]:data(), { shape = case.inputs[i].shape }
        for j = 0, #case.inputs[i] - 1 do
          local x = p[j]
          local function at(step)
            p[j] = x + step
            return loss_of(row, case, t, weights)
          end
          if points == 4 then
            g[j + 1] = (8 * (at(eps) - at(-eps)) - (at(2 * eps) - at(-2 * eps))) / (12 * eps)
          else
            g[j + 1] = (at(eps) - at(-eps)) / (2 * eps)
          end
          p[j] = x
        end
        gradients[i] = g
      end
    end
  end)
  return gradients
end

return M
