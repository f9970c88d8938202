-- SPDX-License-Identifier: MIT
--
-- Fused = unfused: random functions, with reductions over rows, columns and tensors, run fused and as the same operations
-- on tensors one after another. Steps of comparisons are made on inputs alone, whose bits are the same either way, and
-- operations are such that rounding does not grow. All of it is interpreted: every function is new code, and LuaJIT
-- 2.1.0-beta3 fails to compile the sum of a cdata pointer and a number.
local helper = require "tests.helper"
local mb = require "moonbow"

local state
local function below(n)
  state = (state * 16807) % 2147483647
  return math.floor(state / 2147483647 * n)
end

-- ----- random functions -----------------------------------------------------------------------------------

local unary = {
  function(a) return mb.tanh(a) end, function(a) return mb.sigmoid(a) - 0.5 end, function(a) return -a end,
  function(a) return mb.sqrt(mb.abs(a) + 0.5) end, function(a) return mb.exp(-mb.abs(a)) end,
  function(a) return mb.log(mb.square(a) + 1) end, function(a) return mb.reciprocal(mb.abs(a) + 1) end,
  function(a) return mb.rsqrt(a * a + 1) end, function(a) return mb.gelu(a) / 2 end, function(a) return mb.silu(a) / 2 end,
  function(a) return mb.relu(a) end, function(a) return mb.clamp(a, -0.5, 0.75) end, function(a) return mb.gelu_erf(a) / 2 end,
  function(a) return mb.affine(a, 0.5, -0.25) end, function(a) return mb.abs(a) ^ 1.5 / 4 end,
}
local binary = {
  function(a, b) return (a + b) / 2 end, function(a, b) return (a - b) / 2 end,
  function(a, b) return mb.tanh(a) * mb.tanh(b) end, function(a, b) return a / (mb.abs(b) + 2) end,
  function(a, b) return mb.maximum(a, b) end, function(a, b) return mb.minimum(a, b) end,
  function(a, b) return 0.9 * a + 0.1 * b end, function(a, b) return 0.25 * a - 0.5 * b end,
}
local choices = {
  function(x, y, a, b) return mb.where(mb.less(x, y), a, b) end,
  function(x, y, a, b) return mb.where(mb.ge(x, y), a, b) end,
  function(x, y, a, b) return mb.where(mb.equal(mb.sign(x), mb.sign(y)), a, b) end,
}
local ways, overs = { "mean", "max", "min", "norm" }, { "rows", "columns", "parameter" }

-- A function is a list of nodes { kind, function or name, arguments }; arguments are the numbers of nodes before.
local leaves = { "x", "y", "r", "c", "s", "h" }
local function random_nodes()
  local nodes = {}
  for i, name in ipairs(leaves) do nodes[i] = { kind = "leaf", name = name } end
  local function node() return 1 + below(#nodes) end
  for _ = 1, 3 + below(22) do
    local kind = below(10)
    local made
    if kind < 3 then
      made = { kind = "apply", fn = unary[1 + below(#unary)], node() }
    elseif kind < 6 then
      made = { kind = "apply", fn = binary[1 + below(#binary)], node(), node() }
    elseif kind < 7 then
      made = { kind = "apply", fn = choices[1 + below(#choices)], 1 + below(2), 1 + below(#leaves), node(), node() }
    else
      made = { kind = "reduce", name = ways[1 + below(#ways)], over = overs[1 + below(#overs)], node() }
    end
    nodes[#nodes + 1] = made
  end
  return nodes
end

-- Values of all nodes. `is_number` says which are made of h alone: these are not reduced.
local function evaluate(nodes, leaf, reduce)
  local values, is_number = {}, {}
  for i, node in ipairs(nodes) do
    is_number[i] = node.kind ~= "leaf" or node.name == "h"
    for _, a in ipairs(node) do is_number[i] = is_number[i] and is_number[a] end
    if node.kind == "leaf" then
      values[i] = leaf[node.name]
    elseif node.kind == "reduce" then
      values[i] = is_number[i] and values[node[1]] or reduce(node.name, node.over, values[node[1]])
    else
      local arguments = {}
      for k, a in ipairs(node) do arguments[k] = values[a] end
      values[i] = node.fn(unpack(arguments))
    end
  end
  return values
end

-- ----- both ways ------------------------------------------------------------------------------------------

local dims = { rows = 2, columns = 1, parameter = { 1, 2 } }

-- A norm over n elements grows with their number: taken as the root of the mean square.
local function reduce_fused(name, over, a)
  if name ~= "norm" then return mb[name](a, { over = over }) end
  return mb.norm(a, { over = over }) / mb.sqrt(mb.sum(0 * a + 1, { over = over }))
end

-- Dimensions of size 1 stay, so that what is reduced stretches as it does in a fused function.
local function reduce_plain(name, over, a)
  if name ~= "norm" then return mb[name](a, dims[over], true) end
  return mb.sqrt(mb.mean(mb.square(a), dims[over], true))
end

local function check(number, dtype, tolerance)
  local rows, columns = 1 + below(9), 1 + below(below(3) == 0 and 400 or 40)
  local o = { dtype = dtype }
  local plain = { x = mb.randn(rows, columns, o), y = mb.randn(rows, columns, o), r = mb.randn(rows, 1, o),
                  c = mb.randn(1, columns, o), s = mb.randn(1, 1, o), h = mb.full({ 1, 1 }, 0.3, o) }
  local t = { x = plain.x:clone(), y = plain.y:clone(), r = plain.r:reshape(rows):clone(), c = plain.c:reshape(columns):clone(),
              s = plain.s:reshape(1):clone() }
  local nodes = random_nodes()
  local want = evaluate(nodes, plain, reduce_plain)
  local f = mb.fuse(function(p, h)
    local values = evaluate(nodes, { x = p.x, y = p.y, r = p.r, c = p.c, s = p.s, h = h.h }, reduce_fused)
    p.y = values[#nodes]
    p.x = values[#nodes - 1]
  end, { shapes = { r = "rows", c = "columns", s = "parameter" } })
  f(t, { h = 0.3 })
  for i, name in ipairs { "y", "x" } do
    local expected = want[#nodes - i + 1] + mb.zeros(rows, columns, o)
    local scale = math.max(1, mb.max(mb.abs(expected)):item())
    local d = mb.max(mb.abs(expected - t[name])):item()
    assert.is_true(d <= tolerance * scale, ("function %d, (%d, %d) in %s, %d nodes: p.%s differs by %g; MB_SEED=%d"):format(
      number, rows, columns, dtype, #nodes, name, d, helper.seed))
  end
end

describe("a random function", function()
  it("computes fused what it does one operation after another", function()
    state = 1 + helper.seed % 2147483646
    mb.seed(helper.seed)
    jit.off()
    local ok, problem = pcall(function()
      for i = 1, (os.getenv "MB_FEWER" and 8 or 400) do
        check(i, i % 2 == 0 and "f32" or "f64", i % 2 == 0 and 1e-6 or 1e-12)
      end
    end)
    jit.on()
    assert(ok, problem)
  end)
end)
