-- SPDX-License-Identifier: MIT
--
-- step.lua: training steps of a small GPT-2, clipped spectrally by either method, with AdamW. ctest runs it
-- under valgrind, which reports what is read before it was written, out of place or lost. The sizes are
-- large enough for the product library and odd, so that every kernel has a rest to deal with.

local mb = require "moonbow"

local vocab_size, block_size, rows = 131, 17, 3

-- Token ids (rows, block_size).
local function ids(offset)
  local all = {}
  for b = 1, rows do
    all[b] = {}
    for i = 1, block_size do all[b][i] = (b * 31 + i * 7 + offset) % vocab_size end
  end
  return all
end

mb.device(os.getenv "MB_TEST_DEVICE" or "cpu")
mb.seed(1)
local model = mb.models.gpt2 { vocab_size = vocab_size, block_size = block_size, n_layer = 2, n_head = 3, n_embd = 45,
  dropout = 0.1, seed = 1 }
local optimizer = mb.optim.adamw(model, { lr = 1e-3 })
local batch = { inputs = ids(0), targets = ids(7) }

for _, method in ipairs { "randomized", "exact" } do
  local clip = mb.clip.spectral { threshold = 0.01, method = method }
  optimizer:zero_grad()
  local loss = model:backward(batch):item()
  local clipped = 0
  for _, entry in ipairs(clip(model)) do clipped = clipped + (entry.clipped and 1 or 0) end
  optimizer:step()
  -- A model that knows nothing: ln(vocab_size).
  assert(math.abs(loss - math.log(vocab_size)) < 0.2, loss)
  assert(clipped > 0, "nothing was clipped with method " .. method)
end
