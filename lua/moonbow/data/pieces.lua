-- SPDX-License-Identifier: MIT
--
-- pieces.lua: long texts in pieces whose tokens, one after the other, are those of the whole. A piece ends behind a character
-- that is no white space and before white space of ASCII, where a token of no tokenizer goes on: GPT-2's pattern takes white
-- space to the word behind it, never to the one before. So the memory that a text takes is that of a piece, or of the longest
-- stretch without white space.

local M = {}

-- White space beyond ASCII in UTF-8, by its last bytes (Unicode's White_Space).
local function is_wide_space(text, i)
  local two, three = text:sub(i - 1, i), text:sub(i - 2, i)
  if two == "\194\133" or two == "\194\160" then return true end
  if three == "\225\154\128" or three == "\226\129\159" or three == "\227\128\128" then return true end
  return three:find "^\226\128[\128-\138\168\169\175]$" ~= nil
end

--- The last place where a text may be cut: the bytes before it, or nil if there is none.
---@param text string
---@return integer? bytes
function M.last_cut(text)
  local after = text:byte(-1)
  for i = #text - 1, 1, -1 do
    local before = text:byte(i)
    local space = after == 32 or after >= 9 and after <= 13
    if space and before > 32 and not is_wide_space(text, i) then return i end
    after = before
  end
end

--- Calls take(piece) for the next `bytes` bytes of a file, in pieces of about `size` bytes.
---@param file { read: fun(self, bytes: integer): string? }
---@param bytes integer
---@param size integer
---@param take fun(piece: string)
---@return integer missing bytes that the file lacks
function M.each(file, bytes, size, take)
  local parts, left = {}, bytes
  while left > 0 do
    local block = file:read(math.min(left, size))
    if not block then break end
    left = left - #block
    -- What was kept holds no place to cut but at its end: its last bytes tell whether that is one.
    local tail = #parts > 0 and parts[#parts]:sub(-3) or ""
    local cut = left > 0 and M.last_cut(tail .. block)
    cut = cut and cut - #tail
    if cut and cut >= 0 then
      parts[#parts + 1] = block:sub(1, cut)
      take(table.concat(parts))
      parts = { block:sub(cut + 1) }
    else
      parts[#parts + 1] = block
    end
  end
  local rest = table.concat(parts)
  if rest ~= "" then take(rest) end
  return left
end

local Text = {}
Text.__index = Text

function Text:read(bytes)
  if self.at > #self.text then return nil end
  local part = self.text:sub(self.at, self.at + bytes - 1)
  self.at = self.at + bytes
  return part
end

function Text:seek(_, offset) self.at = offset + 1 end

function Text:close() self.text, self.at = "", 1 end

--- A text in memory as a file to read.
---@param text string
function M.of_text(text) return setmetatable({ text = text, at = 1 }, Text) end

return M
