-- SPDX-License-Identifier: MIT
--
-- gemm.lua: the rate of matrix products, the ceiling of a training step. MOONBOW_BLAS=onednn|openblas
-- chooses the library; without it the engine's own rule does.
--   luajit scripts/bench/gemm.lua

local here = (arg[0] or ""):match("^(.*)/[^/]*$") or "."
package.path = ("%s/../../lua/?.lua;%s/../../lua/?/init.lua;%s/../../?.lua;"):format(here, here, here) .. package.path

local cli = require "moonbow.cli"
local cjson = require "cjson"
local format = require "moonbow.report.format"

local options = {
  { "device", "cpu", "", choices = { "cpu", "cuda" } },
  { "dtype", "f32", "", choices = { "f32", "f64", "bf16" } },
  { "threads", nil, "threads [all cores]", kind = "integer", min = 1 },
  { "rounds", 7, "repetitions; the best counts", kind = "integer", min = 1 },
  { "quick", false, "one shape only" },
  { "json", false, "one JSON line" },
}

-- m, n, k, transpose a, transpose b: forward, input gradient and weight gradient of GPT-2's layers.
local shapes = {
  { 1024, 3072, 768, false, true }, { 256, 2304, 768, false, true }, { 256, 768, 3072, false, true },
  { 256, 50257, 768, false, true }, { 256, 768, 2304, false, false }, { 256, 768, 50257, false, false },
  { 2304, 768, 256, true, false }, { 50257, 768, 256, true, false }, { 768, 128, 512, false, true },
}

-- What fills a GPU.
local large = { 8192, 8192, 8192, false, true }

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
  local rows, best = { { "m", "n", "k", "a", "b", "GFLOP/s" } }, 0
  for i = 1, s.quick and 1 or #shapes do
    local m, n, k, ta, tb = unpack(s.device == "cuda" and i == 1 and large or shapes[i])
    local a = mb.randn(ta and { k, m } or { m, k }):to(s.dtype)
    local b = mb.randn(tb and { n, k } or { k, n }):to(s.dtype)
    local shortest = math.huge
    for _ = 1, s.rounds + 1 do
      mb.scope(function()
        mb.synchronize()
        local start = mb.time()
        a:matmul(b, { transpose_a = ta, transpose_b = tb })
        mb.synchronize()
        shortest = math.min(shortest, mb.time() - start)
      end)
    end
    local rate = 2 * m * n * k / shortest
    best = math.max(best, rate)
    rows[#rows + 1] = { tostring(m), tostring(n), tostring(k), ta and "T" or "N", tb and "T" or "N", ("%.0f"):format(rate / 1e9) }
  end
  if s.json then
    print(cjson.encode { best = best, build = mb.build_info() })
  else
    print(mb.build_info())
    print(format.columns(rows, { true, true, true, [6] = true }))
  end
  return 0
end)
