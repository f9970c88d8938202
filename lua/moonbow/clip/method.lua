-- SPDX-License-Identifier: MIT
--
-- method.lua: how singular values are found and changed: the options that say so, shared by mb.clip.spectral and
-- mb.clip.matrix, and what happens between a plan's probe and the report.
--
--   method = "randomized"   the `rank` largest values, from a sketch of rank + oversample directions and power_iters rounds
--   method = "exact"        all values, by eigenvalues
--   method = "polar"        all values above tau are lowered to it, by matrix products alone: no value but the largest is known
--   method = "soft"         sigma / sqrt(1 + sigma^2 / tau^2) for all values (SPECTRA, arXiv 2603.14315), by products alone

local memory = require "moonbow.clip.memory"
local options = require "moonbow.options"
local policies = require "moonbow.threshold.policy"
local spectral = require "bindings.spectral"
local types = require "bindings.types"

local NAN = 0 / 0

local M = {}

-- rank = "auto" begins here.
local FIRST_RANK = 8

-- What `exceeds` allows: tau (1 + EPS), and what rounding leaves of a matrix of this sigma_1 whatever tau is. The change is
-- subtracted in the matrix's dtype: float32 cannot hold the result better than to about 3e-7 sigma_1 (measured; polar 3e-6).
-- EPS is what the measurement itself may be off by, a few 1e-6, and some more.
local EPS = 1e-5
local ROUNDING = {
  f32 = { exact = 1e-6, randomized = 1e-6, polar = 1e-5, soft = 1e-6 },
  f64 = { exact = 1e-8, randomized = 1e-8, polar = 1e-8, soft = 1e-8 },
}

-- Of rank, oversample and power_iters; more than any matrix has rows.
local MOST = 2 ^ 31 - 1

local function integer(value)
  if value % 1 ~= 0 then return "an integer" end
end

---Options of the method.
M.spec = {
  method = { choices = { "exact", "randomized", "polar", "soft" }, default = "randomized" },
  rank = { type = "number|string", default = 8, min = 1, max = MOST, check = function(value)
    if value ~= "auto" and not types.is_integer(value) then return "an integer or 'auto'" end
  end },
  oversample = { type = "number", default = 5, min = 0, max = MOST, check = integer },
  power_iters = { type = "number", default = 1, min = 0, max = MOST, check = integer },
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

-- What only sketches have.
local of_sketches = { "rank", "oversample", "power_iters" }

---The method among checked options; an error where they do not go together.
---@param who string
---@param o table checked options
---@param given table what of them the user has said
---@return moonbow.Method
function M.of(who, o, given)
  for _, name in ipairs(of_sketches) do
    if given[name] ~= nil and o.method ~= "randomized" then
      options.fail("%s: option '%s' is for method 'randomized'; method '%s' does not use it", who, name, o.method)
    end
  end
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

-- The engine's complaints in the words of a clipper: its name, and the matrices by theirs.
local function explainer(who, matrices)
  return function(text)
    text = text:gsub("^mb_spectral_[%w_]+: ", ""):gsub("matrix (%d+)", function(i)
      local matrix = matrices[tonumber(i) + 1]
      return matrix and matrix.name and ("'%s'"):format(matrix.name) or "the matrix"
    end)
    return who .. ": " .. text
  end
end

-- A plan of method m over tensors, with another rank and start if given.
local function plan_with(who, m, tensors, rank, warm_start, matrices)
  return spectral.plan(tensors, {
    explain = explainer(who, matrices),
    method = m.method, rank = rank, oversample = m.oversample, power_iters = m.power_iters, warm_start = warm_start,
    dtype = m.dtype,
  })
end

---A plan over tensors.
---@param who string
---@param m moonbow.Method
---@param tensors moonbow.Tensor[]
---@param matrices { name?: string }[] for errors
---@return moonbow.SpectralPlan
function M.plan(who, m, tensors, matrices)
  for _, t in ipairs(tensors) do
    if m.dtype == "f32" and t.dtype == "f64" then
      options.fail("%s: dtype = 'f32' would round a matrix of f64 that it clips; leave dtype out, or name 'f64'", who)
    end
  end
  return plan_with(who, m, tensors, m.rank == "auto" and FIRST_RANK or m.rank, m.warm_start, matrices)
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
  local sketch = ""
  if m.method == "randomized" then
    local rank = m.rank == "auto" and '"auto"' or tostring(m.rank)
    sketch = (", rank = %s, oversample = %d, power_iters = %d"):format(rank, m.oversample, m.power_iters)
  end
  return ("method = %q%s%s%s%s"):format(m.method, sketch, m.warm_start and ", warm_start = true" or "",
    m.dtype and (", dtype = %q"):format(m.dtype) or "", m.verify and ", verify = true" or "")
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
local function deepen(who, m, share, matrices)
  local shares, rank = { share }, FIRST_RANK
  while true do
    local member, tau, tensors, names = {}, {}, {}, {}
    for j, i in ipairs(share.member) do
      local _, saturated = seen(share.plan, j, share.tau[j])
      if saturated then
        local n = #member + 1
        member[n], tau[n], tensors[n], names[n] = i, share.tau[j], share.plan:tensor(j), matrices[i]
        share.tau[j] = nil -- no longer this plan's
      end
    end
    if #member == 0 then return shares end
    rank = 2 * rank
    share = { plan = plan_with(who, m, tensors, rank, false, names), member = member, tau = tau }
    share.plan:probe()
    shares[#shares + 1] = share
  end
end

-- What a rule makes of a value, checked.
local function ask_rule(who, rule, sigma, tau, name)
  local ok, wanted = pcall(rule, sigma, tau)
  if not ok then policies.fail_raised(who, ("rule(%g, %g)"):format(sigma, tau), name, wanted) end
  if type(wanted) == "number" and wanted >= 0 and wanted < math.huge then return wanted end
  options.fail("%s: rule(%g, %g) returned %s%s, a finite number >= 0 was expected", who, sigma, tau,
    options.describe(wanted), policies.of_name(name))
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
---@field rounding? number how far above tau the method's rounding may leave it, with verify
---@field exceeds? boolean whether it is above tau by more than that and 1e-5 tau, or not finite

-- The fields of verify. after: what the engine measured of a matrix that was changed, NaN if it is not finite; one that was
-- not changed is what it was, sigma.
local function verified(m, outcome, sigma, tau, after, dtype)
  outcome.after = outcome.clipped and after or sigma
  outcome.rounding = ROUNDING[dtype][m.method] * sigma
  local is_below = tau == nil or outcome.after <= tau * (1 + EPS) + outcome.rounding
  outcome.exceeds = not is_below or outcome.after - outcome.after ~= 0
end

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
  local shares = sketches and m.rank == "auto" and deepen(who, m, base, matrices) or { base }
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
          verified(m, outcome, plan.sigma[(i - 1) * plan:width()], tau[i], after[j - 1], plan:tensor(i).dtype)
        end
        outcomes[i] = outcome
      end
    end
    if s > 1 then share.plan:release() end
  end
  return outcomes
end

---Raises an error for bases that no plan of this method has.
---@param who string
---@param m moonbow.Method
---@param bases any
function M.check_bases(who, m, bases)
  memory.check_names(who, "bases", bases)
  local most = m.rank == "auto" and FIRST_RANK or m.rank
  for _, name in ipairs(options.keys(bases)) do
    local t = bases[name]
    local fits = types.is_tensor(t) and #t.shape == 2 and t.shape[1] <= most and t.shape[1] <= t.shape[2]
      and (t.dtype == "f64" or (t.dtype == "f32" and m.dtype ~= "f64")) and not (t.dtype == "f64" and m.dtype == "f32")
    if not fits then
      options.fail("%s: the state's basis of '%s' is %s, a tensor of %s with %d rows at most was expected", who, name,
        options.describe(t), m.dtype or "the matrices' dtype", most)
    end
  end
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
