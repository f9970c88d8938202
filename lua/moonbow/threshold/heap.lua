-- SPDX-License-Identifier: MIT
--
-- heap.lua: binary heaps in plain arrays, which states can hold: the top, list[1], is the value that comes
-- before all others by `before(a, b)`; push and pop cost log2 n comparisons.

local M = {}

function M.less(a, b) return a < b end
function M.more(a, b) return a > b end

---@param list number[]
---@param value number
---@param before fun(a: number, b: number): boolean
function M.push(list, value, before)
  local i = #list + 1
  while i > 1 do
    local parent = math.floor(i / 2)
    if not before(value, list[parent]) then break end
    list[i] = list[parent]
    i = parent
  end
  list[i] = value
end

---Takes the top away.
---@param list number[] not empty
---@param before fun(a: number, b: number): boolean
---@return number
function M.pop(list, before)
  local n = #list
  local top, last = list[1], list[n]
  list[n] = nil
  n = n - 1
  if n == 0 then return top end
  local i = 1
  while true do
    local child = 2 * i
    if child > n then break end
    if child < n and before(list[child + 1], list[child]) then child = child + 1 end
    if not before(list[child], last) then break end
    list[i] = list[child]
    i = child
  end
  list[i] = last
  return top
end

return M
