-- SPDX-License-Identifier: MIT
--
-- scratch.lua: folders and files for tests, gone afterwards.

local M = {}

local folders = {}

--- A fresh folder, removed by clean().
---@return string
function M.folder()
  local pipe = assert(io.popen "mktemp -d")
  local path = pipe:read "*l"
  pipe:close()
  folders[#folders + 1] = assert(path, "mktemp made no folder")
  return path
end

function M.clean()
  for _, path in ipairs(folders) do os.execute(("rm -rf '%s'"):format(path)) end
  folders = {}
end

---@param path string
---@param text string
---@return string path
function M.write(path, text)
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

--- Calls fn(...), which must fail, and returns the text of the error.
function M.failure(fn, ...)
  local ok, problem = pcall(fn, ...)
  assert(not ok, "an error was expected")
  return tostring(problem)
end

return M
