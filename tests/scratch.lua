-- SPDX-License-Identifier: MIT
--
-- scratch.lua: folders and files for tests, gone afterwards.

local M = {}

local folders = {}

--- A fresh folder, removed by clean().
---@param in_memory? boolean in /dev/shm where there is one: syncing costs nothing there
---@return string
function M.folder(in_memory)
  local place = in_memory and "mktemp -d -p /dev/shm 2>/dev/null || mktemp -d" or "mktemp -d"
  local pipe = assert(io.popen(place))
  local path = pipe:read "*l"
  pipe:close()
  folders[#folders + 1] = assert(path, "mktemp made no folder")
  return path
end

function M.clean()
  for _, path in ipairs(folders) do os.execute(("rm -rf '%s'"):format(path)) end
  folders = {}
end

--- Writes a file. What was there is removed first: file systems sync a file that is emptied and refilled.
---@param path string
---@param text string
---@return string path
function M.write(path, text)
  os.remove(path)
  local file = assert(io.open(path, "wb"))
  assert(file:write(text))
  assert(file:close())
  return path
end

---@param path string
---@return string
function M.read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

return M
