-- SPDX-License-Identifier: MIT
--
-- stream.lua: text as it arrives, in pieces that may end within a character: bytes that begin one wait for the rest.
-- A terminal gets what it can show; a file or a pipe gets the bytes as they are.

local format = require "moonbow.report.format"

local M = {}
local Stream = {}
Stream.__index = Stream

---@param write fun(text: string)
---@param is_terminal boolean
function M.new(write, is_terminal)
  return setmetatable({ put = write, is_terminal = is_terminal, rest = "" }, Stream)
end

-- Length of `text` without a character at its end whose last bytes are still to come, or half a line break.
local function whole_length(text)
  if text:byte(-1) == 13 then return #text - 1 end
  for back = 1, math.min(3, #text) do
    local byte = text:byte(-back)
    if byte >= 0xC0 then
      local length = byte >= 0xF0 and 4 or byte >= 0xE0 and 3 or 2
      return back < length and #text - back or #text
    end
    if byte < 0x80 then break end
  end
  return #text
end

---@param piece string
function Stream:write(piece)
  local text = self.rest .. piece
  local length = whole_length(text)
  self.rest = text:sub(length + 1)
  text = text:sub(1, length)
  if text ~= "" then self.put(self.is_terminal and format.printable(text) or text) end
end

--- Writes what waited for more.
function Stream:finish()
  local text = self.rest
  self.rest = ""
  if text ~= "" then self.put(self.is_terminal and format.printable(text) or text) end
end

return M
