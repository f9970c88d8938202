-- SPDX-License-Identifier: MIT
--
-- products.lua: rows of the op table for matrix products and attention. References sum one product after
-- another, so results agree to a few roundings of the longest sum.

local draw = require "tests.ops.draw"
local mb = require "moonbow"
local naive = require "tests.ops.naive"

local rows = {}

local function any(shape) return draw.uniform(shape, -1, 1) end

-- ----- matmul -----------------------------------------------------------------------------------------

rows[#rows + 1] = {
  op = "mb_matmul",
  run = function(t, case)
    return mb.matmul(t[1], t[2], { transpose_a = case.ta, transpose_b = case.tb })
  end,
  reference = function(a, case)
    local x, y = a[1], a[2]
    if case.ta then x = naive.swap_last(x) end
    if case.tb then y = naive.swap_last(y) end
    return naive.matmul(x, y)
  end,
  cases = function()
    local cases = {}
    -- leading sizes of a, of b, m, k, n
    for _, s in ipairs {
      { {}, {}, 1, 1, 1 }, { {}, {}, 3, 4, 5 }, { {}, {}, 1, 7, 2 }, { {}, {}, 6, 1, 3 }, { { 2 }, { 2 }, 3, 2, 4 },
      { { 2, 3 }, {}, 2, 3, 2 }, { {}, { 2 }, 2, 3, 2 }, { { 2, 1 }, { 1, 3 }, 2, 2, 3 }, { {}, {}, 17, 19, 23 },
    } do
      for flags = 0, 3 do
        local ta, tb = flags % 2 == 1, flags >= 2
        local shape_a, shape_b, m, k, n = { unpack(s[1]) }, { unpack(s[2]) }, s[3], s[4], s[5]
        table.insert(shape_a, ta and k or m)
        table.insert(shape_a, ta and m or k)
        table.insert(shape_b, tb and n or k)
        table.insert(shape_b, tb and k or n)
        cases[#cases + 1] = { inputs = { any(shape_a), any(shape_b) }, ta = ta, tb = tb }
      end
    end
    return cases
  end,
  errors = {
    { "mb_matmul", function() return mb.matmul(mb.zeros(2, 3), mb.zeros(4, 5)) end },
    { "(2, 3)", function() return mb.matmul(mb.zeros(2, 3), mb.zeros(4, 5)) end },
    { "(4, 5)", function() return mb.matmul(mb.zeros(2, 3), mb.zeros(4, 5)) end },
    { "mb_matmul", function() return mb.matmul(mb.zeros(3), mb.zeros(3, 2)) end },
    { "mb_matmul", function() return mb.matmul(mb.zeros(2, 3, 4), mb.zeros(3, 4, 5)) end },
  },
}

-- ----- linear -----------------------------------------------------------------------------------------

-- x W^T + b of x, row by row, after `before`.
local function linear_of(before)
  return function(a)
    local x, weight, bias = a[1], a[2], a[3]
    return naive.rows(x, function(row)
      local out, n_in = {}, #row
      for o = 1, weight.shape[1] do
        out[o] = bias and bias[o] or 0
        for i = 1, n_in do out[o] = out[o] + before(row[i]) * weight[(o - 1) * n_in + i] end
      end
      return out
    end)
  end
end

for _, entry in ipairs {
  { "mb_linear", mb.linear, function(x) return x end },
  { "mb_linear_aligned", mb.linear_aligned, function(x) return x end },
  { "mb_gelu_linear", mb.gelu_linear, naive.gelu_tanh },
} do
  local name, apply, before = unpack(entry)
  rows[#rows + 1] = {
    op = name,
    run = function(t) return apply(t[1], t[2], t[3]) end,
    reference = linear_of(before),
    cases = function()
      local cases = {}
      for _, s in ipairs {
        { { 1 }, 1 }, { { 5 }, 3 }, { { 4, 3 }, 2 }, { { 2, 3, 4 }, 5 }, { { 1, 1, 7 }, 1 }, { { 9, 17 }, 19 },
      } do
        local x, n_in = s[1], s[1][#s[1]]
        cases[#cases + 1] = { inputs = { any(x), any { s[2], n_in }, any { s[2] } } }
        cases[#cases + 1] = { inputs = { any(x), any { s[2], n_in }, false } }
      end
      return cases
    end,
    errors = {
      { name, function() return apply(mb.zeros(2, 3), mb.zeros(5, 4)) end },
      { "(5, 4)", function() return apply(mb.zeros(2, 3), mb.zeros(5, 4)) end },
      { name, function() return apply(mb.zeros(2, 3), mb.zeros(5, 3), mb.zeros(3)) end },
    },
  }
end

-- x W1^T + b1, gelu, W2^T + b2.
rows[#rows + 1] = {
  op = "mb_gelu_mlp",
  tolerance16 = 0.06, -- what is between the products is rounded too
  run = function(t, case) return mb.gelu_mlp(t[1], t[2], t[3] or nil, t[4], t[5], case.keep) end,
  reference = function(a)
    return linear_of(naive.gelu_tanh) { linear_of(function(x) return x end) { a[1], a[2], a[3] }, a[4], a[5] }
  end,
  cases = function()
    local cases = {}
    for _, s in ipairs {
      { { 1 }, 1, 1 }, { { 5 }, 3, 2 }, { { 4, 3 }, 2, 5 }, { { 2, 3, 4 }, 5, 3 }, { { 2, 2, 1, 7 }, 8, 1 }, { { 9, 7 }, 11, 6 },
    } do
      local x, hidden, n_out = s[1], s[2], s[3]
      local first, second = any { hidden, x[#x] }, any { n_out, hidden }
      for _, keep in ipairs { false, true } do
        cases[#cases + 1] = { inputs = { any(x), first, any { hidden }, second, any { n_out } }, keep = keep }
        cases[#cases + 1] = { inputs = { any(x), first, false, second, false }, keep = keep }
      end
    end
    return cases
  end,
  errors = {
    { "mb_gelu_mlp", function() return mb.gelu_mlp(mb.zeros(2, 3), mb.zeros(5, 4), nil, mb.zeros(3, 5)) end },
    { "mb_gelu_mlp: x is (2, 5), weight is (3, 4)", function()
      return mb.gelu_mlp(mb.zeros(2, 3), mb.zeros(5, 3), mb.zeros(5), mb.zeros(3, 4))
    end },
  },
}

-- ----- attention --------------------------------------------------------------------------------------

-- softmax(scale q k^T) v over the keys up to the query's own position, for one head: arrays of T rows of D.
local function one_head(q, k, v, n_t, n_d, scale)
  local out = {}
  for t = 1, n_t do
    local scores = {}
    for s = 1, t do
      scores[s] = 0
      for d = 1, n_d do scores[s] = scores[s] + q(t, d) * k(s, d) * scale end
    end
    local weights = naive.softmax(scores)
    out[t] = {}
    for d = 1, n_d do
      out[t][d] = 0
      for s = 1, t do out[t][d] = out[t][d] + weights[s] * v(s, d) end
    end
  end
  return out
end

-- q, k, v given by fn(which, b, t, h, d); the result as out[b][h][t][d].
local function attention(n_b, n_t, n_h, n_d, scale, element)
  local out = {}
  for b = 1, n_b do
    out[b] = {}
    for h = 1, n_h do
      local function part(which)
        return function(t, d) return element(which, b, t, h, d) end
      end
      out[b][h] = one_head(part(1), part(2), part(3), n_t, n_d, scale or 1 / math.sqrt(n_d))
    end
  end
  return out
end

-- B, T, H, D, scale
local sizes = {
  { 1, 1, 1, 1 }, { 1, 3, 1, 2 }, { 2, 4, 3, 4 }, { 1, 7, 2, 5, 0.3 }, { 2, 1, 2, 3 }, { 1, 35, 1, 4 },
}

rows[#rows + 1] = {
  op = "mb_attention",
  run = function(t, case) return mb.attention(t[1], t[2], t[3], case.scale) end,
  reference = function(a, case)
    local shape = a[1].shape
    local out = attention(shape[1], shape[2], shape[3], shape[4], case.scale, function(which, ...)
      return a[which][naive.place({ ... }, shape)]
    end)
    return naive.build(shape, function(i) return out[i[1]][i[3]][i[2]][i[4]] end)
  end,
  cases = function()
    local cases = {}
    for i, s in ipairs(sizes) do
      local shape = { s[1], s[2], s[3], s[4] }
      cases[i] = { inputs = { any(shape), any(shape), any(shape) }, scale = s[5] }
    end
    return cases
  end,
  errors = {
    { "mb_attention", function() return mb.attention(mb.zeros(1, 2, 3), mb.zeros(1, 2, 3), mb.zeros(1, 2, 3)) end },
    { "mb_attention", function()
      return mb.attention(mb.zeros(1, 2, 1, 4), mb.zeros(1, 3, 1, 4), mb.zeros(1, 2, 1, 4))
    end },
  },
}

rows[#rows + 1] = {
  op = "mb_attention_packed",
  run = function(t, case) return mb.attention_packed(t[1], case.n_head, case.scale) end,
  reference = function(a, case)
    local n_b, n_t, c = a[1].shape[1], a[1].shape[2], a[1].shape[3] / 3
    local n_d = c / case.n_head
    local out = attention(n_b, n_t, case.n_head, n_d, case.scale, function(which, b, t, h, d)
      return a[1][naive.place({ b, t, (which - 1) * c + (h - 1) * n_d + d }, a[1].shape)]
    end)
    return naive.build({ n_b, n_t, c }, function(i)
      local h = math.floor((i[3] - 1) / n_d) + 1
      return out[i[1]][h][i[2]][i[3] - (h - 1) * n_d]
    end)
  end,
  cases = function()
    local cases = {}
    for i, s in ipairs(sizes) do
      cases[i] = { inputs = { any { s[1], s[2], 3 * s[3] * s[4] } }, n_head = s[3], scale = s[5] }
    end
    return cases
  end,
  errors = {
    { "mb_attention_packed", function() return mb.attention_packed(mb.zeros(1, 2, 10), 1) end },
    { "mb_attention_packed", function() return mb.attention_packed(mb.zeros(1, 2, 12), 3) end },
    { "mb_attention_packed", function() return mb.attention_packed(mb.zeros(1, 2, 12), 0) end },
  },
}

return rows
