-- SPDX-License-Identifier: MIT
--
-- stream.lua: text of tokens that come one by one. A token may end within a character: its bytes are held back until the rest
-- of it is there, so that what is printed is UTF-8 at every moment.
--
--   local stream = mb.data.stream(tokenizer)     anything with :decode(ids)
--   io.write(stream:push(id))                    "" while a character is not complete
--   io.write(stream:finish())                    what was held back, if a text ends so: U+FFFD

local utf8 = require "moonbow.io.utf8"

local M = {}

---@class moonbow.Stream text of tokens that come one by one
local Stream = {}
Stream.__index = Stream

--- Text of tokens that come one by one: a character is given out when its last byte is there.
---@param decoder { decode: fun(self, ids: integer[]): string }
---@return moonbow.Stream
function M.new(decoder) return setmetatable({ decoder = decoder, held = "" }, Stream) end

-- Where the bytes at the end of `s` begin that more bytes may make a character of; #s + 1 if there are none.
local function unfinished(s)
  for back = 1, math.min(3, #s) do
    local first = #s - back + 1
    local lead = s:byte(first)
    if lead >= 0xC2 and lead <= 0xF4 then
      local length = lead < 0xE0 and 2 or lead < 0xF0 and 3 or 4
      if length <= back then return #s + 1 end
      -- Is there a character that begins so? The least that may follow decides it, but for the ranges of four lead bytes.
      for _, second in ipairs { 0x80, 0x90, 0xA0 } do
        local filled = s:sub(first) .. (back == 1 and string.char(second) or "")
        filled = filled .. ("\128"):rep(length - #filled)
        if not utf8.invalid_at(filled) then return first end
      end
      return #s + 1
    elseif lead < 0x80 or lead > 0xBF then
      return #s + 1
    end
  end
  return #s + 1
end

--- Text that this token completes; bytes that are no UTF-8 become U+FFFD.
---@param id integer
---@return string
function Stream:push(id)
  local text = self.held .. self.decoder:decode { id }
  local cut = unfinished(text)
  self.held = text:sub(cut)
  return utf8.mend(text:sub(1, cut - 1))
end

--- What is left at the end.
---@return string
function Stream:finish()
  local rest = utf8.mend(self.held)
  self.held = ""
  return rest
end

return M
