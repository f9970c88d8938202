-- SPDX-License-Identifier: MIT
--
-- layers.lua: rows of the op table for embedding, norms, rotary embedding, dropout and cross entropy.

local draw = require "tests.ops.draw"
local generator = require "bindings.create"
local mb = require "moonbow"
local naive = require "tests.ops.naive"

local rows = {}

local function any(shape) return draw.uniform(shape) end

-- ----- embedding --------------------------------------------------------------------------------------

local function ids(values, dtype) return mb.tensor(values, { dtype = dtype or "i32" }) end

rows[#rows + 1] = {
  op = "mb_embedding",
  run = function(t) return mb.embedding(t[1], t[2]) end,
  reference = function(a)
    local n = a[1].shape[2]
    local shape = { unpack(a[2].shape) }
    shape[#shape + 1] = n
    local out = { shape = shape }
    for i = 1, #a[2] do
      for c = 1, n do out[#out + 1] = a[1][a[2][i] * n + c] end
    end
    return out
  end,
  cases = function()
    local cases = {}
    -- V, C, shape of the ids
    for _, s in ipairs { { 1, 1, {} }, { 5, 3, { 4 } }, { 3, 1, { 2, 5 } }, { 7, 4, { 1, 3, 2 } }, { 4, 17, { 33 } } } do
      for _, dtype in ipairs { "i32", "u16", "u8" } do
        cases[#cases + 1] = { inputs = { any { s[1], s[2] }, draw.ids(s[3], 0, s[1] - 1, dtype) } }
      end
    end
    return cases
  end,
  errors = {
    { "mb_embedding", function() return mb.embedding(mb.zeros(3, 2), ids { 0, 3 }) end },
    { "3", function() return mb.embedding(mb.zeros(3, 2), ids { 0, 3 }) end },
    { "mb_embedding", function() return mb.embedding(mb.zeros(3, 2), ids { -1 }) end },
    { "mb_embedding", function() return mb.embedding(mb.zeros(3), ids { 0 }) end },
    { "mb_embedding", function() return mb.embedding(mb.zeros(3, 2), mb.zeros(2)) end },
  },
}

-- ----- norms ------------------------------------------------------------------------------------------

local function layernorm_row(weight, bias, epsilon)
  return function(row)
    local n = #row
    local mean, variance, out = naive.sum(row) / n, 0, {}
    for i = 1, n do variance = variance + (row[i] - mean) ^ 2 / n end
    for i = 1, n do
      local x = (row[i] - mean) / math.sqrt(variance + epsilon)
      out[i] = x * (weight and weight[i] or 1) + (bias and bias[i] or 0)
    end
    return out
  end
end

local function rmsnorm_row(weight, epsilon)
  return function(row)
    local square, out = 0, {}
    for i = 1, #row do square = square + row[i] ^ 2 / #row end
    for i = 1, #row do out[i] = row[i] / math.sqrt(square + epsilon) * (weight and weight[i] or 1) end
    return out
  end
end

local norm_shapes = { { 3 }, { 4, 5 }, { 2, 3, 7 }, { 1, 1, 2 }, { 3, 67 } }

rows[#rows + 1] = {
  op = "mb_layernorm", points = 4, tolerance32 = 1e-4,
  run = function(t, case) return mb.layernorm(t[1], t[2], t[3], case.epsilon) end,
  reference = function(a, case) return naive.rows(a[1], layernorm_row(a[2], a[3], case.epsilon)) end,
  cases = function()
    local cases = {}
    for i, shape in ipairs(norm_shapes) do
      local c = { shape[#shape] }
      cases[2 * i - 1] = { inputs = { any(shape), any(c), any(c) }, epsilon = 1e-5 }
      cases[2 * i] = { inputs = { any(shape), any(c), false }, epsilon = 0.1 }
    end
    return cases
  end,
  errors = {
    { "mb_layernorm", function() return mb.layernorm(mb.zeros(2, 3), mb.zeros(2)) end },
    { "mb_layernorm", function() return mb.layernorm(mb.zeros(2, 3), mb.zeros(3), mb.zeros(4)) end },
  },
}

rows[#rows + 1] = {
  op = "mb_rmsnorm", points = 4, tolerance32 = 1e-4,
  run = function(t, case) return mb.rmsnorm(t[1], t[2], case.epsilon) end,
  reference = function(a, case) return naive.rows(a[1], rmsnorm_row(a[2], case.epsilon)) end,
  cases = function()
    local cases = {}
    for i, shape in ipairs(norm_shapes) do
      cases[2 * i - 1] = { inputs = { any(shape), any { shape[#shape] } }, epsilon = 1e-6 }
      cases[2 * i] = { inputs = { any(shape), false }, epsilon = 0.1 }
    end
    cases[#cases + 1] = { inputs = { draw.off_zero { 4, 1 }, any { 1 } }, epsilon = 1e-6 }
    return cases
  end,
  errors = { { "mb_rmsnorm", function() return mb.rmsnorm(mb.zeros(2, 3), mb.zeros(2)) end } },
}

-- Both results count: norm(a + b) + (a + b) / 2.
local function with_sum(norm_row)
  return function(row)
    local out = norm_row(row)
    for i = 1, #row do out[i] = out[i] + row[i] / 2 end
    return out
  end
end

local function with_half(norm, sum) return norm + sum * 0.5 end

local function added(a) return naive.map(function(x, y) return x + y end, a[1], a[2]) end

local function sums(with_bias)
  return function()
    local cases = {}
    for i, shape in ipairs(norm_shapes) do
      local c = { shape[#shape] }
      cases[i] = { inputs = { any(shape), any(shape), any(c), with_bias and any(c) or nil }, epsilon = 0.1 }
    end
    return cases
  end
end

rows[#rows + 1] = {
  op = "mb_add_layernorm", points = 4, tolerance32 = 1e-4,
  run = function(t, case) return with_half(mb.add_layernorm(t[1], t[2], t[3], t[4], case.epsilon)) end,
  reference = function(a, case) return naive.rows(added(a), with_sum(layernorm_row(a[3], a[4], case.epsilon))) end,
  cases = sums(true),
  errors = { { "mb_add_layernorm", function() return mb.add_layernorm(mb.zeros(2, 3), mb.zeros(3)) end } },
}

rows[#rows + 1] = {
  op = "mb_add_rmsnorm", points = 4, tolerance32 = 1e-4,
  run = function(t, case) return with_half(mb.add_rmsnorm(t[1], t[2], t[3], case.epsilon)) end,
  reference = function(a, case) return naive.rows(added(a), with_sum(rmsnorm_row(a[3], case.epsilon))) end,
  cases = sums(false),
  errors = { { "mb_add_rmsnorm", function() return mb.add_rmsnorm(mb.zeros(2, 3), mb.zeros(3)) end } },
}

-- ----- rotary -----------------------------------------------------------------------------------------

rows[#rows + 1] = {
  op = "mb_rotary", tolerance32 = 2e-5,
  run = function(t, case) return mb.rotary(t[1], case.base, case.first) end,
  reference = function(a, case)
    local shape = a[1].shape
    local half = shape[4] / 2
    return naive.build(shape, function(index)
      local b, t, h, d = unpack(index)
      local i = (d - 1) % half -- of the pair, from 0
      local angle = (case.first + t - 1) * case.base ^ (-2 * i / shape[4])
      local x = a[1][naive.place({ b, t, h, i + 1 }, shape)]
      local y = a[1][naive.place({ b, t, h, i + 1 + half }, shape)]
      if d <= half then return x * math.cos(angle) - y * math.sin(angle) end
      return x * math.sin(angle) + y * math.cos(angle)
    end)
  end,
  cases = function()
    local cases = {}
    for i, s in ipairs {
      { { 1, 1, 1, 2 }, 10000, 0 }, { { 2, 3, 2, 4 }, 10000, 0 }, { { 1, 5, 1, 6 }, 100, 3 },
      { { 1, 2, 3, 16 }, 10000, 60 },
    } do
      cases[i] = { inputs = { any(s[1]) }, base = s[2], first = s[3] }
    end
    return cases
  end,
  errors = {
    { "mb_rotary", function() return mb.rotary(mb.zeros(1, 2, 1, 3)) end },
    { "mb_rotary", function() return mb.rotary(mb.zeros(2, 4)) end },
  },
}

-- ----- dropout ----------------------------------------------------------------------------------------

-- The generator is put back before every call: each takes the same stream, so the result is a function.
local STATE = { 77, 3, 5 }

rows[#rows + 1] = {
  op = "mb_dropout",
  run = function(t, case)
    mb.random_state(unpack(STATE))
    return mb.dropout(t[1], case.p)
  end,
  reference = function(a, case)
    local words = generator.rng_words(#a[1], unpack(STATE))
    local out = { shape = a[1].shape }
    for i = 1, #a[1] do out[i] = words[i] / 2 ^ 32 >= case.p and a[1][i] / (1 - case.p) or 0 end
    return out
  end,
  cases = function()
    local cases = {}
    for _, shape in ipairs { {}, { 1 }, { 9 }, { 3, 4 }, { 2, 1, 77 } } do
      for _, p in ipairs { 0, 0.2, 0.5, 0.9 } do cases[#cases + 1] = { inputs = { any(shape) }, p = p } end
    end
    return cases
  end,
  errors = {
    { "mb_dropout", function() return mb.dropout(mb.zeros(2), 1) end },
    { "mb_dropout", function() return mb.dropout(mb.zeros(2), -0.1) end },
  },
}

-- ----- cross entropy ------------------------------------------------------------------------------------

-- Mean (or sum) over the targets not ignored of  (1 - s) nll(target) + s mean over classes of nll.
local function cross_entropy(logits, targets, o)
  local smoothing, total, n = o.label_smoothing or 0, 0, 0
  naive.rows(logits, function(row, i)
    local target = targets[i]
    if target == o.ignore_index then return row end
    local norm, uniform = naive.log_sum_exp(row), 0
    for c = 1, #row do uniform = uniform + (norm - row[c]) / #row end
    total = total + (1 - smoothing) * (norm - row[target + 1]) + smoothing * uniform
    n = n + 1
    return row
  end)
  return { shape = {}, o.reduction == "sum" and total or total / n }
end

rows[#rows + 1] = {
  op = "mb_cross_entropy",
  run = function(t, case) return mb.cross_entropy(t[1], t[2], case.options) end,
  reference = function(a, case) return cross_entropy(a[1], a[2], case.options) end,
  cases = function()
    local cases = {}
    for _, o in ipairs {
      {}, { reduction = "sum" }, { label_smoothing = 0.2 }, { label_smoothing = 0.1, reduction = "sum" },
      { ignore_index = 1 }, { ignore_index = 0, label_smoothing = 0.3 }, { ignore_index = 2, reduction = "sum" },
    } do
      for _, s in ipairs { { { 3 }, {} }, { { 4, 5 }, { 4 } }, { { 2, 3, 7 }, { 2, 3 } }, { { 3, 67 }, { 3 } } } do
        for _, dtype in ipairs { "i32", "u16" } do
          local targets = draw.ids(s[2], 0, s[1][#s[1]] - 1, dtype)
          if targets[1] == o.ignore_index then targets[1] = (targets[1] + 1) % 3 end -- something must count
          cases[#cases + 1] = { inputs = { draw.uniform(s[1], -4, 4), targets }, options = o }
        end
      end
    end
    return cases
  end,
  errors = {
    { "mb_cross_entropy", function() return mb.cross_entropy(mb.zeros(2, 3), ids { 0, 3 }) end },
    { "mb_cross_entropy", function() return mb.cross_entropy(mb.zeros(2, 3), ids { 0, 1, 2 }) end },
    { "mb_cross_entropy", function() return mb.cross_entropy(mb.zeros(2, 3), mb.zeros(2)) end },
  },
}

rows[#rows + 1] = {
  op = "mb_linear_cross_entropy",
  run = function(t, case) return mb.linear_cross_entropy(t[1], t[2], t[3], case.options) end,
  reference = function(a, case)
    local logits = naive.rows(a[1], function(row)
      local out = {}
      for o = 1, a[2].shape[1] do
        out[o] = 0
        for i = 1, #row do out[o] = out[o] + row[i] * a[2][(o - 1) * #row + i] end
      end
      return out
    end)
    return cross_entropy(logits, a[3], case.options)
  end,
  cases = function()
    local cases = {}
    for _, o in ipairs {
      {}, { chunks = 1 }, { chunks = 2, reduction = "sum" }, { chunks = 3, label_smoothing = 0.1 },
      { chunks = 5, ignore_index = 0, label_smoothing = 0.3 },
    } do
      for _, s in ipairs { { { 3 }, {}, 4 }, { { 7, 5 }, { 7 }, 3 }, { { 2, 3, 4 }, { 2, 3 }, 17 } } do
        local targets = draw.ids(s[2], 0, s[3] - 1, "i32")
        if targets[1] == o.ignore_index then targets[1] = 1 end -- something must count
        cases[#cases + 1] = { inputs = { any(s[1]), any { s[3], s[1][#s[1]] }, targets }, options = o }
      end
    end
    return cases
  end,
  errors = {
    { "mb_linear_cross_entropy", function() return mb.linear_cross_entropy(mb.zeros(2, 3), mb.zeros(4, 3), { 0, 4 }) end },
    { "(4, 2)", function() return mb.linear_cross_entropy(mb.zeros(2, 3), mb.zeros(4, 2), { 0, 1 }) end },
    { "mb_linear_cross_entropy", function() return mb.linear_cross_entropy(mb.zeros(2, 3), mb.zeros(4, 3), { 0 }) end },
  },
}

return rows
