---@meta _
-- SPDX-License-Identifier: MIT
--
-- clip.lua: for editors, no program loads it; written by scripts/docs/api.lua from the comments of the sources.

---@class moonbow.clip
local mb_clip = {}

--- Holds each parameter's gradient to its own past (arXiv 2502.11034); threshold/adagc.lua says how.
---@param given? moonbow.AdagcClipOptions
---@return moonbow.NormClip
function mb_clip.adagc(given) end

--- Holds the norm of all gradients to a percentile of its past (AutoClip); threshold/autoclip.lua says how.
---@param given? moonbow.AutoclipClipOptions
---@return moonbow.NormClip
function mb_clip.autoclip(given) end

--- Clips one tensor into a new one, for looking and trying.
---@param t moonbow.Tensor seen as a matrix of shape[1] rows
---@param given moonbow.MatrixClipOptions
---@return moonbow.Tensor clipped
---@return table info
function mb_clip.matrix(t, given) end

--- Clipping by the Euclidean norm.
---@param given moonbow.NormClipOptions
---@return moonbow.NormClip
function mb_clip.norm(given) end

--- Clipping of singular values.
---@param given moonbow.SpectralClipOptions
---@return moonbow.SpectralClip
function mb_clip.spectral(given) end

--- Clips spikes of the norm of all gradients (ZClip, arXiv 2504.02507); threshold/zscore.lua says how.
---@param given? moonbow.ZclipOptions
---@return moonbow.NormClip
function mb_clip.zclip(given) end

---@class moonbow.threshold
local mb_threshold = {}

--- AdaGC (Wang et al., arXiv 2502.11034, algorithm 1): each gradient is held to a little more than the moving
--- average of what it was before, after clipping.
---@param given? moonbow.AdagcOptions
---@return moonbow.Threshold
function mb_threshold.adagc(given) end

--- AutoClip (Seetharaman, Wichern, Pardo, Le Roux, MLSP 2020, arXiv 2007.14469): the p-th percentile
--- of the whole history, the present sample among it, so that the first step clips nothing.
---@param given? moonbow.AutoclipOptions
---@return moonbow.Threshold
function mb_threshold.autoclip(given) end

--- Always the same threshold. mb.threshold.const { tau = 1.0 } is what a plain number means.
---@param given moonbow.ConstOptions
---@return moonbow.Threshold
function mb_threshold.const(given) end

--- The bias-corrected moving average of past largest singular values (arXiv 2605.11838, eq. 8).
---@param given? moonbow.EmaOptions
---@return moonbow.Threshold
function mb_threshold.ema(given) end

--- A lower quantile of the last largest singular values (arXiv 2605.11838, eqs. 9-10).
---@param given? moonbow.QuantileOptions
---@return moonbow.Threshold
function mb_threshold.quantile(given) end

--- ZClip (Kumar, Owen, Roy Chowdhury, Guera, arXiv 2504.02507): a sample that lies more than `z` standard
--- deviations above the moving average is a spike, and is clipped.
---@param given? moonbow.ZscoreOptions
---@return moonbow.Threshold
function mb_threshold.zscore(given) end

