-- SPDX-License-Identifier: MIT
--
-- adagc.lua: AdaGC (Wang et al., arXiv 2502.11034, algorithm 1): each gradient is held to a little more than the moving
-- average of what it was before, after clipping.
--
--   the first `warmup` samples   clipping by the norm of all gradients: tau = sigma min(1, max_norm / total),
--                                gamma <- min(gamma, what is left)
--   then                         tau = factor gamma,  gamma <- beta gamma + (1 - beta) min(sigma, tau)
--
-- mb.clip.adagc() is mb.clip.norm { threshold = mb.threshold.adagc(), scope = "matrix" }, which tells the policy the norm of
-- all gradients as sample.total; where nobody does, sigma stands for it. The defaults are the paper's. A sigma of zero is
-- not learned: gamma would stay zero and hold everything back for good.
-- State: gamma, and n, the number of samples so far.

local options = require "moonbow.options"
local policy = require "moonbow.threshold.policy"

---@class moonbow.AdagcOptions
---@field factor? number tau over the average; default 1.05
---@field beta? number share of the past in the average; default 0.98
---@field warmup? integer samples clipped by the norm of all gradients; default 100
---@field max_norm? number of that; default 1

---@param given? moonbow.AdagcOptions
---@return moonbow.Threshold
return function(given)
  local o = options.check("mb.threshold.adagc", given, {
    factor = { type = "number", default = 1.05, above = 0 },
    beta = { type = "number", default = 0.98, min = 0, below = 1 },
    warmup = { type = "integer", default = 100, min = 1 },
    max_norm = { type = "number", default = 1, above = 0 },
  })
  local factor, beta, warmup, max_norm = o.factor, o.beta, o.warmup, o.max_norm
  local text = ("adagc(%s, %s, %d, %s)"):format(options.number(factor), options.number(beta), warmup, options.number(max_norm))
  return policy.new(text, function(sample, state)
    if (state.n or 0) >= warmup then return factor * state.gamma end
    local total = sample.total or sample.sigma
    return total > max_norm and sample.sigma * max_norm / total or nil
  end, function(sample, state, tau)
    local left = math.min(sample.sigma, tau or math.huge)
    if not (left > 0 and left < math.huge) then return end
    state.n = (state.n or 0) + 1
    if state.n <= warmup then
      state.gamma = math.min(state.gamma or math.huge, left)
    else
      state.gamma = beta * state.gamma + (1 - beta) * left
    end
  end, { gamma = "number", n = "number" })
end
