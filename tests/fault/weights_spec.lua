-- SPDX-License-Identifier: MIT
--
-- weights_spec.lua: damaged files of weights, whole files of tests/golden/gpt2_files with random changes: each is loaded or
-- refused in one line, and leaves nothing behind. MB_FUZZ_RUNS sets how many are tried of each kind; with a library
-- built with the address sanitizer, thousands of them are a search for bad reads.

local helper = require "tests.helper"
local mb = require "moonbow"
local scratch = require "tests.scratch"

local files = (os.getenv "MOONBOW_ROOT" or ".") .. "/tests/golden/gpt2_files/"
local runs = tonumber(os.getenv "MB_FUZZ_RUNS") or 60

-- Numbers that headers are broken with: of one and of four bytes.
local bytes = { 0, 1, 0x22, 0x2C, 0x30, 0x39, 0x5B, 0x7B, 0x7D, 0x7F, 0x80, 0xFF }
local words = { "\0\0\0\0", "\1\0\0\0", "\255\255\255\255", "\255\255\255\127", "\0\0\0\128", "\0\0\1\0", "\3\0\0\0", "\5\0\0\0" }

local function draw(n) return math.random(1, n) end

-- One change: a byte, a word in its place, a cut, a doubled piece, a piece left out. Most are near the front, where headers are.
local function changed(text)
  local where = draw(draw(2) == 1 and math.min(#text, 64) or #text)
  local kind = draw(6)
  if kind == 1 then return text:sub(1, where - 1) .. string.char(bytes[draw(#bytes)]) .. text:sub(where + 1) end
  if kind == 2 then return text:sub(1, where - 1) .. string.char(draw(256) - 1) .. text:sub(where + 1) end
  if kind == 3 then
    local at = where - (where - 1) % 4
    return text:sub(1, at - 1) .. words[draw(#words)] .. text:sub(at + 4)
  end
  if kind == 4 then return text:sub(1, where) end
  local stop = math.min(#text, where + draw(40))
  if kind == 5 then return text:sub(1, stop) .. text:sub(where) end
  return text:sub(1, where - 1) .. text:sub(stop)
end

local function damaged(text)
  for _ = 1, draw(3) do text = changed(text) end
  return text
end

local function files_in(folder)
  local copied = scratch.folder(true)
  for _, name in ipairs(mb.system.list(folder)) do scratch.write(copied .. "/" .. name, scratch.read(folder .. name)) end
  return copied
end

-- What is damaged, and what is then opened.
local kinds = {
  { "model_f32.bin", "model_f32.bin" }, { "model_bf16.bin", "model_bf16.bin" },
  { "model.safetensors", "model.safetensors" }, { "config.json", "model.safetensors" },
  { "half.safetensors.index.json", "half.safetensors.index.json" },
  { "half-00002-of-00002.safetensors", "half.safetensors.index.json" },
}

describe("damaged weights", function()
  after_each(scratch.clean)

  for _, kind in ipairs(kinds) do
    it(("(%s) are loaded or refused in one line"):format(kind[1]), function()
      math.randomseed(helper.seed)
      helper.no_leaks(function()
        local folder = files_in(files)
        local good, taken = scratch.read(folder .. "/" .. kind[1]), 0
        for run = 1, runs do
          local text = damaged(good)
          scratch.write(folder .. "/" .. kind[1], text)
          local ok, result = pcall(mb.models.gpt2, { weights = folder .. "/" .. kind[2], seed = 1 })
          if ok then
            taken = taken + 1
            assert(result:count() > 0)
          elseif type(result) ~= "string" or result == "" or result:find "\n" or result:find "attempt to " then
            error(("run %d, MB_SEED=%d: the error is: %s"):format(run, helper.seed, tostring(result)), 0)
          end
        end
        assert(taken < runs)
      end)
    end)
  end
end)
