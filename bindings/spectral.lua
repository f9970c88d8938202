-- SPDX-License-Identifier: MIT
--
-- spectral.lua: probe, policy, clamp over many matrices. Arrays of singular values are cdata (double *),
-- row i - 1 for matrix i; number[] tables are one a matrix, from 1. Missing values are NaN.
--
--   plan(matrices, { method = "exact"|"randomized"|"polar"|"soft"|"norm", rank, oversample, power_iters,
--     warm_start, dtype, explain }) -> plan
--     an array of tensors; the plan holds them
--   plan:width() -> n                        singular values kept a matrix
--   plan:probe() -> sigma                    double[count * width], descending, NaN where there are fewer;
--                                            plan.sigma is the same buffer, valid until the next probe
--   plan:clamp(tau) -> clipped, saturated    tau[i] a number, or nil for "leave alone"; clipped[i] an
--                                            integer, saturated[i] a boolean
--   plan:apply(target)                       target a double[count * width], NaN = keep
--   plan:verify() -> after                   double[count], sigma_1 of what the last change altered, NaN elsewhere
--   plan:basis(i) -> tensor|nil              what warm_start remembers of a matrix; plan:set_basis(i, tensor)
--   plan:policy(options, members, count)     a built-in policy on the device: { kind = "const"|"ema"|"quantile"|"zscore"|
--                                            "max_norm", and its numbers }; matrices of one members[i], 1 to count, share one
--   plan:guard(model)                        optimizers of that model change nothing where a step is refused
--   plan:set_tau(tau)                        another one of const and max_norm, from the next step on
--   plan:step() -> call                      probe, policy and clamp; waits for nothing
--   plan:replaying()  plan:replayed() -> call   around a replay of a graph that has a step
--   plan:outcome(call) -> o                  o.sigma, o.tau: double[count]; o.clipped, o.saturated: integers, and not 0
--   plan:total(call) -> number               with method norm, the length of all as one
--   plan:policy_state() -> rows, calls       rows[j], an array of numbers for each threshold; plan:set_policy_state(rows)
--   plan:release()                           gives the factors' memory back now
--   plan.count, plan:tensor(i)               number of matrices; one of them
--   sum_squares(tensors) -> number[]         squared Frobenius norms, in float64
--   doubles(n) -> double[n]                  a buffer for targets

local ffi = require "ffi"
local handle = require "bindings.handle"
local load = require "bindings.load"
local ops = require "bindings.ops"
local status = require "bindings.status"
local types = require "bindings.types"

local C = load.C
local act, fail = handle.act, status.fail

local M = {}

local doubles, ints, bytes = ffi.typeof "double[?]", ffi.typeof "int32_t[?]", ffi.typeof "unsigned char[?]"
local out = ffi.new "mb_spectral *[1]"
local methods = {
  exact = C.MB_SPECTRAL_EXACT, randomized = C.MB_SPECTRAL_RANDOMIZED, polar = C.MB_SPECTRAL_POLAR, soft = C.MB_SPECTRAL_SOFT,
  norm = C.MB_SPECTRAL_NORM,
}

local kinds = {
  const = C.MB_POLICY_CONST, ema = C.MB_POLICY_EMA, quantile = C.MB_POLICY_QUANTILE, zscore = C.MB_POLICY_ZSCORE,
  max_norm = C.MB_POLICY_MAX_NORM,
}
local spikes = { reciprocal = C.MB_ZSCORE_RECIPROCAL, bound = C.MB_ZSCORE_BOUND, mean = C.MB_ZSCORE_MEAN }

local NAN = 0 / 0

M.doubles = doubles

---@class moonbow.SpectralPlan
---@field count integer
---@field sigma ffi.cdata* double[count * width]
local Plan = {}
Plan.__index = Plan

local function explained(plan, call, ...)
  if plan.explain then return status.explained(plan.explain, call, ...) end
  return call(...)
end

--- A plan over tensors; equal shapes are computed together.
---@param matrices moonbow.Tensor[]
---@param o { method: string, rank?: integer, oversample?: integer, power_iters?: integer, warm_start?: boolean,
---  dtype?: "f64", explain?: fun(text: string): string } dtype "f64": float32 matrices are computed on in float64; explain
---  puts the engine's complaints
---@return moonbow.SpectralPlan
function M.plan(matrices, o)
  local array, count = ops.pointers("spectral plan", matrices)
  local c = ffi.new "mb_spectral_options"
  c.method = methods[o.method] or fail("spectral plan: unknown method %s", types.describe(o.method))
  c.rank, c.oversample, c.power_iters = o.rank or 0, o.oversample or 0, o.power_iters or 0
  c.warm_start, c.compute_f64 = o.warm_start and 1 or 0, o.dtype == "f64" and 1 or 0
  explained(o, act, "mb_spectral_new", out, array, count, c)
  local plan = ffi.gc(out[0], C.mb_spectral_release)
  local width = tonumber(C.mb_spectral_width(plan))
  return setmetatable({
    plan = plan, count = count, matrices = matrices, columns = width, sigma = doubles(count * width),
    tau = doubles(count), clipped = ints(count), saturated = bytes(count), explain = o.explain,
  }, Plan)
end

local function handle_of(self)
  return self.plan or fail("spectral plan: it was released")
end

function Plan:width() return self.columns end

function Plan:tensor(i) return self.matrices[i] end

function Plan:probe()
  explained(self, act, "mb_spectral_probe", handle_of(self), self.sigma)
  return self.sigma
end

---@param tau table<integer, number?>
---@return integer[] clipped
---@return boolean[] saturated
function Plan:clamp(tau)
  for i = 1, self.count do self.tau[i - 1] = tau[i] or NAN end
  explained(self, handle.act_once, "mb_spectral_clamp", handle_of(self), self.tau, self.clipped, self.saturated)
  local clipped, saturated = {}, {}
  for i = 1, self.count do
    clipped[i], saturated[i] = self.clipped[i - 1], self.saturated[i - 1] ~= 0
  end
  return clipped, saturated
end

---@param target ffi.cdata* double[count * width]
function Plan:apply(target)
  explained(self, handle.act_once, "mb_spectral_apply", handle_of(self), target)
end

---@return ffi.cdata* double[count]
function Plan:verify()
  local after = doubles(self.count)
  explained(self, act, "mb_spectral_verify", handle_of(self), after)
  return after
end

local one = ffi.new "mb_tensor *[1]"

---@param i integer
---@return moonbow.Tensor? basis (r, n)
function Plan:basis(i)
  act("mb_spectral_basis", one, handle_of(self), i - 1)
  return one[0] ~= nil and handle.own(one[0]) or nil
end

---@param i integer
---@param basis moonbow.Tensor
function Plan:set_basis(i, basis)
  explained(self, act, "mb_spectral_basis_set", handle_of(self), i - 1, basis)
end

-- ----- policies on the device -----------------------------------------------------------------------------

local numbers = ffi.typeof "int64_t[?]"
local call_out = ffi.new "int64_t[1]"

---@param rule { kind: string, tau?: number, beta?: number, q?: number, window?: integer, z?: number, alpha?: number,
---  epsilon?: number, warmup?: integer, to?: string }
---@param members integer[] of every matrix, its threshold, from 1
---@param count integer thresholds
function Plan:policy(rule, members, count)
  local c, list = ffi.new "mb_policy_options", numbers(self.count)
  c.kind = kinds[rule.kind] or fail("spectral plan: unknown policy %s", types.describe(rule.kind))
  c.tau, c.beta, c.q, c.window = rule.tau or 0, rule.beta or 0, rule.q or 0, rule.window or 0
  c.z, c.alpha, c.epsilon, c.warmup = rule.z or 0, rule.alpha or 0, rule.epsilon or 0, rule.warmup or 0
  c.to = spikes[rule.to or "reciprocal"]
  for i = 1, self.count do list[i - 1] = members[i] - 1 end
  explained(self, act, "mb_spectral_policy", handle_of(self), c, list, count)
  self.thresholds = count
end

---@param model ffi.cdata* whose gradients the plan has: where a step refuses them, its optimizers change nothing
function Plan:guard(model) act("mb_spectral_policy_guard", self.plan, model) end

---@param tau number
function Plan:set_tau(tau) explained(self, handle.act_once, "mb_spectral_policy_tau_set", handle_of(self), tau) end

---@return integer call to be asked for later
function Plan:step()
  explained(self, handle.act_once, "mb_spectral_step", handle_of(self), call_out)
  return tonumber(call_out[0])
end

--- Before a replay of a graph that has a step: raises the error of a call that was refused, but for the last one.
function Plan:replaying() explained(self, handle.act_once, "mb_spectral_replaying", handle_of(self)) end

--- After the replay.
---@return integer call
function Plan:replayed()
  explained(self, handle.act_once, "mb_spectral_replayed", handle_of(self), call_out)
  return tonumber(call_out[0])
end

---@param call integer
---@return { sigma: ffi.cdata*, tau: ffi.cdata*, clipped: ffi.cdata*, saturated: ffi.cdata* }
function Plan:outcome(call)
  local n = self.count
  local o = { sigma = doubles(n), tau = doubles(n), clipped = ints(n), saturated = bytes(n) }
  explained(self, act, "mb_spectral_outcome", handle_of(self), call, o.sigma, o.tau, o.clipped, o.saturated)
  return o
end

local total_out = doubles(1)

---@param call integer
---@return number
function Plan:total(call)
  explained(self, act, "mb_spectral_outcome_total", handle_of(self), call, total_out)
  return total_out[0]
end

---@return number[][] rows, integer calls
function Plan:policy_state()
  local width = tonumber(C.mb_spectral_policy_width(handle_of(self)))
  local state, rows = doubles(math.max(1, self.thresholds * width)), {}
  act("mb_spectral_policy_state", self.plan, state, call_out)
  for j = 1, self.thresholds do
    rows[j] = {}
    for i = 1, width do rows[j][i] = state[(j - 1) * width + i - 1] end
  end
  return rows, tonumber(call_out[0])
end

---@param rows number[][] as policy_state gives them; what is missing is 0
function Plan:set_policy_state(rows)
  local width = tonumber(C.mb_spectral_policy_width(handle_of(self)))
  local state = doubles(math.max(1, self.thresholds * width))
  for j = 1, self.thresholds do
    for i = 1, width do state[(j - 1) * width + i - 1] = rows[j] and rows[j][i] or 0 end
  end
  act("mb_spectral_policy_state_set", self.plan, state)
end

function Plan:release()
  if self.plan then C.mb_spectral_release(ffi.gc(self.plan, nil)) end
  self.plan, self.matrices = nil, nil
end

--- Squared Frobenius norms of tensors.
---@param tensors moonbow.Tensor[]
---@return number[]
function M.sum_squares(tensors)
  local array, count = ops.pointers("sum_squares", tensors)
  local sums = doubles(count)
  act("mb_sum_squares", sums, array, count)
  local result = {}
  for i = 1, #tensors do result[i] = sums[i - 1] end
  return result
end

return M
