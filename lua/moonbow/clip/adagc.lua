-- SPDX-License-Identifier: MIT
--
-- adagc.lua: each parameter's gradient held to its own past (arXiv 2502.11034); threshold/adagc.lua says how.
--
--   mb.clip.adagc { factor = 1.05, beta = 0.98, warmup = 100, max_norm = 1.0, on = "grad" }

local named = require "moonbow.clip.named"

---@class moonbow.AdagcClipOptions: moonbow.AdagcOptions
---@field on? "grad"|"momentum"|"update" what is clipped; default "grad"

--- Holds each parameter's gradient to its own past (arXiv 2502.11034); threshold/adagc.lua says how.
---@param given? moonbow.AdagcClipOptions
---@return moonbow.NormClip
return named.of("adagc", "matrix")
