-- SPDX-License-Identifier: MIT
--
-- pieces_spec.lua: texts in pieces have the tokens of the whole, wherever blocks end: at characters cut in two, white space of
-- every kind, apostrophes, the token between documents, bytes that are no UTF-8.

local gpt2 = require "moonbow.data.gpt2"
local helper = require "tests.helper"
local pieces = require "moonbow.data.pieces"
local runner = require "tests.smoke.runner"

local hostile = {
  " ", "  ", "\n", "\n\n", "\r\n", "\t", "\11", "\12", "\28", "\127", "\194\133", "\194\160", "\225\154\128", "\226\128\128",
  "\226\128\138", "\226\128\139", "\226\128\168", "\226\128\175", "\226\129\159", "\227\128\128", "'", "'s", "'ll", "''",
  "a", "Bc", "é", "日本", "🌙", "7", "½", ".", "...", "<|endoftext|>", "<|endof", "text|>", "\0", "\255", "\194", "\226\128",
  "\240\159",
}

local function text_of(count)
  local parts = {}
  for i = 1, count do parts[i] = hostile[math.random(#hostile)] end
  return table.concat(parts)
end

local function merges()
  local shared = helper.shared .. "/data/gpt2_bpe/vocab.bpe"
  return runner.read(shared) ~= "" and shared or runner.root .. "/tests/golden/bpe_small.bpe"
end

describe("pieces of a text", function()
  it("have the tokens of the whole", function()
    math.randomseed(helper.seed)
    local tokenizer, cuts = gpt2.new { path = merges() }, 0
    for _ = 1, 400 do
      local text = text_of(math.random(60))
      local whole = tokenizer:encode(text, "token")
      for _, size in ipairs { 1, 2, 3, math.random(4, 60) } do
        local ids, joined = {}, {}
        local missing = pieces.each(pieces.of_text(text), #text, size, function(piece)
          joined[#joined + 1] = piece
          for _, id in ipairs(tokenizer:encode(piece, "token")) do ids[#ids + 1] = id end
        end)
        cuts = cuts + #joined - 1
        assert.are.equal(0, missing)
        assert.are.equal(text, table.concat(joined))
        assert.are.same(whole, ids, ("size %d of %q"):format(size, text))
      end
    end
    assert.is_true(cuts > 1000, cuts .. " cuts")
  end)

  it("take the memory of a piece, not of the text", function()
    local left, most = 300, 0
    local file = { read = function(_, bytes)
      left = left - 1
      return left >= 0 and ("ab "):rep(bytes / 3) or nil
    end }
    pieces.each(file, 300 * 3e4, 3e4, function(piece) most = math.max(most, #piece) end)
    assert.is_true(most <= 3e4 + 3)
    -- Without white space nothing may be cut.
    local count = 0
    pieces.each(pieces.of_text(("日"):rep(9999)), 3 * 9999, 100, function(piece)
      count = count + 1
      assert.are.equal(3 * 9999, #piece)
    end)
    assert.are.equal(1, count)
    assert.are.equal(5, pieces.each(pieces.of_text "ab", 7, 3, function() end)) -- a file that has become shorter
  end)
end)
