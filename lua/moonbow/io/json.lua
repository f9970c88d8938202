-- SPDX-License-Identifier: MIT
--
-- json.lua: JSON (RFC 8259), strictly read and exactly written. Stricter than the usual parsers, because the
-- files may be hostile and the numbers must survive: duplicate keys, NaN, hexadecimal and bad UTF-8 are
-- errors, nesting is limited; numbers are written with the digits that give the same double back, keys
-- are sorted. Arrays carry the metatable M.array, so that [] and {} stay apart; null is M.null.

local one_line = require("bindings.status").one_line
local utf8 = require "moonbow.io.utf8"

local M = {}

M.array = { __name = "json.array" }
M.null = setmetatable({}, { __tostring = function() return "null" end })

local MAX_DEPTH = 100

-- ----- reading ----------------------------------------------------------------------------------------

local read_value -- forward

local function fail(at, format, ...)
  error({ json = one_line(("at byte %d: "):format(at - 1) .. format:format(...)) }, 0)
end

-- What stands at a position, for the texts of errors.
local function shown(text, at)
  local c = text:sub(at, at)
  if c == "" then return "the end" end
  return c:find "[%g ]" and "'" .. c .. "'" or ("byte 0x%02X"):format(c:byte())
end

local function skip_space(text, at) return (text:find("[^ \t\r\n]", at)) or #text + 1 end

local escapes = { ['"'] = '"', ["\\"] = "\\", ["/"] = "/", b = "\b", f = "\f", n = "\n", r = "\r", t = "\t" }

-- "\uXXXX" at `at`, with its second half if it is a surrogate pair.
local function read_unicode(text, at)
  local hex = text:match("^\\u(%x%x%x%x)", at)
  if not hex then fail(at, "\\u wants four hexadecimal digits") end
  local code = tonumber(hex, 16)
  if code >= 0xDC00 and code <= 0xDFFF then fail(at, "half of a surrogate pair") end
  if code < 0xD800 or code > 0xDBFF then return utf8.char(code), at + 6 end
  local low = tonumber(text:match("^\\u(%x%x%x%x)", at + 6) or "0", 16)
  if low < 0xDC00 or low > 0xDFFF then fail(at, "half of a surrogate pair") end
  return utf8.char(0x10000 + (code - 0xD800) * 1024 + low - 0xDC00), at + 12
end

-- The string whose opening quote is at `at`, and the position behind its closing one.
local function read_string(text, at)
  local plain, after = text:match('^"([^"\\%z\1-\31]*)"()', at)
  if plain then return plain, after end
  local parts, i = {}, at + 1
  while true do
    local run, stop = text:match('^([^"\\%z\1-\31]*)()', i)
    parts[#parts + 1] = run
    local c = text:sub(stop, stop)
    if c == '"' then return table.concat(parts), stop + 1 end
    if c ~= "\\" then fail(stop, "%s inside a string", shown(text, stop)) end
    local e = text:sub(stop + 1, stop + 1)
    if e == "u" then
      parts[#parts + 1], i = read_unicode(text, stop)
    else
      if not escapes[e] then fail(stop, "unknown escape \\%s", shown(text, stop + 1)) end
      parts[#parts + 1], i = escapes[e], stop + 2
    end
  end
end

local function read_number(text, at)
  local digits, after = text:match("^(-?%d+)()", at)
  if not digits then fail(at, "a value was expected, %s found", shown(text, at)) end
  if digits:find "^-?0%d" then fail(at, "a number with a leading zero") end
  local fraction, behind = text:match("^(%.%d+)()", after)
  if fraction then digits, after = digits .. fraction, behind end
  local exponent
  exponent, behind = text:match("^([eE][+-]?%d+)()", after)
  if exponent then digits, after = digits .. exponent, behind end
  local value = tonumber(digits)
  -- An exponent of many digits is beyond what tonumber reads.
  if not value then value = (digits:find "^-?[0.]*[eE]" or exponent and exponent:find "-") and 0 or math.huge end
  if math.abs(value) == math.huge then fail(at, "the number %s is too large", digits:sub(1, 40)) end
  return value, after
end

local function read_array(text, at, depth)
  local result, n = setmetatable({}, M.array), 0
  local i = skip_space(text, at + 1)
  if text:sub(i, i) == "]" then return result, i + 1 end
  while true do
    n = n + 1
    result[n], i = read_value(text, i, depth)
    i = skip_space(text, i)
    local c = text:sub(i, i)
    if c == "]" then return result, i + 1 end
    if c ~= "," then fail(i, "',' or ']' was expected, %s found", shown(text, i)) end
    i = i + 1
  end
end

local function read_object(text, at, depth)
  local result = {}
  local i = skip_space(text, at + 1)
  if text:sub(i, i) == "}" then return result, i + 1 end
  while true do
    i = skip_space(text, i)
    if text:sub(i, i) ~= '"' then fail(i, "a key in quotes was expected, %s found", shown(text, i)) end
    local key, after = read_string(text, i)
    if result[key] ~= nil then fail(i, "the key '%s' is there twice", key) end
    after = skip_space(text, after)
    if text:byte(after) ~= 58 then fail(after, "':' was expected, %s found", shown(text, after)) end
    result[key], i = read_value(text, after + 1, depth)
    i = skip_space(text, i)
    local c = text:sub(i, i)
    if c == "}" then return result, i + 1 end
    if c ~= "," then fail(i, "',' or '}' was expected, %s found", shown(text, i)) end
    i = i + 1
  end
end

local words = { { "true", true }, { "false", false }, { "null", M.null } }

function read_value(text, at, depth)
  local i = skip_space(text, at)
  local c = text:sub(i, i)
  if c == "{" or c == "[" then
    if depth >= MAX_DEPTH then fail(i, "nested deeper than %d levels", MAX_DEPTH) end
    return (c == "{" and read_object or read_array)(text, i, depth + 1)
  end
  if c == '"' then return read_string(text, i) end
  for _, word in ipairs(words) do
    if text:sub(i, i + #word[1] - 1) == word[1] then return word[2], i + #word[1] end
  end
  return read_number(text, i)
end

--- The value of a JSON text, or nil and what is wrong with it.
---@param text string
---@return any value
---@return string? problem
function M.decode(text)
  local bad = utf8.invalid_at(text)
  if bad then return nil, ("at byte %d: not UTF-8"):format(bad) end
  local ok, value, after = pcall(read_value, text, 1, 0)
  if not ok then
    if type(value) ~= "table" then error(value, 0) end
    return nil, value.json
  end
  after = skip_space(text, after)
  if after <= #text then
    return nil, ("at byte %d: %s after the value"):format(after - 1, shown(text, after))
  end
  return value
end

-- ----- writing ----------------------------------------------------------------------------------------

local escaped = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

local function write_string(s)
  if utf8.invalid_at(s) then error({ json = ("the string '%s' is not UTF-8"):format(s:sub(1, 40)) }, 0) end
  return '"' .. s:gsub('[%c"\\]', function(c) return escaped[c] or ("\\u%04x"):format(c:byte()) end) .. '"'
end

--- A number with the fewest of `digits` or 17 digits; by default such that the same double comes back.
---@param x number finite
---@param digits? integer
---@return string
function M.number(x, digits)
  if x == math.floor(x) and math.abs(x) < 2 ^ 53 then return ("%.0f"):format(x) end
  if digits then return ("%%.%dg"):format(digits):format(x) end
  local short = ("%.15g"):format(x)
  return tonumber(short) == x and short or ("%.17g"):format(x)
end

--- "NaN", "Infinity" or "-Infinity".
function M.nonfinite(x) return x ~= x and "NaN" or x > 0 and "Infinity" or "-Infinity" end

local function is_array(t)
  if getmetatable(t) == M.array then return true end
  local n = 0
  for _ in pairs(t) do n = n + 1 end
  return n > 0 and n == #t
end

local function sorted_keys(t)
  local keys = {}
  for key in pairs(t) do
    if type(key) ~= "string" then error({ json = "a key that is a " .. type(key) .. " has no JSON" }, 0) end
    keys[#keys + 1] = key
  end
  table.sort(keys)
  return keys
end

local write_value -- forward

local function write_table(value, options, depth)
  if depth >= MAX_DEPTH then error({ json = ("nested deeper than %d levels"):format(MAX_DEPTH) }, 0) end
  local parts = {}
  if is_array(value) then
    for i = 1, #value do parts[i] = write_value(value[i], options, depth + 1) end
    return "[" .. table.concat(parts, ",") .. "]"
  end
  for i, key in ipairs(sorted_keys(value)) do
    parts[i] = write_string(key) .. ":" .. write_value(value[key], options, depth + 1)
  end
  return "{" .. table.concat(parts, ",") .. "}"
end

function write_value(value, options, depth)
  local kind = type(value)
  if kind == "string" then return write_string(value) end
  if kind == "boolean" or value == M.null then return tostring(value) end
  if kind == "table" then return write_table(value, options, depth) end
  if kind ~= "number" then error({ json = ("a %s has no JSON"):format(kind) }, 0) end
  if value - value == 0 then return M.number(value, options.digits) end
  if not options.nonfinite then error({ json = ("%s has no JSON"):format(M.nonfinite(value)) }, 0) end
  return '"' .. M.nonfinite(value) .. '"'
end

---@class moonbow.JsonOptions
---@field digits? integer significant digits of numbers that are not whole; default: as many as are needed
---@field nonfinite? boolean write NaN and infinities as the strings "NaN", "Infinity", "-Infinity"

--- The JSON text of a value, or nil and what cannot be written.
---@param value any
---@param options? moonbow.JsonOptions
---@return string? text
---@return string? problem
function M.encode(value, options)
  local ok, text = pcall(write_value, value, options or {}, 0)
  if ok then return text end
  if type(text) ~= "table" then error(text, 0) end
  return nil, text.json
end

return M
