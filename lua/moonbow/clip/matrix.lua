-- SPDX-License-Identifier: MIT
--
-- matrix.lua: one tensor clipped, for looking and trying: the argument stays as it is.
--
--   local clipped, info = mb.clip.matrix(g, { threshold = 1.0, method = "exact" })
--   info = { sigma, tau, clipped, saturated, rank = with "auto", after, rounding and exceeds = with verify }

local method = require "moonbow.clip.method"
local options = require "moonbow.options"
local policies = require "moonbow.threshold.policy"
local types = require "bindings.types"

---@class moonbow.MatrixClipOptions: moonbow.MethodOptions
---@field threshold number|moonbow.Threshold|fun(p: moonbow.Sample): number? tau, or who decides on it

--- Clips one tensor into a new one, for looking and trying.
---@param t moonbow.Tensor seen as a matrix of shape[1] rows
---@param given moonbow.MatrixClipOptions
---@return moonbow.Tensor clipped, table info
return function(t, given)
  local who = "mb.clip.matrix"
  if not types.is_tensor(t) then options.fail("%s: a tensor was expected, not %s", who, types.describe(t)) end
  local spec = { threshold = { type = "any", required = true }, rule = { type = "function" } }
  for name, row in pairs(method.spec) do spec[name] = row end
  local o = options.check(who, given, spec)
  if o.warm_start then
    options.fail("%s: warm_start goes on from call to call, and this clips one matrix once; use mb.clip.spectral", who)
  end
  local threshold = policies.of(who, o.threshold)
  local m, result = method.of(who, o, given), t:detach():clone()
  local plan = method.plan(who, m, { result }, { {} })
  local sigma = plan:probe()[0]
  local sample = { shape = t.shape, step = 0, sigma = sigma, state = {} }
  local tau = policies.ask(who, threshold, sample)
  local info = method.change(who, m, plan, { tau }, o.rule, { sample })[1]
  plan:release()
  info.sigma, info.tau = sigma, tau
  return result, info
end
