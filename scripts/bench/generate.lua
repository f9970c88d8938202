-- SPDX-License-Identifier: MIT
--
-- generate.lua: how fast text comes, one sequence, token by token, with kept keys and values and without.
--   luajit scripts/bench/generate.lua                      GPT-2 124M, float32, 32 tokens of prompt
--   luajit scripts/bench/generate.lua --peer python3       and a loop over PyTorch that keeps them too, in turn
-- A round runs one process of each side; the medians over all tokens but the first of each are printed. What a token
-- cannot be faster than is reading the weights once, at the rate of a copy measured in the same run.

local here = (arg[0] or ""):match("^(.*)/[^/]*$") or "."
package.path = ("%s/../../lua/?.lua;%s/../../lua/?/init.lua;%s/../../?.lua;"):format(here, here, here) .. package.path

local cli = require "moonbow.cli"
local cjson = require "cjson"
local format = require "moonbow.report.format"
local peers = require "scripts.bench.peer"

local options = {
  { "vocab_size", 50257, "", kind = "integer", min = 1 },
  { "block_size", 1024, "", kind = "integer", min = 1 },
  { "n_layer", 12, "", kind = "integer", min = 1 },
  { "n_head", 12, "", kind = "integer", min = 1 },
  { "n_embd", 768, "", kind = "integer", min = 1 },
  { "prompt", 32, "tokens read before the first is timed", kind = "integer", min = 1 },
  { "tokens", 48, "tokens timed in a round", kind = "integer", min = 2 },
  { "rounds", 3, "rounds", kind = "integer", min = 1 },
  { "threads", 2, "", kind = "integer", min = 1 },
  { "device", "cpu", "", choices = { "cpu", "cuda" } },
  { "peer", nil, "a Python with PyTorch, e.g. python3", kind = "string", value = "COMMAND" },
  { "no_cache", false, "of --one: compute the context again for every token" },
  { "one", false, "only generate and print one JSON line (a round's process)" },
}
local shape_options = { "vocab_size", "block_size", "n_layer", "n_head", "n_embd", "prompt", "tokens", "threads" }

local function median(values)
  table.sort(values)
  local n = #values
  return n % 2 == 1 and values[(n + 1) / 2] or 0.5 * (values[n / 2] + values[n / 2 + 1])
end

-- Bytes a second that a copy of one buffer to another reads and writes.
local function bandwidth(mb)
  local a, b, times = mb.zeros(2 ^ 25), mb.ones(2 ^ 25), {}
  for i = 1, 7 do
    local start = mb.time()
    a:copy_(b)
    mb.synchronize()
    times[i] = mb.time() - start
  end
  return 2 * 4 * 2 ^ 25 / median(times)
end

local function run_one(s)
  local mb = require "moonbow"
  mb.threads(s.threads)
  mb.device(s.device)
  local model = mb.models.gpt2 { vocab_size = s.vocab_size, block_size = s.block_size, n_layer = s.n_layer,
    n_head = s.n_head, n_embd = s.n_embd, seed = 1 }
  local prompt, seconds, last = {}, {}, nil
  for i = 1, s.prompt do prompt[i] = i * 7919 % s.vocab_size end
  model:generate(prompt, { max_tokens = s.tokens + 1, temperature = 0, cache = not s.no_cache, on_token = function()
    local now = mb.time()
    if last then seconds[#seconds + 1] = now - last end
    last = now
  end })
  print(cjson.encode { what = s.no_cache and "Moonbow, without" or "Moonbow, kept", seconds = seconds,
    bytes = 4 * model:count(), rate = bandwidth(mb) })
end

cli.main("bench/generate", function()
  local given = cli.parse(options, arg)
  if given.help then
    print(cli.help("Times GPT-2 writing.", options))
    return 0
  end
  local s = cli.settings(options, given)
  if s.one then return run_one(s) end
  local shape = {}
  for _, name in ipairs(shape_options) do shape[#shape + 1] = ("--%s %d"):format(name, s[name]) end
  shape = ("--device %s %s"):format(s.device, table.concat(shape, " "))
  local own = ("luajit %s --one %s"):format(peers.quoted(arg[0]), shape)
  local sides = { { command = own, seconds = {} }, { command = own .. " --no_cache", seconds = {} } }
  if s.peer then
    sides[3] = { command = ("%s %s/peers/generate.py %s"):format(s.peer, peers.quoted(here), shape), seconds = {} }
  end
  local rates = {}
  for _ = 1, s.rounds do
    for _, side in ipairs(sides) do
      side.last = peers.ask(side.command)
      for _, t in ipairs(side.last.seconds) do side.seconds[#side.seconds + 1] = t end
      rates[#rates + 1] = side.last.rate
    end
  end
  local rate = median(rates)
  local rows, floor = { { "keys and values", "ms a token", "tokens/s" } }, sides[1].last.bytes / (rate / 2)
  for _, side in ipairs(sides) do
    side.median = median(side.seconds)
    rows[#rows + 1] = { side.last.what, ("%.2f"):format(1e3 * side.median), ("%.1f"):format(1 / side.median) }
  end
  print(format.columns(rows, { [2] = true, [3] = true }))
  print(("a copy moves %.1f GB/s; reading the weights at half of that takes %.2f ms"):format(rate / 1e9, 1e3 * floor))
  print(("keeping them is %.1f times as fast as not%s"):format(sides[2].median / sides[1].median,
    s.peer and (", and %.2f times as fast as %s"):format(sides[3].median / sides[1].median, sides[3].last.what) or ""))
end)
