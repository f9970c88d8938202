-- SPDX-License-Identifier: MIT
--
-- optim.lua: what a step of an optimizer costs, without the network: the parameters of GPT-2 124M with random gradients.
--   luajit scripts/bench/optim.lua                                          this engine
--   luajit scripts/bench/optim.lua --device cuda --peer python3             and PyTorch beside it, in turn
--   luajit scripts/bench/optim.lua --only adamw --groups 50                 in groups with learning rates of their own
-- AdamW, SGD and Lion read and write every byte once: beside their time stands the share of what a copy reaches on the same
-- memory, the engine's, its fused p.y = p.x or the peer's, whichever is fastest. `lars` is one with two norms of each
-- parameter, found in a pass of their own. Muon is measured where the library has it. The peer takes the fastest kind its
-- version has. Steps and copies take turns, rounds with the peer do; printed are medians, and the quarters below and above.

local here = (arg[0] or ""):match("^(.*)/[^/]*$") or "."
package.path = ("%s/../../lua/?.lua;%s/../../lua/?/init.lua;%s/../../?.lua;"):format(here, here, here) .. package.path

local cli = require "moonbow.cli"
local cjson = require "cjson"
local format = require "moonbow.report.format"
local peers = require "scripts.bench.peer"
local timing = require "scripts.bench.spectral.timing"

local options = {
  { "vocab_size", 50257, "", kind = "integer", min = 1 },
  { "block_size", 1024, "rows of the position embedding", kind = "integer", min = 1 },
  { "n_layer", 12, "", kind = "integer", min = 1 },
  { "n_embd", 768, "a multiple of 4", kind = "integer", min = 4 },
  { "groups", 1, "groups that the parameters are dealt to, of element-wise optimizers", kind = "integer", min = 1 },
  { "only", nil, "optimizers with this in their name", kind = "string", value = "TEXT" },
  { "steps", 10, "timed steps a round", kind = "integer", min = 1 },
  { "rounds", 3, "rounds", kind = "integer", min = 1 },
  { "threads", 2, "", kind = "integer", min = 1 },
  { "device", "cpu", "", choices = { "cpu", "cuda" } },
  { "peer", nil, "a Python with PyTorch, e.g. python3", kind = "string", value = "COMMAND" },
  { "peer_device", nil, "where it computes [--device]", choices = { "cpu", "cuda" } },
  { "record", nil, "a file for the figures as JSON", kind = "string", value = "FILE" },
}

-- name, options, bytes a parameter: read w, g and the state, write w and the state, all float32.
local cases = {
  { "sgd", { lr = 1e-4, momentum = 0.9 }, 20 },
  { "adamw", { lr = 1e-4, weight_decay = 0.1 }, 28 },
  { "lion", { lr = 1e-4, weight_decay = 0.1 }, 20 },
  { "lars", { lr = 1e-4 }, 28 },
  { "muon", { lr = 1e-4, rest = { name = "adamw", lr = 1e-4 } } },
}

-- Neighbours in memory are never of one group.
local function new_optimizer(mb, s, case, model)
  if s.groups == 1 or not case[3] then return mb.optim[case[1]](model, case[2]) end
  local list = {}
  for k = 1, s.groups do
    list[k] = { name = case[1], where = function(p) return p.index % s.groups == k - 1 end }
    for key, value in pairs(case[2]) do list[k][key] = value end
    list[k].lr = k * 1e-5
  end
  return mb.optim.groups(model, list)
end

-- The seconds of each step, and the number of parameters. Copies of as many go into the lists of `copies` in between.
local function time_steps(mb, s, case, copies)
  local model = mb.models.gpt2 { vocab_size = s.vocab_size, block_size = s.block_size, n_layer = s.n_layer, n_head = 4,
    n_embd = s.n_embd, dropout = 0 }
  for _, p in ipairs(model:parameters()) do p.grad:randn_() end
  local optimizer = new_optimizer(mb, s, case, model)
  local seconds, count = {}, 0
  for _, p in ipairs(model:parameters()) do count = count + p.value.numel end
  local from, to, fused = mb.ones(count), mb.zeros(count), mb.fuse(function(p) p.to = p.from end)
  local function time(i, list, run)
    mb.synchronize()
    local start = mb.time()
    run()
    mb.synchronize()
    if i > 2 then list[#list + 1] = mb.time() - start end
  end
  for i = 1, 2 + s.steps do
    time(i, seconds, function() optimizer:step() end)
    time(i, copies[1], function() to:copy_(from) end)
    time(i, copies[2], function() fused { to = to, from = from } end)
  end
  return seconds, count
end

cli.main("bench/optim", function()
  local given = cli.parse(options, arg)
  if given.help then
    print(cli.help("Times steps of optimizers.", options))
    return 0
  end
  local s = cli.settings(options, given)
  local mb = require "moonbow"
  mb.threads(s.threads)
  mb.device(s.device)
  mb.seed(1)
  local ours, theirs, kinds, copies, what, count = {}, {}, {}, { {}, {}, {} }, nil, nil
  local chosen, names = {}, {}
  for _, case in ipairs(cases) do
    local is_wanted = not s.only or case[1]:find(s.only, 1, true)
    if is_wanted and pcall(function() return assert(mb.optim[case[1]]) end) then
      chosen[#chosen + 1], names[#names + 1] = case, case[1]
    end
  end
  for _ = 1, s.rounds do
    for _, case in ipairs(chosen) do
      local seconds
      seconds, count = mb.scope(function() return time_steps(mb, s, case, copies) end)
      mb.collect()
      for _, value in ipairs(seconds) do timing.push(ours, case[1], value) end
    end
    if s.peer then
      local request = cjson.encode { names = names, device = s.peer_device or s.device, steps = s.steps, threads = s.threads,
        vocab_size = s.vocab_size, block_size = s.block_size, n_layer = s.n_layer, n_embd = s.n_embd }
      local answer = peers.ask(("%s %s/peers/optim.py %s"):format(s.peer, peers.quoted(here), peers.quoted(request)))
      what = answer.what
      local is_here = (s.peer_device or s.device) == s.device
      for _, value in ipairs(is_here and answer.copies or {}) do table.insert(copies[3], value) end
      for name, values in pairs(answer.seconds) do
        kinds[name] = answer.kinds[name]
        for _, value in ipairs(values) do timing.push(theirs, name, value) end
      end
    end
  end
  local rate = 0
  for _, list in ipairs(copies) do rate = math.max(rate, list[1] and 8 * count / timing.median(list) or 0) end
  local entries, rows = {}, { { "", "ms", "from", "to", "GB/s", "of a copy" } }
  if what then rows[1][7], rows[1][8], rows[1][9] = "peer ms", "ratio", "its kind" end
  for i, case in ipairs(chosen) do
    local name, bytes = case[1], case[3] and case[3] * count
    local mine, other = timing.median(ours[name]), theirs[name] and timing.median(theirs[name])
    local lower, upper = timing.quantile(ours[name], 0.25), timing.quantile(ours[name], 0.75)
    local function ms(seconds) return ("%.3f"):format(1e3 * seconds) end
    rows[i + 1] = { name, ms(mine), ms(lower), ms(upper), bytes and ("%.0f"):format(1e-9 * bytes / mine) or "",
      bytes and ("%.0f %%"):format(100 * bytes / mine / rate) or "", other and ms(other) or "",
      other and ("%.2f"):format(other / mine) or "", kinds[name] or "" }
    entries[i] = { name = name, seconds = mine, lower = lower, upper = upper, bytes = bytes, peer_seconds = other,
      peer_kind = kinds[name] }
  end
  if s.record then
    peers.record(s.record, { device = s.device, peer = what, peer_device = what and (s.peer_device or s.device),
      parameters = count, copy_bytes_per_second = rate, entries = entries, build = mb.build_info() })
  end
  print(mb.build_info() .. (what and "; peer: " .. what or ""))
  print(format.columns(rows, { [2] = true, [3] = true, [4] = true, [5] = true, [6] = true, [7] = true, [8] = true }))
  print(("%d parameters; a copy moves %.0f GB/s"):format(count, rate / 1e9))
  return 0
end)
