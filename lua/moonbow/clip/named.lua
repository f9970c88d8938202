-- SPDX-License-Identifier: MIT
--
-- named.lua: clipping by the norm with a threshold that is known by a name of its own: mb.clip.zclip { z = 3 } is
-- mb.clip.norm { threshold = mb.threshold.zscore { z = 3 } }.

local norm = require "moonbow.clip.norm"
local options = require "moonbow.options"

local M = {}

---@param threshold string a name of mb.threshold
---@param scope "global"|"matrix"
---@param name? string of the clipper, where it is another
---@return fun(given?: table): moonbow.NormClip takes the threshold's options, and `on`
function M.of(threshold, scope, name)
  local who = "mb.clip." .. (name or threshold)
  return function(given)
    options.value(who, "the options", given or {}, { type = "table" })
    local own, on = {}, nil
    for key, value in pairs(given or {}) do
      if key == "on" then on = value else own[key] = value end
    end
    return norm { threshold = require("moonbow.threshold")[threshold](own), scope = scope, on = on }
  end
end

return M
