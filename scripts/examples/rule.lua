-- SPDX-License-Identifier: MIT
--
-- rule.lua: a clipping rule of your own in three lines: singular values above tau are not cut off, they grow on with
-- their logarithm. A rule gets a singular value and tau and returns what the value shall be; the engine puts it there.
--   luajit scripts/examples/rule.lua

local here = (arg[0] or ""):match("^(.*)/[^/]*$") or "."
package.path = ("%s/../../lua/?.lua;%s/../../lua/?/init.lua;%s/../../?.lua;"):format(here, here, here)
  .. package.path
local mb = require "moonbow"

local function log_tail(sigma, tau)
  return sigma <= tau and sigma or tau * (1 + math.log(sigma / tau))
end

-- One matrix first: what becomes of known singular values.
local g = mb.tensor { { 8, 0, 0, 0 }, { 0, 4, 0, 0 }, { 0, 0, 1, 0 }, { 0, 0, 0, 0.5 } }
local soft = mb.clip.matrix(g, { threshold = 1, method = "exact", rule = log_tail })
print("sigma   hard   log_tail")
for i = 1, 4 do
  local sigma = g:totable()[i][i]
  print(("%5.2f %6.2f %10.4f"):format(sigma, math.min(sigma, 1), soft:totable()[i][i]))
end

-- Then a model.
mb.seed(1)
local model = mb.models.gpt2 { vocab_size = 17, block_size = 16, n_layer = 2, n_head = 2, n_embd = 32 }
local clip = mb.clip.spectral { threshold = 0.1, rule = log_tail }
local opt = mb.optim.adamw(model, { lr = 3e-3 })

local function batch() -- counting upwards from somewhere, modulo 17
  local x, y = {}, {}
  for b = 1, 8 do
    x[b], y[b] = {}, {}
    local first = math.random(0, 16)
    for t = 1, 16 do x[b][t], y[b][t] = (first + t) % 17, (first + t + 1) % 17 end
  end
  return { inputs = x, targets = y }
end

print "step    loss   changed   of"
for step = 1, 40 do
  opt:zero_grad()
  local loss = model:loss(batch())
  loss:backward()
  local report, changed = clip(model), 0
  opt:step()
  for _, row in ipairs(report) do changed = changed + (row.clipped and 1 or 0) end
  if step % 5 == 0 then print(("%4d %7.3f %9d %4d"):format(step, loss:item(), changed, #report)) end
end
