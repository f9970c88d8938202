-- SPDX-License-Identifier: MIT
--
-- muon.lua: a step of Muon on GPT-2 124M, the rest by AdamW, beside what one writes in PyTorch.
--   luajit scripts/bench/muon.lua                                          this engine
--   luajit scripts/bench/muon.lua --peer python3                           and PyTorch in turn, of three kinds:
--     loop      one matrix after another, five Newton-Schulz steps in float32 (Jordan's function, but not in bfloat16)
--     batched   the same over stacks of equal shapes
--     Muon      torch.optim.Muon, which computes in bfloat16
-- Printed are medians of all steps, and the rate as if every product were made in full: 2 (2 s^2 l + s^3) operations a step
-- of a matrix, s the shorter side.

local here = (arg[0] or ""):match("^(.*)/[^/]*$") or "."
package.path = ("%s/../../lua/?.lua;%s/../../lua/?/init.lua;%s/../../?.lua;"):format(here, here, here) .. package.path

local cli = require "moonbow.cli"
local cjson = require "cjson"
local format = require "moonbow.report.format"
local peers = require "scripts.bench.peer"
local timing = require "scripts.bench.spectral.timing"

local options = {
  { "vocab_size", 50257, "", kind = "integer", min = 1 },
  { "n_layer", 12, "", kind = "integer", min = 1 },
  { "n_embd", 768, "a multiple of 4", kind = "integer", min = 4 },
  { "steps", 3, "timed steps a round", kind = "integer", min = 1 },
  { "rounds", 3, "rounds", kind = "integer", min = 1 },
  { "threads", 2, "", kind = "integer", min = 1 },
  { "device", "cpu", "", choices = { "cpu", "cuda" } },
  { "split", "fused", "what is a matrix", choices = { "fused", "qkv" } },
  { "peer", nil, "a Python with PyTorch, e.g. python3", kind = "string", value = "COMMAND" },
  { "record", nil, "a file for the figures as JSON", kind = "string", value = "FILE" },
}

-- The seconds of each step.
local function time_steps(mb, s)
  local model = mb.models.gpt2 { vocab_size = s.vocab_size, block_size = 1024, n_layer = s.n_layer, n_head = 4,
    n_embd = s.n_embd }
  for _, p in ipairs(model:parameters()) do p.grad:randn_() end
  local optimizer = mb.optim.muon(model, { lr = 1e-4, split = s.split, rest = { name = "adamw", lr = 1e-4 } })
  local seconds = {}
  for i = 0, s.steps do
    mb.synchronize()
    local start = mb.time()
    optimizer:step()
    mb.synchronize()
    if i > 0 then seconds[i] = mb.time() - start end
  end
  return seconds
end

-- Operations of the Newton-Schulz steps in full.
local function operations(s)
  local c, total = s.n_embd, 0
  local shapes = { { c, c }, { 4 * c, c }, { c, 4 * c } }
  for _ = 1, s.split == "qkv" and 3 or 1 do table.insert(shapes, { s.split == "qkv" and c or 3 * c, c }) end
  for _, shape in ipairs(shapes) do
    local short, long = math.min(shape[1], shape[2]), math.max(shape[1], shape[2])
    total = total + 5 * 2 * (2 * short ^ 2 * long + short ^ 3)
  end
  return s.n_layer * total
end

cli.main("bench/muon", function()
  local given = cli.parse(options, arg)
  if given.help then
    print(cli.help("Times steps of Muon.", options))
    return 0
  end
  local s = cli.settings(options, given)
  local mb = require "moonbow"
  mb.threads(s.threads)
  mb.device(s.device)
  mb.seed(1)
  local all, kinds, what = {}, { "moonbow" }, nil
  for _ = 1, s.rounds do
    for _, value in ipairs(mb.scope(function() return time_steps(mb, s) end)) do timing.push(all, "moonbow", value) end
    mb.collect()
    mb.memory_trim()
    if s.peer then
      local answer = peers.ask(("%s %s/peers/muon.py %s"):format(s.peer, peers.quoted(here), peers.quoted(cjson.encode(s))))
      what, kinds = answer.what, { "moonbow", unpack(answer.kinds) }
      for kind, values in pairs(answer.seconds) do
        for _, value in ipairs(values) do timing.push(all, kind, value) end
      end
    end
  end
  local rows, entries = { { "", "ms", "GFLOP/s in full", what and "moonbow is faster by" } }, {}
  local mine = timing.median(all.moonbow)
  for i, kind in ipairs(kinds) do
    local seconds = timing.median(all[kind])
    rows[i + 1] = { kind, ("%.0f"):format(1e3 * seconds), ("%.0f"):format(1e-9 * operations(s) / seconds),
      i > 1 and ("%.2f"):format(seconds / mine) or "" }
    entries[i] = { name = kind, seconds = seconds }
  end
  if s.record then
    peers.record(s.record, { device = s.device, peer = what, entries = entries, build = mb.build_info() })
  end
  print(mb.build_info() .. (what and "; peer: " .. what or ""))
  print(format.columns(rows, { [2] = true, [3] = true, [4] = true }))
  return 0
end)
