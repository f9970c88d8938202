-- SPDX-License-Identifier: MIT
--
-- mb.clip: rules that change the gradients of a model before the optimizer sees them, or what it makes of them.
--
--   local clip = mb.clip.spectral { threshold = mb.threshold.ema { beta = 0.9 } }
--   local report = clip(model)                            -- and then opt:step()
--   local report = opt:step(clip)                         -- both; the only way for on = "momentum" and "update"
--
-- Every clipper is called with a model, changes its gradients in place and returns a report; has
-- describe(p), what it does to a parameter, or nil; and state_dict() and load_state_dict(s) for checkpoints.
--
--   on = "grad"       the gradient
--        "momentum"   the optimizer's momentum: the step is taken along the clipped one, what is kept stays as it is
--                     (MuCon, arXiv 2605.26459, for Muon's; here for every optimizer that names its momentum)
--        "update"     U = (w - w+) / lr - decay w, w+ = w - lr (clip(U) + decay w), decay being decoupled weight decay
--                     (SPECTRA, arXiv 2603.14315). With lr = 0, U is what lr = 1 would make it
--
-- For the latter two a clipper has the field `on` and `who`, parameters(model), which ones it takes, and
-- change(source) -> report, changed: source.lua says what a source is, changed[p.index] which were changed.

local folder = require "moonbow.folder"

return folder.table_of("mb.clip", "moonbow.clip", function(value)
  return type(value) == "function" or type(value) == "table" and value.new and getmetatable(value) and getmetatable(value).__call
end)
