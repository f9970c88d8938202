-- SPDX-License-Identifier: MIT
--
-- zscore.lua: ZClip (Kumar, Owen, Roy Chowdhury, Guera, arXiv 2504.02507): a sample that lies more than `z` standard
-- deviations above the moving average is a spike, and is clipped.
--
--   the first `warmup` samples   nothing is clipped; mean and variance are theirs (divided by their number)
--   then  s = (sigma - mean) / (std + epsilon),  std = sqrt(variance)
--     s <= z   no spike: tau = mean + z (std + epsilon), which clips nothing
--     s >  z   tau = mean + (z / s) z std      to = "reciprocal", the paper's: the further out, the lower
--              tau = mean + z std              to = "bound"
--              tau = mean                      to = "mean"
--   then  c = min(sigma, tau): what is left of a spike, not the spike, enters the statistics:
--     mean <- alpha mean + (1 - alpha) c,  variance <- alpha variance + (1 - alpha) (c - mean)^2, with the new mean
--
-- as in the authors' code, whose constants the defaults are. Defined by them on the norm of all gradients:
-- mb.clip.norm { threshold = mb.threshold.zscore() }. epsilon is absolute: it belongs to norms near 1.
-- State: n, samples so far; mean; variance.

local options = require "moonbow.options"
local policy = require "moonbow.threshold.policy"

-- Running mean and population variance of the first samples.
local function warm_up(state, sigma)
  local n, mean = state.n + 1, state.mean
  local change = sigma - mean
  mean = mean + change / n
  state.variance = state.variance + (change * (sigma - mean) - state.variance) / n
  state.n, state.mean = n, mean
end

local function follow(state, value, alpha)
  local mean = alpha * state.mean + (1 - alpha) * value
  state.variance = alpha * state.variance + (1 - alpha) * (value - mean) ^ 2
  state.n, state.mean = state.n + 1, mean
end

---@class moonbow.ZscoreOptions
---@field z? number deviations above the mean that are a spike; default 2.5
---@field alpha? number share of the past in the averages; default 0.97
---@field warmup? integer samples before anything is clipped; default 25
---@field to? "reciprocal"|"bound"|"mean" what a spike is clipped to; default "reciprocal"
---@field epsilon? number is added to the deviation; default 1e-6

---@param given? moonbow.ZscoreOptions
---@return moonbow.Threshold
return function(given)
  local o = options.check("mb.threshold.zscore", given, {
    z = { type = "number", default = 2.5, above = 0 },
    alpha = { type = "number", default = 0.97, min = 0, below = 1 },
    warmup = { type = "integer", default = 25, min = 1 },
    to = { choices = { "reciprocal", "bound", "mean" }, default = "reciprocal" },
    epsilon = { type = "number", default = 1e-6, min = 0 },
  })
  local z, alpha, warmup, to, epsilon = o.z, o.alpha, o.warmup, o.to, o.epsilon
  local text = ("zscore(%s, %s, %d%s%s)"):format(options.number(z), options.number(alpha), warmup,
    to == "reciprocal" and "" or ", " .. to, epsilon == 1e-6 and "" or ", epsilon " .. options.number(epsilon))
  local made = policy.new(text, function(sample, state)
    local sigma = sample.sigma
    if (state.n or 0) < warmup then return nil end
    local mean, std = state.mean, math.sqrt(state.variance)
    local spread = z * (std + epsilon)
    local tau = mean + spread
    if sigma > tau then
      tau = to == "mean" and mean or to == "bound" and mean + z * std or mean + z * std * spread / (sigma - mean)
    end
    return tau
  end, function(sample, state, tau)
    local sigma = sample.sigma
    if not state.n then state.n, state.mean, state.variance = 0, 0, 0 end
    if state.n < warmup then
      if sigma - sigma == 0 then warm_up(state, sigma) end
    elseif sigma == sigma then
      follow(state, math.min(sigma, tau), alpha)
    end
  end, { n = "number", mean = "number", variance = "number" })
  made.device = policy.on_device({ kind = "zscore", z = z, alpha = alpha, warmup = warmup, to = to, epsilon = epsilon },
    { "n", "mean", "variance" })
  return made
end
