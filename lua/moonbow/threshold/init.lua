-- SPDX-License-Identifier: MIT
--
-- mb.threshold: policies that decide, matrix by matrix and step by step, how large a singular value may be.
--
--   local th = mb.threshold.ema { beta = 0.9 }
--   local tau = th { name = "w", shape = { 4, 4 }, step = 0, sigma = 2.5, state = {} }
--
--   const { tau }                   always the same; what a plain number means
--   ema { beta }                    moving average of the past values
--   quantile { q, window }          quantile of the last values
--   zscore { z, alpha, warmup }     ZClip: spikes above the moving average
--   autoclip { p, window }          AutoClip: percentile of all values so far
--   adagc { factor, beta, warmup }  AdaGC: a little more than the moving average of what was left after clipping
--
-- The last three were defined on norms: mb.clip.norm { threshold = mb.threshold.zscore() }; any
-- policy goes with any clipper. A policy is called with the largest singular value of the unclipped matrix (or the
-- norm) and returns tau, or nil for "leave alone". What it remembers is in `state`, a table of plain values that
-- belongs to that matrix and is saved in checkpoints; without one, the policy keeps a state by name itself. step
-- counts calls from 0. A sigma that is NaN never enters a memory.

local folder = require "moonbow.folder"

return folder.table_of("mb.threshold", "moonbow.threshold", function(value) return type(value) == "function" end)
