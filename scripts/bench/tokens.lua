-- SPDX-License-Identifier: MIT
--
-- tokens.lua: MB/s of GPT-2's tokenizer on a text: encoding by one thread and by all, decoding; beside tiktoken, in turn.
--   luajit scripts/bench/tokens.lua --data books.txt --bpe vocab.bpe
--   luajit scripts/bench/tokens.lua --data books.txt --bpe vocab.bpe --peer python3     a Python with tiktoken
-- Ids must be the peer's, by their SHA-256.

local here = (arg[0] or ""):match("^(.*)/[^/]*$") or "."
package.path = ("%s/../../lua/?.lua;%s/../../lua/?/init.lua;%s/../../?.lua;"):format(here, here, here) .. package.path

local cli = require "moonbow.cli"
local format = require "moonbow.report.format"
local peers = require "scripts.bench.peer"

local options = {
  { "data", nil, "a text file", kind = "string", value = "PATH" },
  { "bpe", nil, "GPT-2's vocab.bpe [beside the text, or in data/gpt2]", kind = "string", value = "PATH" },
  { "rounds", 5, "each of both in turn; medians are printed", kind = "integer", min = 1 },
  { "peer", nil, "a Python with tiktoken, e.g. python3", kind = "string", value = "COMMAND" },
  { "record", nil, "a file for the figures as JSON", kind = "string", value = "FILE" },
}

local function median(list)
  table.sort(list)
  return list[math.ceil(#list / 2)]
end

local function read(path)
  local file, problem = io.open(path, "rb")
  if not file then cli.fail(1, "cannot open: %s", problem) end
  local text = file:read "*a"
  file:close()
  return text
end

cli.main("bench/tokens", function()
  local given = cli.parse(options, arg)
  if given.help then
    print(cli.help("Times GPT-2's tokenizer.", options))
    return 0
  end
  local s = cli.settings(options, given)
  if not s.data then cli.fail(2, "--data PATH is missing: a text file") end
  local mb = require "moonbow"
  local text, tokenizer = read(s.data), mb.data.tokenizer "gpt2" { path = s.bpe, near = s.data }
  local seconds = { encode = {}, threads = {}, decode = {}, peer_encode = {}, peer_decode = {} }
  local function timed(name, fn)
    local start = mb.time()
    local result = fn()
    table.insert(seconds[name], mb.time() - start)
    return result
  end
  local bytes = mb.tensor(text, { dtype = "u8", device = "cpu" })
  local hash, tokens, peer
  for _ = 1, s.rounds do
    tokens = timed("encode", function() return tokenizer:tokens_of(bytes, 1) end)
    timed("threads", function() return tokenizer:tokens_of(bytes, mb.threads()) end)
    local back = timed("decode", function() return tokenizer:decode(tokens) end)
    if back ~= text then cli.fail(1, "decoding did not give the text back") end
    collectgarbage()
    if s.peer then
      peer = peers.ask(("%s %s %s %s"):format(s.peer, peers.quoted(here .. "/peers/tokens.py"), peers.quoted(s.data),
        peers.quoted(tokenizer.path)))
      table.insert(seconds.peer_encode, peer.encode)
      table.insert(seconds.peer_decode, peer.decode)
      hash = hash or mb.system.sha256(require("bindings.host").bytes(tokens))
      if peer.sha256 ~= hash then cli.fail(1, "the peer's tokens are others") end
    end
  end
  local rates = {}
  for name, list in pairs(seconds) do rates[name] = #list > 0 and #text / median(list) / 1e6 or nil end
  local function row(what, mine, other)
    return { what, ("%.1f"):format(mine), other and ("%.1f"):format(other) or "", other and ("%.1f"):format(mine / other) or "" }
  end
  print(("%s, %d tokens%s"):format(format.bytes(#text), tokens.numel, peer and "; peer: " .. peer.what or ""))
  print(format.columns({ { "", "MB/s", "peer", "ratio" }, row("encode, one thread", rates.encode, rates.peer_encode),
    row(("encode, %d threads"):format(mb.threads()), rates.threads), row("decode", rates.decode, rates.peer_decode) },
    { [2] = true, [3] = true, [4] = true }))
  if s.record then peers.record(s.record, rates) end
  return 0
end)
