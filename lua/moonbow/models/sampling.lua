-- SPDX-License-Identifier: MIT
--
-- sampling.lua: draws ids from logits: softmax(logits / temperature), of which top_k keeps the k likeliest and top_p, after
-- that, the fewest likeliest whose share is p or more (nucleus sampling, Holtzman et al. 2020). Of equals the lower id
-- counts as likelier. The softmax is the engine's, the rest works on Lua's doubles; one uniform number a token decides,
-- so that a seed gives the same tokens wherever the logits are the same.

local options = require "moonbow.options"

local M = {}

-- ----- the likeliest ids --------------------------------------------------------------------------------
-- A heap of ids in list[1 .. n], the likeliest on top; p is a pointer to probabilities.

local function is_before(p, a, b) return p[a] > p[b] or (p[a] == p[b] and a < b) end

-- Puts `id` at place i or below.
local function sink(list, n, p, i, id)
  while true do
    local child = 2 * i
    if child > n then break end
    if child < n and is_before(p, list[child + 1], list[child]) then child = child + 1 end
    if not is_before(p, list[child], id) then break end
    list[i] = list[child]
    i = child
  end
  list[i] = id
end

local list = {} -- kept from call to call: a vocabulary is long

-- The likeliest ids in order, k of n or as many as have `enough` together, and what they have.
local function likeliest(p, n, k, enough)
  for i = 1, n do list[i] = i - 1 end
  for i = math.floor(n / 2), 1, -1 do sink(list, n, p, i, list[i]) end
  local ids, sum, left = {}, 0, n
  while #ids < k and sum < enough do
    local top = list[1]
    ids[#ids + 1] = top
    sum = sum + p[top]
    left = left - 1
    if left > 0 then sink(list, left, p, 1, list[left + 1]) end
  end
  return ids, sum
end

-- The first of `ids` that have `enough` together, and what they have.
local function first_of(p, ids, enough)
  local kept, sum = {}, 0
  while sum < enough and #kept < #ids do
    kept[#kept + 1] = ids[#kept + 1]
    sum = sum + p[kept[#kept]]
  end
  return kept, sum
end

-- ----- drawing ------------------------------------------------------------------------------------------

local function draw_from(p, ids, left)
  for _, id in ipairs(ids) do
    left = left - p[id]
    if left < 0 then return id end
  end
end

local function draw_in_order(p, n, left)
  for id = 0, n - 1 do
    left = left - p[id]
    if left < 0 then return id end
  end
end

local function sum_of(p, n)
  local sum = 0
  for i = 0, n - 1 do sum = sum + p[i] end
  return sum
end

-- An id of the likeliest that top_k and top_p leave.
local function draw_likeliest(p, n, sum, o, u)
  local k, share = math.min(o.top_k or n, n), o.top_p or 1
  local ids, part = likeliest(p, n, k, k == n and share * sum or math.huge)
  if k < n and share < 1 then ids, part = first_of(p, ids, share * part) end
  return draw_from(p, ids, u * part)
end

--- Draws an id. Temperature 0 takes the likeliest.
---@param logits moonbow.Tensor (V) or (1, V), on any device
---@param o { temperature: number, top_k?: integer, top_p?: number }
---@param u number uniform in [0, 1)
---@return integer id counted from 0
function M.draw(logits, o, u)
  logits = logits:reshape(-1)
  if logits.dtype == "bf16" then logits = logits:to "f32" end
  local all = logits:sum():item()
  if all - all ~= 0 then options.fail("model:generate: the logits are not finite, their sum is %s", tostring(all)) end
  local first = logits:argmax(1):item()
  if o.temperature == 0 or o.top_k == 1 then return first end
  local shares = (logits / o.temperature):softmax(1):to "cpu"
  local p, n = shares:data(), shares.numel
  local sum, cuts = sum_of(p, n), (o.top_k or n) < n or (o.top_p or 1) < 1
  local id = cuts and draw_likeliest(p, n, sum, o, u) or not cuts and draw_in_order(p, n, u * sum)
  return id or first -- rounding left a little over
end

return M
