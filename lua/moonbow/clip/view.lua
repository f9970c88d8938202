-- SPDX-License-Identifier: MIT
--
-- view.lua: what counts as one matrix: a parameter, or each of the equal blocks of rows that it is made of.
--
--   view = "fused"     every parameter is one matrix
--   view = "qkv"       queries, keys and values apart: GPT-2's c_attn, weight (3C, C) and bias (3C), in three
--   view = "heads"     every head's queries, keys and values apart: c_attn in 3 n_head blocks. The heads of
--                      attn.c_proj are columns, and stay together
--   view = function(p) return n end    n equal blocks of rows; nil or 1 leaves p whole
--
-- For the first ones a model says what its parameters are made of: p.parts = { qkv = 3, heads = 3 * n_head }, a number
-- of blocks by the name of a view; a parameter without is whole. Any name that a model gives may be the view. A
-- block is named after its parameter: "h.0.attn.c_attn.weight[q]", and its heads "[q.0]", "[q.1]" ..., counted from
-- 0 like layers; where there are no q, k and v, "[0]", "[1]", .... The rows of a block are contiguous, and a bias in
-- three is three vectors.

local options = require "moonbow.options"
local policies = require "moonbow.threshold.policy"
local types = require "bindings.types"

local M = {}

---@class moonbow.ClipMatrix
---@field name string
---@field shape integer[]
---@field tensor moonbow.Tensor
---@field parameter moonbow.Parameter that it is a part of

---The number of blocks of a parameter.
---@param who string
---@param view string|fun(p: moonbow.Parameter): integer?
---@param p moonbow.Parameter
---@return integer
function M.count(who, view, p)
  if type(view) == "string" then return p.parts and p.parts[view] or 1 end
  local ok, count = pcall(view, p)
  if not ok then policies.fail_raised(who, "view", p.name, count) end
  if count == nil then return 1 end
  if not types.is_integer(count) or count < 1 or p.shape[1] % count ~= 0 then
    options.fail("%s: view returned %s for '%s' with %d rows, a number that divides them was expected", who,
      options.describe(count), p.name, p.shape[1] or 1)
  end
  return count
end

local letters = { "q", "k", "v" }

-- What block i of `count`, from 1, is called.
local function label(view, p, i, count)
  if p.parts and p.parts.qkv == 3 and type(view) == "string" then
    if view == "qkv" then return letters[i] end
    if view == "heads" and count % 3 == 0 then
      local heads = count / 3
      return ("%s.%d"):format(letters[math.floor((i - 1) / heads) + 1], (i - 1) % heads)
    end
  end
  return tostring(i - 1)
end

---The matrices of one parameter: views into a tensor of its shape, which must be contiguous.
---@param who string
---@param view string|fun(p: moonbow.Parameter): integer?
---@param p moonbow.Parameter
---@param tensor moonbow.Tensor
---@return moonbow.ClipMatrix[]
function M.split(who, view, p, tensor)
  local count = M.count(who, view, p)
  if count == 1 then return { { name = p.name, shape = p.shape, tensor = tensor, parameter = p } } end
  local rows, list = p.shape[1] / count, {}
  for i = 1, count do
    local block = tensor:slice(1, (i - 1) * rows + 1, i * rows)
    local name = ("%s[%s]"):format(p.name, label(view, p, i, count))
    list[i] = { name = name, shape = block.shape, tensor = block, parameter = p }
  end
  return list
end

---Raises an error if a named view is one that no parameter has: nothing would be split.
---@param who string
---@param view string|function
---@param model moonbow.Model
---@param list moonbow.Parameter[]
function M.check(who, view, model, list)
  if type(view) ~= "string" or view == "fused" then return end
  local found = { fused = true }
  for _, p in ipairs(list) do
    for name in pairs(p.parts or {}) do found[name] = true end
  end
  if found[view] then return end
  options.fail("%s: view '%s' is none that model '%s' has for what is clipped%s", who, view, model.name,
    options.suggest(view, options.keys(found)))
end

---Option `view`.
M.row = { type = "string|function", default = "fused" }

---For the routing table: ", 3 blocks of rows".
---@return string
function M.describe(who, view, p)
  local count = M.count(who, view, p)
  return count > 1 and (", %d blocks of rows"):format(count) or ""
end

return M
