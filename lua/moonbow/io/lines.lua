-- SPDX-License-Identifier: MIT
--
-- lines.lua: a file line by line with the memory of its longest line. Lua's own readers of lines end one at a NUL, which is
-- what a file system may leave where a crash lost a block; and a pattern for lines takes time that grows with the square of a
-- last line without an end.

local M = {}

local BLOCK = 65536

--- Calls take(line, whole) for every line: without the line break, and whether there was one, which only the last may lack.
--- Stops where take returns false.
---@param file table open for reading
---@param take fun(line: string, whole: boolean): boolean?
function M.each(file, take)
  local parts = {} -- of a line that began in an earlier block
  for block in function() return file:read(BLOCK) end do
    local from = 1
    while true do
      local stop = block:find("\n", from, true)
      if not stop then break end
      parts[#parts + 1] = block:sub(from, stop - 1)
      if take(table.concat(parts), true) == false then return end
      parts, from = {}, stop + 1
    end
    parts[#parts + 1] = block:sub(from)
  end
  local rest = table.concat(parts)
  if rest ~= "" then take(rest, false) end
end

return M
