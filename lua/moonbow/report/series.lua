-- SPDX-License-Identifier: MIT
--
-- series.lua: long series made short enough to draw: buckets that keep the extremes, smoothing, and densities.
-- A series is two arrays, xs ascending and ys; values that are not finite are left out.

local M = {}

local function finite(y) return y == y and math.abs(y) < math.huge end

---@class moonbow.Bucket
---@field x number of the middle one of its points
---@field min number
---@field max number
---@field mean number
---@field count integer
---@field from integer of its first point, in the series
---@field to integer

---At most `most` buckets of equally many steps; those without a finite value are not there.
---@param xs number[]
---@param ys number[]
---@param most integer
---@return moonbow.Bucket[]
function M.buckets(xs, ys, most)
  local n, list = #xs, {}
  local each = math.max(1, math.ceil(n / most))
  for from = 1, n, each do
    local to = math.min(n, from + each - 1)
    local b = { min = math.huge, max = -math.huge, count = 0, from = from, to = to,
      x = xs[math.floor((from + to) / 2)] }
    local sum = 0
    for i = from, to do
      local y = ys[i]
      if finite(y) then
        b.min, b.max, sum, b.count = math.min(b.min, y), math.max(b.max, y), sum + y, b.count + 1
      end
    end
    if b.count > 0 then
      b.mean = sum / b.count
      list[#list + 1] = b
    end
  end
  return list
end

---Points to draw a series by: all of them where they are few, else the extremes of each bucket in their order.
---@param xs number[]
---@param ys number[]
---@param most? integer points, about; default 600
---@return number[][] points
function M.points(xs, ys, most)
  most = most or 600
  local points = {}
  if #xs <= most then
    for i, x in ipairs(xs) do points[i] = { x, ys[i] } end
    return points
  end
  local each = math.ceil(#xs / math.floor(most / 2))
  for from = 1, #xs, each do
    local low, high
    for i = from, math.min(#xs, from + each - 1) do
      if finite(ys[i]) then
        if not low or ys[i] < ys[low] then low = i end
        if not high or ys[i] > ys[high] then high = i end
      end
    end
    if low then
      local first, second = math.min(low, high), math.max(low, high)
      points[#points + 1] = { xs[first], ys[first] }
      if second > first then points[#points + 1] = { xs[second], ys[second] } end
    else
      points[#points + 1] = { xs[from], 0 / 0 } -- a gap
    end
  end
  return points
end

---Means of the finite values within `reach` places to either side; fewer at the ends: at the first values, where losses are
---steep, as many on either side, at the last those that are there.
---@param ys number[]
---@param reach integer
---@return number[]
function M.smooth(ys, reach)
  local sums, counts = { [0] = 0 }, { [0] = 0 }
  for i, y in ipairs(ys) do
    sums[i], counts[i] = sums[i - 1] + (finite(y) and y or 0), counts[i - 1] + (finite(y) and 1 or 0)
  end
  local out, n = {}, #ys
  for i = 1, n do
    local half = math.min(reach, i - 1)
    local from, to = i - half - 1, math.min(n, i + half)
    local count = counts[to] - counts[from]
    out[i] = count > 0 and (sums[to] - sums[from]) / count or 0 / 0
  end
  return out
end

---A hundredth of a series, from 2 to 200 places: what smooth reaches over to either side.
---@param n integer
---@return integer
function M.reach(n)
  return math.max(2, math.min(200, math.floor(n / 100)))
end

---A density of log10 of positive values: Gaussian kernels of Silverman's width, 0.9 min(sd, IQR / 1.34) n^(-1/5).
---@param values number[]
---@param low number where the curve begins
---@param high number
---@param count integer points
---@return number[][] points { value, density }
function M.log_density(values, low, high, count)
  local logs = {}
  for _, v in ipairs(values) do
    if finite(v) and v > 0 then logs[#logs + 1] = math.log10(v) end
  end
  table.sort(logs)
  local n, sum, squares = #logs, 0, 0
  if n == 0 then return {} end
  for _, v in ipairs(logs) do sum = sum + v end
  for _, v in ipairs(logs) do squares = squares + (v - sum / n) ^ 2 end
  local sd = n > 1 and math.sqrt(squares / (n - 1)) or 0
  local iqr = logs[math.ceil(0.75 * n)] - logs[math.ceil(0.25 * n)]
  local width = 0.9 * (iqr > 0 and math.min(sd, iqr / 1.34) or sd) * n ^ -0.2
  width = math.max(width, 0.03)
  local points = {}
  for k = 1, count do
    local at = math.log10(low) + (math.log10(high) - math.log10(low)) * (k - 1) / (count - 1)
    local density = 0
    for _, v in ipairs(logs) do density = density + math.exp(-0.5 * ((at - v) / width) ^ 2) end
    points[k] = { 10 ^ at, density / (n * width * math.sqrt(2 * math.pi)) }
  end
  return points
end

return M
