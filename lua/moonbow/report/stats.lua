-- SPDX-License-Identifier: MIT
--
-- stats.lua: what can be said of numbers measured over seeds: means, standard deviations, Welch's t-test, a one-sided
-- test against a target, and the two rules of modded-nanogpt's optimization track
-- (github.com/KellerJordan/modded-nanogpt, records/track_3_optimization/README.md).
-- A test that cannot be made gives nil and the reason: one run says nothing about the spread of runs.

local M = {}

M.TRACK3_LEAST = 0.004 -- what both rules ask for
M.TRACK3_SIGMA = 0.0013 -- the standard deviation of final losses that they assume, of GPT-2 124M on FineWeb

---@param values number[]
---@return { n: integer, mean: number, sd: number, min: number, max: number } sd, with n - 1, is NaN for one value
function M.summary(values)
  local n, sum, low, high = #values, 0, math.huge, -math.huge
  for _, x in ipairs(values) do sum, low, high = sum + x, math.min(low, x), math.max(high, x) end
  local mean, squares = sum / n, 0
  for _, x in ipairs(values) do squares = squares + (x - mean) ^ 2 end
  return { n = n, mean = mean, sd = n > 1 and math.sqrt(squares / (n - 1)) or 0 / 0, min = low, max = high }
end

-- ----- tails of distributions -----------------------------------------------------------------------------

-- log Gamma(x), x > 0: Stirling's series beyond 12 (DLMF 5.11.1), below it by Gamma(x + 1) = x Gamma(x).
local function log_gamma(x)
  local shift = 0
  while x < 12 do shift, x = shift + math.log(x), x + 1 end
  local r = 1 / (x * x)
  local series = (1 / 12 - r * (1 / 360 - r * (1 / 1260 - r * (1 / 1680 - r / 1188)))) / x
  return (x - 0.5) * math.log(x) - x + 0.5 * math.log(2 * math.pi) + series - shift
end

-- The regularized incomplete beta function I_x(a, b): its continued fraction (DLMF 8.17.22), by convergents from the left.
local function incomplete_beta(x, a, b)
  if x <= 0 then return 0 elseif x >= 1 then return 1 end
  if x > (a + 1) / (a + b + 2) then return 1 - incomplete_beta(1 - x, b, a) end
  local front = math.exp(a * math.log(x) + b * math.log(1 - x) + log_gamma(a + b) - log_gamma(a) - log_gamma(b)) / a
  local p0, q0, p1, q1 = 1, 0, 1, 1 -- convergents of 1 + d1 / (1 + d2 / (1 + ...))
  local value = 1
  for k = 1, 10000 do
    local m = math.floor(k / 2)
    local d = k % 2 == 0 and m * (b - m) * x / ((a + k - 1) * (a + k))
      or -(a + m) * (a + b + m) * x / ((a + k - 1) * (a + k))
    p0, p1 = p1, p1 + d * p0
    q0, q1 = q1, q1 + d * q0
    p0, q0, p1, q1 = p0 / q1, q0 / q1, p1 / q1, 1
    if math.abs(p1 - value) <= 1e-16 * math.abs(p1) then break end
    value = p1
  end
  return front / p1
end

---P(T > t) of Student's distribution with df degrees of freedom.
---@param t number
---@param df number
---@return number
function M.student_tail(t, df)
  local half = incomplete_beta(df / (df + t * t), df / 2, 0.5) / 2
  return t >= 0 and half or 1 - half
end

---P(Z > z) of the normal distribution: half of erfc(z / sqrt 2), by the series of erf (DLMF 7.6.2) near 0 and the continued
---fraction of erfc (DLMF 7.9.1) in the tail.
---@param z number
---@return number
function M.normal_tail(z)
  if z < 0 then return 1 - M.normal_tail(-z) end
  local x = z / math.sqrt(2)
  if x < 2 then
    local term, sum, k = x, x, 0
    while term > 1e-18 * sum do
      k = k + 1
      term = term * 2 * x * x / (2 * k + 1)
      sum = sum + term
    end
    return 0.5 - sum * math.exp(-x * x) / math.sqrt(math.pi)
  end
  local rest = 0
  for k = 120, 1, -1 do rest = k / 2 / (x + rest) end
  return 0.5 * math.exp(-x * x) / math.sqrt(math.pi) / (x + rest)
end

---The t that is exceeded with probability p.
---@param p number between 0 and 1
---@param df number
---@return number
function M.student_quantile(p, df)
  local low, high = -1, 1
  while M.student_tail(high, df) > p do high = high * 2 end
  while M.student_tail(low, df) < p do low = low * 2 end
  for _ = 1, 200 do
    local middle = (low + high) / 2
    if M.student_tail(middle, df) > p then low = middle else high = middle end
  end
  return (low + high) / 2
end

-- ----- tests ----------------------------------------------------------------------------------------------

-- Why nothing can be tested with these samples, or nil.
local function too_few(...)
  for _, values in ipairs { ... } do
    if #values < 2 then return ("n = %d: the spread of runs is not known"):format(#values) end
    for _, x in ipairs(values) do
      if x ~= x or math.abs(x) == math.huge then return "a final loss is not finite" end
    end
  end
end

---Welch's t-test of a difference of means, two-sided, and its interval of 95 %.
---@param a number[]
---@param b number[]
---@return { difference: number, error: number, t: number, df: number, p: number, low: number, high: number }?
---@return string? reason
function M.welch(a, b)
  local reason = too_few(a, b)
  if reason then return nil, reason end
  local sa, sb = M.summary(a), M.summary(b)
  local va, vb = sa.sd ^ 2 / sa.n, sb.sd ^ 2 / sb.n
  if va + vb == 0 then return nil, "all runs ended with the same loss: there is no spread to test with" end
  local result = { difference = sa.mean - sb.mean, error = math.sqrt(va + vb) }
  result.t = result.difference / result.error
  result.df = (va + vb) ^ 2 / (va ^ 2 / (sa.n - 1) + vb ^ 2 / (sb.n - 1))
  result.p = math.min(1, 2 * M.student_tail(math.abs(result.t), result.df))
  local reach = M.student_quantile(0.025, result.df) * result.error
  result.low, result.high = result.difference - reach, result.difference + reach
  return result
end

---One-sided t-test that the mean lies below a target.
---@param values number[]
---@param target number
---@return { t: number, df: integer, p: number }?
---@return string? reason
function M.below(values, target)
  local reason = too_few(values)
  if reason then return nil, reason end
  local s = M.summary(values)
  if s.sd == 0 then return nil, "all runs ended with the same loss: there is no spread to test with" end
  local t = (target - s.mean) * math.sqrt(s.n) / s.sd
  return { t = t, df = s.n - 1, p = M.student_tail(t, s.n - 1) }
end

---Track 3's rule for a target: (target - mean) sqrt(n) >= 0.004, a one-sided z-test with sigma = 0.0013.
---@param values number[]
---@param target number
---@return { value: number, z: number, p: number, passes: boolean }
function M.track3_target(values, target)
  local s = M.summary(values)
  local value = (target - s.mean) * math.sqrt(s.n)
  local z = value / M.TRACK3_SIGMA
  return { value = value, z = z, p = M.normal_tail(z), passes = value >= M.TRACK3_LEAST }
end

---Track 3's rule for a pair: (dloss + dsteps) / sqrt(1 / n1 + 1 / n2) >= 0.004.
---@param better number[] final losses of what may be better
---@param other number[]
---@param saved number the loss that the steps saved are worth; 0 with equal steps
---@return { value: number, z: number, p: number, passes: boolean }
function M.track3_pair(better, other, saved)
  local a, b = M.summary(better), M.summary(other)
  local value = (b.mean - a.mean + saved) / math.sqrt(1 / a.n + 1 / b.n)
  local z = value / M.TRACK3_SIGMA
  return { value = value, z = z, p = M.normal_tail(z), passes = value >= M.TRACK3_LEAST }
end

return M
