-- SPDX-License-Identifier: MIT
--
-- formula.lua: runs an optimizer for 20 steps beside the same thing in plain Lua numbers, written by the test.

local arena = require "tests.arena_model"

local M = {}

local function flat(t) return t:reshape(-1):totable() end

-- formula(p, w, g, state, step) changes the array w; p is the parameter { name, role, shape }, g its gradient as the
-- model's dtype holds it, and state a table of its own.
local function run(dtype, tolerance, make, formula)
  local model = arena.Plain { seed = 5, dtype = dtype }
  local expected, states = {}, {}
  for _, p in ipairs(model:parameters()) do expected[p.name], states[p.name] = flat(p.value), {} end
  local opt = make(model)
  for step = 1, 20 do
    arena.set_gradients(model, step)
    opt:step()
    for _, p in ipairs(model:parameters()) do formula(p, expected[p.name], flat(p.grad), states[p.name], step) end
  end
  for _, p in ipairs(model:parameters()) do
    for e, got in ipairs(flat(p.value)) do
      local want = expected[p.name][e]
      assert(math.abs(got - want) <= tolerance * math.max(1, math.abs(want)),
        ("%s[%d] in %s: %.17g, expected %.17g"):format(p.name, e, dtype, got, want))
    end
  end
end

--- Parameter by parameter, in float64 to 1e-13 and in float32 to 2e-5.
---@param make fun(model): moonbow.Optimizer
---@param formula fun(p, w: number[], g: number[], state: table, step: integer)
function M.parameters(make, formula)
  run("f64", 1e-13, make, formula)
  run("f32", 2e-5, make, formula)
end

--- Element by element: formula(w, g, state, step) -> w.
---@param make fun(model): moonbow.Optimizer
---@param formula fun(w: number, g: number, state: table, step: integer): number
function M.elements(make, formula)
  M.parameters(make, function(_, w, g, state, step)
    for e in ipairs(w) do
      state[e] = state[e] or {}
      w[e] = formula(w[e], g[e], state[e], step)
    end
  end)
end

return M
