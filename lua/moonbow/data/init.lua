-- SPDX-License-Identifier: MIT
--
-- init.lua: mb.data, what models are trained on.
--
--   mb.data.text { path = "input.txt", block_size = 64, batch_size = 12 }     batches of a text
--   mb.data.shards { path = "fineweb", block_size = 1024, batch_size = 4 }    batches of token files
--   mb.data.tokenizer "gpt2" { path = "vocab.bpe" }                           from text to tokens and back
--   mb.data.stream(tokenizer)                                                 text of tokens that come one by one
--   mb.data.corpus()                                                          the project's own text, a string

local options = require "moonbow.options"

local tokenizers = {
  gpt2 = require("moonbow.data.gpt2").new,
  bytes = function(given)
    options.check("mb.data.tokenizer 'bytes'", given, {})
    return require("moonbow.data.tokenizer").bytes()
  end,
}

--- The maker of a tokenizer: mb.data.tokenizer "gpt2" { path = "vocab.bpe" }, mb.data.tokenizer "bytes" {}.
---@param name "gpt2"|"bytes"
---@return fun(options?: table): moonbow.Tokenizer
local function tokenizer(name)
  options.value("mb.data.tokenizer", "the name", name, { choices = { "bytes", "gpt2" } })
  return tokenizers[name]
end

return {
  text = require("moonbow.data.text").new,
  shards = require("moonbow.data.shards").new,
  tokenizer = tokenizer,
  stream = require("moonbow.data.stream").new,
  corpus = require("moonbow.data.corpus").read,
}
