-- SPDX-License-Identifier: MIT
--
-- bpe_spec.lua: the tokens of GPT-2 are those that tiktoken and tokenizers give (bpe.jsonl, made by make_bpe.py): with the first
-- 2000 merges, which are here (bpe_small.bpe), and with all of them where the shared data are.

local bpe = require "bindings.bpe"
local helper = require "tests.helper"
local host = require "bindings.host"
local json = require "moonbow.io.json"
local mb = require "moonbow"
local scratch = require "tests.scratch"

local root = os.getenv "MOONBOW_ROOT" or "."
local shared = root .. "/../shared/data/"

local function lines_of(path)
  local lines = {}
  for line in io.lines(path) do lines[#lines + 1] = json.decode(line) end
  return lines
end

local cases = lines_of(root .. "/tests/golden/bpe.jsonl")
local whole = table.remove(cases, 1)

local function open(path) return bpe.new(scratch.read(path), path) end

-- The full vocabulary, or nil with a note that it is not there.
local function full()
  local path = shared .. "gpt2_bpe/vocab.bpe"
  if mb.system.path_kind(path) == "none" then return pending "the shared data are not there" end
  return open(path)
end

local function sha256_of_text(tokenizer, text)
  local bytes, count = tokenizer:encode_bytes(text, "text", 2)
  return mb.system.sha256(bytes), count
end

describe("GPT-2's byte-pair encoding", function()
  it("gives tiktoken's tokens with the first 2000 merges", function()
    local small = open(root .. "/tests/golden/bpe_small.bpe")
    assert.are.equal(2257, small.vocab_size)
    assert.is_true(#cases > 700)
    for i, case in ipairs(cases) do
      assert.are.same(case.ids, small:encode(case.text), ("case %d: %q"):format(i, case.text))
      assert.are.equal(case.text, small:decode(case.ids))
      if case.special then
        assert.are.same(case.special, small:encode(case.text, "token"), ("case %d: %q"):format(i, case.text))
        helper.says("<|endoftext|> at byte", small.encode, small, case.text, "refuse")
      end
    end
  end)

  it("gives tiktoken's tokens with all merges", function()
    local gpt2 = full()
    if not gpt2 then return end
    assert.are.equal(50257, gpt2.vocab_size)
    assert.are.same({ 15496, 11, 995, 0 }, gpt2:encode "Hello, world!")
    assert.are.same({ 50256 }, gpt2:encode("<|endoftext|>", "token"))
    for i, case in ipairs(cases) do
      assert.are.equal(case.full, (sha256_of_text(gpt2, case.text):sub(1, 8)), ("case %d: %q"):format(i, case.text))
      assert.are.equal(case.text, gpt2:decode(gpt2:encode(case.text)))
    end
  end)

  it("gives tiktoken's tokens of Tiny Shakespeare, and of 28 books, and the books back", function()
    local gpt2 = full()
    if not gpt2 then return end
    local text = scratch.read(shared .. "tinyshakespeare/input.txt")
    local hash, count = sha256_of_text(gpt2, text)
    assert.are.same({ whole["input.txt"].full, whole["input.txt"].count }, { hash, count })
    local xz = io.popen(("xz -dkc '%sbooks/books.txt.xz' 2>/dev/null"):format(shared))
    text = xz:read "*a"
    xz:close()
    if #text == 0 then pending "xz is not installed" return end
    hash, count = sha256_of_text(gpt2, text)
    assert.are.same({ whole["books.txt"].full, whole["books.txt"].count }, { hash, count })
    assert.is_true(gpt2:decode(gpt2:encode_tensor(host.from_string(text, "u8", "cpu"), "text", 2)) == text)
  end)

  it("gives any bytes back", function()
    local small = open(root .. "/tests/golden/bpe_small.bpe")
    math.randomseed(helper.seed)
    for _ = 1, 300 do
      local bytes = {}
      for i = 1, math.random(60) do bytes[i] = string.char(math.random(0, 255)) end
      local text = table.concat(bytes)
      assert.are.equal(text, small:decode(small:encode(text)))
      assert.are.equal(text, small:decode(small:encode_tensor(host.from_string(text, "u8", "cpu"))))
    end
    assert.are.equal("", small:decode {})
  end)

  it("refuses what is no text and no token", function()
    local small = open(root .. "/tests/golden/bpe_small.bpe")
    helper.says("a string was expected, not the number 5", small.encode, small, 5)
    helper.says("special must be 'text', 'token' or 'refuse', not the string 'tokn'", small.encode, small, "a", "tokn")
    local beyond = mb.tensor({ 1, 1, 2257 }, { dtype = "u16" })
    helper.says("token 3 is 2257, tokens are 0 to 2256", small.decode, small, beyond)
    helper.says("token 2 is 70000, tokens are 0 to 2256", small.decode, small, { 1, 70000 })
    helper.says("token 1 is 1.5, tokens are 0 to 2256", small.decode, small, { 1.5 })
    helper.says("an array of tokens or a tensor was expected, not the string 'a'", small.decode, small, "a")
    helper.says("'x' line 1: '#version: 0.2' was expected", bpe.new, "", "x")
  end)
end)
