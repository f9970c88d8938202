-- SPDX-License-Identifier: MIT
--
-- inplace.lua: rows of the op table for changes in place. The first input is the tensor that is changed;
-- the reference gives its values afterwards.

local draw = require "tests.ops.draw"
local generator = require "bindings.create"
local mb = require "moonbow"
local naive = require "tests.ops.naive"

local rows = {}

local shapes = { {}, { 1 }, { 7 }, { 3, 4 }, { 2, 1, 5 }, { 3, 67 } }
local pairs_of_shapes = {
  { {}, {} }, { { 5 }, { 5 } }, { { 5 }, {} }, { { 2, 3 }, { 3 } }, { { 2, 3, 4 }, { 3, 1 } },
  { { 2, 3 }, { 1, 1 } }, { { 3, 67 }, { 3, 67 } },
}

-- A row whose other argument is a number or two.
local function with_scalars(op, scalars, run, formula, any_dtype)
  rows[#rows + 1] = {
    op = op, in_place = true, any_dtype = any_dtype,
    run = function(t, case) return run(t[1], unpack(case.scalars)) end,
    reference = function(a, case)
      return naive.map(function(x) return formula(x, unpack(case.scalars)) end, a[1])
    end,
    cases = function()
      local cases = {}
      for _, values in ipairs(scalars) do
        for _, shape in ipairs(shapes) do
          cases[#cases + 1] = { inputs = { draw.uniform(shape) }, scalars = values }
        end
      end
      return cases
    end,
  }
end

-- A row whose other argument is a tensor that broadcasts.
local function with_tensor(op, scalars, run, formula)
  rows[#rows + 1] = {
    op = op, in_place = true,
    run = function(t, case) return run(t[1], t[2], unpack(case.scalars)) end,
    reference = function(a, case)
      return naive.map(function(x, y) return formula(x, y, unpack(case.scalars)) end, a[1], a[2])
    end,
    cases = function()
      local cases = {}
      for _, values in ipairs(scalars) do
        for _, s in ipairs(pairs_of_shapes) do
          cases[#cases + 1] = { inputs = { draw.uniform(s[1]), draw.uniform(s[2]) }, scalars = values }
        end
      end
      return cases
    end,
    errors = {
      { op .. ":", function() return run(mb.zeros(2), mb.zeros(3), 1) end },
      { "(3), which does not broadcast to t, (2)", function() return run(mb.zeros(2), mb.zeros(3), 1) end },
    },
  }
end

with_scalars("mb_fill_", { { 0 }, { 3 } }, function(t, x) return t:fill_(x) end, function(_, x) return x end, true)
with_scalars("mb_affine_", { { 2, -0.5 }, { 0, 1 }, { 1, 0 } }, function(t, s, b) return t:affine_(s, b) end,
             function(x, scale, shift) return scale * x + shift end)
with_tensor("mb_copy_", { {} }, function(t, a) return t:copy_(a) end, function(_, y) return y end)
rows[#rows].mixed_dtypes = false -- converts
rows[#rows].any_dtype = true
with_tensor("mb_add_", { { 1 }, { -0.25 } }, function(t, a, alpha) return t:add_(a, alpha) end,
            function(x, y, alpha) return x + alpha * y end)
with_tensor("mb_mul_", { {} }, function(t, a) return t:mul_(a) end, function(x, y) return x * y end)
with_tensor("mb_lerp_", { { 0.25 }, { 0 }, { 1 }, { 1.5 } }, function(t, a, weight) return t:lerp_(a, weight) end,
            function(x, y, weight) return x + weight * (y - x) end)

-- ----- random -----------------------------------------------------------------------------------------
-- Element i is made from words of the stream (backend/cpu/kernels/random.c): 24 bits of one for a uniform
-- number; for normal numbers words 4 k .. 4 k + 3 make two points by Box and Muller.

local STATE = { 41, 2, 9 }

local function random(op, scalars, run, element)
  rows[#rows + 1] = {
    op = op, in_place = true, tolerance = 2e-6,
    run = function(t, case)
      mb.random_state(unpack(STATE))
      return run(t[1], unpack(case.scalars))
    end,
    reference = function(a, case)
      local words, out = generator.rng_words(#a[1] + 4, unpack(STATE)), { shape = a[1].shape }
      for i = 1, #a[1] do out[i] = element(words, i, unpack(case.scalars)) end
      return out
    end,
    cases = function()
      local cases = {}
      for _, values in ipairs(scalars) do
        for _, shape in ipairs(shapes) do
          cases[#cases + 1] = { inputs = { draw.uniform(shape) }, scalars = values }
        end
      end
      return cases
    end,
  }
end

local function unit(word) return math.floor(word / 256) / 2 ^ 24 end

random("mb_uniform_", { { 0, 1 }, { -3, 2 } }, function(t, low, high) return t:uniform_(low, high) end,
       function(words, i, low, high) return low + (high - low) * unit(words[i]) end)

random("mb_randn_", { { 0, 1 }, { 2, 0.5 } }, function(t, mean, std) return t:randn_(mean, std) end,
       function(words, i, mean, std)
  local first = i - (i - 1) % 2 -- of the pair
  local radius = math.sqrt(-2 * math.log(unit(words[first]) + 2 ^ -24))
  local angle = 2 * math.pi * unit(words[first + 1])
  return mean + std * radius * (i == first and math.cos(angle) or math.sin(angle))
end)

return rows
