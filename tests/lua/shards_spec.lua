-- SPDX-License-Identifier: MIT
--
-- shards_spec.lua: token files become batches: which files, in which order, resumed where they were; tokens become text as they
-- come; and what is wrong with files is said.

local mb = require "moonbow"
local helper = require "tests.helper"
local scratch = require "tests.scratch"

local root = os.getenv "MOONBOW_ROOT" or "."
local small_bpe = root .. "/tests/golden/bpe_small.bpe"

local function u16(first, count)
  local bytes = {}
  for i = first, first + count - 1 do bytes[#bytes + 1] = string.char(i % 256, math.floor(i / 256)) end
  return table.concat(bytes)
end

local function int32(x)
  return string.char(x % 256, math.floor(x / 256) % 256, math.floor(x / 65536) % 256, math.floor(x / 2 ^ 24))
end

-- A file of llm.c with tokens first, first + 1, ...
local function llmc(first, count)
  return int32(20240520) .. int32(1) .. int32(count) .. ("\0"):rep(1012) .. u16(first, count)
end

-- Where the windows of a batch begin.
local function begins(batch)
  local list = {}
  for i, row in ipairs(batch.inputs:totable()) do
    local targets = batch.targets:totable()[i]
    for k = 1, #row do
      assert.are.equal(row[1] + k - 1, row[k])
      assert.are.equal(row[k] + 1, targets[k])
    end
    list[i] = row[1]
  end
  return list
end

describe("mb.data.shards", function()
  local folder

  before_each(function()
    folder = scratch.folder()
    scratch.write(folder .. "/x_train_000001.bin", llmc(0, 50))
    scratch.write(folder .. "/x_train_000002.bin", llmc(1000, 41))
    scratch.write(folder .. "/x_val_000001.bin", u16(2000, 30))
  end)
  after_each(scratch.clean)

  local function open(options)
    local o = { path = folder, block_size = 4, batch_size = 3, vocab_size = 3000 }
    for key, value in pairs(options or {}) do o[key] = value end
    return mb.data.shards(o)
  end

  it("reads a folder, a pattern, a list and a file with its partner alike", function()
    scratch.write(folder .. "/notes.txt", "no tokens")
    local expected = { 91, 30, { 0, 4, 8 }, { 2000, 2004, 2008 } }
    for _, path in ipairs { folder, folder .. "/x_*.bin", folder .. "/x_*_00000?.bin",
      { folder .. "/x_train_*", folder .. "/x_val_000001.bin", folder .. "/x_train_000002.bin" } } do
      local data = open { path = path, shuffle = false }
      assert.are.same(expected, { data.train_tokens, data.val_tokens, begins(data:batch()), begins(data:batch "val") })
    end
    local data = open { path = folder .. "/x_train_000001.bin", shuffle = false }
    assert.are.same({ 50, 30 }, { data.train_tokens, data.val_tokens })
    assert.are.same({ 41, 0 }, { open { path = folder .. "/x_train_000002.bin" }.train_tokens,
                                 open { path = folder .. "/x_train_000002.bin" }.val_tokens })
  end)

  it("goes through the files in order, in whole batches of each, as llm.c does", function()
    local data, list = open { shuffle = false }, {}
    for i = 1, 8 do list[i] = begins(data:batch())[1] end
    -- 49 tokens with a target are 4 batches of 12; 40 are 3
    assert.are.same({ 0, 12, 24, 36, 1000, 1012, 1024, 0 }, list)
  end)

  it("takes every window once an epoch when it shuffles, and another order with another seed", function()
    local function epoch(seed, number)
      local data, seen, order = open { seed = seed, batch_size = 1 }, {}, {}
      for i = 1, 22 do
        order[i] = begins(data:batch("train", 22 * number + i))[1]
        assert.is_nil(seen[order[i]])
        seen[order[i]] = true
      end
      return order
    end
    assert.are.same(epoch(1, 0), epoch(1, 0))
    assert.are_not.same(epoch(1, 0), epoch(1, 1))
    assert.are_not.same(epoch(1, 0), epoch(2, 0))
  end)

  it("draws the same samples in batches of any size", function()
    local ones, threes = open { batch_size = 1 }, open {}
    for _ = 1, 10 do
      local three = begins(threes:batch())
      assert.are.same(three, { begins(ones:batch())[1], begins(ones:batch())[1], begins(ones:batch())[1] })
    end
  end)

  it("gives a batch by its number without moving on", function()
    local data, other = open(), open()
    for index = 1, 9 do
      for _, split in ipairs { "train", "val" } do
        assert.are.same(begins(data:batch(split, index)), begins(other:batch(split)))
      end
    end
  end)

  it("goes on exactly where a state was taken, from a checkpoint too", function()
    for _, shuffle in ipairs { true, false } do
      local data = open { shuffle = shuffle }
      for _ = 1, 9 do data:batch() end
      data:batch "val"
      mb.checkpoint.save(folder .. "/run", { data = data, step = shuffle and 9 or 10 })
      local expected = { begins(data:batch()), begins(data:batch "val"), begins(data:batch()) }
      local resumed = open { shuffle = shuffle }
      mb.checkpoint.load(folder .. "/run", { data = resumed })
      assert.are.same(expected, { begins(resumed:batch()), begins(resumed:batch "val"), begins(resumed:batch()) })
    end
    local state = open():state_dict()
    helper.says("data: seed is 1337 in the checkpoint, 5 here", function() open { seed = 5 }:load_state_dict(state) end)
    helper.says("data: block_size is 4 in", function() open { block_size = 5 }:load_state_dict(state) end)
    helper.says("data: shuffle is true in", function() open { shuffle = false }:load_state_dict(state) end)
    open { batch_size = 2 }:load_state_dict(state)
    local in_order = open { shuffle = false }:state_dict()
    helper.says("data: batch_size is 3 in the checkpoint, 2 here",
      function() open { shuffle = false, batch_size = 2 }:load_state_dict(in_order) end)
    scratch.write(folder .. "/x_train_000002.bin", llmc(1001, 41))
    helper.says("data: the fingerprint of the files is", function() open():load_state_dict(state) end)
  end)

  it("knows what made the files from meta.json", function()
    local function meta(text) scratch.write(folder .. "/meta.json", text) end
    meta '{"tokenizer":"bytes","vocab_size":256}'
    local data = open { vocab_size = nil, path = folder .. "/x_train_000001.bin" }
    assert.are.same({ 3000, "bytes", "AB" }, { data.vocab_size, data.tokenizer.name, data:decode { 65, 66 } })
    meta '{"tokenizer":"char","vocab_size":3,"codes":[10,97,228]}'
    data = open()
    assert.are.same({ "aä\n", { 1, 2, 0 }, { 0 } }, { data:decode { 1, 2, 0 }, data:encode "aä\n", data:prompt() })
    for text, problem in pairs {
      ["{"] = "meta.json' at byte 1", ["[]"] = "has no vocab_size", ["3"] = "is no JSON object",
      ['{"vocab_size":0}'] = "has no vocab_size", ['{"vocab_size":2,"tokenizer":"char"}'] = "has no codes",
      ['{"vocab_size":2,"tokenizer":"char","codes":[1]}'] = "has no codes",
      ['{"vocab_size":1,"tokenizer":"char","codes":["a"]}'] = "no character: a",
    } do
      meta(text)
      helper.says(problem, open)
    end
    meta '{"tokenizer":"something","vocab_size":9}'
    assert.are.same({ "1 2 ", { 0 } }, { open():decode { 1, 2 }, open { shuffle = false }:prompt() })
    helper.says("the tokenizer of these files is not here", function() open():encode "a" end)
  end)

  it("takes files without meta.json for GPT-2's", function()
    local data = open { bpe = small_bpe }
    assert.are.equal("moon", data:decode(data:encode "moon"))
    assert.are.same({ 2256 }, data:prompt())
    scratch.write(folder .. "/vocab.bpe", scratch.read(small_bpe))
    data = mb.data.shards { path = folder, block_size = 4, batch_size = 1 }
    assert.are.equal(50257, data.vocab_size)
    assert.are.equal(folder .. "/vocab.bpe", data.tokenizer.path)
  end)

  it("says what is wrong", function()
    helper.says("there is no file or folder '" .. folder .. "/none'", open, { path = folder .. "/none" })
    helper.says("no file is called '" .. folder .. "/y*'", open, { path = folder .. "/y*" })
    helper.says("no file is called '/nowhere/*.bin'", open, { path = "/nowhere/*.bin" })
    helper.says("all names have 'val'", open, { path = folder .. "/*val*" })
    helper.says("a path must be a string", open, { path = { 5 } })
    helper.says("a path holds a NUL", open, { path = "a\0b" })
    helper.says("did you mean 'block_size'", open, { blocksize = 4 })
    helper.says("has the 101 tokens of 1 windows of 100", open, { block_size = 100 })
    helper.says("is 1000, tokens are 0 to 999", function()
      local data = open { vocab_size = 1000, shuffle = false }
      for _ = 1, 7 do data:batch() end
    end)
    scratch.write(folder .. "/z_train.bin", llmc(0, 50):sub(1, -2))
    helper.says("z_train.bin' says that it has 50 tokens, which take 1124 bytes with the header; it has 1123", open)
    scratch.write(folder .. "/z_train.bin", "")
    helper.says("z_train.bin' is empty", open)
    helper.says("no file for validation", function() open { path = folder .. "/x_train_000002.bin" }:batch "val" end)
    mb.system.make_folder(folder .. "/empty")
    helper.says("has no file *.bin", open, { path = folder .. "/empty" })
  end)
end)

describe("mb.data.tokenizer", function()
  local folder

  before_each(function() folder = scratch.folder() end)
  after_each(scratch.clean)

  it("is found by its path, its folder, or beside the data", function()
    local text = ("It is the moon's bow. "):rep(20) .. "<|endoftext|> " .. ("Night "):rep(20)
    scratch.write(folder .. "/input.txt", text)
    helper.says("there is no vocab.bpe in " .. folder, mb.data.tokenizer "gpt2", { path = folder })
    helper.says("luajit scripts/data/get.lua gpt2", mb.data.tokenizer "gpt2", { path = folder })
    scratch.write(folder .. "/merges.txt", scratch.read(small_bpe))
    local tokenizer = mb.data.tokenizer "gpt2" { path = folder }
    assert.are.same({ 2257, 2256 }, { tokenizer.vocab_size, tokenizer.end_of_text })
    assert.are.same({ 2256 }, tokenizer:encode("<|endoftext|>", "token"))
    assert.are.equal("no text", tokenizer:decode(tokenizer:encode "no text"))
    local data = mb.data.text { path = folder .. "/input.txt", tokenizer = "gpt2", block_size = 4, batch_size = 2 }
    assert.are.equal(2257, data.vocab_size)
    local all = data:tokens "train":totable()
    for _, id in ipairs(data:tokens "val":totable()) do all[#all + 1] = id end
    assert.are.same(tokenizer:encode(text, "token"), all)
    assert.are.equal(text, data:decode(data:tokens "train") .. data:decode(data:tokens "val"))
    assert.are.same({ 2256 }, data:prompt())
    assert.are.same({ 2, 4 }, data:batch().inputs.shape)
    helper.says("option 'bpe' is for tokenizer = \"gpt2\", not \"char\"", mb.data.text,
      { text = text, bpe = folder, block_size = 4, batch_size = 2 })
    helper.says("cannot open", mb.data.tokenizer "gpt2", { path = folder .. "/none" })
    helper.says("line 1", mb.data.tokenizer "gpt2", { path = folder .. "/input.txt" })
    helper.says("the name must be one of 'bytes', 'gpt2'", mb.data.tokenizer, "gpt3")
    assert.are.same({ 97, 255 }, mb.data.tokenizer "bytes"():encode "a\255")
  end)

  it("gives whole characters, whatever tokens they come in", function()
    local bytes = mb.data.tokenizer "bytes"()
    local function streamed(text)
      local stream, pieces = mb.data.stream(bytes), {}
      for i = 1, #text do
        pieces[i] = stream:push(text:byte(i))
        assert.is_nil(require("moonbow.io.utf8").invalid_at(pieces[i]))
      end
      return table.concat(pieces), stream:finish()
    end
    for _, text in ipairs { "", "abc", "zä→𝄞\0é", "日本語", "\244\143\191\191\237\159\191" } do
      assert.are.same({ text, "" }, { streamed(text) })
    end
    local bad = "\239\191\189"
    assert.are.same({ "a", bad }, { streamed "a\195" })
    assert.are.same({ "a", bad:rep(3) }, { streamed "a\240\157\132" })
    assert.are.same({ bad .. "a" .. bad .. bad, "" }, { streamed "\195a\255\128" })
    assert.are.same({ bad:rep(2) .. "b", "" }, { streamed "\237\160b" }) -- a surrogate begins so
    assert.are.same({ bad:rep(2), "" }, { streamed "\224\128" }) -- overlong
    local stream = mb.data.stream(bytes) -- held back no longer than needed
    assert.are.same({ "", "", "→" }, { stream:push(226), stream:push(134), stream:push(146) })
  end)
end)
