-- SPDX-License-Identifier: MIT
--
-- data_spec.lua: texts become tokens and batches; batches are functions of seed and sample number alone; bad
-- files are named.

local mb = require "moonbow"
local helper = require "tests.helper"
local scratch = require "tests.scratch"
local utf8 = require "moonbow.io.utf8"

local shakespeare = helper.shared .. "/data/tinyshakespeare/input.txt"

-- Text over a small alphabet, from the generator of the test.
local function random_text(n, alphabet)
  local pieces = {}
  for i = 1, n do pieces[i] = alphabet[math.random(#alphabet)] end
  return table.concat(pieces)
end

local function open(options)
  local o = { block_size = 4, batch_size = 3 }
  for key, value in pairs(options) do o[key] = value end
  return mb.data.text(o)
end

describe("UTF-8", function()
  it("is decoded as RFC 3629 says, at every boundary", function()
    for _, code in ipairs { 0, 0x7F, 0x80, 0x7FF, 0x800, 0xFFF, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF } do
      local s = utf8.char(code)
      local back, next_i = utf8.next_code(utf8.of_string, s, 0, #s)
      assert.are.equal(code, back)
      assert.are.equal(#s, next_i)
      assert.is_nil(utf8.invalid_at("a" .. s .. "z"))
      for cut = 1, #s - 1 do assert.are.equal(1, utf8.invalid_at("a" .. s:sub(1, cut))) end
    end
  end)

  it("refuses what is overlong, a surrogate, too large or out of place", function()
    for _, s in ipairs { "\128", "\191", "\192\128", "\193\191", "\224\128\128", "\224\159\191", "\237\160\128",
      "\237\191\191", "\240\128\128\128", "\240\143\191\191", "\244\144\128\128", "\245\128\128\128", "\255", "\254",
      "\195(", "\226(\161", "\226\130(", "\240\144(\188", "\240\144\188(" } do
      assert.are.equal(3, utf8.invalid_at("ok " .. s), ("%q"):format(s))
    end
  end)
end)

describe("mb.data.text", function()
  local folder

  before_each(function()
    folder = scratch.folder()
    math.randomseed(helper.seed)
  end)
  after_each(scratch.clean)

  it("has nanoGPT's numbers for Tiny Shakespeare", function()
    if mb.system.path_kind(shakespeare) == "none" then pending "the shared data are not there" return end
    local data = mb.data.text { path = shakespeare, block_size = 64, batch_size = 12 }
    assert.are.equal(65, data.vocab_size)
    assert.are.equal(1003854, data.train_tokens)
    assert.are.equal(111540, data.val_tokens)
    assert.are.equal("First Citizen:\n", data:decode(data:tokens "train":slice(1, 1, 15)))
    -- ids of "hii there" as nanoGPT and the lecture on it print them
    assert.are.same({ 46, 47, 47, 1, 58, 46, 43, 56, 43 }, data:encode "hii there")
    assert.are.equal("u8", data:tokens "val".dtype)
  end)

  it("numbers characters by code point and gives the text back", function()
    local text = "zä→𝄞\0\n ab" .. ("b→"):rep(20)
    local data = open { text = text, split = 1 }
    assert.are.equal(9, data.vocab_size)
    assert.are.same({ 0, 1, 2, 3, 4, 5, 6, 7, 8 }, data:encode "\0\n abzä→𝄞")
    assert.are.equal(text, data:decode(data:tokens "train"))
    assert.are.equal(text, data:decode(data:encode(text)))
    assert.are.equal("", data:decode {})
    assert.are.same({}, data:encode "")
    assert.are.same({ 1 }, data:prompt())
    assert.are.same({ 2 }, open { text = "cab" .. ("a"):rep(9), split = 1 }:prompt())
  end)

  it("uses u16 for more than 256 characters", function()
    local pieces = {}
    for i = 1, 300 do pieces[i] = utf8.char(0x4E00 + i) end
    local text = table.concat(pieces)
    local data = open { text = text, split = 1 }
    assert.are.equal(300, data.vocab_size)
    assert.are.equal("u16", data:tokens "train".dtype)
    assert.are.equal(text, data:decode(data:tokens "train"))
  end)

  it("takes any bytes", function()
    local all = {}
    for i = 0, 255 do all[i + 1] = string.char(i) end
    local text = table.concat(all)
    local data = mb.data.text { path = scratch.write(folder .. "/bytes", text), tokenizer = "bytes", block_size = 4,
                                batch_size = 2, split = 0.5 }
    assert.are.equal(256, data.vocab_size)
    assert.are.equal(128, data.train_tokens)
    assert.are.equal(text, data:decode(data:tokens "train") .. data:decode(data:tokens "val"))
    assert.are.same({ 255, 0 }, data:encode "\255\0")
  end)

  it("cuts windows out of the text, targets one ahead, each part from its own", function()
    local data = open { text = random_text(400, { "a", "b", "c", "ä" }), split = 0.75, block_size = 7, batch_size = 50 }
    local parts = { train = data:decode(data:tokens "train"), val = data:decode(data:tokens "val") }
    for split, text in pairs(parts) do
      local batch = data:batch(split)
      assert.are.same({ 50, 7 }, batch.inputs.shape)
      assert.are.equal("i32", batch.targets.dtype)
      local x, y = batch.inputs:totable(), batch.targets:totable()
      for b = 1, 50 do
        local window = data:decode(x[b]) .. data:decode { y[b][7] }
        assert.is_truthy(text:find(window, 1, true), split .. ": " .. window)
        assert.are.equal(data:decode { unpack(x[b], 2) }, data:decode { unpack(y[b], 1, 6) })
      end
    end
  end)

  it("reaches the first and the last window, and no place much more often than others", function()
    local alphabet = {}
    for i = 1, 20 do alphabet[i] = string.char(96 + i) end
    local data = open { text = table.concat(alphabet), split = 1, block_size = 15, batch_size = 1000 }
    local counts = {}
    for _, row in ipairs(data:batch().inputs:totable()) do counts[row[1]] = (counts[row[1]] or 0) + 1 end
    for first = 0, 4 do -- 200 expected, standard deviation 12.6
      assert.is_true(counts[first] > 130 and counts[first] < 270, ("%d: %s"):format(first, tostring(counts[first])))
    end
    assert.is_nil(counts[5])
  end)

  it("draws the same samples in batches of any size, and others with another seed", function()
    local text = random_text(5000, { "a", "b", "c", "d", "e" })
    local function samples(batch_size, seed, batches)
      local data = open { text = text, block_size = 8, batch_size = batch_size, seed = seed }
      local list = {}
      for _ = 1, batches do
        for _, row in ipairs(data:batch().inputs:totable()) do list[#list + 1] = data:decode(row) end
      end
      return list
    end
    local whole = samples(12, 5, 1)
    assert.are.same(whole, samples(4, 5, 3))
    assert.are.same(whole, samples(1, 5, 12))
    assert.are_not.same(whole, samples(12, 6, 1))
  end)

  it("takes no random numbers from the generator, nor follows it", function()
    local text = random_text(500, { "a", "b" })
    mb.seed(1)
    local before = { require("bindings.create").rng_get() }
    local first = open { text = text }:batch().inputs:totable()
    assert.are.same(before, { require("bindings.create").rng_get() })
    mb.seed(2)
    assert.are.same(first, open { text = text }:batch().inputs:totable())
  end)

  it("gives a batch by its number without moving on", function()
    local text = random_text(500, { "a", "b", "c" })
    local data, other = open { text = text }, open { text = text }
    for index = 1, 3 do
      assert.are.same(data:batch("val", index).inputs:totable(), other:batch("val").inputs:totable())
      assert.are.same(data:batch("train", index).targets:totable(), other:batch().targets:totable())
    end
    assert.are.same(data:batch().inputs:totable(), other:batch("train", 1).inputs:totable())
  end)

  it("goes on exactly where a state was taken", function()
    local text = random_text(500, { "a", "b", "c" })
    local data = open { text = text }
    data:batch()
    data:batch()
    data:batch "val"
    local state = data:state_dict()
    local expected = { data:batch().inputs:totable(), data:batch "val".inputs:totable(), data:batch().targets:totable() }
    local resumed = open { text = text }
    resumed:load_state_dict(state)
    assert.are.same(expected,
      { resumed:batch().inputs:totable(), resumed:batch "val".inputs:totable(), resumed:batch().targets:totable() })
    assert.are.same({ 97, 98, 99 }, state.codes)
    local problem = helper.error_of(function() open { text = text .. "a" }:load_state_dict(state) end)
    assert.is_truthy(problem:find("not the one of the checkpoint", 1, true), problem)
    problem = helper.error_of(function() open { text = text, seed = 2 }:load_state_dict(state) end)
    assert.is_truthy(problem:find("seed are 3 and 1337 in the checkpoint, 3 and 2 here", 1, true), problem)
  end)

  it("names what is wrong with a file or an option", function()
    local function fails(part, options)
      local problem = helper.error_of(open, options)
      assert.is_truthy(problem:find(part, 1, true), problem)
    end
    local short = scratch.write(folder .. "/short", ("abcdefghij"):rep(4))
    fails("no file '" .. folder .. "/none'", { path = folder .. "/none" })
    fails("is a folder", { path = folder })
    fails("/empty' is empty", { path = scratch.write(folder .. "/empty", "") })
    fails("the text is empty", { text = "" })
    fails("/dev/null", { path = "/dev/null" })
    fails("block_size 40 needs 41 tokens; '" .. short .. "' has 36 for training and 4 for validation",
      { path = short, block_size = 40 })
    fails("has 36 for training and 4 for validation", { path = short }) -- the validation part is too short
    assert.are.equal(40, open { path = short, split = 1 }.train_tokens)
    fails("is not UTF-8 at byte 5 (0xFF)", { text = "abcde\255" .. ("x"):rep(50) })
    fails("is not UTF-8 at byte 6 (0xC3)", { path = scratch.write(folder .. "/cut", "abcdef\195") })
    fails("either option 'path' or option 'text'", {})
    fails("either option 'path' or option 'text'", { path = short, text = "a" })
    fails("did you mean 'char'", { path = short, tokenizer = "chars" })
    fails("did you mean 'batch_size'", { path = short, batchsize = 3 })
    fails("'block_size' must be at least 1", { path = short, block_size = 0 })
    fails("'split' must be more than 0", { path = short, split = 0 })
    fails("'split' must be at most 1", { path = short, split = 1.5 })

    local data = open { path = short, split = 1 }
    local function complains(part, method, ...)
      local problem = helper.error_of(data[method], data, ...)
      assert.is_truthy(problem:find(part, 1, true), problem)
    end
    complains("leaves no text for validation", "batch", "val")
    complains("'train', 'val'", "batch", "test")
    complains("the index must be at least 1", "batch", "train", 0)
    complains("no character 'z'", "encode", "az")
    complains("token 2 is 10, tokens are 0 to 9", "decode", { 1, 10 })
    complains("must be a tensor", "decode", "x")
  end)

  it("frees what it used", function()
    helper.no_leaks(function()
      local data = open { text = random_text(200, { "a", "b" }) }
      for _ = 1, 10 do data:batch() end
      pcall(open, { text = "abc\255" })
    end)
  end)
end)

describe("mb.data.corpus", function()
  local folder

  before_each(function() folder = scratch.folder() end)
  after_each(scratch.clean)

  it("is the project's own text, the same each time", function()
    local text = mb.data.corpus()
    assert.is_true(#text > 100000)
    assert.is_nil(utf8.invalid_at(text))
    assert.are.equal(text, mb.data.corpus())
    assert.is_truthy(text:find("corpus.lua: text that every checkout has", 1, true))
    assert.is_truthy(text:find("moonbow.h: the whole public C API", 1, true))
  end)

  it("takes sources and documents in the order of their paths, and nothing else", function()
    for path, text in pairs {
      ["README.md"] = "1 readme", ["lua/a.lua"] = "4 lua", ["engine/b/x.c"] = "3 deep", ["docs/z.md"] = "2 docs",
      ["scripts/s.sh"] = "5 script", ["build/x.c"] = "no", ["lua/.hidden.lua"] = "no", ["lua/binary.lua"] = "no\0",
      ["lua/latin.lua"] = "no\233", ["tests/data.bin"] = "no", ["tests/empty.lua"] = "", [".git/x.c"] = "no", ["mine.lua"] = "no",
    } do
      mb.system.make_folder(folder .. "/" .. (path:match "^(.*)/" or ""))
      scratch.write(folder .. "/" .. path, text)
    end
    assert.are.equal("1 readme\n2 docs\n3 deep\n4 lua\n5 script", mb.data.corpus(folder))
  end)

  it("says when there is none", function()
    assert.is_truthy(helper.error_of(mb.data.corpus, folder):find("has none of the project's sources", 1, true))
    assert.is_truthy(helper.error_of(mb.data.corpus, folder .. "/x"):find("no folder", 1, true))
  end)
end)
