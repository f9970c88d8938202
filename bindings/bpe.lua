-- SPDX-License-Identifier: MIT
--
-- bpe.lua: GPT-2's byte-pair encoding. Tokens go in and out as Lua arrays, u16 tensors, or little-endian text, which is what
-- token files hold.
--
--   new(merges, name) -> bpe                    merges: the contents of vocab.bpe; name: what errors call it
--   bpe.vocab_size
--   bpe:encode(text, special, threads) -> ids   Lua array; special: "text" | "token" | "refuse", see mb_bpe_special
--   bpe:encode_tensor(tensor, ...) -> tensor    of a text in a u8 tensor: u16 (n)
--   bpe:encode_bytes(...) -> string, count      two bytes a token
--   bpe:decode(ids) -> text                     ids: Lua array or tensor

local ffi = require "ffi"
local create = require "bindings.create"
local handle = require "bindings.handle"
local host = require "bindings.host"
local load = require "bindings.load"
local status = require "bindings.status"
local types = require "bindings.types"

local C = load.C
local act, fail = handle.act, status.fail

local M = {}

local SPECIAL = { text = C.MB_BPE_SPECIAL_TEXT, token = C.MB_BPE_SPECIAL_TOKEN, refuse = C.MB_BPE_SPECIAL_REFUSE }
local out, count_out = ffi.new "mb_bpe *[1]", ffi.new "int64_t[1]"
local id_array, byte_array = ffi.typeof "uint16_t[?]", ffi.typeof "unsigned char[?]"

---@class moonbow.Bpe
---@field vocab_size integer
local Bpe = {}
Bpe.__index = Bpe

---@param merges string
---@param name string
---@return moonbow.Bpe
function M.new(merges, name)
  act("mb_bpe_new", out, merges, #merges, name)
  local pointer = ffi.gc(out[0], C.mb_bpe_release)
  return setmetatable({ handle = pointer, vocab_size = tonumber(C.mb_bpe_vocab_size(pointer)) }, Bpe)
end

-- Writes the ids of a text to C memory that has room for one a byte, and returns how many there are.
local function encode_to(ids, self, text, bytes, special, threads)
  local code = SPECIAL[special or "text"]
  if not code then fail("encode: special must be 'text', 'token' or 'refuse', not %s", types.describe(special)) end
  act("mb_bpe_encode", count_out, ids, self.handle, text, bytes, code, threads or 1)
  return tonumber(count_out[0])
end

local function encode(self, text, special, threads)
  if type(text) ~= "string" then fail("encode: a string was expected, not %s", types.describe(text)) end
  local ids = id_array(math.max(#text, 1))
  return ids, encode_to(ids, self, text, #text, special, threads)
end

---@param text string
---@param special? "text"|"token"|"refuse" what "<|endoftext|>" is; default "text"
---@param threads? integer default 1
---@return integer[]
function Bpe:encode(text, special, threads)
  local ids, count = encode(self, text, special, threads)
  local values = {}
  for i = 1, count do values[i] = ids[i - 1] end
  return values
end

--- Tokens of the bytes of a tensor.
---@param text moonbow.Tensor u8, on the CPU
---@return moonbow.Tensor u16 (n)
function Bpe:encode_tensor(text, special, threads)
  local bytes = tonumber(C.mb_tensor_numel(text))
  local room = create.empty({ bytes }, "u16", "cpu")
  local count = encode_to(host.data(room), self, host.data(text), bytes, special, threads)
  return host.from_pointer(host.data(room), "u16", "cpu", { count })
end

---@return string
---@return integer count
function Bpe:encode_bytes(text, special, threads)
  local ids, count = encode(self, text, special, threads)
  return ffi.string(ids, 2 * count), count
end

local function id_buffer(ids, vocab_size)
  local numbers, first, count = ids, 1, nil
  if types.is_tensor(ids) then
    numbers, count = host.host_copy(ids)
    first = 0
  elseif type(ids) == "table" then
    count = #ids
  else
    fail("decode: an array of tokens or a tensor was expected, not %s", types.describe(ids))
  end
  local buffer = id_array(math.max(count, 1))
  for i = 0, count - 1 do
    local id = numbers[first + i]
    id = type(id) == "cdata" and tonumber(id) or id
    if not types.is_integer(id) or id < 0 or id >= vocab_size then
      fail("decode: token %d is %s, tokens are 0 to %d", i + 1, tostring(id), vocab_size - 1)
    end
    buffer[i] = id
  end
  return buffer, count
end

--- The text of tokens, its bytes as they are: the tokens of a part of a text may begin or end within a character.
---@param ids integer[]|moonbow.Tensor
---@return string
function Bpe:decode(ids)
  local buffer, count = id_buffer(ids, self.vocab_size)
  act("mb_bpe_decoded_size", count_out, self.handle, buffer, count)
  local bytes = tonumber(count_out[0])
  local text = byte_array(math.max(bytes, 1))
  act("mb_bpe_decode", text, self.handle, buffer, count)
  return ffi.string(text, bytes)
end

return M
