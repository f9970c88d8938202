-- SPDX-License-Identifier: MIT
--
-- tokenizer.lua: from bytes to tokens and back. "char": the Unicode characters of the text itself, numbered
-- in the order of their code points, as nanoGPT does; "bytes": the 256 bytes; "gpt2": gpt2.lua's, the same for every text.
-- Tokens lie in a tensor of u8, or u16 where there are more than 256, never in a Lua table.

local create = require "bindings.create"
local status = require "bindings.status"
local types = require "bindings.types"
local utf8 = require "moonbow.io.utf8"

local M = {}

---@class moonbow.Tokenizer from text to tokens and back
---@field name string
---@field vocab_size integer
---@field encode fun(self, s: string): integer[]
---@field decode fun(self, ids: integer[]|moonbow.Tensor): string
---@field end_of_text? integer the token between documents

-- A tokenizer of the text it was made from has `tokens`, that text, and these two tables.
---@class moonbow.PieceTokenizer: moonbow.Tokenizer
---@field tokens moonbow.Tensor
---@field id_of table<string, integer> by character or byte
---@field text_of table<integer, string>
---@field pattern string of a character or byte
local Pieces = {}
Pieces.__index = Pieces

function Pieces:encode(s)
  local ids = {}
  for piece in s:gmatch(self.pattern) do
    if piece ~= "" then
      local id = self.id_of[piece]
      if not id then status.fail("data:encode: the text has no character '%s'", piece) end
      ids[#ids + 1] = id
    end
  end
  return ids
end

function Pieces:decode(ids)
  if types.is_tensor(ids) then ids = ids:reshape(ids.numel):totable() end
  local pieces = {}
  for i, id in ipairs(ids) do
    pieces[i] = self.text_of[id]
    if not pieces[i] then
      status.fail("data:decode: token %d is %s, tokens are 0 to %d", i, tostring(id), self.vocab_size - 1)
    end
  end
  return table.concat(pieces)
end

local function from_tables(name, id_of, text_of, vocab_size, pattern, tokens)
  return setmetatable({ name = name, vocab_size = vocab_size, tokens = tokens, id_of = id_of, text_of = text_of,
                        pattern = pattern }, Pieces)
end

-- ----- bytes ------------------------------------------------------------------------------------------

---@param bytes? moonbow.Tensor u8, the text
---@return moonbow.PieceTokenizer
function M.bytes(bytes)
  local id_of, text_of = {}, {}
  for i = 0, 255 do
    text_of[i] = string.char(i)
    id_of[text_of[i]] = i
  end
  return from_tables("bytes", id_of, text_of, 256, ".", bytes)
end

-- ----- characters -------------------------------------------------------------------------------------

local next_code, of_pointer = utf8.next_code, utf8.of_pointer

-- Marks every code point of the n bytes at p; returns how many characters there are.
local function survey(p, n, seen, name)
  local i, count = 0, 0
  while i < n do
    local code, next_i = next_code(of_pointer, p, i, n)
    if not code then
      status.fail("mb.data.text: %s is not UTF-8 at byte %d (0x%02X); tokenizer = \"bytes\" takes any file",
        name, i, p[i])
    end
    seen[code] = true
    count = count + 1
    i = next_i
  end
  return count
end

local function fill(to, p, n, id_of_code)
  local i, at = 0, 0
  while i < n do
    local code, next_i = next_code(of_pointer, p, i, n)
    to[at] = id_of_code[code]
    at = at + 1
    i = next_i
  end
end

---@param bytes moonbow.Tensor u8, the text
---@param name string of the text, for errors
---@return moonbow.PieceTokenizer
function M.char(bytes, name)
  local p, n, seen, codes = bytes:data(), bytes.numel, {}, {}
  local count = survey(p, n, seen, name)
  for code in pairs(seen) do codes[#codes + 1] = code end
  table.sort(codes)
  if #codes > 65536 then
    status.fail("mb.data.text: %s has %d different characters, at most 65536 are possible", name, #codes)
  end
  local id_of_code = {}
  for id = 0, #codes - 1 do id_of_code[codes[id + 1]] = id end
  local tokens = create.empty({ count }, #codes <= 256 and "u8" or "u16", "cpu")
  fill(tokens:data(), p, n, id_of_code)
  return M.of_codes(codes, tokens)
end

-- A lead byte and what continues it; a byte that continues nothing stands alone and is no character.
local CHARACTER = "[%z\1-\127\192-\255]?[\128-\191]*"

--- The tokenizer whose ids 0, 1, ... are these code points.
---@param codes integer[]
---@param tokens? moonbow.Tensor
---@return moonbow.PieceTokenizer
function M.of_codes(codes, tokens)
  local id_of, text_of = {}, {}
  for id = 0, #codes - 1 do
    text_of[id] = utf8.char(codes[id + 1])
    id_of[text_of[id]] = id
  end
  local made = from_tables("char", id_of, text_of, #codes, CHARACTER, tokens)
  made.codes = codes
  return made
end

return M
