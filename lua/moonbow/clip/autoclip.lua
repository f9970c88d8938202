-- SPDX-License-Identifier: MIT
--
-- autoclip.lua: the norm of all gradients held to a percentile of its past (AutoClip); threshold/autoclip.lua says how.
--
--   mb.clip.autoclip { p = 10, window = math.huge, on = "grad" }

local named = require "moonbow.clip.named"

return named.of("autoclip", "global")
