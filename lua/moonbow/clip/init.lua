-- SPDX-License-Identifier: MIT
--
-- mb.clip: rules that change the gradients of a model before the optimizer sees them.
--
--   local clip = mb.clip.spectral { threshold = mb.threshold.ema { beta = 0.9 } }
--   local report = clip(model)
--
-- Every clipper is called with a model, changes its gradients in place and returns a report; has
-- describe(p), what it does to a parameter, or nil; and state_dict() and load_state_dict(s) for checkpoints.

local options = require "moonbow.options"

return setmetatable({
  norm = require "moonbow.clip.norm",
  spectral = require "moonbow.clip.spectral",
  matrix = require "moonbow.clip.matrix",
}, { __index = function(t, key)
  options.fail("mb.clip has no '%s'%s", tostring(key), options.suggest(key, options.keys(t)))
end })
