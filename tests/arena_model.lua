-- SPDX-License-Identifier: MIT
--
-- arena_model.lua: a model of every role whose gradients are set by formula: for specs of what happens between the gradient
-- and the step.

local mb = require "moonbow"

local M = {}

--- Matrices, vectors, a filter and an embedding, of sizes that leave gaps in the arena.
M.Plain = mb.models.define {
  name = "plain",
  parameters = function(add)
    add("embed", { 11, 3 }, { role = "embedding", init = "normal", std = 1 })
    for i = 0, 1 do
      add(("h.%d.weight"):format(i), { 7, 5 }, { role = "matrix", init = "normal", std = 0.5 })
      add(("h.%d.bias"):format(i), { 3 }, { role = "vector", init = "uniform", width = 1 })
    end
    add("filter", { 3, 2, 2, 2 }, { role = "conv", init = "normal", std = 0.5 })
    add("scale", { 1 }, { role = "vector", init = "ones" })
  end,
  forward = function(p) return p.scale * mb.sum(p["h.0.weight"]) end,
}

--- A gradient that depends on parameter, element and step only.
function M.set_gradients(model, step)
  for i, p in ipairs(model:parameters()) do
    local values = {}
    for e = 1, p.value.numel do values[e] = math.sin(i + 1.7 * e + 2.3 * step) * (e % 3 == 0 and 0.01 or 1) end
    p.grad:copy_(mb.tensor(values, { dtype = model.dtype }):reshape(p.shape))
  end
end

--- Copies of all weights, by name.
function M.weights(model)
  local values = {}
  for _, p in ipairs(model:parameters()) do values[p.name] = p.value:detach():clone() end
  return values
end

--- Fails unless what one optimizer or model keeps is what the other does, to the bit.
function M.assert_equal_states(one, two, what)
  for key, value in pairs(one) do
    assert(mb.is_tensor(value) and value:equal(two[key]) or value == two[key], what .. ": " .. key)
  end
end

return M
