-- SPDX-License-Identifier: MIT
--
-- text.lua: batches of a text, for next-token prediction. The first part of the text is for training, the
-- rest for validation. A sample is a window at a random place; sample s of a run is a pure function of
-- (seed, s), so that batches do not depend on what else is random, a resumed run sees the same ones, and
-- k batches of size B are the samples of one batch of size k B.

local create = require "bindings.create"
local gpt2 = require "moonbow.data.gpt2"
local host = require "bindings.host"
local options = require "moonbow.options"
local status = require "bindings.status"
local system = require "bindings.system"
local runtime = require "bindings.runtime"
local tokenizers = require "moonbow.data.tokenizer"

local M = {}

---@class moonbow.Text batches of a text
---@field vocab_size integer
---@field train_tokens integer
---@field val_tokens integer
---@field block_size integer
---@field batch_size integer
local Text = {}
Text.__index = Text

function Text:__tostring()
  return ("text: %s tokens, a vocabulary of %d, %d to train on and %d to validate, batches of %d by %d"):format(
    self.tokenizer.name, self.vocab_size, self.train_tokens, self.val_tokens, self.batch_size, self.block_size)
end

-- Streams of random numbers of their own, far from those that operations take one after the other.
local STREAM = { train = 0x64617461, val = 0x64617462 }

-- The text's bytes, what it is called in errors, and its hash.
local function read(o)
  if (o.path == nil) == (o.text == nil) then
    options.fail("mb.data.text: either option 'path' or option 'text' is needed")
  end
  local name = o.path and ("'%s'"):format(o.path) or "the text"
  if o.path and system.path_kind(o.path) == "none" then
    status.fail("mb.data.text: there is no file '%s'", o.path)
  end
  local bytes = o.path and system.path_size(o.path) or #o.text
  if bytes == 0 then status.fail("mb.data.text: %s is empty", name) end
  if o.text then return host.from_string(o.text, "u8", "cpu"), name, system.sha256(o.text) end
  return system.read_tensor(create.empty({ bytes }, "u8", "cpu"), o.path), name, system.sha256_file(o.path)
end

local function tokenize(o, bytes, name)
  if o.bpe and o.tokenizer ~= "gpt2" then
    options.fail("mb.data.text: option 'bpe' is for tokenizer = \"gpt2\", not \"%s\"", o.tokenizer)
  end
  if o.tokenizer == "gpt2" then
    local tokenizer = gpt2.new { path = o.bpe, near = o.path }
    return tokenizer, tokenizer:tokens_of(bytes, runtime.threads())
  end
  local tokenizer = tokenizers[o.tokenizer](bytes, name)
  return tokenizer, tokenizer.tokens
end

-- Each part must hold one window and the token behind it.
local function check_length(self, name)
  local needed = self.block_size + 1
  for split, count in pairs { training = self.train_tokens, validation = self.val_tokens } do
    if count < needed and not (split == "validation" and self.val_tokens == 0) then
      status.fail("mb.data.text: block_size %d needs %d tokens; %s has %d for training and %d for validation",
        self.block_size, needed, name, self.train_tokens, self.val_tokens)
    end
  end
end

---@class moonbow.TextOptions
---@field path? string a text file
---@field text? string or the text itself
---@field tokenizer? "char"|"bytes"|"gpt2" default "char"
---@field bpe? string GPT-2's vocab.bpe, or the folder it is in; default: beside the text, or data/gpt2/ of this checkout
---@field block_size integer tokens of a window, T
---@field batch_size integer windows of a batch, B
---@field split? number share of the text that is for training; default 0.9, 1 for no validation
---@field seed? integer default 1337

--- Opens a text.
---@param given moonbow.TextOptions
---@return moonbow.Text
---@usage local data = mb.data.text { path = "input.txt", block_size = 64, batch_size = 12 }
function M.new(given)
  local o = options.check("mb.data.text", given, {
    path = { type = "string" }, text = { type = "string" },
    tokenizer = { choices = { "char", "bytes", "gpt2" }, default = "char" },
    bpe = { type = "string" },
    block_size = { type = "integer", required = true, min = 1 },
    batch_size = { type = "integer", required = true, min = 1 },
    split = { type = "number", default = 0.9, above = 0, max = 1 },
    seed = { type = "integer", default = 1337, min = 0 },
  })
  local bytes, name, sha256 = read(o)
  local tokenizer, tokens = tokenize(o, bytes, name)
  local count = tokens.numel
  local self = setmetatable({
    tokenizer = tokenizer, all_tokens = tokens, vocab_size = tokenizer.vocab_size, block_size = o.block_size,
    batch_size = o.batch_size, seed = o.seed, sha256 = sha256, train_tokens = math.floor(count * o.split),
    samples = { train = 0, val = 0 },
  }, Text)
  self.val_tokens = count - self.train_tokens
  check_length(self, name)
  return self
end

-- ----- batches ----------------------------------------------------------------------------------------

-- Where the window of sample s begins: uniform over the places that leave a token behind it.
local function place(self, split, s)
  local words = create.rng_words(2, self.seed, s, STREAM[split])
  local fraction = (words[1] * 2 ^ 21 + math.floor(words[2] / 2 ^ 11)) / 2 ^ 53
  local first = split == "train" and 0 or self.train_tokens
  return first + math.floor(fraction * (self[split .. "_tokens"] - self.block_size))
end

local function copy(to, from, at, place_of, length)
  for i = 0, length - 1 do to[at + i] = from[place_of + i] end
end

--- The next batch of a part, or its batch number `index` (from 1), which moves nothing on.
---@param split? "train"|"val" default "train"
---@param index? integer
---@return { inputs: moonbow.Tensor, targets: moonbow.Tensor } batch i32 (B, T); targets are one token ahead
function Text:batch(split, index)
  split = split or "train"
  options.value("data:batch", "the split", split, { choices = { "train", "val" } })
  options.value("data:batch", "the index", index or 1, { type = "integer", min = 1 })
  local B, T = self.batch_size, self.block_size
  if split == "val" and self.val_tokens == 0 then
    status.fail "data:batch: split = 1 leaves no text for validation"
  end
  local s = index and (index - 1) * B or self.samples[split]
  local inputs, targets = create.empty({ B, T }, "i32", "cpu"), create.empty({ B, T }, "i32", "cpu")
  local x, y, tokens = inputs:data(), targets:data(), self.all_tokens:data()
  for b = 0, B - 1 do
    local at = place(self, split, s + b)
    copy(x, tokens, b * T, at, T)
    copy(y, tokens, b * T, at + 1, T)
  end
  if not index then self.samples[split] = s + B end
  local device = require("moonbow.create").device()
  if device ~= "cpu" then inputs, targets = inputs:to(device), targets:to(device) end
  return { inputs = inputs, targets = targets }
end

--- All tokens of a part, a view.
---@param split "train"|"val"
---@return moonbow.Tensor u8 or u16
function Text:tokens(split)
  options.value("data:tokens", "the split", split, { choices = { "train", "val" } })
  local all = self.all_tokens
  if split == "train" then return all:slice(1, 1, self.train_tokens) end
  return all:slice(1, self.train_tokens + 1, all.numel)
end

-- ----- text and tokens --------------------------------------------------------------------------------

--- Tokens of a string; an error for a character that the text does not have.
---@param s string
---@return integer[]
function Text:encode(s)
  options.value("data:encode", "the argument", s, { type = "string" })
  return self.tokenizer:encode(s)
end

--- The string of tokens.
---@param tokens integer[]|moonbow.Tensor
---@return string
function Text:decode(tokens)
  if type(tokens) ~= "table" then options.value("data:decode", "the argument", tokens, { type = "tensor" }) end
  return self.tokenizer:decode(tokens)
end

--- Tokens to begin a sample with: the end of another text, a line break, or the first token of a text that has none.
---@return integer[]
function Text:prompt()
  local tokenizer = self.tokenizer
  local id = tokenizer.id_of and tokenizer.id_of["\n"] or tokenizer.end_of_text
  return { id or tonumber(self.all_tokens:data()[0]) }
end

-- ----- state ------------------------------------------------------------------------------------------

--- How many samples were drawn, and of which text. The code points of its characters are for who
--- has the state without the text.
---@return table
function Text:state_dict()
  return { train = self.samples.train, val = self.samples.val, seed = self.seed, sha256 = self.sha256,
           vocab_size = self.vocab_size, codes = self.tokenizer.codes }
end

--- Goes on where a state was taken. The text must be the same, to the byte.
---@param state table
function Text:load_state_dict(state)
  if state.sha256 ~= self.sha256 then
    status.fail("data: the text is not the one of the checkpoint: its SHA-256 is %s there, %s here",
      tostring(state.sha256), self.sha256)
  end
  if state.vocab_size ~= self.vocab_size or state.seed ~= self.seed then
    status.fail("data: vocabulary and seed are %s and %s in the checkpoint, %d and %d here",
      tostring(state.vocab_size), tostring(state.seed), self.vocab_size, self.seed)
  end
  self.samples = { train = state.train, val = state.val }
end

return M
