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

-- rank = "auto" begins here.
local FIRST_RANK = 8

-- What `exceeds` allows beyond tau, relative to sigma_1 before: the accuracy of polar in float32.
local ROUNDING = 1e-5

---Options of the method.
M.spec = {
  method = { choices = { "exact", "randomized", "polar", "soft" }, default = "randomized" },
  rank = { type = "integer|string", default = 8, min = 1, check = function(value)
    if type(value) == "string" and value ~= "auto" then return "an integer or 'auto'" end
  end },
  oversample = { type = "integer", default = 5, min = 0 },
  power_iters = { type = "integer", default = 1, min = 0 },
  warm_start = { type = "boolean", default = false },
  dtype = { choices = { "f32", "f64" } },
  verify = { type = "boolean", default = false },
}

---@class moonbow.Method
---@field method string
---@field rank integer|"auto"
---@field oversample integer
---@field power_iters integer
---@field warm_start boolean
---@field dtype? "f32"|"f64"
---@field verify boolean

---The method among checked options; an error where they do not go together.
---@param who string
---@return moonbow.Method
function M.of(who, o)
  if o.rule and (o.method == "polar" or o.method == "soft") then
    options.fail("%s: method '%s' has a rule of its own and knows the largest singular value only; `rule` needs 'exact' or "
      .. "'randomized'", who, o.method)
  end
  if o.warm_start and o.method ~= "randomized" then
    options.fail("%s: warm_start is where a sketch starts from; method '%s' makes none", who, o.method)
  end
  local m = {}
  for name in pairs(M.spec) do m[name] = o[name] end
  return m
end

-- A plan of method m over tensors, with another rank and start if given.
local function plan_with(m, tensors, rank, warm_start)
  return spectral.plan(tensors, {
    method = m.method, rank = rank, oversample = m.oversample, power_iters = m.power_iters, warm_start = warm_start,
    dtype = m.dtype,
  })
end

---A plan over tensors.
---@param who string
---@param m moonbow.Method
---@param tensors moonbow.Tensor[]
---@return moonbow.SpectralPlan
function M.plan(who, m, tensors)
  for _, t in ipairs(tensors) do
    if m.dtype == "f32" and t.dtype == "f64" then
      options.fail("%s: dtype = 'f32' would round a matrix of f64 that it clips; leave dtype out, or name 'f64'", who)
    end
  end
  return plan_with(m, tensors, m.rank == "auto" and FIRST_RANK or m.rank, m.warm_start)
end

---For the routing table: "r=8 p=5 it=1", "polar f64".
---@param m moonbow.Method
---@return string
function M.describe(m)
  local text = m.method
  if text == "randomized" then
    text = ("r=%s p=%d it=%d"):format(m.rank, m.oversample, m.power_iters) .. (m.warm_start and " warm" or "")
  end
  return text .. (m.dtype == "f64" and " f64" or "")
end

---As in a constructor's table.
---@param m moonbow.Method
function M.text(m)
  local rank = m.rank == "auto" and '"auto"' or tostring(m.rank)
  return ("method = %q, rank = %s, oversample = %d, power_iters = %d%s%s%s"):format(m.method, rank, m.oversample, m.power_iters,
    m.warm_start and ", warm_start = true" or "", m.dtype and (", dtype = %q"):format(m.dtype) or "",
    m.verify and ", verify = true" or "")
end

-- Of a plan, made once: target, (count * width) for rules; smaller_side[i], min(m, n) of matrix i.
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

-- Number of values that a plan has computed of matrix i, and whether all of them exceed tau and there are more.
local function seen(plan, i, tau)
  local width, n = plan:width(), 0
  local first = (i - 1) * width
  while n < width and plan.sigma[first + n] == plan.sigma[first + n] do n = n + 1 end
  return n, tau ~= nil and plan.sigma[first + n - 1] > tau and n < buffers(plan).smaller_side[i]
end

-- A share is a plan and its part of the matrices: member[j] is the place of its j-th among all, tau[j] what it is clipped to.
---@class moonbow.ClipShare
---@field plan moonbow.SpectralPlan probed
---@field member integer[]
---@field tau table<integer, number?>

-- rank = "auto": matrices whose smallest value known still exceeds tau go to a plan of twice the rank, and so on.
---@return moonbow.ClipShare[]
local function deepen(m, share)
  local shares, rank = { share }, FIRST_RANK
  while true do
    local member, tau, tensors = {}, {}, {}
    for j, i in ipairs(share.member) do
      local _, saturated = seen(share.plan, j, share.tau[j])
      if saturated then
        local n = #member + 1
        member[n], tau[n], tensors[n] = i, share.tau[j], share.plan:tensor(j)
        share.tau[j] = nil -- no longer this plan's
      end
    end
    if #member == 0 then return shares end
    rank = 2 * rank
    share = { plan = plan_with(m, tensors, rank, false), member = member, tau = tau }
    share.plan:probe()
    shares[#shares + 1] = share
  end
end

-- What a rule makes of a value, checked.
local function ask_rule(who, rule, sigma, tau, name)
  local ok, wanted = pcall(rule, sigma, tau)
  if not ok then policies.fail_raised(who, ("rule(%g, %g)"):format(sigma, tau), name, wanted) end
  if type(wanted) == "number" and wanted >= 0 and wanted < math.huge then return wanted end
  options.fail("%s: rule(%g, %g) returned %s for '%s', a finite number >= 0 was expected", who, sigma, tau,
    tostring(wanted), name)
end

-- rule(sigma, tau) in the place of every computed value of a share: the target, and which matrices change.
local function targets(who, share, rule, matrices)
  local plan = share.plan
  local width = plan:width()
  local target, changed = buffers(plan).target, {}
  for j = 1, plan.count do
    local limit, name, first, different = share.tau[j], matrices[share.member[j]].name, (j - 1) * width, false
    for at = first, first + width - 1 do
      local sigma = plan.sigma[at]
      target[at] = NAN
      if limit and sigma == sigma then
        local wanted = ask_rule(who, rule, sigma, limit, name)
        if wanted ~= sigma then
          target[at] = wanted
          different = true
        end
      end
    end
    changed[j] = different
  end
  return target, changed
end

-- Changes the matrices of all shares, once every rule has answered; changed[s][j] for share s.
local function change_shares(who, shares, rule, matrices)
  local target, changed = {}, {}
  for s, share in ipairs(shares) do
    if rule then target[s], changed[s] = targets(who, share, rule, matrices) end
  end
  for s, share in ipairs(shares) do
    if rule then
      share.plan:apply(target[s])
    else
      local lowered = share.plan:clamp(share.tau)
      changed[s] = {}
      for j = 1, share.plan.count do changed[s][j] = lowered[j] > 0 end
    end
  end
  return changed
end

---@class moonbow.ClipOutcome
---@field clipped boolean whether any value changed
---@field saturated boolean whether values that were not computed may exceed tau
---@field rank? integer values computed, with rank = "auto"
---@field after? number sigma_1 of what was changed, with verify
---@field exceeds? boolean whether that is above tau by more than rounding

---Changes the matrices of a probed plan: to tau, or by a rule.
---@param who string
---@param m moonbow.Method
---@param plan moonbow.SpectralPlan probed
---@param tau table<integer, number?>
---@param rule? fun(sigma: number, tau: number): number
---@param matrices { name: string }[] for errors
---@return moonbow.ClipOutcome[]
function M.change(who, m, plan, tau, rule, matrices)
  local base = { plan = plan, member = {}, tau = {} }
  for i = 1, plan.count do base.member[i], base.tau[i] = i, tau[i] end
  local sketches = m.method == "randomized"
  local shares = sketches and m.rank == "auto" and deepen(m, base) or { base }
  local changed, outcomes = change_shares(who, shares, rule, matrices), {}
  for s, share in ipairs(shares) do
    local after = m.verify and share.plan:verify()
    for j, i in ipairs(share.member) do
      if s == 1 or share.tau[j] then
        local outcome = { clipped = changed[s][j], saturated = false }
        if sketches then
          local known, saturated = seen(share.plan, j, share.tau[j])
          outcome.saturated = saturated
          if m.rank == "auto" then outcome.rank = known end
        end
        if after then
          -- What was not changed is what it was.
          outcome.after = after[j - 1] == after[j - 1] and after[j - 1] or plan.sigma[(i - 1) * plan:width()]
          outcome.exceeds = tau[i] ~= nil and outcome.after > tau[i] + ROUNDING * plan.sigma[(i - 1) * plan:width()]
        end
        outcomes[i] = outcome
      end
    end
    if s > 1 then share.plan:release() end
  end
  return outcomes
end

---@param plan moonbow.SpectralPlan
---@param matrices { name: string }[]
---@return table<string, moonbow.Tensor> bases what warm_start remembers, by name
function M.bases(plan, matrices)
  local bases = {}
  for i, matrix in ipairs(matrices) do bases[matrix.name] = plan:basis(i) end
  return bases
end

---Lets a new plan go on from bases.
---@param plan moonbow.SpectralPlan
---@param matrices { name: string }[]
---@param bases table<string, moonbow.Tensor>
function M.set_bases(plan, matrices, bases)
  for i, matrix in ipairs(matrices) do
    if bases[matrix.name] then plan:set_basis(i, bases[matrix.name]) end
  end
end

return M
