-- SPDX-License-Identifier: MIT
--
-- autoclip.lua: the norm of all gradients held to a percentile of its past (AutoClip); threshold/autoclip.lua says how.
--
--   mb.clip.autoclip { p = 10, window = math.huge, on = "grad" }

local named = require "moonbow.clip.named"

---@class moonbow.AutoclipClipOptions: moonbow.AutoclipOptions
---@field on? "grad"|"momentum"|"update" what is clipped; default "grad"

--- Holds the norm of all gradients to a percentile of its past (AutoClip); threshold/autoclip.lua says how.
---@param given? moonbow.AutoclipClipOptions
---@return moonbow.NormClip
return named.of("autoclip", "global")
