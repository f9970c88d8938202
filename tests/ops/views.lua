-- SPDX-License-Identifier: MIT
--
-- views.lua: ways to see an input of a case through memory that is not contiguous. A base array takes the
-- input's values over and over, so that they stay in the op's domain.

local draw = require "tests.ops.draw"
local gradcheck = require "tests.ops.gradcheck"

local M = {}

--- turned: dimensions in reverse order; gaps: every second element of a larger one; wide: expanded.
M.kinds = { "turned", "gaps", "wide" }

local function base_of(shape, input)
  local base = { shape = shape, dtype = input.dtype }
  for i = 1, draw.count(shape) do base[i] = input[(i - 1) % #input + 1] end
  return base
end

local makers = {}

function makers.turned(shape)
  if #shape < 2 then return nil end
  local reversed, order = {}, {}
  for d = 1, #shape do
    reversed[d] = shape[#shape + 1 - d]
    order[d] = #shape + 1 - d
  end
  return reversed, function(base) return base:permute(order) end
end

function makers.gaps(shape)
  if #shape == 0 then return nil end
  local larger, last = { unpack(shape) }, shape[#shape]
  larger[#shape] = 2 * last + 1
  return larger, function(base) return base:slice(-1, 2, 2 * last, 2) end
end

function makers.wide(shape)
  for d = 1, #shape do
    if shape[d] > 1 then
      local narrow = { unpack(shape) }
      narrow[d] = 1
      return narrow, function(base) return base:expand(shape) end
    end
  end
end

--- { base = array, view = fn(tensor of base) -> tensor of the input's shape }, or nil if the kind makes no sense.
function M.make(kind, input)
  local shape, view = makers[kind](input.shape)
  if not shape then return nil end
  return { base = base_of(shape, input), view = view }
end

--- Fails if a change in place of the view has touched other elements of its base.
function M.check_rest_untouched(input, kind, base_tensor, what)
  local made = M.make(kind, input)
  local mask = gradcheck.tensor(made.base, "f64"):fill_(0)
  made.view(mask):fill_(1)
  local is_inside, now = gradcheck.values(mask), gradcheck.values(base_tensor)
  for i = 1, #now do
    assert(is_inside[i] == 1 or now[i] == made.base[i], what .. ": an element outside the view was changed")
  end
end

return M
