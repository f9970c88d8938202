-- SPDX-License-Identifier: MIT
--
-- inplace.lua: operations that change a tensor, named with a trailing underscore. Each returns the tensor,
-- so that changes can be chained: m:mul_(0.9):add_(g, 0.1). The engine refuses to change what the tape
-- still needs, and results of recorded operations.

local graphs = require "bindings.graph"
local handle = require "bindings.handle"
local load = require "bindings.load"
local ops = require "bindings.ops"
local status = require "bindings.status"
local types = require "bindings.types"

local C = load.C
local act, fail = handle.act, status.fail
local is_tensor, describe = types.is_tensor, types.describe

local M = {}

local function need_number(who, argument, x)
  if type(x) ~= "number" then fail("%s: %s must be a number, not %s", who, argument, describe(x)) end
  return x
end

local function need_tensor(who, argument, x)
  if not is_tensor(x) then fail("%s: %s must be a tensor, not %s", who, argument, describe(x)) end
  return x
end

--- t = value
---@param t moonbow.Tensor
---@param value number
---@return moonbow.Tensor t
function M.fill_(t, value)
  act("mb_fill_", t, need_number("fill_", "value", value))
  return t
end

--- t = 0
---@param t moonbow.Tensor
---@return moonbow.Tensor t
function M.zero_(t)
  act("mb_fill_", t, 0)
  return t
end

--- t = source, broadcast and converted to t's dtype
---@param t moonbow.Tensor
---@param source moonbow.Tensor
---@return moonbow.Tensor t
function M.copy_(t, source)
  act("mb_copy_", t, need_tensor("copy_", "source", source))
  return t
end

--- t = scale * t + shift
---@param t moonbow.Tensor
---@param scale number
---@param shift number
---@return moonbow.Tensor t
function M.affine_(t, scale, shift)
  act("mb_affine_", t, need_number("affine_", "scale", scale), need_number("affine_", "shift", shift))
  return t
end

--- t += alpha * a; a is a tensor or a number
---@param t moonbow.Tensor
---@param a moonbow.Tensor|number
---@param alpha? number default 1
---@return moonbow.Tensor t
function M.add_(t, a, alpha)
  if alpha ~= nil then need_number("add_", "alpha", alpha) end
  if type(a) == "number" then return M.affine_(t, 1, a * (alpha or 1)) end
  act("mb_add_", t, need_tensor("add_", "a", a), alpha or 1)
  return t
end

--- t -= alpha * a
---@param t moonbow.Tensor
---@param a moonbow.Tensor|number
---@param alpha? number default 1
---@return moonbow.Tensor t
function M.sub_(t, a, alpha)
  if alpha ~= nil then need_number("sub_", "alpha", alpha) end
  if type(a) == "number" then return M.affine_(t, 1, -a * (alpha or 1)) end
  act("mb_add_", t, need_tensor("sub_", "a", a), -(alpha or 1))
  return t
end

--- t *= a
---@param t moonbow.Tensor
---@param a moonbow.Tensor|number
---@return moonbow.Tensor t
function M.mul_(t, a)
  if type(a) == "number" then return M.affine_(t, a, 0) end
  act("mb_mul_", t, need_tensor("mul_", "a", a))
  return t
end
M.scale_ = M.mul_

--- t /= a
---@param t moonbow.Tensor
---@param a moonbow.Tensor|number
---@return moonbow.Tensor t
function M.div_(t, a)
  if type(a) == "number" then return M.affine_(t, 1 / a, 0) end
  return M.mul_(t, ops.reciprocal(need_tensor("div_", "a", a)))
end

--- t += weight * (a - t)
---@param t moonbow.Tensor
---@param a moonbow.Tensor
---@param weight number
---@return moonbow.Tensor t
function M.lerp_(t, a, weight)
  act("mb_lerp_", t, need_tensor("lerp_", "a", a), need_number("lerp_", "weight", weight))
  return t
end

--- Fills with normal numbers; takes one random stream.
---@param t moonbow.Tensor
---@param mean? number default 0
---@param std? number default 1
---@return moonbow.Tensor t
function M.randn_(t, mean, std)
  act("mb_randn_", t, need_number("randn_", "mean", mean or 0), need_number("randn_", "std", std or 1))
  return t
end

--- Fills with uniform numbers in [low, high); takes one random stream.
---@param t moonbow.Tensor
---@param low? number default 0
---@param high? number default 1
---@return moonbow.Tensor t
function M.uniform_(t, low, high)
  act("mb_uniform_", t, need_number("uniform_", "low", low or 0), need_number("uniform_", "high", high or 1))
  return t
end

--- Makes a leaf want a gradient, or not.
---@param t moonbow.Tensor
---@param on? boolean default true
---@return moonbow.Tensor t
function M.requires_grad_(t, on)
  local was = C.mb_requires_grad(t) ~= 0
  act("mb_set_requires_grad", t, (on == nil or on) and 1 or 0)
  if was ~= (C.mb_requires_grad(t) ~= 0) then graphs.mark(tonumber(C.mb_tensor_id(t)), was) end
  return t
end

--- The gradient counts as zero.
---@param t moonbow.Tensor
---@return moonbow.Tensor t
function M.zero_grad(t)
  act("mb_zero_grad", t)
  return t
end

--- Adds d self / d leaf to the gradient of every leaf this was made from, and frees the graph.
---@param t moonbow.Tensor
---@param seed? moonbow.Tensor gradient to start from, 1 for a tensor of one element
function M.backward(t, seed)
  handle.act_once("mb_backward", t, seed ~= nil and need_tensor("backward", "seed", seed) or nil)
end

-- The engine keeps the pointer to this text: it lives as long as this module.
local DISCARDED = "it was discarded with t:discard()"

--- Gives the memory back now; any later use is an error. For memory that cannot wait for the collector.
function M.discard(t)
  C.mb_tensor_discard(t, DISCARDED)
end

return M
