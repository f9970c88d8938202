-- SPDX-License-Identifier: MIT
--
-- statistics.lua: the few numbers that experiments are judged by: means, spreads, order statistics, slopes.

local M = {}

---@param values number[]
---@return number NaN of none
function M.mean(values)
  local sum = 0
  for _, v in ipairs(values) do sum = sum + v end
  return sum / #values
end

---Standard deviation over all values, divided by their number (NumPy's default), as the papers' plots have it.
---@param values number[]
---@return number
function M.std(values)
  local mean, sum = M.mean(values), 0
  for _, v in ipairs(values) do sum = sum + (v - mean) ^ 2 end
  return math.sqrt(sum / #values)
end

---@param values number[] all positive
---@return number
function M.geometric_mean(values)
  local sum = 0
  for _, v in ipairs(values) do sum = sum + math.log(v) end
  return math.exp(sum / #values)
end

---The value that a share q of the others lies below, interpolated between neighbours (NumPy's default).
---@param values number[] left as they are
---@param q number 0 to 1
---@return number NaN of none
function M.quantile(values, q)
  local sorted = {}
  for i, v in ipairs(values) do sorted[i] = v end
  table.sort(sorted)
  if #sorted == 0 then return 0 / 0 end
  local place = 1 + q * (#sorted - 1)
  local below = math.floor(place)
  local above = math.min(below + 1, #sorted)
  return sorted[below] + (place - below) * (sorted[above] - sorted[below])
end

function M.median(values) return M.quantile(values, 0.5) end

---Least squares line y = intercept + slope x; `error` is the standard error of the slope (NaN of fewer than 3 points).
---@param xs number[]
---@param ys number[]
---@return { slope: number, intercept: number, error: number }
function M.line(xs, ys)
  local n, mx, my = #xs, M.mean(xs), M.mean(ys)
  local sxx, sxy = 0, 0
  for i = 1, n do
    sxx = sxx + (xs[i] - mx) ^ 2
    sxy = sxy + (xs[i] - mx) * (ys[i] - my)
  end
  local slope = sxy / sxx
  local rest = 0
  for i = 1, n do rest = rest + (ys[i] - my - slope * (xs[i] - mx)) ^ 2 end
  return { slope = slope, intercept = my - slope * mx, error = math.sqrt(rest / (n - 2) / sxx) }
end

---About `count` whole numbers from 1 to `last`, evenly apart on a logarithmic axis, each once: steps that a curve over
---`last` steps is kept at. `also`, if it is within, is one of them.
---@param last integer
---@param count integer
---@param also? integer
---@return integer[]
function M.log_spaced(last, count, also)
  local wanted, steps = { [last] = true }, {}
  for i = 0, count - 1 do wanted[math.floor(last ^ (i / math.max(1, count - 1)) + 0.5)] = true end
  if also and also <= last then wanted[also] = true end
  for step in pairs(wanted) do steps[#steps + 1] = step end
  table.sort(steps)
  return steps
end

return M
