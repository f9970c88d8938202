-- SPDX-License-Identifier: MIT
--
-- norms.lua: norms of layers, their linear minimisation oracles and initialisations. A new norm is one row of the table.
--
--   name           direction lmo(d), of norm 1, with <d, lmo(d)> = |d|_*             norm |x|
--   euclidean      d / |d|_2                                                         |x|_2
--   sign           sign(d) / in                                                      in max |x_ij|
--   sign_plain     sign(d)                                                           max |x_ij|
--   spectral       msign(d) sqrt(out / in)                                           s_1(x) sqrt(in / out)
--   spectral_plain msign(d)                                                          s_1(x)
--   spectral_max   msign(d) max(1, sqrt(out / in))                                   s_1(x) / max(1, sqrt(out / in))
--   spectral_conv  msign(d) sqrt(out / in) / k^2, d as out x in k k                  s_1(x) k^2 sqrt(in / out)
--   col_norm       d / (|column|_2 / sqrt(out) + 1e-8)                               max |column|_2 / sqrt(out)
--   col_norm_transposed   the same of d^T: for embeddings, (tokens, width), each token's vector
--   row_norm       d / (|row|_2 sqrt(in) + 1e-8)                                     sqrt(in) max |row|_2
--   bias_rms       d / (rms(d) + 1e-8)                                               rms(x)
--   auto           spectral_conv, spectral or bias_rms for a filter, a matrix or a vector, sign for the others
--
-- Oracles are of weights' gradients d and tensors (L, m, n), matrix by matrix; the step is minus the direction. Initial
-- values have norm 1, or are zeros for biases. Sources: Pethick et al. 2025, arXiv 2502.07529; arXiv 2506.01913.

local batches = require "moonbow.optim.batches"
local create = require "moonbow.create"
local linalg = require "moonbow.linalg"
local ops = require "bindings.ops"
local options = require "moonbow.options"
local schedules = require "moonbow.schedule.base"

local M = {}

---@class moonbow.Norm
---@field lmo fun(d: moonbow.Tensor, c: moonbow.NormContext): moonbow.Tensor (L, m, n), a new tensor
---@field norm fun(x: moonbow.Tensor, c: moonbow.NormContext): moonbow.Tensor (L)
---@field init fun(w: moonbow.Tensor, c: moonbow.NormContext) in place

---@class moonbow.NormContext what an oracle may ask: a batch, P of update_group, has it
---@field shape integer[] L, m, n
---@field role string
---@field kernel integer k k of a filter, else 1
---@field msign string method of mb.linalg.msign
---@field steps integer of it

local EPSILON = 1e-8

local function two_norm(x, dims) return ops.sqrt(ops.sum(ops.square(x), dims, true)) end

local function largest(x) return ops.max(ops.reshape(x, { x.shape[1], -1 }), 2) end

-- d / (s |d|_2 + 1e-8) over some dimensions.
local function normalised(d, dims, s)
  return d / two_norm(d, dims):affine_(s, EPSILON)
end

-- Random rows (dims 3) or columns (dims 2) of length s.
local function random_lengths(w, dims, s)
  w:randn_(0, 1)
  w:mul_(s / two_norm(w, dims))
end

-- Orthonormal rows or columns, the shorter side, times s: the polar factor of normal numbers is uniform among them.
local function random_orthogonal(w, s)
  local normal = create.randn(w.shape, { dtype = w.dtype, device = w.device })
  w:copy_(linalg.msign(normal, { method = "exact" })):mul_(s)
end

local function spectral(scale)
  return {
    lmo = function(d, c) return linalg.msign(d, { method = c.msign, steps = c.steps }):mul_(scale(c)) end,
    norm = function(x, c) return linalg.sigma_max(x) / scale(c) end,
    init = function(w, c) random_orthogonal(w, scale(c)) end,
  }
end

local function ratio(c) return math.sqrt(c.shape[2] * c.kernel / c.shape[3]) end

local function sign(scale)
  return {
    lmo = function(d, c) return ops.sign(d):mul_(scale(c)) end,
    norm = function(x, c) return largest(ops.abs(x)) / scale(c) end,
    init = function(w, c) w:copy_(ops.sign(w:uniform_(-1, 1))):mul_(scale(c)) end,
  }
end

-- dim is the one that columns run along.
local function col_norm(dim)
  return {
    lmo = function(d, c) return normalised(d, dim, 1 / math.sqrt(c.shape[dim])) end,
    norm = function(x, c) return largest(two_norm(x, dim)) / math.sqrt(c.shape[dim]) end,
    init = function(w, c) random_lengths(w, dim, math.sqrt(c.shape[dim])) end,
  }
end

---@type table<string, moonbow.Norm>
M.rows = {
  euclidean = {
    lmo = function(d) return normalised(d, { 2, 3 }, 1) end,
    norm = function(x) return ops.reshape(two_norm(x, { 2, 3 }), -1) end,
    init = function(w) random_lengths(w, { 2, 3 }, 1) end,
  },
  sign = sign(function(c) return 1 / c.shape[3] end),
  sign_plain = sign(function() return 1 end),
  spectral = spectral(ratio),
  spectral_plain = spectral(function() return 1 end),
  spectral_max = spectral(function(c) return math.max(1, ratio(c)) end),
  spectral_conv = spectral(function(c) return ratio(c) / c.kernel end),
  col_norm = col_norm(2),
  col_norm_transposed = col_norm(3),
  row_norm = {
    lmo = function(d, c) return normalised(d, 3, math.sqrt(c.shape[3])) end,
    norm = function(x, c) return largest(two_norm(x, 3)) * math.sqrt(c.shape[3]) end,
    init = function(w, c) random_lengths(w, 3, 1 / math.sqrt(c.shape[3])) end,
  },
  bias_rms = {
    lmo = function(d, c) return normalised(d, { 2, 3 }, 1 / math.sqrt(c.shape[2] * c.shape[3])) end,
    norm = function(x, c) return ops.reshape(two_norm(x, { 2, 3 }), -1) / math.sqrt(c.shape[2] * c.shape[3]) end,
    init = function(w) w:zero_() end,
  },
}

local by_role = { conv = "spectral_conv", matrix = "spectral", vector = "bias_rms", embedding = "sign", head = "sign" }

--- Are all weights together one vector with one Euclidean norm? Then no layer has an oracle of its own.
function M.is_joint(o) return o.norms == "euclidean" end

-- ----- of a batch -------------------------------------------------------------------------------------------------

--- The direction of a batch whose constants say its norm.
function M.lmo(d, P) return M.rows[P.norm].lmo(d, P) end

--- Norms (L) of the matrices of a batch.
function M.norm(x, P) return M.rows[P.norm].norm(x, P) end

-- ----- options ------------------------------------------------------------------------------------------------------

local roles = options.keys(by_role)

--- Every role: what optimizers of norms take.
M.roles = roles

--- Rows of the options `norms` and `radius`, for a definition: each is one for all, or a table by a parameter's name or
--- role; a name comes before a role. A radius may be a function of the step, or a schedule.
M.options = {
  norms = { type = "string|table", default = "auto" },
  radius = { type = "number|table|function", default = 1, fixed = true },
}

--- Bounds of the options of msign.
M.limits = {
  msign = { choices = { "ns5", "polar_express", "exact" } },
  steps = { type = "integer", min = 1, max = 100 },
}

---@class moonbow.NormOptions what optimizers of norms take beside their own
---@field lr? number|fun(step: integer): number learning rate; default 0.01
---@field momentum? number|fun(step: integer): number share of the new gradient; default 0.1
---@field norms? string|table<string, string> a norm of optim/norms.lua, or norms by parameter or role; default "auto"
---@field radius? number|table<string, number> size of a step in the norm, or sizes by parameter or role; default 1
---@field msign? "ns5"|"polar_express"|"exact" how u v^T is computed; default "ns5"
---@field steps? integer iterations of it; default 5

local function chosen(option, p)
  if type(option) ~= "table" or schedules.is_schedule(option) then return option end
  if option[p.name] ~= nil then return option[p.name] end
  return option[p.role]
end

--- Raises an error if an option by name or role has a key that is neither, or a value that makes no sense.
---@param who string
---@param parameters moonbow.Parameter[]
---@param o table
function M.check(who, parameters, o)
  local keys, known = { unpack(roles) }, {}
  for _, p in ipairs(parameters) do keys[#keys + 1] = p.name end
  for _, key in ipairs(keys) do known[key] = true end
  for _, option in ipairs { "norms", "radius" } do
    local given = type(o[option]) == "table" and not schedules.is_schedule(o[option]) and o[option] or { all = o[option] }
    for key, value in pairs(given) do
      if key ~= "all" and not known[key] then
        options.fail("%s: option '%s' names '%s', which is no parameter of it and no role%s", who, option, tostring(key),
          options.suggest(tostring(key), keys))
      end
      local what = key == "all" and ("option '%s'"):format(option) or ("'%s' of option '%s'"):format(key, option)
      local names = options.keys(M.rows)
      names[#names + 1] = "auto"
      if option == "norms" then
        options.value(who, what, value, { choices = names })
      elseif not schedules.is_schedule(value) then
        options.value(who, what, value, { type = "number|function", above = 0 })
      end
    end
  end
end

--- Constants of a parameter: its norm and its radius, and what oracles ask.
function M.layer(p, o)
  local norm, kernel = chosen(o.norms, p) or "auto", 1
  if norm == "auto" then norm = by_role[p.role] end
  for i = 3, #p.shape do kernel = kernel * p.shape[i] end
  local radius = chosen(o.radius, p) or 1
  if schedules.is_schedule(radius) then radius = batches.of_step("radius", radius, { type = "number", above = 0 }) end
  return { norm = norm, radius = radius, kernel = kernel, msign = o.msign, steps = o.steps }
end

--- Initial values of a batch: those of its norm, of the size of its radius.
function M.initialize(P)
  M.rows[P.norm].init(P.w, P)
  P.w = P.w:mul_(P.radius)
end

--- A definition (optim/define.lua) with what optimizers of norms have in common: all roles, options `norms`, `radius`, `msign`
--- and `steps`, a momentum d <- (1 - momentum) d + momentum g, and constants of a layer.
---@param definition table
---@return table
function M.definition(definition)
  local defaults = { lr = 0.01, momentum = 0.1, msign = "ns5", steps = 5 }
  local limits = { lr = { min = 0 }, momentum = { above = 0, max = 1 } }
  for name, value in pairs(definition.defaults or {}) do defaults[name] = value end
  for name, value in pairs(M.limits) do limits[name] = value end
  for name, value in pairs(definition.limits or {}) do limits[name] = value end
  local d = { takes = M.roles, options = M.options, layer = M.layer, check_parameters = M.check, initialize = M.initialize,
              state = { "d" },
              momentum = "d" }
  for name, value in pairs(definition) do d[name] = value end
  d.defaults, d.limits = defaults, limits
  return d
end

--- d <- (1 - momentum) d + momentum g
---@return moonbow.Tensor d
function M.average(P, h)
  P.d = P.d:lerp_(P.g, h.momentum)
  return P.d
end

return M
