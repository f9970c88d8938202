-- SPDX-License-Identifier: MIT
--
-- norm.lua: clipping by the Euclidean norm.
--
--   mb.clip.norm { max_norm = 1.0 }                        g <- g min(1, max_norm / (|g| + 1e-6)), all gradients as one
--   mb.clip.norm { max_norm = 1.0, scope = "matrix" }      each parameter by its own norm
--   mb.clip.norm { threshold = mb.threshold.zscore() }     the norm is put to a policy: ZClip, AutoClip, your own
--   mb.clip.norm { max_norm = 1.0, on = "update" }         the updates, or "momentum": by opt:step(clip)
--   clip.threshold = 0.5                                   another one from the next call on (settable.lua); clip.max_norm too
--
-- 1e-6 is PyTorch's constant. max_norm = math.huge only measures. A policy is asked with sigma = |g| and the name
-- "*", or each parameter's, and with total, the norm of all gradients; g <- g tau / (|g| + 1e-6) where |g| > tau, and
-- nothing happens otherwise. report.norm is the norm of all gradients before clipping, report.tau what it was held against,
-- report.clipped says whether anything was scaled; report[i] = { name, norm, tau, clipped } with scope "matrix".
-- Of gradients on a GPU the device decides by itself, and these are fetched when they are read: by_norm.lua.

local by_norm = require "moonbow.clip.by_norm"
local devices = require "moonbow.clip.device"
local memory = require "moonbow.clip.memory"
local options = require "moonbow.options"
local recording = require "moonbow.recording"
local select = require "moonbow.clip.select"
local settable = require "moonbow.clip.settable"
local sources = require "moonbow.clip.source"
local spectral = require "bindings.spectral"

local EPSILON = 1e-6

---@class moonbow.NormClip a clipper: clip(model) changes the gradients and returns a report
---@field on "grad"|"momentum"|"update"
---@field max_norm number?
---@field memory moonbow.ClipMemory? of a threshold
local NormClip = { records_itself = true }

-- A number takes the place of max_norm where that is what there was, a policy that of either.
local function set_threshold(self, threshold)
  if self.max_norm and type(threshold) == "number" then
    options.value(self.who, "the threshold", threshold, { type = "number", above = 0 })
    settable.put(self, "max_norm", threshold)
    return
  end
  devices.pull(self)
  if self.memory then
    self.memory:set_threshold(threshold)
  else
    settable.put(self, "memory", memory.new(self.who, { clip = "norm", scope = self.scope, on = self.on }, threshold))
    settable.put(self, "max_norm", nil)
  end
  by_norm.stop(self)
end

settable.install(NormClip, { "on_device", "plans", "source", "groups" }, set_threshold, function(self)
  return self.max_norm or self.memory.policy
end, "max_norm")

local function is_finite(x) return x == x and x ~= math.huge end

-- tau and the factor of something of this norm; the factor is nil where it stays as it is.
local function decide(self, name, shape, norm, total)
  if self.max_norm then
    local scale = self.max_norm / (norm + EPSILON)
    return self.max_norm, scale < 1 and scale or nil
  end
  local tau = self.memory:ask(name, shape, norm, total)
  return tau, tau and norm > tau and tau / (norm + EPSILON) or nil
end

-- All parameters, embeddings and head too, as one vector.
local function clip_globally(self, source, list)
  local flat, changed = source:flat(), {}
  local norm = math.sqrt(spectral.sum_squares { flat }[1])
  if not is_finite(norm) then select.fail_nonfinite(self.who, source) end
  local tau, scale = decide(self, "*", flat.shape, norm, norm)
  if scale then flat:affine_(scale, 0) end
  for _, p in ipairs(list) do changed[p.index] = scale ~= nil end
  return { norm = norm, tau = tau, clipped = scale ~= nil }, changed
end

local function clip_each(self, source, list)
  local tensors, total = {}, 0
  for i, p in ipairs(list) do tensors[i] = source:tensor(p) end
  local squares, scales = spectral.sum_squares(tensors), {}
  for i in ipairs(list) do
    if not is_finite(squares[i]) then select.fail_nonfinite(self.who, source) end
    total = total + squares[i]
  end
  total = math.sqrt(total)
  local report, changed = { norm = total, clipped = false }, {}
  for i, p in ipairs(list) do
    local norm = math.sqrt(squares[i])
    local tau, scale = decide(self, p.name, p.shape, norm, total)
    scales[i], changed[p.index] = scale, scale ~= nil
    report[i] = { name = p.name, norm = norm, tau = tau, clipped = scale ~= nil }
    report.clipped = report.clipped or scale ~= nil
  end
  for i, tensor in ipairs(tensors) do
    if scales[i] then tensor:affine_(scales[i], 0) end
  end
  return report, changed
end

---The parameters of a model that are clipped: all of them.
---@param model moonbow.Model
---@return moonbow.Parameter[]
function NormClip:parameters(model)
  return select.parameters(self.who, model, function() return true end)
end

---Clips what an optimizer offers.
---@param source moonbow.ClipSource
---@return table report, table<integer, boolean> changed by index of the parameter
function NormClip:change(source)
  local clip = self.scope == "global" and clip_globally or clip_each
  local list = self:parameters(source.model)
  if self.memory then return self.memory:attempt(nil, clip, self, source, list) end
  return clip(self, source, list)
end

function NormClip:__call(model)
  sources.check_call(self.who, self.on)
  select.check_model(self.who, model)
  local source = sources.gradients(model)
  if by_norm.takes(self, source) then return by_norm.step(self, source) end
  recording.check(function()
    if by_norm.takes(self, source) then return self.who .. " has another threshold" end
  end)
  return (recording.host(self.change, self, source))
end

---What is done to a parameter, for the routing table.
---@return string?
function NormClip:describe()
  if self.max_norm == math.huge then return nil end
  local text = self.max_norm and ("norm(%g)"):format(self.max_norm) or "norm " .. tostring(self.memory.policy)
  return sources.prefix(self.on) .. text .. (self.scope == "matrix" and " each" or "")
end

function NormClip:__tostring()
  local text = self.max_norm and ("max_norm = %g"):format(self.max_norm) or "threshold = " .. tostring(self.memory.policy)
  return ("mb.clip.norm { %s, scope = %q%s }"):format(text, self.scope, sources.text(self.on))
end

---What the threshold remembers; with max_norm nothing.
---@return table
function NormClip:state_dict()
  devices.pull(self)
  return self.memory and self.memory:state_dict() or { clip = "norm" }
end

---Continues from what state_dict returned.
---@param state table
function NormClip:load_state_dict(state)
  if self.memory then
    if type(state) == "table" and state.clip == "norm" and state.threshold == nil then
      options.fail("%s: the state is of a clipper with max_norm, this one has threshold '%s'", self.who,
        tostring(self.memory.policy))
    end
    self.memory:load_state_dict(state)
    by_norm.stop(self)
    return
  end
  if type(state) ~= "table" or state.clip ~= "norm" then
    options.fail("%s: the state is of clipper '%s'", self.who, tostring(type(state) == "table" and state.clip or state))
  end
  if state.threshold then
    options.fail("%s: the state has threshold '%s', this clipper max_norm = %g", self.who, tostring(state.threshold),
      self.max_norm)
  end
end

---@class moonbow.NormClipOptions
---@field max_norm? number this or threshold; math.huge only measures
---@field threshold? number|moonbow.Threshold|fun(p: moonbow.Sample): number? a policy, asked with the norm as sigma
---@field scope? "global"|"matrix" all gradients as one vector, the default, or each parameter by itself
---@field on? "grad"|"momentum"|"update" what is clipped; default "grad"

--- Clipping by the Euclidean norm.
---@param given moonbow.NormClipOptions
---@return moonbow.NormClip
return function(given)
  local who = "mb.clip.norm"
  local o = options.check(who, given, {
    max_norm = { type = "number", above = 0 },
    threshold = { type = "any" },
    scope = { choices = { "global", "matrix" }, default = "global" },
    on = sources.row,
  })
  if (o.max_norm == nil) == (o.threshold == nil) then
    options.fail("%s: one of the options 'max_norm' and 'threshold' is needed, %s", who,
      o.max_norm and "not both" or "both are missing")
  end
  local self = { who = who, max_norm = o.max_norm, scope = o.scope, on = o.on }
  if o.threshold ~= nil then self.memory = memory.new(who, { clip = "norm", scope = o.scope, on = o.on }, o.threshold) end
  return settable.new(NormClip, self)
end
