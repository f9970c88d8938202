-- SPDX-License-Identifier: MIT
--
-- linalg.lua: decompositions of a matrix (m, n), or of each of a batch (L, m, n). Results have no history.
--
--   svdvals(a) -> s                          svd(a) -> u, s, v with a = u diag(s) v^T, thin
--   svd_lowrank(a, rank, oversample, power_iters) -> u, s, v
--   qr(a) -> q, r                            eigh(a) -> values, vectors        eigvalsh(a) -> values
--   cholesky(a) -> l                         msign(a, options) -> u v^T
--   inverse_sqrt(a, steps) -> a^(-1/2)       sigma_max(a) -> the largest singular value

local ffi = require "ffi"
local handle = require "bindings.handle"
local load = require "bindings.load"
local status = require "bindings.status"
local types = require "bindings.types"

local C = load.C
local act, own, produce = handle.act, handle.own, handle.produce

local M = {}

local function need_tensor(name, a)
  if not types.is_tensor(a) then status.fail("mb.linalg.%s: a tensor was expected, not %s", name, types.describe(a)) end
  return a
end

local out = ffi.new "mb_tensor *[3]"

-- C[name](out[0], out[1], ...): two new handles.
local function two(name, ...)
  act(name, out, out + 1, ...)
  local first, second = out[0], out[1] -- read before a collection can call the engine
  return own(first), own(second)
end

local function three(name, ...)
  act(name, out, out + 1, out + 2, ...)
  local first, second, third = out[0], out[1], out[2]
  return own(first), own(second), own(third)
end

--- Singular values, descending.
---@param a moonbow.Tensor
---@return moonbow.Tensor s
function M.svdvals(a)
  return produce("mb_svdvals", need_tensor("svdvals", a))
end

--- a = u diag(s) v^T, thin.
---@param a moonbow.Tensor
---@return moonbow.Tensor u, moonbow.Tensor s, moonbow.Tensor v
function M.svd(a)
  return three("mb_svd", need_tensor("svd", a))
end

--- The largest singular values and their vectors, by a sketch.
---@param a moonbow.Tensor
---@param rank integer
---@param oversample integer
---@param power_iters integer
---@return moonbow.Tensor u, moonbow.Tensor s, moonbow.Tensor v
function M.svd_lowrank(a, rank, oversample, power_iters)
  return three("mb_svd_lowrank", need_tensor("svd_lowrank", a), rank, oversample, power_iters)
end

--- a = q r, thin; r's diagonal is not negative.
---@param a moonbow.Tensor
---@return moonbow.Tensor q, moonbow.Tensor r
function M.qr(a)
  return two("mb_qr", need_tensor("qr", a))
end

--- Symmetric a = vectors diag(values) vectors^T, values ascending; the lower triangle is read.
---@param a moonbow.Tensor
---@return moonbow.Tensor values, moonbow.Tensor vectors
function M.eigh(a)
  return two("mb_eigh", need_tensor("eigh", a))
end

--- Eigenvalues of a symmetric matrix, ascending; the lower triangle is read.
---@param a moonbow.Tensor
---@return moonbow.Tensor values
function M.eigvalsh(a)
  return produce("mb_eigvalsh", need_tensor("eigvalsh", a))
end

--- a = l l^T; the lower triangle is read.
---@param a moonbow.Tensor
---@return moonbow.Tensor l
function M.cholesky(a)
  return produce("mb_cholesky", need_tensor("cholesky", a))
end

local msign_methods = { ns5 = C.MB_MSIGN_NS5, polar_express = C.MB_MSIGN_POLAR_EXPRESS, exact = C.MB_MSIGN_EXACT }

local precisions = { f32 = C.MB_MSIGN_FULL, tf32 = C.MB_MSIGN_TF32, bf16 = C.MB_MSIGN_BF16, f16 = C.MB_MSIGN_F16 }

local function code_of(what, codes, name)
  return codes[name] or status.fail("mb.linalg.msign: unknown %s %s", what, types.describe(name))
end

local function options_of(o)
  local given = ffi.new("mb_msign_options[1]")
  given[0].method = code_of("method", msign_methods, o.method)
  given[0].precision = code_of("precision", precisions, o.precision or "f32")
  given[0].steps, given[0].scale, given[0].unchecked = o.steps or 0, o.scale or 1, o.unchecked and 1 or 0
  return given
end

--- The polar factor of a = u diag(s) v^T: scale u v^T. `unchecked`: a is finite, and nothing is waited for.
---@param a moonbow.Tensor
---@param o { method: "ns5"|"polar_express"|"exact", steps?: integer, precision?: "f32"|"tf32"|"bf16"|"f16", scale?: number,
---  unchecked?: boolean }
---@return moonbow.Tensor
function M.msign(a, o)
  return produce("mb_msign_with", need_tensor("msign", a), options_of(o))
end

--- The same of several tensors, with scales[i] for `scale`, in as few products as they allow.
---@param list moonbow.Tensor[] on one device
---@param scales number[]
---@param o table as msign's
---@return moonbow.Tensor[]
function M.msign_many(list, scales, o)
  local n, made = #list, {}
  local outs, inputs, factors = ffi.new("mb_tensor *[?]", n), ffi.new("mb_tensor *[?]", n), ffi.new("double[?]", n)
  for i = 1, n do inputs[i - 1], factors[i - 1] = need_tensor("msign", list[i]), scales[i] end
  act("mb_msign_many", outs, inputs, factors, n, options_of(o))
  for i = 1, n do made[i] = outs[i - 1] end -- read before a collection can call the engine
  for i = 1, n do made[i] = own(made[i]) end
  return made
end

--- a^(-1/2) of symmetric positive definite a.
---@param a moonbow.Tensor
---@param steps? integer
---@return moonbow.Tensor
function M.inverse_sqrt(a, steps)
  return produce("mb_inverse_sqrt", need_tensor("inverse_sqrt", a), steps or 0)
end

---@param a moonbow.Tensor
---@return moonbow.Tensor
function M.sigma_max(a)
  return produce("mb_sigma_max", need_tensor("sigma_max", a))
end

return M
