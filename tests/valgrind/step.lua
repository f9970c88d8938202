-- SPDX-License-Identifier: MIT
--
-- step.lua: training steps of a small GPT-2, clipped spectrally by every method, with AdamW. ctest runs it
-- under valgrind, which reports what is read before it was written, out of place or lost; gpu_check.sh under
-- compute-sanitizer. The sizes are large enough for the product library and odd, so that every kernel has a rest to
-- deal with. A GPU also takes heads of 32 over more than a tile of positions, in both precisions.

local mb = require "moonbow"

local device = os.getenv "MB_TEST_DEVICE" or "cpu"
local vocab_size, rows = 131, 3

-- Token ids (rows, block_size).
local function ids(block_size, offset)
  local all = {}
  for b = 1, rows do
    all[b] = {}
    for i = 1, block_size do all[b][i] = (b * 31 + i * 7 + offset) % vocab_size end
  end
  return all
end

-- A model's steps, one for each method of clipping its gradients.
local function steps(config, methods)
  local model = mb.models.gpt2 { vocab_size = vocab_size, block_size = config.block_size, n_layer = 2, n_head = config.n_head,
    n_embd = config.n_embd, dropout = 0.1, seed = 1, dtype = config.dtype }
  local optimizer = mb.optim.adamw(model, { lr = 1e-3 })
  local batch = { inputs = ids(config.block_size, 0), targets = ids(config.block_size, 7) }
  for i, method in ipairs(methods) do
    local clip = mb.clip.spectral { threshold = 0.01, method = method }
    optimizer:zero_grad()
    local loss = model:backward(batch):item()
    local clipped = 0
    for _, entry in ipairs(clip(model)) do clipped = clipped + (entry.clipped and 1 or 0) end
    optimizer:step()
    -- A model that knows nothing, ln(vocab_size), and learns the one batch.
    assert(loss < math.log(vocab_size) + 0.2 and loss > math.log(vocab_size) - 0.2 * i, loss)
    assert(clipped > 0, "nothing was clipped with method " .. method)
  end
end

mb.device(device)
mb.seed(1)
steps({ block_size = 17, n_head = 3, n_embd = 45, dtype = "f32" }, { "randomized", "exact" })
if device ~= "cpu" then
  for _, dtype in ipairs { "f32", "bf16" } do
    steps({ block_size = 70, n_head = 2, n_embd = 64, dtype = dtype }, { "randomized", "exact", "polar", "soft" })
  end
end
