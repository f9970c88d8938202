-- SPDX-License-Identifier: MIT
--
-- spectral.lua: G = U diag(sigma) V^T becomes U diag(min(sigma, tau)) V^T, matrix by matrix (arXiv 2605.11838).
--
--   local clip = mb.clip.spectral {
--     threshold = mb.threshold.ema { beta = 0.9 },   -- or a number, or function(p) return tau end
--     method = "randomized", rank = 8, oversample = 5, power_iters = 1,     -- or "exact"
--     rule  = function(sigma, tau) return ... end,   -- instead of min(sigma, tau), on the computed values
--     where = function(p) return true end,           -- default: all but embeddings and head
--     scope = "matrix",                              -- or "global": one tau, decided on the largest sigma
--   }
--   local report = clip(model)                       -- report[i] = { name, sigma, tau, clipped, saturated }
--
-- Three steps, and C never calls Lua: probe, the engine finds the largest singular values of all matrices;
-- policy, the threshold is asked for each one's tau; clamp, the engine changes the gradients. A tensor is a
-- matrix of shape[1] rows; a vector's only singular value is its norm. `saturated` says that more values
-- may exceed tau than `rank` could find, so that the result is not fully clipped.

local binding = require "bindings.model"
local options = require "moonbow.options"
local policies = require "moonbow.threshold.policy"
local select = require "moonbow.clip.select"
local spectral = require "bindings.spectral"
local types = require "bindings.types"

local NAN = 0 / 0

local M = {}

---Options of the method, shared with mb.clip.matrix.
M.method_spec = {
  method = { choices = { "exact", "randomized" }, default = "randomized" },
  rank = { type = "integer", default = 8, min = 1 },
  oversample = { type = "integer", default = 5, min = 0 },
  power_iters = { type = "integer", default = 1, min = 0 },
}

-- min(m, n) of a tensor seen as a matrix.
local function smaller_side(t)
  local rows = t.shape[1] or 1
  return math.min(rows, t.numel / rows)
end

---Puts rule(sigma, tau) in the place of every computed value.
---@param plan moonbow.SpectralPlan probed
---@param tau table<integer, number?>
---@param matrices { name: string }[] for errors
---@return boolean[] changed per matrix, whether any value did
---@return boolean[] saturated per matrix, whether values that were not computed may exceed tau
function M.apply_rule(who, plan, rule, tau, matrices)
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

---@class moonbow.SpectralClip
---@field step integer calls so far
---@field states table<string, table> what the threshold remembers, by parameter name
local SpectralClip = {}
SpectralClip.__index = SpectralClip

-- The plan over a model's gradients, which stay where they are from step to step.
local function plan_of(self, model)
  if not self.plan or self.model ~= model then
    local parameters, gradients = select.parameters(self.who, model, self.where), {}
    for i, p in ipairs(parameters) do gradients[i] = p.grad end
    local plan = spectral.plan(gradients, self.options)
    if self.plan then self.plan:release() end
    self.plan, self.model, self.parameters = plan, model, parameters
  end
  return self.plan
end

local function probe(self, model, plan)
  binding.settle_gradients(model.handle)
  local ok, problem = pcall(plan.probe, plan)
  if ok then return problem end
  if model:find_nonfinite_gradient() then select.fail_nonfinite(self.who, model) end
  options.raise(tostring(problem))
end

local function state_of(self, name)
  local state = self.states[name]
  if not state then
    state = {}
    self.states[name] = state
  end
  return state
end

local function ask(self, name, shape, sigma)
  local sample = { name = name, shape = shape, step = self.step, sigma = sigma, state = state_of(self, name) }
  return policies.checked(self.who, self.threshold, sample, self.threshold(sample))
end

-- tau for every matrix from the largest values.
local function decide(self, largest)
  local tau = {}
  if self.scope == "global" then
    local sigma = 0
    for _, value in ipairs(largest) do sigma = math.max(sigma, value) end
    local one = ask(self, "*", {}, sigma)
    for i = 1, #largest do tau[i] = one end
  else
    for i, p in ipairs(self.parameters) do tau[i] = ask(self, p.name, p.shape, largest[i]) end
  end
  return tau
end

function SpectralClip:__call(model)
  local plan = plan_of(self, model)
  local sigma, width = probe(self, model, plan), plan:width()
  local largest = {}
  for i = 1, plan.count do largest[i] = sigma[(i - 1) * width] end
  local tau = decide(self, largest)
  self.step = self.step + 1
  local changed, clipped, saturated
  if self.rule then
    changed, saturated = M.apply_rule(self.who, plan, self.rule, tau, self.parameters)
  else
    clipped, saturated = plan:clamp(tau)
  end
  local report = {}
  for i, p in ipairs(self.parameters) do
    report[i] = {
      name = p.name, sigma = largest[i], tau = tau[i], clipped = changed and changed[i] or (clipped ~= nil and clipped[i] > 0),
      saturated = saturated[i],
    }
  end
  return report
end

---What is done to a parameter, for the routing table; nil if it is not clipped.
---@param p moonbow.Parameter
---@return string?
function SpectralClip:describe(p)
  if not self.where(p) then return nil end
  local o = self.options
  local method = o.method == "exact" and "exact" or ("r=%d p=%d it=%d"):format(o.rank, o.oversample, o.power_iters)
  return ("spectral %s%s, %s"):format(tostring(self.threshold), self.rule and " rule" or "", #p.shape > 1 and method or "norm")
end

function SpectralClip:__tostring()
  local o = self.options
  return ("mb.clip.spectral { threshold = %s, method = %q, rank = %d, oversample = %d, power_iters = %d, scope = %q }"):format(
    tostring(self.threshold), o.method, o.rank, o.oversample, o.power_iters, self.scope)
end

-- A state of its own: what one clipper goes on to remember is no business of another.
local function copy(value)
  if types.is_tensor(value) then return value:clone() end
  if type(value) ~= "table" then return value end
  local result = {}
  for key, inner in pairs(value) do result[key] = copy(inner) end
  return result
end

---The step and what the threshold remembers, by parameter name, as of now.
function SpectralClip:state_dict()
  return { clip = "spectral", threshold = tostring(self.threshold), step = self.step, states = copy(self.states) }
end

function SpectralClip:load_state_dict(state)
  if type(state) ~= "table" then options.fail("%s: a state was expected, not %s", self.who, options.describe(state)) end
  local mine = { clip = "spectral", threshold = tostring(self.threshold) }
  for _, key in ipairs { "clip", "threshold" } do
    if state[key] ~= mine[key] then
      options.fail("%s: the state has %s '%s', this clipper '%s'", self.who, key, tostring(state[key]), mine[key])
    end
  end
  if not types.is_integer(state.step) or type(state.states) ~= "table" then
    options.fail("%s: the state needs an integer step and a table states, not %s and %s", self.who,
      options.describe(state.step), options.describe(state.states))
  end
  self.step, self.states = state.step, copy(state.states)
end

---@param given { threshold: number|moonbow.Threshold|function, method?: string, rank?: integer, oversample?: integer,
---  power_iters?: integer, rule?: function, where?: function, scope?: "matrix"|"global" }
---@return moonbow.SpectralClip
function M.new(given)
  local who = "mb.clip.spectral"
  local spec = {
    threshold = { type = "any", required = true },
    rule = { type = "function" },
    where = { type = "function", default = select.default },
    scope = { choices = { "matrix", "global" }, default = "matrix" },
  }
  for name, row in pairs(M.method_spec) do spec[name] = row end
  local o = options.check(who, given, spec)
  return setmetatable({
    who = who, threshold = policies.of(who, o.threshold), rule = o.rule, where = o.where, scope = o.scope, step = 0, states = {},
    options = { method = o.method, rank = o.rank, oversample = o.oversample, power_iters = o.power_iters },
  }, SpectralClip)
end

return setmetatable(M, { __call = function(_, given) return M.new(given) end })
