-- SPDX-License-Identifier: MIT
--
-- timing.lua: medians, best times and cells of tables for the parts of bench/spectral.lua.

local M = {}

---@param values number[] sorted afterwards
---@return number NaN of none
function M.median(values)
  table.sort(values)
  local n = #values
  if n == 0 then return 0 / 0 end
  return n % 2 == 1 and values[(n + 1) / 2] or 0.5 * (values[n / 2] + values[n / 2 + 1])
end

---The value that a share of the others is below.
---@param values number[] sorted
---@param share number
---@return number
function M.quantile(values, share) return values[1 + math.floor(share * (#values - 1) + 0.5)] end

---The shortest call of run() within about `seconds`, after one that does not count.
---@param now fun(): number
---@param run fun()
---@param seconds number
---@return number
function M.best(now, run, seconds)
  run()
  local best, stop = math.huge, now() + seconds
  repeat
    local start = now()
    run()
    best = math.min(best, now() - start)
  until now() > stop
  return best
end

---Adds a value to the list at `name`, which is made if it is not there.
function M.push(lists, name, value)
  lists[name] = lists[name] or {}
  table.insert(lists[name], value)
end

---"1.23 s", "4.56 ms" or "7.9 us".
---@param seconds number
---@return string
function M.text(seconds)
  if seconds ~= seconds then return "" end
  if seconds >= 1 then return ("%.2f s"):format(seconds) end
  if seconds >= 1e-3 then return ("%.3g ms"):format(seconds * 1e3) end
  return ("%.3g us"):format(seconds * 1e6)
end

---@return string "" for NaN
function M.number(pattern, value)
  return value == value and pattern:format(value) or ""
end

return M
