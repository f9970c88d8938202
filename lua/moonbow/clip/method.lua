-- SPDX-License-Identifier: MIT
--
-- method.lua: how singular values are found and changed: the options that say so, shared by mb.clip.spectral and
-- mb.clip.matrix, and what happens between a plan's probe and the report.
--
--   method = "randomized"   the `rank` largest values, from a sketch of rank + oversample directions and power_iters rounds
--   method = "exact"        all values, by eigenvalues
--   method = "polar"        all values above tau are lowered to it, by matrix products alone: no value but the largest is known
--   method = "soft"         sigma / sqrt(1 + sigma^2 / tau^2) for all values (SPECTRA, arXiv 2603.14315), by products alone

local options = require "moonbow.options"
local policies = require "moonbow.threshold.policy"
local spectral = require "bindings.spectral"

local NAN = 0 / 0

local M = {}

---Options of the method.
M.spec = {
  method = { choices = { "exact", "randomized", "polar", "soft" }, default = "randomized" },
  rank = { type = "integer", default = 8, min = 1 },
  oversample = { type = "integer", default = 5, min = 0 },
  power_iters = { type = "integer", default = 1, min = 0 },
}

---@class moonbow.Method
---@field method string
---@field rank integer
---@field oversample integer
---@field power_iters integer

---The method among checked options; an error where they do not go together.
---@param who string
---@return moonbow.Method
function M.of(who, o)
  if o.rule and (o.method == "polar" or o.method == "soft") then
    options.fail("%s: method '%s' has a rule of its own and knows the largest singular value only; `rule` needs 'exact' or "
      .. "'randomized'", who, o.method)
  end
  local m = {}
  for name in pairs(M.spec) do m[name] = o[name] end
  return m
end

---For the routing table: "r=8 p=5 it=1".
---@param m moonbow.Method
---@return string
function M.describe(m)
  return m.method ~= "randomized" and m.method or ("r=%d p=%d it=%d"):format(m.rank, m.oversample, m.power_iters)
end

---As in a constructor's table.
---@param m moonbow.Method
function M.text(m)
  return ("method = %q, rank = %d, oversample = %d, power_iters = %d"):format(m.method, m.rank, m.oversample, m.power_iters)
end

-- Buffers of a plan for rules: target, (count * width); smaller_side[i], min(m, n) of matrix i.
local buffers_of = setmetatable({}, { __mode = "k" })

local function buffers(plan)
  local b = buffers_of[plan]
  if b then return b end
  b = { target = spectral.doubles(plan.count * plan:width()), smaller_side = {} }
  for i = 1, plan.count do
    local t = plan:tensor(i)
    local rows = t.shape[1] or 1
    b.smaller_side[i] = math.min(rows, t.numel / rows)
  end
  buffers_of[plan] = b
  return b
end

-- What a rule makes of a value, checked.
local function ask_rule(who, rule, sigma, tau, name)
  local ok, wanted = pcall(rule, sigma, tau)
  if not ok then policies.fail_raised(who, ("rule(%g, %g)"):format(sigma, tau), name, wanted) end
  if type(wanted) == "number" and wanted >= 0 and wanted < math.huge then return wanted end
  options.fail("%s: rule(%g, %g) returned %s for '%s', a finite number >= 0 was expected", who, sigma, tau,
    tostring(wanted), name)
end

-- Puts rule(sigma, tau) in the place of every computed value.
local function apply_rule(who, plan, rule, tau, matrices)
  local width, b, changed, saturated = plan:width(), buffers(plan), {}, {}
  local target = b.target
  for i = 0, plan.count - 1 do
    local limit, name, above, different = tau[i + 1], matrices[i + 1].name, 0, false
    for j = i * width, (i + 1) * width - 1 do
      local sigma = plan.sigma[j]
      target[j] = NAN
      if limit and sigma == sigma then
        if sigma > limit then above = above + 1 end
        local wanted = ask_rule(who, rule, sigma, limit, name)
        if wanted ~= sigma then
          target[j] = wanted
          different = true
        end
      end
    end
    changed[i + 1] = different
    saturated[i + 1] = above == width and width < b.smaller_side[i + 1]
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
