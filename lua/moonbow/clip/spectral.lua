-- SPDX-License-Identifier: MIT
--
-- spectral.lua: G = U diag(sigma) V^T becomes U diag(min(sigma, tau)) V^T, matrix by matrix (arXiv 2605.11838).
--
--   local clip = mb.clip.spectral {
--     threshold = mb.threshold.ema { beta = 0.9 },   -- or a number, or function(p) return tau end
--     method = "randomized", rank = 8, oversample = 5, power_iters = 1,     -- or "exact"
--     rule  = function(sigma, tau) return ... end,   -- instead of min(sigma, tau), on the computed values
--     where = function(p) return true end,           -- default: all but embeddings and head
--     scope = "matrix",                              -- "block", "global" or function(p): who shares a tau; scope.lua
--     view = "fused",                                -- "qkv", "heads" or function(p): what is a matrix; view.lua
--   }
--   local report = clip(model)                       -- report[i] = { name, sigma, tau, clipped, saturated }
--
-- Three steps, and C never calls Lua: probe, the engine finds the largest singular values of all matrices;
-- policy, the threshold is asked for each one's tau; clamp, the engine changes the gradients. A tensor is a
-- matrix of shape[1] rows; a vector's only singular value is its norm. `saturated` says that more values
-- may exceed tau than `rank` could find, so that the result is not fully clipped.

local binding = require "bindings.model"
local memory = require "moonbow.clip.memory"
local method = require "moonbow.clip.method"
local options = require "moonbow.options"
local scopes = require "moonbow.clip.scope"
local select = require "moonbow.clip.select"
local spectral = require "bindings.spectral"
local views = require "moonbow.clip.view"

local M = {}

---@class moonbow.SpectralClip
---@field memory moonbow.ClipMemory the threshold, and what it remembers
local SpectralClip = {}
SpectralClip.__index = SpectralClip

-- What is clipped of the parameters that `where` takes, block by block.
---@return moonbow.ClipMatrix[]
local function matrices_of(self, model, tensor_of)
  local parameters, list = select.parameters(self.who, model, self.where), {}
  views.check(self.who, self.view, model, parameters)
  for _, p in ipairs(parameters) do
    for _, matrix in ipairs(views.split(self.who, self.view, p, tensor_of(p))) do list[#list + 1] = matrix end
  end
  return list
end

-- The plan over a model's tensors, which stay where they are from step to step.
local function plan_of(self, model, tensor_of)
  if not self.plan or self.model ~= model then
    local matrices, tensors = matrices_of(self, model, tensor_of), {}
    for i, matrix in ipairs(matrices) do tensors[i] = matrix.tensor end
    local groups, plan = scopes.groups(self.who, self.scope, matrices), spectral.plan(tensors, self.method)
    if self.plan then self.plan:release() end
    self.plan, self.model, self.matrices, self.groups = plan, model, matrices, groups
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

-- tau for every matrix from the largest values.
local function decide(self, largest)
  local tau = {}
  for _, group in ipairs(self.groups) do
    local members, sigma = group.members, 0
    for k = 1, #members do sigma = math.max(sigma, largest[members[k]]) end
    local one = self.memory:ask(group.name, group.shape, sigma)
    for k = 1, #members do tau[members[k]] = one end
  end
  return tau
end

local function gradient_of(p) return p.grad end

function SpectralClip:__call(model)
  local plan = plan_of(self, model, gradient_of)
  local sigma, width = probe(self, model, plan), plan:width()
  local largest = {}
  for i = 1, plan.count do largest[i] = sigma[(i - 1) * width] end
  local tau = decide(self, largest)
  local changed, saturated = method.change(self.who, plan, tau, self.rule, self.matrices)
  self.memory.step = self.memory.step + 1
  local report = {}
  for i, matrix in ipairs(self.matrices) do
    report[i] = { name = matrix.name, sigma = largest[i], tau = tau[i], clipped = changed[i], saturated = saturated[i] }
  end
  return report
end

---What is done to a parameter, for the routing table; nil if it is not clipped.
---@param p moonbow.Parameter
---@return string?
function SpectralClip:describe(p)
  if not self.where(p) then return nil end
  return ("spectral %s%s%s, %s%s"):format(tostring(self.memory.policy), scopes.describe(self.scope),
    self.rule and " rule" or "", #p.shape > 1 and method.describe(self.method) or "norm",
    views.describe(self.who, self.view, p))
end

-- A choice that may be a function, for a state and for print.
local function name_of(choice) return type(choice) == "string" and choice or "function" end

function SpectralClip:__tostring()
  local view = self.view ~= "fused" and (", view = %q"):format(name_of(self.view)) or ""
  return ("mb.clip.spectral { threshold = %s, %s, scope = %q%s }"):format(tostring(self.memory.policy),
    method.text(self.method), name_of(self.scope), view)
end

---The step and what the threshold remembers, by parameter name, as of now.
function SpectralClip:state_dict() return self.memory:state_dict() end
function SpectralClip:load_state_dict(state) self.memory:load_state_dict(state) end

---@param given { threshold: number|moonbow.Threshold|function, method?: string, rank?: integer, oversample?: integer,
---  power_iters?: integer, rule?: function, where?: function, scope?: string|function,
---  view?: string|function }
---@return moonbow.SpectralClip
function M.new(given)
  local who = "mb.clip.spectral"
  local spec = {
    threshold = { type = "any", required = true },
    rule = { type = "function" },
    where = { type = "function", default = select.default },
    scope = scopes.row,
    view = views.row,
  }
  for name, row in pairs(method.spec) do spec[name] = row end
  local o = options.check(who, given, spec)
  local identity = { clip = "spectral", scope = name_of(o.scope), view = name_of(o.view) }
  return setmetatable({
    who = who, rule = o.rule, where = o.where, scope = o.scope, view = o.view, method = method.of(o),
    memory = memory.new(who, identity, o.threshold),
  }, SpectralClip)
end

return setmetatable(M, { __call = function(_, given) return M.new(given) end })
