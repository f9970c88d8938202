---@meta _
-- SPDX-License-Identifier: MIT
--
-- linalg.lua: for editors, no program loads it; written by scripts/docs/api.lua from the comments of the sources.

---@class moonbow.linalg
local mb_linalg = {}

--- Singular values, descending.
---@param a moonbow.Tensor
---@return moonbow.Tensor s
function mb_linalg.svdvals(a) end

--- a = u diag(s) v^T, thin.
---@param a moonbow.Tensor
---@return moonbow.Tensor u
---@return moonbow.Tensor s
---@return moonbow.Tensor v
function mb_linalg.svd(a) end

--- a = q r, thin; r's diagonal is not negative.
---@param a moonbow.Tensor
---@return moonbow.Tensor q
---@return moonbow.Tensor r
function mb_linalg.qr(a) end

--- Symmetric a = vectors diag(values) vectors^T, values ascending; the lower triangle is read.
---@param a moonbow.Tensor
---@return moonbow.Tensor values
---@return moonbow.Tensor vectors
function mb_linalg.eigh(a) end

--- Eigenvalues of a symmetric matrix, ascending; the lower triangle is read.
---@param a moonbow.Tensor
---@return moonbow.Tensor values
function mb_linalg.eigvalsh(a) end

--- a = l l^T; the lower triangle is read.
---@param a moonbow.Tensor
---@return moonbow.Tensor l
function mb_linalg.cholesky(a) end

