-- SPDX-License-Identifier: MIT
--
-- tokenizer.lua: from bytes to tokens and back. "char": the Unicode characters of the text itself, numbered
-- in the order of their code points, as nanoGPT does; "bytes": the 256 bytes. Tokens lie in a tensor of u8,
-- or u16 where there are more than 256, never in a Lua table.

local create = require "bindings.create"
local status = require "bindings.status"
local utf8 = require "moonbow.io.utf8"

local M = {}

---@class moonbow.Tokenizer
---@field vocab_size integer
---@field tokens moonbow.Tensor of the text it was made from
---@field id_of table<string, integer> by character or byte
---@field text_of table<integer, string>
---@field split fun(s: string): fun(): string? iterates over a string's characters or bytes

-- ----- bytes ------------------------------------------------------------------------------------------

---@param bytes moonbow.Tensor u8, the text
---@return moonbow.Tokenizer
function M.bytes(bytes)
  local id_of, text_of = {}, {}
  for i = 0, 255 do
    text_of[i] = string.char(i)
    id_of[text_of[i]] = i
  end
  return { vocab_size = 256, tokens = bytes, id_of = id_of, text_of = text_of,
           split = function(s) return s:gmatch "." end }
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
---@return moonbow.Tokenizer
function M.char(bytes, name)
  local p, n, seen, codes = bytes:data(), bytes.numel, {}, {}
  local count = survey(p, n, seen, name)
  for code in pairs(seen) do codes[#codes + 1] = code end
  table.sort(codes)
  if #codes > 65536 then
    status.fail("mb.data.text: %s has %d different characters, at most 65536 are possible", name, #codes)
  end
  local id_of_code, id_of, text_of = {}, {}, {}
  for id = 0, #codes - 1 do
    local code = codes[id + 1]
    id_of_code[code], text_of[id] = id, utf8.char(code)
    id_of[text_of[id]] = id
  end
  local tokens = create.empty({ count }, #codes <= 256 and "u8" or "u16", "cpu")
  fill(tokens:data(), p, n, id_of_code)
  -- A lead byte and what continues it; a byte that continues nothing stands alone and is no character.
  return { vocab_size = #codes, tokens = tokens, id_of = id_of, text_of = text_of,
           split = function(s) return s:gmatch "[%z\1-\127\192-\255]?[\128-\191]*" end }
end

return M
