-- SPDX-License-Identifier: MIT
--
-- gpt2.lua: the tokenizer of GPT-2, from its file of merges: vocab.bpe, which Hugging Face calls merges.txt.
--
--   local tokenizer = mb.data.tokenizer "gpt2" { path = "vocab.bpe" }   without a path: data/gpt2/ of this checkout
--   tokenizer.vocab_size                    -> 50257
--   tokenizer:encode "Hello, world!"        -> { 15496, 11, 995, 0 }
--   tokenizer:decode { 15496, 11, 995, 0 }  -> "Hello, world!"

local bpe = require "bindings.bpe"
local load = require "bindings.load"
local options = require "moonbow.options"
local status = require "bindings.status"
local system = require "bindings.system"

local M = {}

-- What the file is called, in the folders that are looked into.
local NAMES = { "vocab.bpe", "merges.txt", "gpt2/vocab.bpe", "gpt2_bpe/vocab.bpe" }

---@class moonbow.GPT2Tokenizer: moonbow.Tokenizer
---@field path string of the merges
local GPT2 = {}
GPT2.__index = GPT2

--- The file of merges in one of these folders, or nil.
---@param folders string[]
---@return string? path
function M.find(folders)
  for _, folder in ipairs(folders) do
    for _, name in ipairs(NAMES) do
      if system.path_kind(folder .. "/" .. name) == "file" then return folder .. "/" .. name end
    end
  end
end

--- Folders that may hold the merges for data at `path`: its own, the one above that, and data/ of this checkout.
---@param path? string a file or folder
---@return string[]
function M.folders(path)
  local list = {}
  if path then
    local own = system.path_kind(path) == "folder" and path or path:match "^(.*)/[^/]*$" or "."
    list = { own, own .. "/.." }
  end
  list[#list + 1] = load.root .. "/data"
  return list
end

--- How to come by the merges.
M.advice = "fetch it with: luajit scripts/data/get.lua gpt2"

---@param given? { path?: string, near?: string } path: the file, or a folder that holds it; near: data it may lie beside
---@return moonbow.GPT2Tokenizer
function M.new(given)
  local o = options.check("mb.data.tokenizer 'gpt2'", given, { path = { type = "string" }, near = { type = "string" } })
  local path = o.path
  if not path or system.path_kind(path) == "folder" then
    local folders = path and { path } or M.folders(o.near)
    path = M.find(folders)
    if not path then
      status.fail("mb.data.tokenizer 'gpt2': there is no vocab.bpe in %s; %s", table.concat(folders, ", "), M.advice)
    end
  end
  local file, problem = io.open(path, "rb")
  if not file then status.fail("mb.data.tokenizer 'gpt2': cannot open %s", problem) end
  local merges = file:read "*a"
  file:close()
  local codec = bpe.new(merges or "", path)
  return setmetatable({ name = "gpt2", path = path, codec = codec, vocab_size = codec.vocab_size,
                        end_of_text = codec.vocab_size - 1 }, GPT2)
end

--- Tokens of a text; "<|endoftext|>" in it is plain text, unless `special` is "token" (50256) or "refuse" (an error).
---@param s string
---@param special? "text"|"token"|"refuse"
---@return integer[]
function GPT2:encode(s, special) return self.codec:encode(s, special) end

--- The text of tokens, its bytes as they are: a character may be cut at either end.
---@param ids integer[]|moonbow.Tensor
---@return string
function GPT2:decode(ids) return self.codec:decode(ids) end

--- All tokens of a text in memory; "<|endoftext|>" is the token.
---@param bytes moonbow.Tensor u8
---@param threads integer
---@return moonbow.Tensor u16
function GPT2:tokens_of(bytes, threads) return self.codec:encode_tensor(bytes, "token", threads) end

return M
