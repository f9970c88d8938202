-- SPDX-License-Identifier: MIT
--
-- method.lua: how singular values are found and changed: the options that say so, shared by mb.clip.spectral and
-- mb.clip.matrix, and what happens between a plan's probe and the report.

local options = require "moonbow.options"
local spectral = require "bindings.spectral"

local NAN = 0 / 0

local M = {}

---Options of the method.
M.spec = {
  method = { choices = { "exact", "randomized" }, default = "randomized" },
  rank = { type = "integer", default = 8, min = 1 },
  oversample = { type = "integer", default = 5, min = 0 },
  power_iters = { type = "integer", default = 1, min = 0 },
}

---@class moonbow.Method
---@field method string
---@field rank integer
---@field oversample integer
---@field power_iters integer

---The method among checked options.
---@return moonbow.Method
function M.of(o)
  local m = {}
  for name in pairs(M.spec) do m[name] = o[name] end
  return m
end

---For the routing table: "r=8 p=5 it=1".
---@param m moonbow.Method
---@return string
function M.describe(m)
  return m.method == "exact" and "exact" or ("r=%d p=%d it=%d"):format(m.rank, m.oversample, m.power_iters)
end

---As in a constructor's table.
---@param m moonbow.Method
function M.text(m)
  return ("method = %q, rank = %d, oversample = %d, power_iters = %d"):format(m.method, m.rank, m.oversample, m.power_iters)
end

-- min(m, n) of a tensor seen as a matrix.
local function smaller_side(t)
  local rows = t.shape[1] or 1
  return math.min(rows, t.numel / rows)
end

-- Puts rule(sigma, tau) in the place of every computed value.
local function apply_rule(who, plan, rule, tau, matrices)
  local width = plan:width()
  local target, changed, saturated = spectral.doubles(plan.count * width), {}, {}
  for i = 0, plan.count - 1 do
    local limit, above = tau[i + 1], 0
    changed[i + 1] = false
    for j = i * width, (i + 1) * width - 1 do
      local sigma = plan.sigma[j]
      target[j] = NAN
      if limit and sigma == sigma then
        if sigma > limit then above = above + 1 end
        local wanted = rule(sigma, limit)
        if type(wanted) ~= "number" or not (wanted >= 0 and wanted < math.huge) then
          options.fail("%s: rule(%g, %g) returned %s for '%s', a finite number >= 0 was expected", who, sigma, limit,
            tostring(wanted), matrices[i + 1].name)
        end
        if wanted ~= sigma then
          target[j] = wanted
          changed[i + 1] = true
        end
      end
    end
    saturated[i + 1] = above == width and width < smaller_side(plan:tensor(i + 1))
  end
  plan:apply(target)
  return changed, saturated
end

---Changes the matrices of a probed plan: to tau, or by a rule.
---@param who string
---@param plan moonbow.SpectralPlan probed
---@param tau table<integer, number?>
---@param rule? fun(sigma: number, tau: number): number
---@param matrices { name: string }[] for errors
---@return boolean[] changed per matrix, whether any value did
---@return boolean[] saturated per matrix, whether values that were not computed may exceed tau
function M.change(who, plan, tau, rule, matrices)
  if rule then return apply_rule(who, plan, rule, tau, matrices) end
  local lowered, saturated = plan:clamp(tau)
  local changed = {}
  for i = 1, plan.count do changed[i] = lowered[i] > 0 end
  return changed, saturated
end

return M
