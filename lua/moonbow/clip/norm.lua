-- SPDX-License-Identifier: MIT
--
-- norm.lua: clipping by the Euclidean norm.
--
--   mb.clip.norm { max_norm = 1.0 }                        g <- g min(1, max_norm / (|g| + 1e-6)), all gradients as one
--   mb.clip.norm { max_norm = 1.0, scope = "matrix" }      each parameter by its own norm
--
-- 1e-6 is PyTorch's constant. max_norm = math.huge only measures. report.norm is the norm of all gradients
-- before clipping; report.clipped says whether anything was scaled; report[i] = { name, norm, clipped } with
-- scope "matrix".

local binding = require "bindings.model"
local options = require "moonbow.options"
local select = require "moonbow.clip.select"
local spectral = require "bindings.spectral"

local EPSILON = 1e-6

---@class moonbow.NormClip
local NormClip = {}
NormClip.__index = NormClip

local function is_finite(x) return x == x and x ~= math.huge end

-- All gradients, embeddings and head too, as one vector.
local function clip_globally(self, model)
  local flat = binding.gradients(model.handle)
  local norm = math.sqrt(spectral.sum_squares { flat }[1])
  if not is_finite(norm) then select.fail_nonfinite(self.who, model) end
  local scale = self.max_norm / (norm + EPSILON)
  local clipped = scale < 1
  if clipped then flat:affine_(scale, 0) end
  return { norm = norm, clipped = clipped }
end

local function clip_each(self, model)
  local list, gradients, total = model:parameters(), {}, 0
  binding.settle_gradients(model.handle)
  for i, p in ipairs(list) do gradients[i] = p.grad end
  local squares = spectral.sum_squares(gradients)
  local report = { clipped = false }
  for i, p in ipairs(list) do
    if not is_finite(squares[i]) then select.fail_nonfinite(self.who, model) end
    local norm = math.sqrt(squares[i])
    local scale = self.max_norm / (norm + EPSILON)
    report[i] = { name = p.name, norm = norm, clipped = scale < 1 }
    report.clipped = report.clipped or scale < 1
    total = total + squares[i]
  end
  for i, row in ipairs(report) do
    if row.clipped then gradients[i]:affine_(self.max_norm / (row.norm + EPSILON), 0) end
  end
  report.norm = math.sqrt(total)
  return report
end

function NormClip:__call(model)
  select.parameters(self.who, model, function() return true end)
  return self.scope == "global" and clip_globally(self, model) or clip_each(self, model)
end

---What is done to a parameter, for the routing table.
function NormClip:describe()
  if self.max_norm == math.huge then return nil end
  return ("norm(%g)"):format(self.max_norm) .. (self.scope == "matrix" and " each" or "")
end

function NormClip:__tostring()
  return ("mb.clip.norm { max_norm = %g, scope = %q }"):format(self.max_norm, self.scope)
end

---Norm clipping remembers nothing.
function NormClip:state_dict() return { clip = "norm" } end -- luacheck: ignore 212/self
function NormClip:load_state_dict(state)
  if type(state) ~= "table" or state.clip ~= "norm" then
    options.fail("%s: the state is of clipper '%s'", self.who, tostring(type(state) == "table" and state.clip or state))
  end
end

---@param given { max_norm: number, scope?: "global"|"matrix" }
---@return moonbow.NormClip
return function(given)
  local who = "mb.clip.norm"
  local o = options.check(who, given, {
    max_norm = { type = "number", required = true, above = 0 },
    scope = { choices = { "global", "matrix" }, default = "global" },
  })
  return setmetatable({ who = who, max_norm = o.max_norm, scope = o.scope }, NormClip)
end
