-- SPDX-License-Identifier: MIT
--
-- protobuf.lua: the wire format of Protocol Buffers (protobuf.dev/programming-guides/encoding), as far as event files need it.
-- A message is a sequence of fields, each a key (number * 8 + kind) and a value:
--   0 varint: seven bits a byte, the lowest first    1 eight bytes    2 a length and as many bytes    5 four bytes

local bytes = require "bindings.bytes"

local M = {}

local VARINT, EIGHT, DELIMITED, FOUR = 0, 1, 2, 5
local MOST = 2 ^ 53 -- whole numbers up to here are exact

-- ----- writing ------------------------------------------------------------------------------------------

--- A whole number from 0 to 2^53.
---@param x integer
---@return string
function M.varint(x)
  local text = ""
  while x >= 128 do
    text = text .. string.char(x % 128 + 128)
    x = math.floor(x / 128)
  end
  return text .. string.char(x)
end

local function key(number, kind) return M.varint(number * 8 + kind) end

--- Fields: their number, then their value.
function M.integer(number, x) return key(number, VARINT) .. M.varint(x) end
function M.double(number, x) return key(number, EIGHT) .. bytes.f64(x) end
function M.float(number, x) return key(number, FOUR) .. bytes.f32(x) end
function M.text(number, s) return key(number, DELIMITED) .. M.varint(#s) .. s end

--- Doubles in one field.
---@param number integer
---@param values number[]
---@return string
function M.doubles(number, values)
  local parts = {}
  for i, x in ipairs(values) do parts[i] = bytes.f64(x) end
  return M.text(number, table.concat(parts))
end

-- ----- reading ------------------------------------------------------------------------------------------

local function fail(at, format, ...) error({ protobuf = format:format(...), at = at - 1 }, 0) end

local function read_varint(s, at, stop)
  local value, scale = 0, 1
  for i = at, at + 9 do
    if i > stop then fail(at, "a number is cut off") end
    local byte = s:byte(i)
    value = value + byte % 128 * scale
    if byte < 128 then return value, i + 1 end
    scale = scale * 128
  end
  fail(at, "a number has more than ten bytes")
end

local sizes = { [EIGHT] = 8, [FOUR] = 4 }

-- Where the value of a field of a kind begins and ends, and what it is if it is a varint.
local function extent(s, at, stop, kind)
  if kind == VARINT then
    local value, after = read_varint(s, at, stop)
    return at, after - 1, value
  end
  local size, first = sizes[kind], at
  if kind == DELIMITED then
    size, first = read_varint(s, at, stop)
  elseif not size then
    fail(at, "a field of the unknown kind %d", kind)
  end
  if size > stop - first + 1 then
    fail(at, "a field claims %.0f bytes, %d are left in its message", size, stop - first + 1)
  end
  return first, first + size - 1
end

--- Calls take(number, kind, first, last, value) for every field of the message in bytes first to last of a string: where the
--- field's value lies, and a varint's value.
---@param s string
---@param first integer
---@param last integer
---@param take fun(number: integer, kind: integer, first: integer, last: integer, value?: number)
function M.each(s, first, last, take)
  local at = first
  while at <= last do
    local field, after = read_varint(s, at, last)
    local number, kind = math.floor(field / 8), field % 8
    if number < 1 or number > 2 ^ 29 - 1 then fail(at, "a field has the number %.0f", number) end
    local from, to, value = extent(s, after, last, kind)
    take(number, kind, from, to, value)
    at = to + 1
  end
end

local names = { [VARINT] = "a number", [EIGHT] = "eight bytes", [DELIMITED] = "a length and bytes", [FOUR] = "four bytes" }

--- Raises unless a field is of the kind that its number wants.
---@param at integer
---@param what string
---@param kind integer
---@param wanted integer
local function want(at, what, kind, wanted)
  if kind ~= wanted then fail(at, "%s is %s, %s was expected", what, names[kind] or "unknown", names[wanted]) end
end

--- What a field holds, by kind; `what` names it in errors.
function M.read_integer(what, kind, first, value)
  want(first, what, kind, VARINT)
  if value > MOST then fail(first, "%s is %.0f, at most %.0f can be read", what, value, MOST) end
  return value
end

function M.read_double(what, s, kind, first)
  want(first, what, kind, EIGHT)
  return bytes.read_f64(s, first)
end

function M.read_float(what, s, kind, first)
  want(first, what, kind, FOUR)
  return bytes.read_f32(s, first)
end

function M.read_text(what, s, kind, first, last)
  want(first, what, kind, DELIMITED)
  return s:sub(first, last)
end

--- Checks that a field holds a message; what lies in it is for M.each.
function M.want_message(what, kind, first) want(first, what, kind, DELIMITED) end

--- Appends the doubles of a field, packed or one alone, to a list.
function M.read_doubles(what, s, kind, first, last, list)
  if kind == EIGHT then
    list[#list + 1] = bytes.read_f64(s, first)
    return
  end
  want(first, what, kind, DELIMITED)
  if (last - first + 1) % 8 ~= 0 then
    fail(first, "%s has %d bytes, which are no doubles", what, last - first + 1)
  end
  for at = first, last, 8 do list[#list + 1] = bytes.read_f64(s, at) end
end

--- Calls fn(...); a problem of the format comes back as its text and offset.
---@return boolean ok
---@return any result or the text
---@return integer? offset counted from 0
function M.try(fn, ...)
  local ok, result = pcall(fn, ...)
  if ok then return true, result end
  if type(result) ~= "table" or not result.protobuf then error(result, 0) end
  return false, result.protobuf, result.at
end

return M
