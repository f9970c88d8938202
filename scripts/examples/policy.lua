-- SPDX-License-Identifier: MIT
--
-- policy.lua: a threshold of your own in ten lines: a peak that learns slowly, so that a spike neither passes nor
-- raises the bar. A policy gets { name, shape, step, sigma, state } and returns tau, or nil to leave the matrix
-- alone; p.state is saved in checkpoints.
--   luajit scripts/examples/policy.lua

local here = (arg[0] or ""):match("^(.*)/[^/]*$") or "."
package.path = ("%s/../../lua/?.lua;%s/../../lua/?/init.lua;%s/../../?.lua;"):format(here, here, here)
  .. package.path
local mb = require "moonbow"

local function slow_peak(p)
  local s = p.state
  s.peak = s.peak or p.sigma
  if p.sigma <= s.peak then
    s.peak = 0.95 * s.peak + 0.05 * p.sigma
  else
    s.peak = 1.02 * s.peak
  end
  return s.peak
end

mb.seed(1)
local model = mb.models.mlp { n_input = 20, n_hidden = 32, n_layer = 2, n_output = 4 }
local clip = mb.clip.spectral { threshold = slow_peak, method = "exact" }
local opt = mb.optim.sgd(model, { lr = 0.1, momentum = 0.9 })

-- The class of a sample is the largest of its first four numbers; every tenth batch comes 50 times too large.
print("step    loss   clipped   layers.0.weight: sigma     tau")
for step = 1, 60 do
  local x = mb.randn { 64, 20 }
  local batch = { inputs = step % 10 == 0 and 50 * x or x, targets = x:slice(2, 1, 4):argmax(2) }
  opt:zero_grad()
  local loss = model:loss(batch)
  loss:backward()
  local report, clipped = clip(model), 0
  opt:step()
  for _, row in ipairs(report) do clipped = clipped + (row.clipped and 1 or 0) end
  if step % 5 == 0 then
    local first = report[1]
    print(("%4d %7.3f %4d of %d %25.4f %7.4f"):format(step, loss:item(), clipped, #report, first.sigma, first.tau))
  end
end
