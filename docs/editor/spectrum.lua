---@meta _
-- SPDX-License-Identifier: MIT
--
-- spectrum.lua: for editors, no program loads it; written by scripts/docs/api.lua from the comments of the sources.

---@class moonbow
local mb = {}

--- What the singular values of gradients, weights or any tensors look like, one row a matrix.
---@param x moonbow.Model|moonbow.Tensor|table<string, moonbow.Tensor>
---@param given? moonbow.SpectrumOptions
---@return moonbow.SpectrumRow[] rows with title and k; prints as a table
function mb.spectrum(x, given) end

