-- SPDX-License-Identifier: MIT
--
-- json.lua: a fuzz target for the reader of JSON: a text is refused, or the value it stands for survives being written and
-- read again.

local json = require "moonbow.io.json"
local random = require "tests.fuzz.random"

local M = { sources = { "lua/moonbow/io/json.lua", "lua/moonbow/io/utf8.lua" } }

-- ----- texts by the grammar, and beyond it ----------------------------------------------------------------

local strings = {
  '""', '"a"', '"a"', '"b"', '"step"', '"\\n"', '"\\u0000"', '"\\u00e9"', '"\\ud834\\udd1e"', '"\\uDBFF\\uDFFF"', '"é日🌙"',
  '"\127"', '"\\ud834"', '"\\udd1e\\ud834"', '"\\x"', '"\t"', '"\\', '"a', '"\\u12"', '"' .. ("a"):rep(300) .. '"',
  '"' .. ("\\n"):rep(300) .. '"',
}
local spaces = { "", "", "", " ", "\n", "\t \r\n", "\f", "\194\160", "\239\187\191", "/**/" }
local words = { "true", "false", "null", "nul", "True", "undefined", "" }

local value -- forward

local function list(r, open, close, item)
  local parts = {}
  for i = 1, r:once_in(40) and 60 or r:to(4) - 1 do parts[i] = item() end
  local comma = r:once_in(30) and r:pick { ",,", ";", "" } or ","
  return open .. table.concat(parts, comma) .. (r:once_in(30) and "," or "") .. (r:once_in(30) and "" or close)
end

function value(r, depth)
  local kind = depth > 6 and r:to(3) or r:to(5)
  local text
  if kind == 1 then
    text = r:pick(strings)
  elseif kind == 2 then
    text = r:pick(r:once_in(2) and random.numbers or { "1", "-2.5e3", "0.1", "123456789012345678" })
  elseif kind == 3 then
    text = r:pick(words)
  elseif kind == 4 then
    text = list(r, "[", "]", function() return value(r, depth + 1) end)
  else
    text = list(r, "{", "}", function()
      return (r:once_in(30) and value(r, depth + 1) or r:pick(strings)) .. (r:once_in(30) and "" or ":") .. value(r, depth + 1)
    end)
  end
  return r:pick(spaces) .. text .. (r:once_in(3) and r:pick(spaces) or "")
end

function M.generate(r)
  if r:once_in(30) then
    local depth = r:pick { 99, 100, 101, 5000 }
    local open, close = "[", "]"
    if r:once_in(2) then open, close = '{"a":', "}" end
    return open:rep(depth) .. "1" .. close:rep(depth - (r:once_in(3) and 1 or 0))
  end
  return value(r, 0)
end

-- ----- the property -------------------------------------------------------------------------------------

local function same(a, b)
  if type(a) ~= "table" or a == json.null then return a == b end
  if type(b) ~= "table" or getmetatable(a) ~= getmetatable(b) then return false end
  for key, x in pairs(a) do
    if not same(x, b[key]) then return false end
  end
  for key in pairs(b) do
    if a[key] == nil then return false end
  end
  return true
end

--- Raises what is wrong; returns what was said of the text.
---@param text string
---@return string
function M.check(text)
  local read, problem = json.decode(text)
  if read == nil then return problem end
  local written = assert(json.encode(read))
  assert(same(read, json.decode(written)), "the value is another after being written and read")
  assert(json.encode(json.decode(written)) == written, "the text is another after being read and written")
  return "a value"
end

return M
