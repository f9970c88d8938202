-- SPDX-License-Identifier: MIT
--
-- spectral.lua: G = U diag(sigma) V^T becomes U diag(min(sigma, tau)) V^T, matrix by matrix (arXiv 2605.11838).
--
--   local clip = mb.clip.spectral {
--     threshold = mb.threshold.ema { beta = 0.9 },   -- or a number, or function(p) return tau end
--     method = "randomized", rank = 8, oversample = 5, power_iters = 1,     -- or "exact", "polar", "soft"
--     rule  = function(sigma, tau) return ... end,   -- instead of min(sigma, tau), on the computed values
--     where = function(p) return true end,           -- default: all but embeddings and head
--     scope = "matrix",                              -- "block", "global" or function(p): who shares a tau; scope.lua
--     view = "fused",                                -- "qkv", "heads" or function(p): what is a matrix; view.lua
--     on = "grad",                                   -- or "momentum", "update": what the optimizer makes of it
--     rank = "auto",                                 -- as many as exceed tau: doubled until sigma_r <= tau
--     warm_start = true,                             -- sketches start from the directions that the last ones found
--     dtype = "f64",                                 -- float32 matrices are computed on in float64
--     verify = true,                                 -- sigma_1 is measured again after the change
--   }
--   local report = clip(model)                       -- report[i] = { name, sigma, tau, clipped, saturated, rank = with
--                                                       "auto", after, rounding and exceeds = with verify }
--   local report = opt:step(clip)                    -- clips and steps, whatever `on` is (optim/clipping.lua)
--   clip.threshold = 0.5                             -- another one from the next call on (settable.lua)
--
-- Three steps, and C never calls Lua: probe, the engine finds the largest singular values of all matrices;
-- policy, the threshold is asked for each one's tau; clamp, the engine changes the gradients. A tensor is a
-- matrix of shape[1] rows; a vector's only singular value is its norm. `saturated` says that more values
-- may exceed tau than `rank` could find, so that the result is not fully clipped.
--
-- verify: `after` is sigma_1 of the result, measured anew; `exceeds` says that after > tau (1 + 1e-5) + rounding, or that it is
-- not finite. `rounding` is what the dtype of the matrix can hold of the method's result: of sigma_1 before, 1e-6 in float32
-- (1e-5 with polar), 1e-8 in float64. Where tau is less than that of sigma_1, after may be many tau.
--
-- What is remembered goes by the parameters' names: a clipper belongs to one model, and two models take two clippers.

local handle = require "bindings.handle"
local devices = require "moonbow.clip.device"
local memory = require "moonbow.clip.memory"
local method = require "moonbow.clip.method"
local options = require "moonbow.options"
local recording = require "moonbow.recording"
local scopes = require "moonbow.clip.scope"
local select = require "moonbow.clip.select"
local settable = require "moonbow.clip.settable"
local sources = require "moonbow.clip.source"
local views = require "moonbow.clip.view"

local M = {}

---@class moonbow.SpectralClip a clipper: clip(model) changes the gradients and returns a report
---@field memory moonbow.ClipMemory the threshold, and what it remembers
local SpectralClip = { records_itself = true }

---The parameters of a model that are clipped.
---@param model moonbow.Model
---@return moonbow.Parameter[]
function SpectralClip:parameters(model)
  return select.parameters(self.who, model, self.where)
end

-- What is clipped of the parameters that `where` takes, block by block.
---@return moonbow.ClipMatrix[]
local function matrices_of(self, source)
  local parameters, list = self:parameters(source.model), {}
  views.check(self.who, self.view, source.model, parameters)
  for _, p in ipairs(parameters) do
    for _, matrix in ipairs(views.split(self.who, self.view, p, source:tensor(p))) do list[#list + 1] = matrix end
  end
  return list
end

-- What warm_start has found so far, in a plan or for the next one; nil for other methods.
local function bases_of(self)
  if not self.method.warm_start then return nil end
  return self.plan and method.bases(self.plan, self.matrices) or self.bases
end

-- The plan over a source's tensors, which stay where they are from step to step. Another source of the same model, as
-- an optimizer makes one for another clipper, goes on from the same bases.
local function plan_of(self, source)
  if not self.plan or self.source ~= source.key then
    devices.pull(self)
    local matrices, tensors = matrices_of(self, source), {}
    for i, matrix in ipairs(matrices) do tensors[i] = matrix.tensor end
    local groups, plan = scopes.groups(self.who, self.scope, matrices), method.plan(self.who, self.method, tensors, matrices)
    local bases = (not self.plan or self.model == source.model) and bases_of(self)
    if bases then method.set_bases(plan, matrices, bases) end
    devices.let_go(self)
    if self.plan then self.plan:release() end
    self.plan, self.source, self.model, self.bases, self.on_device = plan, source.key, source.model, nil, nil
    self.matrices, self.groups = matrices, groups
    if devices.takes(self, plan) then devices.start(self, plan, source.model) end
  end
  return self.plan
end

-- Lets the next call begin with these bases.
local function go_back(self, bases)
  devices.let_go(self)
  if self.plan then self.plan:release() end
  self.plan, self.bases, self.on_device = nil, bases, nil
end

local function probe(self, source, plan)
  local ok, problem = pcall(plan.probe, plan)
  if ok then return problem end
  if source:find_nonfinite() then select.fail_nonfinite(self.who, source) end
  error(problem, 0)
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

local function change(self, source, plan)
  local sigma, width = probe(self, source, plan), plan:width()
  local largest = {}
  for i = 1, plan.count do largest[i] = sigma[(i - 1) * width] end
  local tau = decide(self, largest)
  local report = method.change(self.who, self.method, plan, tau, self.rule, self.matrices)
  local changed = {}
  for i, matrix in ipairs(self.matrices) do
    local row = report[i]
    row.name, row.sigma, row.tau = matrix.name, largest[i], tau[i]
    changed[matrix.parameter.index] = changed[matrix.parameter.index] or row.clipped
  end
  return report, changed
end

-- Another threshold from the next call on; a device is given it, with what is remembered, by a new plan.
local function set_threshold(self, threshold)
  devices.pull(self)
  self.memory:set_threshold(threshold)
  if self.plan then go_back(self, bases_of(self)) end
end

settable.install(SpectralClip, { "plan", "source", "model", "bases", "on_device", "matrices", "groups" }, set_threshold,
  function(self) return self.memory.policy end)

-- On the host, with a wait for the singular values.
local function ask_host(self, source)
  local plan = plan_of(self, source)
  local bases = bases_of(self)
  local forget = bases and function() go_back(self, bases) end
  local report, changed = self.memory:attempt(forget, change, self, source, plan)
  if bases then handle.release(bases) end -- copies for the case that it fails: the collector would see them late
  return report, changed
end

-- Not with the exact method, whose decompositions may be cuSOLVER's, and not the first call of a plan, which has something
-- to send.
local function can_be_captured(self, source)
  return self.method.method == "randomized" and self.source == source.key and self.on_device and self.on_device.is_warm
end

-- Where it is asked is found anew each time: it may be the replay of a call that had another threshold.
local function step(self, source)
  plan_of(self, source)
  if self.on_device then return devices.step(self), nil end
  return ask_host(self, source)
end

---Clips what an optimizer offers. What fails leaves the gradients, what the clipper remembers, and the generator as they were.
---@param source moonbow.ClipSource
---@return table report, table<integer, boolean> changed by index of the parameter
function SpectralClip:change(source)
  if not recording.is_on() then return step(self, source) end
  if can_be_captured(self, source) then return devices.step(self), nil end
  recording.check(function() return can_be_captured(self, source) and self.who .. " has another threshold" or nil end)
  return recording.host(step, self, source)
end

function SpectralClip:__call(model)
  sources.check_call(self.who, self.on)
  select.check_model(self.who, model)
  return (self:change(sources.gradients(model)))
end

---What is done to a parameter, for the routing table; nil if it is not clipped.
---@param p moonbow.Parameter
---@return string?
function SpectralClip:describe(p)
  if not select.takes(self.who, self.where, p) then return nil end
  return ("%sspectral %s%s%s, %s%s"):format(sources.prefix(self.on), tostring(self.memory.policy), scopes.describe(self.scope),
    self.rule and " rule" or "", #p.shape > 1 and method.describe(self.method) or "norm",
    views.describe(self.who, self.view, p))
end

-- A choice that may be a function, for a state and for print.
local function name_of(choice) return type(choice) == "string" and choice or "function" end

function SpectralClip:__tostring()
  local view = self.view ~= "fused" and (", view = %q"):format(name_of(self.view)) or ""
  return ("mb.clip.spectral { threshold = %s, %s, scope = %q%s%s }"):format(tostring(self.memory.policy),
    method.text(self.method), name_of(self.scope), view, sources.text(self.on))
end

---The step and what the threshold remembers, by parameter name, as of now; with warm_start also the directions that
---the next sketch starts from.
---@return table
function SpectralClip:state_dict()
  devices.pull(self)
  local state = self.memory:state_dict()
  state.bases = self.method.warm_start and memory.copy(bases_of(self) or {}) or nil
  return state
end

---Continues from what state_dict returned. Everything is checked before anything changes.
---@param state table
function SpectralClip:load_state_dict(state)
  self.memory:check(state)
  if self.method.warm_start then method.check_bases(self.who, self.method, state.bases or {}) end
  self.memory:load_state_dict(state)
  if self.on_device then go_back(self, nil) end
  if not self.method.warm_start then return end
  go_back(self, memory.copy(state.bases or {}))
end

---@class moonbow.MethodOptions
---@field method? "randomized"|"exact"|"polar"|"soft" how singular values are found and clipped; default "randomized"
---@field rank? integer|"auto" of "randomized": values computed, the largest ones; default 8, "auto" as many as exceed tau
---@field oversample? integer of "randomized": directions beside these; default 5
---@field power_iters? integer of "randomized": power iterations; default 1
---@field dtype? "f32"|"f64" computes in it; default: that of the matrices
---@field verify? boolean sigma_1 is measured again after the change; default false
---@field rule? fun(sigma: number, tau: number): number instead of min(sigma, tau), on each computed value

---@class moonbow.SpectralClipOptions: moonbow.MethodOptions
---@field threshold number|moonbow.Threshold|fun(p: moonbow.Sample): number? tau, or who decides on it
---@field warm_start? boolean sketches start from the directions that the last ones found; default false
---@field where? fun(p: moonbow.Parameter): boolean which parameters; default: all but embeddings and head
---@field scope? "matrix"|"block"|"global"|fun(p: moonbow.Parameter): string? who shares a tau; default "matrix"
---@field view? "fused"|"qkv"|"heads"|fun(p: moonbow.Parameter): integer? what is one matrix; default "fused"
---@field on? "grad"|"momentum"|"update" what is clipped; default "grad"

---Clipping of singular values.
---@param given moonbow.SpectralClipOptions
---@return moonbow.SpectralClip
function M.new(given)
  local who = "mb.clip.spectral"
  local spec = {
    threshold = { type = "any", required = true },
    rule = { type = "function" },
    where = { type = "function", default = select.default },
    scope = scopes.row,
    view = views.row,
    on = sources.row,
  }
  for name, row in pairs(method.spec) do spec[name] = row end
  local o = options.check(who, given, spec)
  local m = method.of(who, o, given)
  local identity = { clip = "spectral", scope = name_of(o.scope), view = name_of(o.view), on = o.on }
  if m.warm_start then identity.rank, identity.dtype = tostring(m.rank), m.dtype or "of the matrices" end
  return settable.new(SpectralClip, {
    who = who, rule = o.rule, where = o.where, scope = o.scope, view = o.view, on = o.on,
    method = m, memory = memory.new(who, identity, o.threshold),
  })
end

return setmetatable(M, { __call = function(_, given) return M.new(given) end })
