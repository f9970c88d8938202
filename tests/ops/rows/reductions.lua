-- SPDX-License-Identifier: MIT
--
-- reductions.lua: rows of the op table for sums and extremes, softmax included.

local draw = require "tests.ops.draw"
local mb = require "moonbow"
local naive = require "tests.ops.naive"

local rows = {}

-- Shape, dimensions (nil: all), keepdim.
local settings = {
  { {}, nil, false }, { { 1 }, 1, true }, { { 9 }, nil, false }, { { 3, 5 }, 1, false }, { { 3, 5 }, -1, true },
  { { 2, 3, 4 }, { 1, 3 }, false }, { { 2, 3, 4 }, 2, true }, { { 2, 3, 4 }, { 3, 1, 2 }, true },
  { { 1, 4, 1 }, { 1, 3 }, false }, { { 3, 67 }, 1, false }, { { 3, 67 }, 2, false },
}

local function greatest(list)
  local best = list[1]
  for i = 2, #list do best = math.max(best, list[i]) end
  return best
end

local function least(list)
  local best = list[1]
  for i = 2, #list do best = math.min(best, list[i]) end
  return best
end

local function reduction(op, fn, make)
  local name = op:sub(4) -- in Lua
  rows[#rows + 1] = {
    op = op,
    run = function(t, case) return mb[name](t[1], case.dims, case.keep) end,
    reference = function(a, case) return naive.reduce(a[1], case.dims, case.keep, fn) end,
    cases = function()
      local cases = {}
      for i, s in ipairs(settings) do cases[i] = { inputs = { make(s[1]) }, dims = s[2], keep = s[3] } end
      return cases
    end,
    errors = {
      { "mb." .. name .. ": dimension 3 does not exist", function() return mb[name](mb.zeros(2, 2), 3) end },
      { op .. ": dimension", function() return mb[name](mb.zeros(2, 2), { 1, -2 }) end },
    },
  }
end

local function any(shape) return draw.uniform(shape) end
local function distinct(shape) return draw.distinct(shape) end

reduction("mb_sum", naive.sum, any)
reduction("mb_mean", function(list) return naive.sum(list) / #list end, any)
reduction("mb_max", greatest, distinct)
reduction("mb_min", least, distinct)

rows[#rows + 1] = {
  op = "mb_argmax", gradient = false, result_dtype = "i32",
  run = function(t, case) return mb.argmax(t[1], case.dims, case.keep) end,
  reference = function(a, case)
    return naive.reduce(a[1], case.dims, case.keep, function(list)
      local at = 1
      for i = 2, #list do if list[i] > list[at] then at = i end end
      return at - 1
    end)
  end,
  cases = function()
    local cases = {}
    for i, s in ipairs {
      { { 1 }, 1, true }, { { 9 }, 1 }, { { 3, 5 }, 1 }, { { 3, 5 }, -1, true }, { { 2, 3, 4 }, 2 }, { { 5, 70 }, 1 },
    } do
      cases[2 * i - 1] = { inputs = { distinct(s[1]) }, dims = s[2], keep = s[3] }
      cases[2 * i] = { inputs = { draw.whole(s[1], 0, 2) }, dims = s[2], keep = s[3] } -- ties: the first
    end
    return cases
  end,
  errors = { { "mb.argmax: dimension 0", function() return mb.argmax(mb.zeros(2), 0) end } },
}

-- ----- along one dimension ------------------------------------------------------------------------------

-- fn of rows along dimension `dim`, which is brought to the end and back.
local function along(a, dim, fn)
  local n = #a.shape
  local order = {}
  for d = 1, n do order[d] = d end
  dim = naive.dim(dim, n)
  order[dim], order[n] = order[n], order[dim]
  return naive.permute(naive.rows(naive.permute(a, order), fn), order)
end

local function softmax_row(op, fn)
  local name = op:sub(4) -- in Lua
  rows[#rows + 1] = {
    op = op,
    run = function(t, case) return mb[name](t[1], case.dim) end,
    reference = function(a, case) return along(a[1], case.dim, fn) end,
    cases = function()
      local cases = {}
      for i, s in ipairs {
        { { 1 }, 1 }, { { 8 }, -1 }, { { 3, 5 }, -1 }, { { 3, 5 }, 1 }, { { 2, 3, 4 }, 2 }, { { 4, 1 }, -1 },
        { { 2, 77 }, -1 },
      } do
        cases[i] = { inputs = { draw.uniform(s[1], -4, 4) }, dim = s[2] }
      end
      -- Large numbers, whose exponentials overflow.
      cases[#cases + 1] = { inputs = { { shape = { 2, 3 }, 900, 901, 899, -900, -901, -899 } }, dim = -1 }
      return cases
    end,
    errors = { { "mb." .. name .. ": dimension 3", function() return mb[name](mb.zeros(2, 2), 3) end } },
  }
end

softmax_row("mb_softmax", naive.softmax)
softmax_row("mb_log_softmax", function(row)
  local norm, out = naive.log_sum_exp(row), {}
  for i = 1, #row do out[i] = row[i] - norm end
  return out
end)

return rows
