-- SPDX-License-Identifier: MIT
--
-- train.lua: how fast a training step is, against what the machine can do and against a peer.
--   luajit scripts/bench/train.lua                         GPT-2 124M, batch 4 x 64, float32, AdamW
--   luajit scripts/bench/train.lua --peer python3          and PyTorch beside it, in turn
-- A round runs one process of each; medians over all timed steps are printed, and their ratio. The share of
-- the peak is against this machine's own matrix products, measured in the same run.

local here = (arg[0] or ""):match("^(.*)/[^/]*$") or "."
package.path = ("%s/../../lua/?.lua;%s/../../lua/?/init.lua;%s/../../?.lua;"):format(here, here, here) .. package.path

local cli = require "moonbow.cli"
local cjson = require "cjson"
local format = require "moonbow.report.format"
local peers = require "scripts.bench.peer"

local options = {
  { "vocab_size", 50257, "", kind = "integer", min = 1 },
  { "block_size", 64, "tokens of context in a batch", kind = "integer", min = 1 },
  { "positions", 1024, "rows of the position embedding", kind = "integer", min = 1 },
  { "n_layer", 12, "", kind = "integer", min = 1 },
  { "n_head", 12, "", kind = "integer", min = 1 },
  { "n_embd", 768, "", kind = "integer", min = 1 },
  { "batch_size", 4, "", kind = "integer", min = 1 },
  { "clip", "none", "clipping in the step", choices = { "none", "norm", "spectral" } },
  { "device", "cpu", "", choices = { "cpu", "cuda" } },
  { "dtype", "f32", "what the network computes with", choices = { "f32", "bf16" } },
  { "steps", 4, "timed steps a round", kind = "integer", min = 1 },
  { "warmup", 2, "steps before them", kind = "integer", min = 0 },
  { "rounds", 3, "rounds", kind = "integer", min = 1 },
  { "threads", 2, "", kind = "integer", min = 1 },
  { "peer", nil, "a Python with PyTorch, e.g. python3", kind = "string", value = "COMMAND" },
  { "peer_device", nil, "where it computes [--device]", choices = { "cpu", "cuda" } },
  { "compile", false, "torch.compile for the peer" },
  { "record", nil, "a file for the figures as JSON", kind = "string", value = "FILE" },
  { "quick", false, "small products for the peak: whether it works, not how fast" },
  { "one", false, "only run the steps and print one JSON line (a round's process)" },
}
local shape_options = {
  "vocab_size", "block_size", "positions", "n_layer", "n_head", "n_embd", "batch_size", "steps", "warmup", "threads",
}

local function median(values)
  table.sort(values)
  local n = #values
  return n % 2 == 1 and values[(n + 1) / 2] or 0.5 * (values[n / 2] + values[n / 2 + 1])
end

-- The process of one round: its own start-up, warm-up and steps.
local function run_steps(s)
  local launched = os.time()
  local mb = require "moonbow"
  local begin = mb.time()
  mb.threads(s.threads)
  mb.device(s.device)
  mb.seed(1)
  local model = mb.models.gpt2 { vocab_size = s.vocab_size, block_size = s.positions, n_layer = s.n_layer, n_head = s.n_head,
    n_embd = s.n_embd, dropout = 0, dtype = s.dtype }
  local optimizer = mb.optim.adamw(model, { lr = 3e-4, betas = { 0.9, 0.95 }, eps = 1e-8, weight_decay = 0.1 })
  local clip = s.clip == "norm" and mb.clip.norm { max_norm = 1 } or s.clip == "spectral"
    and mb.clip.spectral { threshold = mb.threshold.ema { beta = 0.9 } } or nil
  local ids, ids_next = {}, {}
  for b = 1, s.batch_size do
    ids[b], ids_next[b] = {}, {}
    for t = 1, s.block_size do
      ids[b][t] = (b * 7919 + t * 104729) % s.vocab_size
      ids_next[b][t] = (b * 7919 + (t + 1) * 104729) % s.vocab_size
    end
  end
  local batch = { inputs = mb.tensor(ids, { dtype = "i32" }), targets = mb.tensor(ids_next, { dtype = "i32" }) }
  local ready = mb.time() - begin
  local seconds, value = {}, nil
  for i = 1, s.warmup + s.steps do
    local start = mb.time()
    optimizer:zero_grad()
    local loss = model:loss(batch)
    loss:backward()
    if clip then clip(model) end
    optimizer:step()
    value = loss:item()
    if i > s.warmup then seconds[#seconds + 1] = mb.time() - start end
  end
  print(cjson.encode { what = "moonbow " .. mb.version, seconds = seconds, loss = value, ready = ready, launched = launched,
    peak_bytes = s.device == "cpu" and mb.system.peak_rss() or mb.memory().bytes_peak, build = mb.build_info() })
end

-- The FLOPs of a step by llm.c's count: 6 N + 6 L C T per token, N without the position embedding.
local function flops_of(s)
  local c = s.n_embd
  local n = s.vocab_size * c + s.n_layer * (12 * c * c + 13 * c) + 2 * c
  return s.batch_size * s.block_size * (6 * n + 6 * s.n_layer * c * s.block_size)
end

cli.main("bench/train", function()
  local given = cli.parse(options, arg)
  if given.help then
    print(cli.help("Times a training step of GPT-2.", options))
    return 0
  end
  local s = cli.settings(options, given)
  if s.one then return run_steps(s) end

  local shape = {}
  for _, name in ipairs(shape_options) do shape[#shape + 1] = ("--%s %d"):format(name, s[name]) end
  shape[#shape + 1] = "--dtype " .. s.dtype
  shape = table.concat(shape, " ")
  local own = ("luajit %s --one --clip %s --device %s %s"):format(peers.quoted(arg[0]), s.clip, s.device, shape)
  local peer = s.peer and ("%s %s/peers/train_gpt2.py --device %s %s%s"):format(s.peer, peers.quoted(here),
    s.peer_device or s.device, shape, s.compile and " --compile" or "")
  local sides = { { name = "moonbow", command = own, seconds = {} } }
  if peer then sides[2] = { name = "peer", command = peer, seconds = {} } end
  local peaks = {}
  for _ = 1, s.rounds do
    for _, side in ipairs(sides) do
      side.last = peers.ask(side.command)
      for _, t in ipairs(side.last.seconds) do side.seconds[#side.seconds + 1] = t end
      side.peak_bytes = math.max(side.peak_bytes or 0, side.last.peak_bytes)
    end
    for _, library in ipairs { "onednn", "openblas" } do
      local r = peers.ask(("MOONBOW_BLAS=%s luajit %s/gemm.lua --json --quick --threads %d --device %s --dtype %s%s"):format(
        library, peers.quoted(here), s.threads, s.device, s.dtype, s.quick and " --scale 0.02" or ""))
      peaks[library] = math.max(peaks[library] or 0, r.best)
    end
  end

  local flops, tokens = flops_of(s), s.batch_size * s.block_size
  local best = math.max(peaks.onednn, peaks.openblas)
  print(sides[1].last.build)
  if s.device == "cuda" then print(("matrix products  %.0f GFLOP/s in %s"):format(best / 1e9, s.dtype))
  else print(("matrix products  oneDNN %.0f GFLOP/s, OpenBLAS %.0f GFLOP/s"):format(peaks.onednn / 1e9, peaks.openblas / 1e9)) end
  print(("one step         %.1f GFLOP, %d tokens; at the better rate %.3f s"):format(flops / 1e9, tokens, flops / best))
  local rows = { { "", "s/step", "tokens/s", "GFLOP/s", "of peak", "memory" } }
  for _, side in ipairs(sides) do
    side.median = median(side.seconds)
    local rate = flops / side.median
    rows[#rows + 1] = { side.last.what, ("%.3f"):format(side.median), ("%.0f"):format(tokens / side.median),
      ("%.0f"):format(rate / 1e9), ("%.0f %%"):format(100 * rate / best), format.bytes(side.peak_bytes) }
  end
  print(format.columns(rows, { [2] = true, [3] = true, [4] = true, [5] = true, [6] = true }))
  print(("first step starts %.2f s after the library is loaded"):format(sides[1].last.ready))
  if s.record then
    local entries = {}
    for i, side in ipairs(sides) do
      entries[i] = { what = side.last.what, seconds = side.median, tokens_per_second = tokens / side.median,
        flops_per_second = flops / side.median, peak_bytes = side.peak_bytes, loss = side.last.loss, steps = #side.seconds }
    end
    peers.record(s.record, { device = s.device, peer_device = peer and (s.peer_device or s.device), dtype = s.dtype,
      batch_size = s.batch_size, block_size = s.block_size, n_layer = s.n_layer, n_embd = s.n_embd, vocab_size = s.vocab_size,
      product_rate = best, flops = flops, sides = entries, build = sides[1].last.build })
  end
  print(("speed            %.0f tokens/s%s"):format(tokens / sides[1].median, peer
    and (", %.2f times as fast as %s"):format(sides[2].median / sides[1].median, sides[2].last.what) or ""))
  return 0
end)
