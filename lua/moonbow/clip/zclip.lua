-- SPDX-License-Identifier: MIT
--
-- zclip.lua: spikes of the norm of all gradients (ZClip, arXiv 2504.02507); threshold/zscore.lua says how.
--
--   mb.clip.zclip { z = 2.5, alpha = 0.97, warmup = 25, on = "grad" }

local named = require "moonbow.clip.named"

---@class moonbow.ZclipOptions: moonbow.ZscoreOptions
---@field on? "grad"|"momentum"|"update" what is clipped; default "grad"

--- Clips spikes of the norm of all gradients (ZClip, arXiv 2504.02507); threshold/zscore.lua says how.
---@param given? moonbow.ZclipOptions
---@return moonbow.NormClip
return named.of("zscore", "global", "zclip")
