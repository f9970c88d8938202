-- SPDX-License-Identifier: MIT
--
-- gemm.lua: the rate of matrix products, the ceiling of a training step. MOONBOW_BLAS=onednn|openblas
-- chooses the library; without it the engine's own rule does.
--   luajit scripts/bench/gemm.lua
--   luajit scripts/bench/gemm.lua --device cuda --dtype bf16 --peer python3     and PyTorch beside it, in turn
-- A product is timed from one synchronisation to the next; the best of all repetitions counts.

local here = (arg[0] or ""):match("^(.*)/[^/]*$") or "."
package.path = ("%s/../../lua/?.lua;%s/../../lua/?/init.lua;%s/../../?.lua;"):format(here, here, here) .. package.path

local cli = require "moonbow.cli"
local cjson = require "cjson"
local format = require "moonbow.report.format"
local peers = require "scripts.bench.peer"

local options = {
  { "device", "cpu", "", choices = { "cpu", "cuda" } },
  { "dtype", "f32", "", choices = { "f32", "f64", "bf16" } },
  { "threads", nil, "threads [all cores]", kind = "integer", min = 1 },
  { "rounds", 7, "repetitions; the best counts", kind = "integer", min = 1 },
  { "quick", false, "one shape only" },
  { "scale", 1, "of all sizes: less than 1 shows whether it works, not how fast", min = 0, max = 1 },
  { "json", false, "one JSON line" },
  { "peer", nil, "a Python with PyTorch, e.g. python3", kind = "string", value = "COMMAND" },
  { "peer_device", nil, "where it computes [--device]", choices = { "cpu", "cuda" } },
  { "record", nil, "a file for the figures as JSON", kind = "string", value = "FILE" },
}

-- m, n, k, transpose a, transpose b: forward, input gradient and weight gradient of GPT-2's layers.
local shapes = {
  { 1024, 3072, 768, false, true }, { 256, 2304, 768, false, true }, { 256, 768, 3072, false, true },
  { 256, 50257, 768, false, true }, { 256, 768, 2304, false, false }, { 256, 768, 50257, false, false },
  { 2304, 768, 256, true, false }, { 50257, 768, 256, true, false }, { 768, 128, 512, false, true },
}

-- On a GPU: one that fills it, and the layers of GPT-2 124M at 64 x 1024 tokens.
local large = {
  { 8192, 8192, 8192, false, true }, { 65536, 2304, 768, false, true }, { 65536, 768, 768, false, true },
  { 65536, 3072, 768, false, true }, { 65536, 768, 3072, false, true }, { 65536, 50257, 768, false, true },
  { 65536, 768, 3072, false, false }, { 768, 3072, 65536, true, false }, { 3072, 768, 65536, true, false },
}

-- The best time of each of our products, in seconds.
local function our_times(mb, s, list, times)
  for i, shape in ipairs(list) do
    local m, n, k, ta, tb = unpack(shape)
    mb.scope(function()
      local a = mb.randn(ta and { k, m } or { m, k }):to(s.dtype)
      local b = mb.randn(tb and { n, k } or { k, n }):to(s.dtype)
      for _ = 1, s.rounds + 1 do
        mb.scope(function()
          mb.synchronize()
          local start = mb.time()
          a:matmul(b, { transpose_a = ta, transpose_b = tb })
          mb.synchronize()
          times[i] = math.min(times[i] or math.huge, mb.time() - start)
        end)
      end
    end)
  end
end

local function their_times(s, list, times)
  local request = cjson.encode { shapes = list, device = s.peer_device or s.device, dtype = s.dtype, rounds = s.rounds,
    threads = s.threads }
  local answer = peers.ask(("%s %s/peers/gemm.py %s"):format(s.peer, peers.quoted(here), peers.quoted(request)))
  for i, seconds in ipairs(answer.seconds) do times[i] = math.min(times[i] or math.huge, seconds) end
  return answer.what
end

cli.main("bench/gemm", function()
  local given = cli.parse(options, arg)
  if given.help then
    print(cli.help("Times matrix products.", options))
    return 0
  end
  local s = cli.settings(options, given)
  local mb = require "moonbow"
  if s.threads then mb.threads(s.threads) end
  mb.device(s.device)
  local list, ours, theirs, what = {}, {}, {}, nil
  for i, shape in ipairs(s.device == "cuda" and large or shapes) do
    if i > 1 and s.quick then break end
    list[i] = { shape[1], shape[2], shape[3], shape[4], shape[5] }
    for d = 1, 3 do list[i][d] = math.max(1, math.floor(s.scale * shape[d])) end
  end
  for _ = 1, s.peer and 2 or 1 do
    our_times(mb, s, list, ours)
    what = s.peer and their_times(s, list, theirs) or nil
  end
  local rows, best, entries = { { "m", "n", "k", "a", "b", "GFLOP/s", what, what and "ratio" } }, 0, {}
  for i, shape in ipairs(list) do
    local m, n, k, ta, tb = unpack(shape)
    local rate = 2 * m * n * k / ours[i]
    best = math.max(best, rate)
    rows[i + 1] = { tostring(m), tostring(n), tostring(k), ta and "T" or "N", tb and "T" or "N", ("%.0f"):format(rate / 1e9),
      what and ("%.0f"):format(2e-9 * m * n * k / theirs[i]), what and ("%.2f"):format(theirs[i] / ours[i]) }
    entries[i] = { m = m, n = n, k = k, transpose_a = ta, transpose_b = tb, seconds = ours[i], peer_seconds = theirs[i] }
  end
  if s.record then
    peers.record(s.record, { device = s.device, dtype = s.dtype, best = best, peer = what, peer_device = what
      and (s.peer_device or s.device), products = entries, build = mb.build_info() })
  end
  if s.json then
    print(cjson.encode { best = best, build = mb.build_info() })
  else
    print(mb.build_info())
    print(format.columns(rows, { true, true, true, [6] = true, [7] = true, [8] = true }))
    print(("the fastest product: %.0f GFLOP/s in %s"):format(best / 1e9, s.dtype))
  end
  return 0
end)
