-- SPDX-License-Identifier: MIT
--
-- history.lua: the last values of a matrix, kept in order of arrival for the state and in ascending order for
-- quantiles. The ascending copy is kept beside the history, by insertion and removal, and made again from it
-- after a load: it is no part of the state. A value costs a search and a move of at most `window` numbers.

local M = {}

local sorted_of = setmetatable({}, { __mode = "k" }) -- history -> the same values in order

local function sorted_copy(history)
  local sorted = {}
  for i, value in ipairs(history) do sorted[i] = value end
  table.sort(sorted)
  sorted_of[history] = sorted
  return sorted
end

-- Where `value` stands, or would be put, in ascending `list`: the first index with list[i] >= value.
local function place(list, value)
  local low, high = 1, #list + 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    if list[middle] < value then low = middle + 1 else high = middle end
  end
  return low
end

---The values of a history in ascending order; to be read only.
---@param history number[] oldest first
---@return number[]
function M.sorted(history)
  local sorted = sorted_of[history]
  if not sorted or #sorted ~= #history then sorted = sorted_copy(history) end
  return sorted
end

---How many values there would be after a push.
---@param history number[]
---@param window integer
---@return integer
function M.count_after(history, window)
  return #history + (#history < window and 1 or 0)
end

---The k-th smallest value, from 1, of what a push would leave, which is not made; nil if there are fewer.
---@param history number[]
---@param value number
---@param window integer
---@param k integer
---@return number?
function M.peek(history, value, window, k)
  local sorted = M.sorted(history)
  local gone = #history < window and #history + 1 or place(sorted, history[1])
  local at = place(sorted, value)
  if at > gone then at = at - 1 end
  if k == at then return value end
  if k > at then k = k - 1 end
  return sorted[k < gone and k or k + 1]
end

---Appends a value that is not NaN, and drops the oldest one beyond `window`.
---@param history number[]
---@param value number
---@param window integer
function M.push(history, value, window)
  local sorted = M.sorted(history)
  history[#history + 1] = value
  table.insert(sorted, place(sorted, value), value)
  if #history > window then table.remove(sorted, place(sorted, table.remove(history, 1))) end
end

return M
