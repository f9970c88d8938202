-- SPDX-License-Identifier: MIT
--
-- roofline.lua: what a GPU would need for the work of bench/gpu.lua, kernel by kernel, without a GPU: the calls are those that
-- the engine makes, recorded on the tests' stand-in in full size (it goes through a step and does none of its work), and
--   time of a row = max(bytes / bandwidth, operations / rate) / efficiency + launches x launch
-- with a machine's rates as options and an efficiency for each kind of kernel, in the table below. These are predictions.
--   luajit scripts/bench/roofline.lua                      training, clipping, Muon, AdamW, the small model, on one H200
--   luajit scripts/bench/roofline.lua --part train --attention own --rows 60
--   luajit scripts/bench/roofline.lua --bandwidth 3.0e12 --bf16 6e14 --f32 4.5e13 --peak 9.894e14       an H100

local here = (arg[0] or ""):match("^(.*)/[^/]*$") or "."
package.path = ("%s/../../lua/?.lua;%s/../../lua/?/init.lua;%s/../../?.lua;"):format(here, here, here) .. package.path

local cli = require "moonbow.cli"
local format = require "moonbow.report.format"
local peers = require "scripts.bench.peer"

local options = {
  { "part", "train,small,clip,muon,adamw", "what to predict", kind = "string", value = "NAMES" },
  { "bandwidth", 4.2e12, "bytes/s that a copy moves, reads and writes counted", min = 1 },
  { "bf16", 7.9e14, "FLOP/s of a large bf16 product", min = 1 },
  { "f32", 5e13, "FLOP/s of a large float32 product", min = 1 },
  { "sketch", 7e13, "FLOP/s of float32 products with more than 16 vectors, by six of bf16 in tensor cores", min = 1 },
  { "f64", 3e13, "FLOP/s of a large float64 product", min = 1 },
  { "launch", 1.5e-6, "seconds between the kernels of a CUDA graph", min = 0 },
  { "host", 4e-6, "seconds in which the host starts a kernel: the floor without a graph", min = 0 },
  { "sms", 132, "multiprocessors", kind = "integer", min = 1 },
  { "peak", 9.894e14, "FLOP/s that the share of the peak (MFU) is of", min = 1 },
  { "attention", "cudnn", "whose attention", choices = { "cudnn", "own" } },
  { "dtype", "bf16", "what the networks compute with", choices = { "bf16", "f32" } },
  { "head_chunks", 1, "of the training step's head", kind = "integer", min = 1 },
  { "keep", false, "the training step keeps its GELUs, where bf16 would compute them again" },
  { "rows", 24, "rows of a table", kind = "integer", min = 1 },
  { "plugin", nil, "the stand-in [build/tests/libmoonbow_cuda_host.so, or MOONBOW_CUDA_PLUGIN]", kind = "string",
    value = "FILE" },
  { "markdown", false, "the tables of docs/performance.md: a line a part, and training by kernel" },
  { "quick", false, "tiny sizes: whether it works" },
  { "record", nil, "a file for the figures as JSON", kind = "string", value = "FILE" },
  { "one", nil, "used by the script itself: one part in this process", kind = "string", value = "PART" },
}

-- Shares of the rates above that a kind of kernel is believed to reach.
local efficiency = {
  gemm = 0.88,     -- large products by the library; times the share of waves that 128 x 256 tiles fill, and k / (k + 128)
  gemm_few = 0.75, -- instead of the waves' share where the result has fewer tiles than there are SMs, so that k is split
  gemm_apart = 0.3, -- times this where rows do not begin on 16 bytes
  gemm_gelu = 0.95, -- times this where the product's kernel makes GELU or multiplies by its slope
  attention = { cudnn = 0.40, own = 0.28 },          -- heads of 64: cuDNN's published 310 TFLOP/s
  attention_backward = { cudnn = 0.33, own = 0.18 }, -- and 260
  elementwise = 0.90, -- unary, binary, axpby, convert, copies, fills, fused programs
  rows = 0.80,        -- norms, softmax, the loss: a read, a reduction, a write
  backward = 0.70,    -- of rows: sums over rows beside sums over columns
  scatter = 0.40,     -- embeddings
  sketch = 0.60,      -- thin products with G, many small blocks
  small = 0.10,       -- one block a matrix: latency
}

local function kind_of(row)
  local name = row.name
  if name:find "^gemm" then return "gemm" end
  if name:find "^attention" then return name end
  for _, small in ipairs { "sketch_basis", "sketch_ritz", "gram_factor", "policy" } do
    if name:find("^" .. small) then return "small" end
  end
  if name:find "^sketch" or name:find "^gram" then return "sketch" end
  if name:find "^embedding" then return "scatter" end
  if name:find "norm_backward" or name == "softmax_backward" then return "backward" end
  if name:find "norm" or name:find "softmax" or name:find "^cross" or name == "reduce" or name:find "^sum" then return "rows" end
  return "elementwise"
end

local function efficiency_of(row, s)
  local kind = kind_of(row)
  if kind == "gemm" then
    local m, n, k = row.shape:match "m (%d+), n (%d+), k (%d+)"
    local batch = tonumber(row.shape:match "batch (%d+)" or 1)
    local tiles = batch * math.ceil(m / 128) * math.ceil(n / 256)
    local waves = tiles / s.sms
    local share = efficiency.gemm * (waves < 1 and efficiency.gemm_few or waves / math.ceil(waves)) * k / (k + 128)
    share = share * (row.shape:find "gelu" and efficiency.gemm_gelu or 1)
    return share * (row.shape:find "apart" and efficiency.gemm_apart or 1), kind
  end
  local share = efficiency[kind]
  return type(share) == "table" and share[s.attention] or share, kind
end

-- ----- in the process that records ------------------------------------------------------------------------------

local function record(s)
  local mb = require "moonbow"
  local work = require "scripts.bench.gpu.work"
  mb.device "cuda"
  local sizes = (s.quick and work.tiny or work.sizes)
  local again -- whether GELUs are computed again; nil: as the model has it
  if s.keep then again = false end
  local made = ({
    train = function() return work.train(mb, sizes.train, s.dtype, { head_chunks = s.head_chunks, recompute = again }) end,
    small = function() return work.train(mb, sizes.small, s.dtype) end,
    clip = function() return work.clip(mb, sizes.train, 8, 5, 1) end,
    clip64 = function() return work.clip(mb, sizes.train, 64, 10, 2) end,
    muon = function() return work.optimizer(mb, sizes.train, "muon") end,
    adamw = function() return work.optimizer(mb, sizes.train, "adamw") end,
  })[s.one]
  if not made then cli.fail(2, "--part: there is no '%s': train, small, clip, clip64, muon, adamw", s.one) end
  made = made()
  made.step() -- what the first step makes
  if made.restore then made.restore() end
  made.step()
  if made.restore then made.restore() end
  mb.memory_reset_peak()
  local report = mb.profile(made.step, { ceilings = false }):totable()
  print(require("cjson").encode { rows = report.rows, tokens = made.tokens, flops = made.flops,
    peak_bytes = mb.memory("cuda").bytes_peak })
  return 0
end

-- ----- predicting -----------------------------------------------------------------------------------------------

local function predict(found, s)
  local sum = { seconds = 0, launches = 0, bytes = 0, flops = 0, floor = 0 }
  for _, row in ipairs(found.rows) do
    local share, kind = efficiency_of(row, s)
    local vectors = tonumber(row.name == "sketch_pass" and row.shape:match "q (%d+)" or 0)
    local rate = vectors > 16 and s.sketch or s[row.dtype] or s.f32
    local floor = math.max(row.bytes / s.bandwidth, row.is_product and row.flops / rate or 0)
    row.predicted, row.efficiency, row.kind = floor / share + row.launches * s.launch, share, kind
    sum.seconds, sum.launches = sum.seconds + row.predicted, sum.launches + row.launches
    sum.bytes, sum.flops, sum.floor = sum.bytes + row.bytes, sum.flops + row.flops, sum.floor + floor
    row.floor = floor
  end
  table.sort(found.rows, function(a, b) return a.predicted > b.predicted end)
  return sum
end

local function show(part, found, sum, s)
  local head = { part, "dtype", "shape", "calls", "launches", "GB", "GFLOP", "floor ms", "of rates", "ms", "of all" }
  local rows, rest = { head }, nil
  local function add(row)
    rows[#rows + 1] = { row.name, row.dtype or "", row.shape or "", ("%d"):format(row.calls), ("%d"):format(row.launches),
      ("%.3g"):format(row.bytes / 1e9), ("%.4g"):format(row.flops / 1e9), ("%.3f"):format(1e3 * row.floor),
      row.efficiency and ("%.0f %%"):format(100 * row.efficiency) or "", ("%.3f"):format(1e3 * row.predicted),
      ("%.1f %%"):format(100 * row.predicted / sum.seconds) }
  end
  for i, row in ipairs(found.rows) do
    if i <= s.rows then
      add(row)
    else
      rest = rest or { name = "the rest", calls = 0, launches = 0, bytes = 0, flops = 0, floor = 0, predicted = 0 }
      for _, key in ipairs { "calls", "launches", "bytes", "flops", "floor", "predicted" } do rest[key] = rest[key] + row[key] end
    end
  end
  if rest then add(rest) end
  local right = {}
  for column = 4, 11 do right[column] = true end
  print(format.columns(rows, right))
  local host = sum.launches * s.host
  print(("%s: %.3g ms predicted in a graph, %.3g ms at full rates; %d launches, %.3g ms of the host without a graph"):format(part,
    1e3 * sum.seconds, 1e3 * sum.floor, sum.launches, 1e3 * host))
  if found.tokens then
    print(("  %.0f tokens/s, %.1f steps/s, %.1f %% of %.4g TFLOP/s; without a graph %.0f tokens/s; %s of memory"):format(
      found.tokens / sum.seconds, 1 / sum.seconds, 100 * found.flops / sum.seconds / s.peak, s.peak / 1e12,
      found.tokens / math.max(sum.seconds, host), format.bytes(found.peak_bytes)))
  end
  print()
end

local function by_kind(found, sum)
  local kinds, order = {}, {}
  for _, row in ipairs(found.rows) do
    if not kinds[row.kind] then
      kinds[row.kind] = { seconds = 0, bytes = 0, flops = 0, launches = 0 }
      order[#order + 1] = row.kind
    end
    local k = kinds[row.kind]
    k.seconds, k.bytes, k.flops = k.seconds + row.predicted, k.bytes + row.bytes, k.flops + row.flops
    k.launches = k.launches + row.launches
  end
  table.sort(order, function(a, b) return kinds[a].seconds > kinds[b].seconds end)
  local rows = { { "kind", "launches", "GB", "GFLOP", "ms", "of all" } }
  for _, name in ipairs(order) do
    local k = kinds[name]
    rows[#rows + 1] = { name, ("%d"):format(k.launches), ("%.3g"):format(k.bytes / 1e9), ("%.4g"):format(k.flops / 1e9),
      ("%.2f"):format(1e3 * k.seconds), ("%.1f %%"):format(100 * k.seconds / sum.seconds) }
  end
  print(format.columns(rows, { [2] = true, [3] = true, [4] = true, [5] = true, [6] = true }))
  print()
end

-- ----- for the documents ----------------------------------------------------------------------------------------

local titles = { train = "training step, GPT-2 124M, 64 × 1024", small = "training step, 6 layers of 384, 64 × 256",
  clip = "clipping of the 48 matrices, r = 8, p = 5, 1 iteration", clip64 = "the same, r = 64, p = 10, 2 iterations",
  muon = "step of Muon, AdamW for the rest", adamw = "step of AdamW" }

-- Rows of one kernel, or one kind of product, as one.
local function group_of(row)
  local m, n, k = row.shape:match "m (%d+), n (%d+), k (%d+)"
  if not m then return row.name end
  local sides = { tonumber(m), tonumber(n), tonumber(k) }
  if math.max(unpack(sides)) == math.min(unpack(sides)) then return row.name .. " of squares" end
  local of = "blocks"
  for _, side in ipairs(sides) do
    if side >= 50000 and side < 51000 then of = "head" end
  end
  return ("products, %s: %s"):format(of, sides[3] == 65536 and "gradients of weights" or "forward, gradients of inputs")
    .. (row.shape:find "apart" and ", rows apart" or "")
end

local function markdown(names, all, sums)
  local lines = { "| | launches | GB | GFLOP | at full rates | predicted |", "|---|---|---|---|---|---|" }
  for _, name in ipairs(names) do
    local sum = sums[name]
    lines[#lines + 1] = ("| %s | %d | %.3g | %.4g | %.3g ms | %.3g ms |"):format(titles[name] or name, sum.launches,
      sum.bytes / 1e9, sum.flops / 1e9, 1e3 * sum.floor, 1e3 * sum.seconds)
  end
  lines[#lines + 1] = ""
  for _, part in ipairs(names) do
    if part == "train" then
      local groups, order = {}, {}
      for _, row in ipairs(all.train.rows) do
        local key = group_of(row)
        if not groups[key] then
          groups[key] = { launches = 0, bytes = 0, flops = 0, floor = 0, predicted = 0 }
          order[#order + 1] = key
        end
        for field, value in pairs(groups[key]) do groups[key][field] = value + row[field] end
      end
      table.sort(order, function(a, b) return groups[a].predicted > groups[b].predicted end)
      lines[#lines + 1] = "| a step's | launches | GB | GFLOP | at full rates, ms | predicted, ms |\n|---|---|---|---|---|---|"
      for _, key in ipairs(order) do
        local g = groups[key]
        lines[#lines + 1] = ("| %s | %d | %.3g | %.4g | %.2f | %.2f |"):format(key, g.launches, g.bytes / 1e9, g.flops / 1e9,
          1e3 * g.floor, 1e3 * g.predicted)
      end
    end
  end
  print(table.concat(lines, "\n"))
end

cli.main("bench/roofline", function()
  local given = cli.parse(options, arg)
  if given.help then
    print(cli.help("Predicts times on a GPU from the calls of the engine.", options))
    return 0
  end
  local s = cli.settings(options, given)
  if s.one then return record(s) end
  local plugin = s.plugin or os.getenv "MOONBOW_CUDA_PLUGIN" or here .. "/../../build/tests/libmoonbow_cuda_host.so"
  local file = io.open(plugin, "rb")
  if not file then cli.fail(1, "there is no %s: build the tests, or name the stand-in with --plugin", plugin) end
  file:close()
  if not s.markdown then
    local head = "predictions: %.3g TB/s, products %.4g (bf16), %.3g (f32) TFLOP/s, %.2g us between kernels, attention: %s\n"
    print(head:format(s.bandwidth / 1e12, s.bf16 / 1e12, s.f32 / 1e12, 1e6 * s.launch, s.attention))
  end
  local all, sums, order = {}, {}, {}
  local names = s.part:gsub("%f[%w]clip%f[%W]", "clip,clip64")
  for name in names:gmatch "[^,%s]+" do
    local command = "MOONBOW_CUDA_DRY=1 MOONBOW_CACHE= MOONBOW_CUDA_PLUGIN=%s luajit %s --one %s --dtype %s --head_chunks %d%s%s"
    local found = peers.ask(command:format(peers.quoted(plugin), peers.quoted(arg[0]), peers.quoted(name), s.dtype, s.head_chunks,
      s.keep and " --keep" or "", s.quick and " --quick" or ""))
    local sum = predict(found, s)
    if not s.markdown then
      show(name, found, sum, s)
      by_kind(found, sum)
    end
    sums[name], order[#order + 1] = sum, name
    all[name] = { seconds = sum.seconds, floor = sum.floor, launches = sum.launches, bytes = sum.bytes, flops = sum.flops,
      tokens = found.tokens, peak_bytes = found.peak_bytes, rows = found.rows }
  end
  if s.markdown then markdown(order, all, sums) end
  if s.record then peers.record(s.record, { machine = { bandwidth = s.bandwidth, bf16 = s.bf16, f32 = s.f32, launch = s.launch,
    peak = s.peak }, attention = s.attention, parts = all }) end
  return 0
end)
